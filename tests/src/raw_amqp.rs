//! A client of RabbitMQ that publishes what no library would: headers of any bytes.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use url::Url;

/// The longest frame that RabbitMQ takes by default.
pub const FRAME_MAX: usize = 128 * 1024;

const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xCE;

/// Publishes `body` to a queue with `headers`, which are the entries of an AMQP table, and waits
/// until the broker has confirmed it.
///
/// # Panics
/// When the broker is away or refuses.
pub fn publish_raw(broker_url: &str, queue: &str, body: &[u8], headers: &[u8]) {
    let mut connection = RawAmqp::open(broker_url);
    let publish = [&[0, 0, 0][..], &short(queue.as_bytes()), &[0]].concat();
    connection.send(1, METHOD, &method(60, 40, &publish));
    connection.send(1, CONTENT_HEADER, &content_header(body.len(), headers));
    connection.send(1, BODY, body);
    connection.expect(60, 80);
}

/// Has the next message of a queue delivered and vanishes, so that it will be delivered again.
///
/// # Panics
/// When the broker is away, or the queue is empty.
pub fn vanish_with_a_delivery(broker_url: &str, queue: &str) {
    let mut connection = RawAmqp::open(broker_url);
    let get = [&[0, 0][..], &short(queue.as_bytes()), &[0]].concat();
    connection.send(1, METHOD, &method(60, 70, &get));
    connection.expect(60, 71);
}

/// Entries that make the frame of [`publish_raw`]'s content header as long as a frame may be.
pub fn headers_that_fill_a_frame(entries: &[u8]) -> Vec<u8> {
    let around = 8 + content_header(0, &[]).len();
    let name = b"fill";
    let length = FRAME_MAX - around - entries.len() - header(name, b'S', &long(b"")).len();
    let fill = header(name, b'S', &long(&vec![b'x'; length]));
    [entries, &fill].concat()
}

/// One entry of a table.
pub fn header(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    [&short(name)[..], &[kind], value].concat()
}

/// An entry whose value is nested so deeply.
pub fn nested_header(name: &[u8], levels: u32) -> Vec<u8> {
    let mut entry = short(name);
    for level in (0..levels).rev() {
        entry.push(b'A');
        entry.extend((1 + 5 * level).to_be_bytes());
    }
    entry.push(b'V');
    entry
}

fn content_header(body: usize, headers: &[u8]) -> Vec<u8> {
    // Class, weight, length of the body, flags for headers and delivery mode: persistent.
    let body = u64::try_from(body).expect("it fits").to_be_bytes();
    [&[0, 60, 0, 0][..], &body, &[0x30, 0], &long(headers), &[2]].concat()
}

fn short(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("it is short");
    [&[length], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("it fits");
    [&length.to_be_bytes(), bytes].concat()
}

fn method(class: u8, id: u8, arguments: &[u8]) -> Vec<u8> {
    [&[0, class, 0, id], arguments].concat()
}

/// A connection with one channel, on which the broker confirms.
struct RawAmqp {
    stream: TcpStream,
}

impl RawAmqp {
    fn open(broker_url: &str) -> Self {
        let url = Url::parse(broker_url).expect("a URL");
        let address = (url.host_str().expect("a host"), url.port().unwrap_or(5672));
        let stream = TcpStream::connect(address).expect("RabbitMQ is there");
        let login = format!("\0{}\0{}", url.username(), url.password().unwrap_or(""));
        let start_ok = [
            long(b""),
            short(b"PLAIN"),
            long(login.as_bytes()),
            short(b"en_US"),
        ];
        let frame_max = u32::try_from(FRAME_MAX).expect("it fits").to_be_bytes();
        let tune_ok = [&[0, 1][..], &frame_max, &[0, 0]];
        let mut this = Self { stream };
        this.write(b"AMQP\0\0\x09\x01");
        this.expect(10, 10);
        this.send(0, METHOD, &method(10, 11, &start_ok.concat()));
        this.expect(10, 30);
        this.send(0, METHOD, &method(10, 31, &tune_ok.concat()));
        this.send(
            0,
            METHOD,
            &method(10, 40, &[&short(b"/")[..], &[0, 0]].concat()),
        );
        this.expect(10, 41);
        this.send(1, METHOD, &method(20, 10, &[0]));
        this.expect(20, 11);
        this.send(1, METHOD, &method(85, 10, &[0]));
        this.expect(85, 11);
        this
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("RabbitMQ listens");
    }

    fn send(&mut self, channel: u8, kind: u8, payload: &[u8]) {
        let frame = [&[kind, 0, channel][..], &long(payload), &[END]].concat();
        self.write(&frame);
    }

    /// Reads the next frame, which must be this method.
    fn expect(&mut self, class: u8, id: u8) {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).expect("a frame");
        let [.., a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let mut payload = vec![0; length + 1];
        self.stream.read_exact(&mut payload).expect("a whole frame");
        let said = String::from_utf8_lossy(&payload);
        assert!(
            payload.starts_with(&[0, class, 0, id]),
            "RabbitMQ says {said:?}"
        );
    }
}
