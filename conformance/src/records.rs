//! Records to write: ordinary ones, and as hostile as the contract allows.

use std::time::Duration;

use warren_plugin_api::{Payload, Record, Status, Text, Timestamp, Write, WriteMode};

use crate::context::Context;

pub(crate) const SECOND_US: i64 = 1_000_000;
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// Now, moved by microseconds.
pub(crate) fn now_plus(offset_us: i64) -> Timestamp {
    Timestamp::from_unix_us(Timestamp::now().unix_us().saturating_add(offset_us))
}

/// A record with every field set, each to something of its own.
pub(crate) fn full(job_id: Text, status: Status, attempt: u32) -> Record {
    let at = |offset: i64| Some(Timestamp::from_unix_us(1_764_000_000_123_456 + offset));
    Record {
        status,
        attempt,
        queue: "conformance".into(),
        function: "app.tasks.add".into(),
        worker: format!("worker-{attempt}").into(),
        enqueued_at: at(0),
        started_at: at(1_000_001),
        finished_at: at(2_000_002),
        updated_at: at(3_000_003),
        heartbeat_at: at(4_000_004),
        expires_at: Some(now_plus(0).saturating_add(HOUR)),
        duration: Some(Duration::from_micros(1_000_001)),
        error: Some(format!("ValueError: {status} {attempt} of {job_id}").into()),
        args: format!("[1, \"{attempt}\"]").into(),
        kwargs: format!("{{\"status\": \"{status}\"}}").into(),
        result: format!("{{\"of\": {attempt}}}").into(),
        progress: "0.5".into(),
        extra: vec![
            ("trace".into(), format!("\"{status}\"").into()),
            ("tags".into(), "[\"a\"]".into()),
        ],
        job_id,
    }
}

/// A small record that expires in an hour.
pub(crate) fn small(job_id: Text, status: Status) -> Record {
    Record {
        job_id,
        status,
        attempt: 1,
        queue: "conformance".into(),
        function: "add".into(),
        enqueued_at: Some(now_plus(0)),
        expires_at: Some(now_plus(0).saturating_add(HOUR)),
        args: "[1]".into(),
        ..Record::default()
    }
}

pub(crate) fn with_mode(record: Record, mode: WriteMode) -> Write {
    Write { record, mode }
}

pub(crate) const MODES: [WriteMode; 3] =
    [WriteMode::IfNewer, WriteMode::IfAbsent, WriteMode::Always];

impl Context {
    pub(crate) fn full(&self, name: &str) -> Record {
        full(self.id(name), Status::Completed, 2)
    }

    pub(crate) fn small(&self, name: &str) -> Record {
        small(self.id(name), Status::Queued)
    }
}

/// Texts that a careless store mangles: quotes it for JSON or a key, cuts it, trims it, or
/// takes it for a word of its own.
pub(crate) fn hostile_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        " a ",
        "a",
        "A",
        "a\n",
        "\r\n",
        "\t",
        "\0",
        "a\0b",
        "\u{1}\u{1f}\u{7f}",
        "a:b",
        "a/b",
        "../..",
        "a*",
        "?[a]",
        "{a}",
        "{}",
        "%s%d",
        "$1",
        "a'b",
        "a\"b",
        "a\\b",
        "a`b",
        "; DROP TABLE results; --",
        "null",
        "none",
        "None",
        "true",
        "0",
        "-1",
        "NaN",
        "pending",
        "unknown",
        "queued",
        "é",
        "e\u{301}",
        "中文",
        "🦀",
        "\u{202e}abc",
        "\u{feff}a",
        "\u{2028}",
        "\u{fffd}",
        "\u{10ffff}",
        "ß",
        "İ",
        "a,b",
        "a=b&c=d",
        "a;b",
        "<a>&amp;</a>",
    ]
    .map(str::to_owned)
    .into();
    texts.push("long ".repeat(2_000));
    texts
}

/// Bytes that a careless store mangles: parses, prints anew, decodes as text, trims or cuts.
pub(crate) fn hostile_payloads() -> Vec<(&'static str, Payload)> {
    let deep = 10_000;
    let text = |name, text: &str| (name, Payload::from(text));
    vec![
        ("nothing", Payload::empty()),
        text("null", "null"),
        text("white space only", " \n "),
        text(
            "white space around",
            " \t\r\n {\"a\" :  1 , \"b\":[ 2 ]}\n\n",
        ),
        text("not JSON", "not JSON at all {"),
        text("half JSON", "{\"a\": "),
        text("NaN", "NaN"),
        text("NaN inside", "[NaN, Infinity, -Infinity]"),
        text("double keys", "{\"b\": 1, \"a\": 2, \"a\": 3}"),
        text("large integer", "123456789012345678901234567890"),
        text("negative zero", "-0.0"),
        text("long fraction", "0.1000000000000000055511151231257827"),
        text("exponent", "1E400"),
        text("escapes", "\"\\u00e9\\/\\ud83e\\udd80\\u0000\""),
        text("lone surrogate", "\"\\ud800\""),
        text("unicode", "\"é中🦀\u{feff}\""),
        text("quotes", "\"\\\"' ; -- \\\\\""),
        text("array where an object is usual", "[]"),
        ("NUL bytes", Payload::from(vec![0_u8; 3])),
        ("invalid UTF-8", Payload::from(vec![0xff, 0xfe, 0x80, 0xc3])),
        ("cut UTF-8", Payload::from(&"中".as_bytes()[..2])),
        ("every byte", Payload::from((0..=255).collect::<Vec<u8>>())),
        ("deep", Payload::from("[".repeat(deep) + &"]".repeat(deep))),
        ("long", Payload::from(vec![b'x'; 16 * 1024])),
        ("slice", Payload::from("0123456789").slice(3..7)),
    ]
}
