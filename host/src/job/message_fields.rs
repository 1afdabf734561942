//! The keys of a message: where their values lie in the body, and how each kind is read.

use std::{borrow::Cow, ops::Range};

use warren_plugin_api::{Status, Text, Timestamp};

use super::{
    MessageError, datetime,
    json::{self, Scanner, SyntaxError},
};

/// A key of the message, in the order in which Python writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    JobId,
    Function,
    Args,
    Kwargs,
    JobTry,
    EnqueueTime,
    StartTime,
    EndTime,
    Status,
    Result,
    Error,
    QueueName,
    DeferUntil,
    Expires,
}

impl Key {
    const COUNT: usize = 14;
    const ALL: [Self; Self::COUNT] = [
        Self::JobId,
        Self::Function,
        Self::Args,
        Self::Kwargs,
        Self::JobTry,
        Self::EnqueueTime,
        Self::StartTime,
        Self::EndTime,
        Self::Status,
        Self::Result,
        Self::Error,
        Self::QueueName,
        Self::DeferUntil,
        Self::Expires,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::JobId => "job_id",
            Self::Function => "function",
            Self::Args => "args",
            Self::Kwargs => "kwargs",
            Self::JobTry => "job_try",
            Self::EnqueueTime => "enqueue_time",
            Self::StartTime => "start_time",
            Self::EndTime => "end_time",
            Self::Status => "status",
            Self::Result => "result",
            Self::Error => "error",
            Self::QueueName => "queue_name",
            Self::DeferUntil => "defer_until",
            Self::Expires => "expires",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }
}

/// A body and where the values of its known keys lie in it.
pub(super) struct Fields<'a> {
    body: &'a [u8],
    ranges: [Option<Range<usize>>; Key::COUNT],
}

impl<'a> Fields<'a> {
    /// Finds the keys of `body`. Of a key that occurs twice the last one counts, as in Python.
    /// The keys before an error are found all the same.
    pub(super) fn find(body: &'a [u8]) -> (Self, Result<(), SyntaxError>) {
        let mut ranges = [const { None }; Key::COUNT];
        let outcome = Scanner::new(body).object(|name, value| {
            let key = name.text(body).and_then(|name| Key::parse(&name));
            if let Some(key) = key {
                ranges[key as usize] = Some(value);
            }
        });
        (Self { body, ranges }, outcome)
    }

    /// Where the value of `key` lies.
    pub(super) fn range(&self, key: Key) -> Option<Range<usize>> {
        self.ranges[key as usize].clone()
    }

    /// The value of `key`; `None` when it is absent.
    pub(super) fn raw(&self, key: Key) -> Option<&'a [u8]> {
        self.body.get(self.range(key)?)
    }

    /// A string; absent is `None`, `null` is an error.
    pub(super) fn string(&self, key: Key) -> Result<Option<Text>, MessageError> {
        let Some(raw) = self.raw(key) else {
            return Ok(None);
        };
        match json::as_string(raw) {
            Some(text) => Ok(Some(Text::from(&*text))),
            None => self.invalid(key, "a string"),
        }
    }

    /// A string; absent and `null` are `None`.
    pub(super) fn nullable_string(&self, key: Key) -> Result<Option<Text>, MessageError> {
        if self.is_null(key) {
            Ok(None)
        } else {
            self.string(key)
        }
    }

    /// Where a value that starts with `opening` lies; absent is `None`, another kind an error.
    pub(super) fn container(
        &self,
        key: Key,
        opening: u8,
        expected: &'static str,
    ) -> Result<Option<Range<usize>>, MessageError> {
        match self.raw(key) {
            Some(raw) if raw.first() != Some(&opening) => self.invalid(key, expected),
            _ => Ok(self.range(key)),
        }
    }

    /// An integer, or what Python takes for one: `"2"`, `2.0`, `true`. Saturates.
    pub(super) fn integer(&self, key: Key) -> Result<Option<i64>, MessageError> {
        let Some(raw) = self.raw(key) else {
            return Ok(None);
        };
        match integer(raw) {
            Some(number) => Ok(Some(number)),
            None => self.invalid(key, "a whole number"),
        }
    }

    /// A time; absent is `None`, `null` is an error.
    pub(super) fn time(&self, key: Key) -> Result<Option<Timestamp>, MessageError> {
        let Some(raw) = self.raw(key) else {
            return Ok(None);
        };
        let time = match json::as_string(raw) {
            Some(text) => datetime::parse_text(&text),
            None => std::str::from_utf8(raw)
                .ok()
                .and_then(datetime::parse_number),
        };
        match time {
            Some(time) => Ok(Some(time)),
            None => self.invalid(key, "a time, such as \"2026-01-31T12:00:00+00:00\""),
        }
    }

    /// A time; absent and `null` are `None`.
    pub(super) fn nullable_time(&self, key: Key) -> Result<Option<Timestamp>, MessageError> {
        if self.is_null(key) {
            Ok(None)
        } else {
            self.time(key)
        }
    }

    /// A status word; absent is `None`.
    pub(super) fn status(&self, key: Key) -> Result<Option<Status>, MessageError> {
        let Some(raw) = self.raw(key) else {
            return Ok(None);
        };
        match json::as_string(raw).and_then(|word| word.parse().ok()) {
            Some(status) => Ok(Some(status)),
            None => self.invalid(
                key,
                "queued, in_progress, retrying, completed, failed or aborted",
            ),
        }
    }

    fn is_null(&self, key: Key) -> bool {
        self.raw(key) == Some(b"null")
    }

    fn invalid<T>(&self, key: Key, expected: &'static str) -> Result<T, MessageError> {
        let raw = self.raw(key).unwrap_or_default();
        let is_argument = matches!(key, Key::Args | Key::Kwargs);
        let found = describe(raw, is_argument);
        Err(MessageError::Invalid {
            key: key.as_str(),
            expected,
            found,
        })
    }
}

/// What a value is: a short scalar itself, anything else by its kind. Arguments are always told
/// by their kind, since this is logged and they may hold secrets.
fn describe(raw: &[u8], is_secret: bool) -> String {
    const SHOWN_BYTES: usize = 64;
    let kind = match raw.first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'n') => "null",
        Some(b'"') if is_secret => "a string",
        Some(b't' | b'f') if is_secret => "a boolean",
        _ if is_secret => "a number",
        _ if raw.len() > SHOWN_BYTES => "too long",
        _ => return String::from_utf8_lossy(raw).into_owned(),
    };
    kind.to_owned()
}

/// What Python's validation turns into an integer: a whole number, a float without a fraction, a
/// boolean, or a string of digits.
fn integer(raw: &[u8]) -> Option<i64> {
    match raw {
        b"true" => return Some(1),
        b"false" => return Some(0),
        _ => {}
    }
    let text = match json::as_string(raw) {
        Some(text) => text,
        None => Cow::Borrowed(std::str::from_utf8(raw).ok()?),
    };
    let text = text.trim();
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => {
            whole
        }
        Some(_) => return None,
        None => text,
    };
    let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The digits are digits: what does not parse does not fit.
    let overflow = if whole.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    };
    Some(whole.parse().unwrap_or(overflow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        for (number, key) in Key::ALL.into_iter().enumerate() {
            assert_eq!(key as usize, number);
            assert_eq!(Key::parse(key.as_str()), Some(key));
        }
    }

    #[test]
    fn a_wrong_value_is_shown_unless_it_may_be_secret() {
        assert_eq!(describe(b"\"two\"", false), "\"two\"");
        assert_eq!(describe(&[b'1'; 65], false), "too long");
        for secret in [
            "\"s3cret\"",
            "{\"password\": \"s3cret\"}",
            "[\"s3cret\"]",
            "53283",
        ] {
            let shown = describe(secret.as_bytes(), true);
            assert!(!shown.contains("s3cret") && !shown.contains('5'), "{shown}");
        }
    }

    #[test]
    fn an_integer_is_what_python_takes_for_one() {
        let cases: [(&str, Option<i64>); 15] = [
            ("2", Some(2)),
            ("\"2\"", Some(2)),
            ("\" +2 \"", Some(2)),
            ("2.0", Some(2)),
            ("\"2.00\"", Some(2)),
            ("true", Some(1)),
            ("-0", Some(0)),
            ("99999999999999999999", Some(i64::MAX)),
            ("-99999999999999999999", Some(i64::MIN)),
            ("2.5", None),
            ("\"two\"", None),
            ("\"\"", None),
            ("null", None),
            ("[2]", None),
            ("NaN", None),
        ];
        for (raw, expected) in cases {
            assert_eq!(integer(raw.as_bytes()), expected, "{raw}");
        }
    }
}
