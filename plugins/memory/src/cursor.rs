//! Where a scan goes on, as text.

use warren_plugin_api::{Cursor, StoreError, StoreResult, Timestamp};

/// A record's place in the order of scans: by the time it was accepted, records without one
/// first; then by the number it was given when it came into the store, which nobody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) enqueued_at: Option<Timestamp>,
    pub(crate) number: u64,
}

const KIND: &str = "memory";
const NO_TIME: &str = "none";

impl Place {
    /// Before every place of a record that was accepted at `time`.
    pub(crate) const fn before(time: Timestamp) -> Self {
        Self {
            enqueued_at: Some(time),
            number: 0,
        }
    }

    pub(crate) fn to_cursor(self) -> Cursor {
        let time = self
            .enqueued_at
            .map_or_else(|| NO_TIME.to_owned(), |time| time.unix_us().to_string());
        Cursor(format!("{KIND}:{time}:{}", self.number))
    }

    pub(crate) fn from_cursor(cursor: &Cursor) -> StoreResult<Self> {
        parse(&cursor.0).ok_or_else(|| {
            StoreError::invalid_config(
                "the cursor was not made by the memory store: start the scan without one",
            )
        })
    }
}

fn parse(text: &str) -> Option<Place> {
    let (time, number) = text
        .strip_prefix(KIND)?
        .strip_prefix(':')?
        .split_once(':')?;
    let enqueued_at = match time {
        NO_TIME => None,
        time => Some(Timestamp::from_unix_us(time.parse().ok()?)),
    };
    Some(Place {
        enqueued_at,
        number: number.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        for enqueued_at in [None, Some(Timestamp::MIN), Some(Timestamp::from_unix_us(7))] {
            let place = Place {
                enqueued_at,
                number: u64::MAX,
            };
            assert_eq!(Place::from_cursor(&place.to_cursor()), Ok(place));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "memory",
            "memory::",
            "memory:1:",
            "memory:x:1",
            "redis:1:2",
            "memory:1:2:3",
        ] {
            assert!(Place::from_cursor(&Cursor(text.into())).is_err(), "{text}");
        }
    }
}
