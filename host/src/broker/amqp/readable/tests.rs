use lapin::{
    BasicProperties,
    protocol::{AMQPClass, basic, parse_class},
    types::{AMQPValue, FieldTable, ShortString},
};
use proptest::prelude::*;

use super::*;

/// A content header with nothing but headers, and a priority after them.
fn content_header(table: &[u8]) -> Vec<u8> {
    content_header_of(HEADERS | PRIORITY, &[&long(table)[..], &[7]].concat())
}

fn content_header_of(flags: u16, properties: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
    payload.extend(flags.to_be_bytes());
    payload.extend(properties);
    payload
}

fn long(data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap();
    [&length.to_be_bytes(), data].concat()
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

fn entry(name: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    [&short(name), &[kind][..], data].concat()
}

fn number(name: &str) -> Vec<u8> {
    entry(name.as_bytes(), b'B', &[1])
}

fn mended(mut payload: Vec<u8>) -> Vec<u8> {
    let length = mend_content_header(&mut payload);
    payload.truncate(length);
    payload
}

/// As lapin reads it.
fn read(payload: &[u8]) -> BasicProperties {
    let (rest, properties) = basic::parse_properties(&payload[12..]).expect("lapin can read it");
    assert!(rest.is_empty(), "lapin refuses {rest:?} at the end");
    properties
}

/// Mended and read; what comes after the headers must have stayed.
fn headers(table: &[u8]) -> FieldTable {
    let properties = read(&mended(content_header(table)));
    assert_eq!(*properties.priority(), Some(7));
    properties.headers().clone().unwrap()
}

fn names(table: &FieldTable) -> Vec<&str> {
    table.inner().keys().map(ShortString::as_str).collect()
}

fn depth(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::FieldArray(values) => 1 + values.as_slice().iter().map(depth).max().unwrap_or(0),
        AMQPValue::FieldTable(table) => 1 + table.inner().values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A value in so many arrays.
fn nested(levels: usize) -> Vec<u8> {
    let mut value = Vec::new();
    for level in (0..levels).rev() {
        value.push(b'A');
        value.extend(u32::try_from(1 + 5 * level).unwrap().to_be_bytes());
    }
    value.push(b'V');
    value
}

#[test]
fn what_is_nested_too_deeply_becomes_bytes() {
    for levels in [1, DEEPEST, DEEPEST + 1, 26_000] {
        let value = nested(levels);
        let table = headers(&[entry(b"deep", value[0], &value[1..]), number("next")].concat());
        assert_eq!(depth(&table.inner()["deep"]), levels.min(DEEPEST));
        assert_eq!(table.inner()["next"], AMQPValue::ShortShortUInt(1));
    }
}

#[test]
fn names_that_are_not_utf_8_become_text() {
    let inner = entry(b"in\xe9ner", b't', &[1]);
    let table = [
        entry(b"na\xff\xfeme", b'B', &[1]),
        entry("中é".as_bytes(), b'B', &[1]),
        entry(b"cut \xe4\xb8", b'B', &[1]),
        entry(b"table", b'F', &long(&inner)),
        entry(b"text", b'S', &long(b"\xff")),
    ];
    let table = headers(&table.concat());
    assert_eq!(names(&table), ["cut ??", "na??me", "table", "text", "中é"]);
    let AMQPValue::FieldTable(inner) = &table.inner()["table"] else {
        panic!("{table:?}");
    };
    assert_eq!(names(inner), ["in?ner"]);
    // Whoever reads the text sees what was sent.
    let text = AMQPValue::LongString(vec![0xff].into());
    assert_eq!(table.inner()["text"], text);
}

#[test]
fn properties_that_are_not_utf_8_become_text() {
    let flags = CONTENT_TYPE | CONTENT_ENCODING | TIMESTAMP | CLUSTER_ID;
    let properties = [
        short(b"text/\xff"),
        short(b"\xc3"),
        vec![0, 0, 0, 0, 0, 0, 0, 5],
        short(b"\x80c"),
    ];
    let read = read(&mended(content_header_of(flags, &properties.concat())));
    assert_eq!(read.content_type().as_ref().unwrap().as_str(), "text/?");
    assert_eq!(read.content_encoding().as_ref().unwrap().as_str(), "?");
    assert_eq!(*read.timestamp(), Some(5));
    assert_eq!(read.cluster_id().as_ref().unwrap().as_str(), "?c");
}

#[test]
fn what_follows_a_header_without_a_readable_end_is_left_out() {
    let good = number("good");
    for bad in [
        entry(b"unknown", b'?', &[1, 2, 3]),
        entry(b"cut off", b'L', &[1, 2, 3]),
        entry(b"too long", b'S', &[0, 0, 1, 0, 65]),
        entry(b"longest", b'S', &[255, 255, 255, 255]),
        entry(b"array", b'A', &[0, 0, 0, 9, b'V']),
        entry(b"no length", b'F', &[0, 0]),
        b"\x0aname".to_vec(),
        b"\x00".to_vec(),
    ] {
        let table = headers(&[&good[..], &bad].concat());
        assert_eq!(names(&table), ["good"], "{bad:?}");
        assert_eq!(names(&headers(&bad)), [""; 0]);
    }
}

#[test]
fn what_is_malformed_inside_becomes_bytes() {
    for inside in [&b"\x01a?"[..], b"\x05a", b"\x01aA\0\0\0\x09"] {
        let table = headers(&[entry(b"table", b'F', &long(inside)), number("next")].concat());
        let bytes = AMQPValue::ByteArray(inside.to_vec().into());
        assert_eq!(table.inner()["table"], bytes);
        assert_eq!(names(&table), ["next", "table"]);
    }
}

#[test]
fn a_table_that_claims_another_length_than_it_has_keeps_its_headers() {
    let good = number("good");
    for claim in [u32::MAX, 1_000, 9] {
        let table = [&claim.to_be_bytes()[..], &good].concat();
        let read = read(&mended(content_header_of(HEADERS | PRIORITY, &table)));
        assert_eq!(names(read.headers().as_ref().unwrap()), ["good"]);
        assert_eq!(*read.priority(), None);
    }
    let none = read(&mended(content_header_of(HEADERS, &[0, 0])));
    assert_eq!(*none.headers(), None);
}

#[test]
fn headers_of_a_number_that_is_out_of_the_ordinary_are_left_out() {
    let entries = (0..2_000).map(|it| number(&format!("{it:04}")));
    let table = headers(&entries.collect::<Vec<_>>().concat());
    assert_eq!(table.inner().len(), MOST_HEADERS);
    assert!(table.contains_key("0000"));
}

#[test]
fn values_of_a_number_that_is_out_of_the_ordinary_become_bytes() {
    let array = |count: usize| long(&vec![b'V'; count]);
    let table = [
        entry(b"many", b'A', &array(MOST_NESTED)),
        entry(b"too many", b'A', &array(MOST_NESTED + 1)),
        entry(b"few", b'A', &array(5)),
    ];
    let table = headers(&table[1..].concat());
    assert!(matches!(table.inner()["too many"], AMQPValue::ByteArray(_)));
    assert!(matches!(table.inner()["few"], AMQPValue::FieldArray(_)));
    let table = headers(&entry(b"many", b'A', &array(MOST_NESTED)));
    assert!(matches!(table.inner()["many"], AMQPValue::FieldArray(_)));
}

#[test]
fn the_longest_headers_are_left_out_and_those_that_are_known_last() {
    let entries = [
        entry(b"long", b'S', &long(&[b'l'; 300])),
        number("short"),
        entry(b"longer", b'S', &long(&[b'L'; 400])),
        entry(b"known", b'S', &long(&[b'k'; 500])),
    ];
    let payload = content_header(&entries.concat());
    let left = |most: usize| {
        let mut payload = payload.clone();
        let length = shorten(&mut payload, most, |name| name == "known");
        payload.truncate(length);
        assert!(most < 30 || length <= most, "{length} > {most}");
        let read = read(&payload);
        assert_eq!(*read.priority(), Some(7));
        names(read.headers().as_ref().unwrap()).join(" ")
    };
    let all = payload.len();
    assert_eq!(left(all), "known long longer short");
    assert_eq!(left(all - 1), "known long short");
    assert_eq!(left(all - 450), "known short");
    assert_eq!(left(600), "known short");
    assert_eq!(left(530), "known");
    assert_eq!(left(100), "");
    assert_eq!(left(0), "");
}

#[test]
fn names_in_methods_become_text() {
    let deliver = [
        &[0, 60, 0, 60][..],
        &short(b"tag"),
        &[0, 0, 0, 0, 0, 0, 0, 9, 1],
        &short(b"ex\xff"),
        &short(b"\xe9key"),
    ];
    let mut payload = deliver.concat();
    mend_method(&mut payload);
    let (_, method) = parse_class(&payload[..]).expect("lapin can read it");
    let AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)) = method else {
        panic!("{method:?}");
    };
    assert_eq!(deliver.exchange.as_str(), "ex?");
    assert_eq!(deliver.routing_key.as_str(), "?key");
    assert_eq!((deliver.delivery_tag, deliver.redelivered), (9, true));
    for others in [
        [
            &[0, 60, 0, 71][..],
            &[0; 9],
            &short(b"\xff"),
            &short(b"\xff"),
            &[0; 4],
        ]
        .concat(),
        [
            &[0, 60, 0, 50][..],
            &[1, 56],
            &short(b"\xff"),
            &short(b"\xff"),
            &short(b"\xff"),
        ]
        .concat(),
        [&[0, 20, 0, 40][..], &[1, 148], &short(b"\xff"), &[0; 4]].concat(),
        [&[0, 10, 0, 50][..], &[1, 148], &short(b"\xff"), &[0; 4]].concat(),
    ] {
        let mut payload = others;
        mend_method(&mut payload);
        assert!(parse_class(&payload[..]).is_ok(), "{payload:?}");
    }
}

fn any_value() -> impl Strategy<Value = AMQPValue> {
    let text = any::<String>().prop_map(|text| AMQPValue::LongString(text.into()));
    let leaf = prop_oneof![
        text,
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i32>().prop_map(|number| AMQPValue::Double(number.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|it| AMQPValue::ByteArray(it.into())),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6)
                .prop_map(|values| AMQPValue::FieldArray(values.into())),
            prop::collection::btree_map("\\PC{0,9}", inner, 0..6).prop_map(|entries| {
                let entries = entries.into_iter().map(|(name, it)| (name.into(), it));
                AMQPValue::FieldTable(entries.collect::<std::collections::BTreeMap<_, _>>().into())
            }),
        ]
    })
}

/// A content header as a broker sends it.
fn any_content_header() -> impl Strategy<Value = Vec<u8>> {
    let headers = prop::collection::btree_map("\\PC{0,20}", any_value(), 0..8);
    (
        headers,
        any::<Option<u8>>(),
        any::<Option<u64>>(),
        any::<bool>(),
    )
        .prop_map(|(headers, priority, timestamp, texts)| {
            let mut properties = BasicProperties::default();
            let headers = headers
                .into_iter()
                .map(|(name, it)| (ShortString::from(name), it));
            properties = properties
                .with_headers(headers.collect::<std::collections::BTreeMap<_, _>>().into());
            if let Some(priority) = priority {
                properties = properties.with_priority(priority);
            }
            if let Some(timestamp) = timestamp {
                properties = properties.with_timestamp(timestamp);
            }
            if texts {
                properties = properties
                    .with_content_type("application/json".into())
                    .with_correlation_id("é".into())
                    .with_cluster_id("c".into());
            }
            let mut payload = vec![0; 64 * 1024];
            let written = basic::gen_properties(&properties)(payload[12..].as_mut().into());
            let (_, written) = written.unwrap().into_inner();
            payload.truncate(12 + usize::try_from(written).unwrap());
            payload
        })
}

fn is_readable(payload: Vec<u8>) {
    let before = payload.len();
    let payload = mended(payload);
    assert!(payload.len() <= before);
    if let Some(headers) = read(&payload).headers() {
        assert!(
            headers
                .inner()
                .values()
                .all(|value| depth(value) <= DEEPEST)
        );
        assert!(headers.inner().len() <= MOST_HEADERS);
    }
    assert_eq!(
        mended(payload.clone()),
        payload,
        "mending again changes something"
    );
    for most in [0, 40, payload.len() / 2] {
        let mut payload = payload.clone();
        let length = shorten(&mut payload, most, |name| name.len() % 2 == 0);
        payload.truncate(length);
        read(&payload);
    }
}

proptest! {
    #[test]
    fn what_is_ordinary_stays_as_it_is(payload in any_content_header()) {
        prop_assert_eq!(mended(payload.clone()), payload);
    }

    #[test]
    fn any_bytes_become_readable(payload in prop::collection::vec(any::<u8>(), 14..400)) {
        is_readable(payload);
    }

    #[test]
    fn what_was_damaged_becomes_readable(
        payload in any_content_header(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut payload = payload;
        for (place, byte) in damage {
            let at = 12 + place.index(payload.len() - 12);
            payload[at] = byte;
        }
        if let Some(cut) = cut {
            let left = 14 + cut.index(payload.len() - 13);
            payload.truncate(left);
        }
        is_readable(payload);
    }

    #[test]
    fn any_method_may_come(payload in prop::collection::vec(any::<u8>(), 0..40), kind in 0..6_u8) {
        let mut payload = payload;
        if let Some(start) = payload.first_chunk_mut::<4>() {
            *start = match kind {
                0 => [0, 60, 0, 60],
                1 => [0, 60, 0, 71],
                2 => [0, 60, 0, 50],
                3 => [0, 10, 0, 50],
                4 => [0, 20, 0, 40],
                _ => *start,
            };
        }
        mend_method(&mut payload);
    }
}
