//! Headers and properties between AMQP's types and ours.

use lapin::{
    BasicProperties,
    types::{AMQPValue, ShortString},
};

use super::header_room::{Table, fitted};
use crate::broker::{HeaderValue, Headers, Publish};

const PERSISTENT: u8 = 2;
/// The `app_id` of messages whose jobs a Warren client made.
const WARREN: &str = "warren";
const LONGEST_NAME: usize = 255;

/// The properties of a message to be sent in frames of `frame_max` bytes.
pub(super) fn properties(publish: &Publish, frame_max: u32) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_priority(publish.priority);
    if publish.from_warren {
        properties = properties.with_app_id(ShortString::from(WARREN));
    }
    fitted(properties, to_table(&publish.headers), frame_max)
}

fn to_table(headers: &Headers) -> Table {
    let mut table = Table::new();
    for (name, value) in headers.iter() {
        // AMQP limits a header's name to 255 bytes; a longer one is nobody's that we know.
        if name.len() <= LONGEST_NAME {
            table.insert(ShortString::from(name), to_value(value));
        }
    }
    table
}

fn to_value(value: &HeaderValue) -> AMQPValue {
    match value {
        HeaderValue::Int(number) => AMQPValue::LongLongInt(*number),
        HeaderValue::Text(text) | HeaderValue::Other(text) => {
            AMQPValue::LongString(text.as_str().into())
        }
        HeaderValue::Bool(flag) => AMQPValue::Boolean(*flag),
        HeaderValue::Float(number) => AMQPValue::Double(*number),
    }
}

/// Whether a Warren client made the job of a message that was received.
pub(super) fn is_from_warren(properties: &BasicProperties) -> bool {
    properties
        .app_id()
        .as_ref()
        .is_some_and(|id| id.as_str() == WARREN)
}

/// The headers of a message that was received.
pub(super) fn headers(properties: &BasicProperties) -> Headers {
    let Some(table) = properties.headers() else {
        return Headers::new();
    };
    let table = table.inner();
    let mut headers = Headers::with_capacity(table.len());
    for (name, value) in table {
        headers.push_new(name.as_str(), from_value(value));
    }
    headers
}

fn from_value(value: &AMQPValue) -> HeaderValue {
    match value {
        AMQPValue::Boolean(flag) => HeaderValue::Bool(*flag),
        AMQPValue::ShortShortInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::ShortShortUInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::ShortInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::ShortUInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::LongInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::LongUInt(number) => HeaderValue::Int(i64::from(*number)),
        AMQPValue::LongLongInt(number) => HeaderValue::Int(*number),
        AMQPValue::Float(number) => HeaderValue::Float(f64::from(*number)),
        AMQPValue::Double(number) => HeaderValue::Float(*number),
        AMQPValue::ShortString(text) => HeaderValue::Text(text.to_string()),
        AMQPValue::LongString(text) => {
            HeaderValue::Text(String::from_utf8_lossy(text.as_bytes()).into_owned())
        }
        // Spelled out they would take several times their length.
        AMQPValue::ByteArray(bytes) => HeaderValue::Other(format!("{} bytes", bytes.len())),
        other => HeaderValue::Other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_survive_the_way_out_and_back(
            headers in prop::collection::btree_map(
                "[a-z-]{1,20}",
                prop_oneof![
                    any::<i64>().prop_map(HeaderValue::Int),
                    any::<String>().prop_map(HeaderValue::Text),
                    any::<bool>().prop_map(HeaderValue::Bool),
                    any::<i32>().prop_map(|number| HeaderValue::Float(f64::from(number))),
                ],
                0..8,
            )
        ) {
            let mut sent = Headers::new();
            for (name, value) in headers {
                sent.insert(name, value);
            }
            let properties = BasicProperties::default().with_headers(to_table(&sent).into());
            prop_assert_eq!(super::headers(&properties), sent);
        }
    }

    #[test]
    fn integers_of_any_width_are_integers() {
        for value in [
            AMQPValue::ShortShortInt(7),
            AMQPValue::ShortShortUInt(7),
            AMQPValue::ShortInt(7),
            AMQPValue::ShortUInt(7),
            AMQPValue::LongInt(7),
            AMQPValue::LongUInt(7),
            AMQPValue::LongLongInt(7),
        ] {
            assert_eq!(from_value(&value), HeaderValue::Int(7));
        }
    }

    #[test]
    fn a_header_name_that_is_too_long_is_left_out() {
        let headers = Headers::from([(&*"x".repeat(300), HeaderValue::Bool(true))]);
        assert_eq!(to_table(&headers), Table::new());
    }
}
