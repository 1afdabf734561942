//! Where a scan goes on, as text.

use warren_plugin_api::{Cursor, StoreError, StoreResult};

/// A record's place in the order of scans: by the time it was accepted, in microseconds, records
/// without one first; then by the number of its row, which nobody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) enqueued_at: Option<i64>,
    pub(crate) number: i64,
}

const KIND: &str = "sqlite";
const NO_TIME: &str = "none";

impl Place {
    /// Before every place of a record that was accepted at `time`.
    pub(crate) const fn before(time: i64) -> Self {
        Self {
            enqueued_at: Some(time),
            number: i64::MIN,
        }
    }

    pub(crate) fn to_cursor(self) -> Cursor {
        let time = self
            .enqueued_at
            .map_or_else(|| NO_TIME.to_owned(), |time| time.to_string());
        Cursor(format!("{KIND}:{time}:{}", self.number))
    }

    pub(crate) fn from_cursor(cursor: &Cursor) -> StoreResult<Self> {
        parse(&cursor.0).ok_or_else(|| {
            StoreError::invalid_config(
                "the cursor was not made by the SQLite store: start the scan without one",
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
        time => Some(time.parse().ok()?),
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
        for enqueued_at in [None, Some(i64::MIN), Some(7)] {
            let place = Place {
                enqueued_at,
                number: i64::MAX,
            };
            assert_eq!(Place::from_cursor(&place.to_cursor()), Ok(place));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "sqlite",
            "sqlite::",
            "sqlite:1:",
            "sqlite:x:1",
            "memory:1:2",
            "sqlite:1:2:3",
        ] {
            assert!(Place::from_cursor(&Cursor(text.into())).is_err(), "{text}");
        }
    }
}
