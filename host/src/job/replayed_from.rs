//! Where a replayed job comes from: the dead letter of its earlier run.
//!
//! A job that is sent again keeps its id, so that the record of its new run takes the place of the
//! old one. What is worth knowing of the old one goes with the message, in a header of Warren's
//! own, and from there into every record that the new run writes.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use warren_plugin_api::{Payload, Record, Text, Timestamp};

use super::error_text::shorten;

/// What is known of the run whose dead letter was sent again.
///
/// In a record it is one of the [`Record::extra`] values, a JSON object. Whatever the dead letter
/// did not say is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayedFrom {
    /// When the job failed.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_time",
        deserialize_with = "read_time"
    )]
    pub failed_at: Option<Timestamp>,
    /// The error's type, such as `JobTimeout`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error_type: String,
    /// The error's text without its type, cut to a short one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error_message: String,
    /// How often it had been attempted when it failed for good.
    pub attempts: u32,
    /// The queue in which its dead letter was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dead_letter_queue: String,
    /// How often the job has been sent again, this time included.
    pub replays: u32,
}

impl ReplayedFrom {
    /// The name of the [`Record::extra`] value.
    pub const EXTRA: &str = "warren.replayed_from";
    /// More than [`to_header`](Self::to_header) ever writes.
    const MAX_HEADER_BYTES: usize = 8 * 1024;
    const MAX_ERROR_BYTES: usize = 512;
    const MAX_NAME_BYTES: usize = 256;

    /// Reads it out of the header; nothing where that is none, whoever wrote it.
    pub fn from_header(text: &str) -> Option<Self> {
        if text.len() > Self::MAX_HEADER_BYTES {
            return None;
        }
        serde_json::from_str::<Self>(text).ok().map(Self::shortened)
    }

    /// The header's text: a JSON object.
    pub fn to_header(&self) -> String {
        let shortened = self.clone().shortened();
        // A struct of texts and numbers has no way to fail.
        serde_json::to_string(&shortened).unwrap_or_default()
    }

    /// What the job's record says; nothing where the job was not replayed.
    pub fn of_record(record: &Record) -> Option<Self> {
        let (name, value) = record.extra.iter().find(|(name, _)| *name == Self::EXTRA)?;
        Self::of_extra(name, value)
    }

    /// Reads it out of a value of a record's [`extra`](Record::extra); nothing in any other one.
    pub fn of_extra(name: &str, value: &[u8]) -> Option<Self> {
        if name != Self::EXTRA {
            return None;
        }
        serde_json::from_slice(value).ok()
    }

    /// The value for a record's [`extra`](Record::extra).
    pub fn to_extra(&self) -> (Text, Payload) {
        (Text::from(Self::EXTRA), Payload::from(self.to_header()))
    }

    /// `Type: message`, as far as it is known.
    pub fn error(&self) -> String {
        match (&*self.error_type, &*self.error_message) {
            ("", "") => "no reason is known".to_owned(),
            ("", text) | (text, "") => text.to_owned(),
            (kind, message) => format!("{kind}: {message}"),
        }
    }

    fn shortened(self) -> Self {
        let cut = |text: &str, bytes| shorten(text, bytes).into_owned();
        Self {
            error_type: cut(&self.error_type, Self::MAX_NAME_BYTES),
            error_message: cut(&self.error_message, Self::MAX_ERROR_BYTES),
            dead_letter_queue: cut(&self.dead_letter_queue, Self::MAX_NAME_BYTES),
            ..self
        }
    }
}

impl fmt::Display for ReplayedFrom {
    /// `the dead letter of TIME: ERROR`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failed_at {
            Some(failed_at) => write!(f, "the dead letter of {failed_at}: {}", self.error()),
            None => write!(f, "a dead letter: {}", self.error()),
        }
    }
}

/// As in the dead letter's own header.
fn write_time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Timestamp::parse_rfc3339(&text)
        .map(Some)
        .map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replayed_from() -> ReplayedFrom {
        ReplayedFrom {
            failed_at: Some(Timestamp::from_unix_us(1_700_000_000_000_001)),
            error_type: "JobTimeout".to_owned(),
            error_message: "took longer than 5 s".to_owned(),
            attempts: 4,
            dead_letter_queue: "mail.dlq".to_owned(),
            replays: 2,
        }
    }

    #[test]
    fn it_comes_through_a_header_into_a_record_as_plain_json() {
        let from = replayed_from();
        assert_eq!(
            from.to_header(),
            r#"{"failed_at":"2023-11-14T22:13:20.000001+00:00","error_type":"JobTimeout","#
                .to_owned()
                + r#""error_message":"took longer than 5 s","attempts":4,"#
                + r#""dead_letter_queue":"mail.dlq","replays":2}"#
        );
        let received = ReplayedFrom::from_header(&from.to_header()).unwrap();
        let record = Record {
            extra: vec![("other".into(), "1".into()), received.to_extra()],
            ..Record::default()
        };
        assert_eq!(ReplayedFrom::of_record(&record), Some(from));
        assert_eq!(ReplayedFrom::of_record(&Record::default()), None);
    }

    #[test]
    fn it_reads_as_a_sentence_whatever_is_known() {
        let mut from = replayed_from();
        let shown = "the dead letter of 2023-11-14T22:13:20.000001+00:00: JobTimeout: took longer \
                     than 5 s";
        assert_eq!(from.to_string(), shown);
        from.error_type.clear();
        from.failed_at = None;
        assert_eq!(from.to_string(), "a dead letter: took longer than 5 s");
        let nothing = ReplayedFrom::default();
        assert_eq!(nothing.to_string(), "a dead letter: no reason is known");
        assert_eq!(
            ReplayedFrom::from_header(&nothing.to_header()),
            Some(nothing)
        );
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over_and_what_is_no_object_is_nothing() {
        let read = ReplayedFrom::from_header;
        let later = read(r#"{"replays":1,"by":{"operator":["a"]}}"#).unwrap();
        assert_eq!((later.replays, later.attempts), (1, 0));
        let long = format!(r#"{{"by":"{}"}}"#, "x".repeat(100_000));
        for wrong in [
            "",
            "{",
            "7",
            r#"{"replays":-1}"#,
            r#"{"failed_at":"then"}"#,
            &long,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_error_is_too_long_for_a_header_or_read_differently(
            error_type in "\\PC{0,300}|[\u{0}-\u{1f}]{0,900}",
            error_message in "\\PC{0,900}|[\u{0}-\u{1f}\"\\\\]{0,9000}",
            dead_letter_queue in "\\PC{0,250}|[\u{0}]{250}",
        ) {
            let from = ReplayedFrom { error_type, error_message, dead_letter_queue, ..replayed_from() };
            let header = from.to_header();
            prop_assert!(header.len() <= ReplayedFrom::MAX_HEADER_BYTES);
            prop_assert_eq!(ReplayedFrom::from_header(&header), Some(from.shortened()));
        }

        #[test]
        fn no_header_panics(text in "\\PC{0,60}|[{}\":,a-z_0-9 ]{0,60}") {
            let _ = ReplayedFrom::from_header(&text);
        }
    }
}
