//! Any content header: mended, it can be read, is nested no deeper than is safe, and stays so.
#![no_main]

use lapin::{
    protocol::{basic::parse_properties, parse_class},
    types::AMQPValue,
};
use libfuzzer_sys::fuzz_target;

#[path = "../../host/src/broker/amqp/readable.rs"]
mod readable;

/// Class, weight and length of the body.
const START: usize = 12;

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (is_method, mut payload) = input;
    if is_method {
        readable::mend_method(&mut payload);
        let _ = parse_class(&payload[..]);
        return;
    }
    payload.splice(0..0, [0; START]);
    let length = readable::mend_content_header(&mut payload);
    payload.truncate(length);
    if length < START + 2 {
        return;
    }
    assert_readable(&payload);
    let mut again = payload.clone();
    assert_eq!(readable::mend_content_header(&mut again), length);
    assert_eq!(again, payload);
    let length = readable::shorten(&mut payload, length / 2, |name| name.starts_with("x-"));
    assert_readable(&payload[..length]);
});

fn assert_readable(payload: &[u8]) {
    let (rest, properties) = parse_properties(&payload[START..]).expect("it is readable");
    assert!(rest.is_empty());
    if let Some(headers) = properties.headers() {
        assert!(headers.inner().len() <= readable::MOST_HEADERS);
        assert!(headers.inner().values().all(|value| depth(value) <= 32));
    }
}

fn depth(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::FieldArray(values) => 1 + values.as_slice().iter().map(depth).max().unwrap_or(0),
        AMQPValue::FieldTable(table) => 1 + table.inner().values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
