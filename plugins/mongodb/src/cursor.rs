//! Where a scan goes on, as text.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use warren_plugin_api::{Cursor, StoreError, StoreResult};

const KIND: &str = "mongodb:";

/// The last record that was looked at, as its fields say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) enqueued_at: Option<i64>,
    pub(crate) job_id: String,
}

impl Place {
    pub(crate) fn to_cursor(&self) -> Cursor {
        let mut bytes = Vec::with_capacity(9 + self.job_id.len());
        bytes.push(u8::from(self.enqueued_at.is_some()));
        bytes.extend(self.enqueued_at.unwrap_or_default().to_be_bytes());
        bytes.extend(self.job_id.as_bytes());
        Cursor(format!("{KIND}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    pub(crate) fn from_cursor(cursor: &Cursor) -> StoreResult<Self> {
        Self::parse(&cursor.0).ok_or_else(|| {
            StoreError::invalid_config(
                "the cursor was not made by the MongoDB store: start the scan without one",
            )
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(KIND)?).ok()?;
        let (has_time, rest) = bytes.split_first()?;
        let (time, job_id) = rest.split_first_chunk::<8>()?;
        let time = i64::from_be_bytes(*time);
        let job_id = String::from_utf8(job_id.to_vec()).ok()?;
        let enqueued_at = match has_time {
            0 => (time == 0).then_some(None)?,
            1 => Some(time),
            _ => return None,
        };
        (!job_id.is_empty()).then_some(Self {
            enqueued_at,
            job_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        for enqueued_at in [None, Some(0), Some(i64::MIN), Some(i64::MAX)] {
            let place = Place {
                enqueued_at,
                job_id: "a job\n\\0é".into(),
            };
            let cursor = place.to_cursor();
            assert!(cursor.0.is_ascii() && !cursor.0.contains(['\n', ' ']));
            assert_eq!(Place::from_cursor(&cursor), Ok(place));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_place_comes_back(
            time in proptest::option::of(proptest::num::i64::ANY),
            job_id in ".{1,300}",
        ) {
            let place = Place { enqueued_at: time, job_id };
            proptest::prop_assert_eq!(Place::from_cursor(&place.to_cursor()), Ok(place));
        }

        #[test]
        fn any_text_is_a_place_or_refused(text in "(mongodb:)?.{0,60}") {
            if let Ok(place) = Place::from_cursor(&Cursor(text)) {
                proptest::prop_assert!(!place.job_id.is_empty());
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "mongodb",
            "mongodb:",
            "mongodb:!",
            "redis:AAAA",
            "mongodb:AgAAAAAAAAAAYQ",
            "mongodb:AQAAAAAAAAAA",
        ] {
            let error = Place::from_cursor(&Cursor(text.into())).unwrap_err();
            assert!(error.to_string().starts_with("invalid_config"), "{text}");
        }
    }
}
