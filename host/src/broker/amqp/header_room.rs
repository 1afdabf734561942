//! Makes headers fit: all of a message must be in one frame, or the broker closes the connection.

use std::{cmp::Reverse, collections::BTreeMap};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::readable::MOST_HEADERS;
use crate::job::header;

/// Headers as they are on the wire.
pub(super) type Table = BTreeMap<ShortString, AMQPValue>;

/// What a broker adds to a message that it hands over again or lets wait has room in the rest.
const SIXTEENTHS: usize = 15;
/// Fewer than are read, for the same reason.
const MOST_SENT: usize = MOST_HEADERS - 64;
/// The frame's own bytes, what a content header begins with, and numbers among the properties.
const OVERHEAD: usize = 8 + 14 + 4 + 10;
/// Names that are logged.
const MOST_NAMED: usize = 8;

/// `properties` with as many of `headers` as fit into a frame of `frame_max` bytes. The longest are
/// left out first, and what jobs need last.
pub(super) fn fitted(
    properties: BasicProperties,
    mut headers: Table,
    frame_max: u32,
) -> BasicProperties {
    let room = usize::try_from(frame_max).unwrap_or(usize::MAX) / 16 * SIXTEENTHS;
    let mut length = texts_length(&properties) + OVERHEAD;
    for (name, value) in &headers {
        length += entry_length(name, value);
    }
    if length > room || headers.len() > MOST_SENT {
        let left_out = leave_out(&mut headers, length.saturating_sub(room));
        tracing::warn!(
            count = left_out.len(),
            names = left_out[..left_out.len().min(MOST_NAMED)].join(", "),
            frame_max,
            "left out headers of a message that do not fit into a frame"
        );
    }
    properties.with_headers(headers.into())
}

/// Removes at least so many bytes of headers, and returns their names.
fn leave_out(headers: &mut Table, mut over: usize) -> Vec<String> {
    let mut by_length: Vec<_> = headers
        .iter()
        .map(|(name, value)| {
            let length = entry_length(name, value);
            (
                header::is_known(name.as_str()),
                Reverse(length),
                name.clone(),
            )
        })
        .collect();
    by_length.sort_unstable();
    let mut left_out = Vec::new();
    for (_, Reverse(length), name) in by_length {
        if over == 0 && headers.len() <= MOST_SENT {
            break;
        }
        headers.remove(&name);
        over = over.saturating_sub(length);
        left_out.push(name.to_string());
    }
    left_out
}

/// An upper bound: of the properties other than headers, the texts.
fn texts_length(properties: &BasicProperties) -> usize {
    [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
        properties.user_id(),
        properties.app_id(),
        properties.cluster_id(),
    ]
    .into_iter()
    .flatten()
    .map(|text| 1 + text.as_str().len())
    .sum()
}

fn entry_length(name: &ShortString, value: &AMQPValue) -> usize {
    1 + name.as_str().len() + value_length(value)
}

/// Calls itself as often as values are nested, which what was received has a limit for.
fn value_length(value: &AMQPValue) -> usize {
    let data = match value {
        AMQPValue::Void => 0,
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldArray(values) => {
            4 + values.as_slice().iter().map(value_length).sum::<usize>()
        }
        AMQPValue::FieldTable(table) => 4 + table_length(table),
    };
    1 + data
}

fn table_length(table: &FieldTable) -> usize {
    let entries = table.inner().iter();
    entries.map(|(name, value)| entry_length(name, value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_MAX: u32 = 4_096;

    fn text(length: usize) -> AMQPValue {
        AMQPValue::LongString("x".repeat(length).into())
    }

    fn names(headers: Table) -> Vec<String> {
        let properties = BasicProperties::default().with_correlation_id("c".repeat(200).into());
        let fitted = fitted(properties, headers, FRAME_MAX);
        let mut frame = vec![0; 8 + 12 + 4_096];
        let written = lapin::protocol::basic::gen_properties(&fitted)(frame[20..].as_mut().into());
        let (_, written) = written.expect("it fits into a frame").into_inner();
        assert!(written + 20 <= u64::from(FRAME_MAX) / 16 * 15, "{written}");
        let table = fitted.headers().clone().unwrap();
        table.inner().keys().map(ToString::to_string).collect()
    }

    #[test]
    fn headers_that_fit_stay() {
        let mut nested = FieldTable::default();
        nested.insert(
            "inner".into(),
            AMQPValue::FieldArray(vec![text(900)].into()),
        );
        let headers = [
            ("a", text(2_000)),
            ("b", AMQPValue::FieldTable(nested)),
            ("c", AMQPValue::Boolean(true)),
            ("d", AMQPValue::ByteArray(vec![0; 400].into())),
        ];
        let headers: Table = headers.map(|(name, value)| (name.into(), value)).into();
        assert_eq!(names(headers), ["a", "b", "c", "d"]);
    }

    #[test]
    fn the_longest_are_left_out_and_those_that_jobs_need_last() {
        let headers = |known: usize| -> Table {
            [
                ("long", text(1_500)),
                ("longer", text(1_600)),
                ("short", AMQPValue::LongLongInt(1)),
                (header::ERROR_MESSAGE, text(known)),
                (header::RETRY_COUNT, AMQPValue::LongLongInt(3)),
            ]
            .map(|(name, value)| (name.into(), value))
            .into()
        };
        let all = [
            "long",
            "longer",
            "short",
            "x-error-message",
            "x-retry-count",
        ];
        assert_eq!(names(headers(10)), all);
        assert_eq!(
            names(headers(1_700)),
            ["long", "short", "x-error-message", "x-retry-count"]
        );
        assert_eq!(names(headers(3_550)), ["x-error-message", "x-retry-count"]);
        assert_eq!(names(headers(9_000)), ["x-retry-count"]);
    }

    #[test]
    fn so_many_are_sent_that_none_of_them_is_left_out_when_they_are_read() {
        let mut headers: Table = (0..2_000)
            .map(|number| (format!("{number}").into(), AMQPValue::Void))
            .collect();
        headers.insert(header::RETRY_COUNT.into(), AMQPValue::LongLongInt(3));
        let fitted = fitted(BasicProperties::default(), headers, 128 * 1024);
        let headers = fitted.headers().clone().unwrap();
        assert_eq!(headers.inner().len(), MOST_SENT);
        assert!(headers.contains_key(header::RETRY_COUNT));
    }
}
