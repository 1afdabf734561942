use std::{sync::Arc, task::Waker};

use lapin::BasicProperties;

use super::{super::Transport, *};
use crate::broker::{BrokerError, QueueName, amqp::outlet::Message};

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    frame_on(1, kind, payload)
}

fn frame_on(channel: u16, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append(&mut bytes, kind, channel, |bytes| bytes.extend(payload));
    bytes
}

/// A content header with one header, whose name is not UTF-8, and `more` in its table.
fn content_header(name: &[u8], more: &[u8]) -> Vec<u8> {
    let table = [&[4][..], name, b"t\x01", more].concat();
    let length = u32::try_from(table.len()).unwrap().to_be_bytes();
    let header = [
        &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0x20, 0][..],
        &length,
        &table,
    ];
    frame(CONTENT_HEADER, &header.concat())
}

/// A delivery, in frames as they come and as they are handed on.
fn delivery() -> (Vec<u8>, Vec<u8>) {
    let deliver = |key: &[u8]| {
        let start = [&[0, 60, 0, 60, 0][..], &[0; 9], &[0, 4], key];
        frame(METHOD, &start.concat())
    };
    let body = frame(BODY, &[CONTENT_HEADER, END, b'x']);
    let heartbeat = frame(HEARTBEAT, &[]);
    let came = [
        &deliver(b"k\xffey")[..],
        // What has no readable end makes the frame shorter.
        &content_header(b"na\xfee", b"\x03bad?"),
        &body,
        &heartbeat,
    ];
    let read = [
        &deliver(b"k?ey")[..],
        &content_header(b"na?e", b""),
        &body,
        &heartbeat,
    ];
    (came.concat(), read.concat())
}

/// Gives its pieces one at a time, and between two of them says once that there is nothing.
struct Pieces {
    pieces: Vec<Vec<u8>>,
    pause: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.pause = !self.pause;
        if self.pause {
            return Poll::Pending;
        }
        let Some(piece) = self.pieces.first_mut() else {
            return Poll::Ready(Ok(0));
        };
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        piece.drain(..count);
        if piece.is_empty() {
            self.pieces.remove(0);
        }
        Poll::Ready(Ok(count))
    }
}

fn read_all(pieces: Vec<Vec<u8>>, frame_max: u32, at_once: usize) -> Vec<u8> {
    read_beside(&Arc::default(), pieces, frame_max, at_once)
}

/// What lapin reads beside `outbox`.
fn read_beside(
    outbox: &Arc<Outbox>,
    pieces: Vec<Vec<u8>>,
    frame_max: u32,
    at_once: usize,
) -> Vec<u8> {
    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
    let stream = Pieces {
        pieces: pieces.collect(),
        pause: false,
    };
    let mut transport = Transport::new(stream, frame_max, Arc::clone(outbox));
    let mut context = Context::from_waker(Waker::noop());
    let mut read = Vec::new();
    let mut buffer = vec![0; at_once];
    loop {
        match Pin::new(&mut transport).poll_read(&mut context, &mut buffer) {
            Poll::Pending => {}
            Poll::Ready(Ok(0)) => return read,
            Poll::Ready(Ok(count)) => read.extend_from_slice(&buffer[..count]),
            Poll::Ready(Err(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn frames_are_mended_wherever_they_are_split() {
    let (came, read) = delivery();
    let twice = came.repeat(2);
    for split in 0..=twice.len() {
        for at_once in [1, 13, 4_096] {
            let pieces = vec![twice[..split].to_vec(), twice[split..].to_vec()];
            assert_eq!(read_all(pieces, 0, at_once), read.repeat(2), "at {split}");
        }
    }
    let bytes = twice.iter().map(|byte| vec![*byte]).collect();
    assert_eq!(read_all(bytes, 0, 4_096), read.repeat(2));
}

#[test]
fn what_is_no_frame_is_left_to_lapin() {
    let (came, read) = delivery();
    let garbage = [&came[..], b"AMQP\0\0\x09\x01", &came].concat();
    let left = [&read[..], b"AMQP\0\0\x09\x01", &came].concat();
    assert_eq!(read_all(vec![garbage], 0, 64), left);
    let mut no_end = content_header(b"na\xfee", b"");
    *no_end.last_mut().unwrap() = 0;
    assert_eq!(read_all(vec![no_end.clone()], 0, 64), no_end);
    let endless = [&[CONTENT_HEADER, 0, 1, 255, 255, 255, 255], &came[..]].concat();
    assert_eq!(read_all(vec![endless.clone()], 0, 64), endless);
}

#[test]
fn a_frame_that_never_ends_takes_no_room_before_it_has_come() {
    let longest = u32::try_from(LONGEST - HEAD - 1).unwrap().to_be_bytes();
    let stream = Pieces {
        pieces: vec![[&[CONTENT_HEADER, 0, 1][..], &longest].concat()],
        pause: false,
    };
    let mut transport = Transport::new(stream, 0, Arc::default());
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..4 {
        let _ = Pin::new(&mut transport).poll_read(&mut context, &mut [0; 64]);
    }
    assert!(transport.incoming.held.capacity() <= 2 * PIECE);
}

#[test]
fn a_content_header_fits_into_the_frames_that_were_agreed_on() {
    let long = [&b"\x04longS\0\0\x10\0"[..], &[b'x'; 4_096]].concat();
    let came = content_header(b"name", &long);
    let short = content_header(b"name", b"");
    let fits = u32::try_from(came.len()).unwrap();
    for (frame_max, read) in [
        (0, &came),
        (fits, &came),
        (fits - 1, &short),
        (4_096, &short),
    ] {
        assert_eq!(&read_all(vec![came.clone()], frame_max, 64), read);
        let asked = [
            &[0, 10, 0, 30, 0, 0][..],
            &frame_max.to_be_bytes(),
            &[0, 60],
        ]
        .concat();
        let tune = frame(METHOD, &asked);
        for ours in [0, 131_072] {
            let pieces = vec![tune.clone(), came.clone()];
            assert_eq!(read_all(pieces, ours, 64)[tune.len()..], read[..]);
        }
    }
}

/// An outbox whose channel is 7 and that has sent four messages, and their answers.
fn outbox_with_messages() -> (
    Arc<Outbox>,
    tokio::sync::oneshot::Receiver<Vec<Result<(), BrokerError>>>,
) {
    let outbox = Arc::new(Outbox::default());
    outbox.open(7).unwrap();
    let message = |body: &str| {
        let queue = QueueName::new("queue").unwrap();
        Message::new(queue, None, &BasicProperties::default(), body.into())
    };
    let messages = ["one", "two", "three", ""].map(message);
    let answers = outbox.send(7, Arc::new(messages.into()), Vec::new());
    (outbox, answers.unwrap())
}

/// What the broker says of them: the third and the fourth came back, the second was not taken.
fn confirmations() -> Vec<Vec<u8>> {
    let returned = |body: &[&[u8]]| {
        let about = b"\0\x3c\0\x32\x01\x38\x08NO_ROUTE\0\x05queue";
        let length = body.concat().len() as u64;
        let header = [&[0, 60, 0, 0][..], &length.to_be_bytes(), &[0, 0]].concat();
        let parts = body.iter().map(|part| frame_on(7, BODY, part));
        let frames = [
            frame_on(7, METHOD, about),
            frame_on(7, CONTENT_HEADER, &header),
        ];
        frames.into_iter().chain(parts).collect::<Vec<_>>()
    };
    let confirm = |method: u8, tag: u64, flags: u8| {
        let method = [&[0, 60, 0, method][..], &tag.to_be_bytes(), &[flags]].concat();
        frame_on(7, METHOD, &method)
    };
    let mut frames = returned(&[b"thr", b"ee"]);
    frames.extend(returned(&[]));
    frames.push(confirm(120, 2, 0));
    frames.push(confirm(80, 4, 1));
    frames
}

#[test]
fn confirmations_go_to_the_outbox_and_lapin_hears_that_the_broker_is_there() {
    let (came, read) = delivery();
    let frames = confirmations();
    let signs = SIGN_OF_LIFE.repeat(frames.len());
    let frames = [&came[..], &frames.concat(), &came].concat();
    let left = [&read[..], &signs, &read].concat();
    for split in 0..=frames.len() {
        for at_once in [1, 13, 4_096] {
            let (outbox, mut answers) = outbox_with_messages();
            let pieces = vec![frames[..split].to_vec(), frames[split..].to_vec()];
            assert_eq!(read_beside(&outbox, pieces, 0, at_once), left, "at {split}");
            let returned = Err(BrokerError::Unroutable {
                queue: "queue".to_owned(),
                reason: "NO_ROUTE".to_owned(),
            });
            let refused = Err(BrokerError::NotConfirmed {
                queue: "queue".to_owned(),
            });
            let expected = vec![Ok(()), refused, returned.clone(), returned];
            assert_eq!(answers.try_recv(), Ok(expected), "at {split}");
        }
    }
}

#[test]
fn frames_of_the_outbox_that_are_cut_short_hurt_nobody() {
    for frame in confirmations() {
        let payload = &frame[HEAD..frame.len() - 1];
        for length in 0..payload.len() {
            let (outbox, _answers) = outbox_with_messages();
            let cut = frame_on(7, frame[0], &payload[..length]);
            read_beside(&outbox, vec![cut], 0, 64);
        }
    }
}

#[test]
fn lapin_hears_of_a_channel_that_is_closed_and_so_does_the_outbox() {
    let text = b"\0\x14\0\x28\x01\x93\x0eACCESS_REFUSED\0\0\0\0";
    let close = frame_on(7, METHOD, text);
    let (outbox, mut answers) = outbox_with_messages();
    assert_eq!(read_beside(&outbox, vec![close.clone()], 0, 64), close);
    let refused = Err(BrokerError::AccessRefused {
        reason: "ACCESS_REFUSED".to_owned(),
    });
    assert_eq!(answers.try_recv(), Ok(vec![refused; 4]));
    assert!(outbox.channel().is_none());
}

#[test]
fn nothing_is_written_while_the_broker_takes_no_messages() {
    let (outbox, _answers) = outbox_with_messages();
    let send = |frames: &[u8]| drop(outbox.send(7, Arc::default(), frames.to_vec()).unwrap());
    let written = || {
        let mut written = Vec::new();
        outbox.exchange(&mut written);
        written
    };
    outbox.set_blocked(true);
    outbox.set_paused(true);
    send(b"one");
    assert_eq!(written(), b"");
    outbox.set_blocked(false);
    assert_eq!(written(), b"");
    send(b"two");
    outbox.set_paused(false);
    assert_eq!(written(), b"onetwo");
}
