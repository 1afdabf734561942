//! Where a scan goes on, as text.

use warren_plugin_api::{Cursor, StoreError, StoreResult};

use crate::job_key::is_sort_key;

const KIND: &str = "elasticsearch:";

/// After the record with this sort key.
pub(crate) fn to_cursor(sort_key: &str) -> Cursor {
    Cursor(format!("{KIND}{sort_key}"))
}

/// The sort key that a cursor stands at.
///
/// # Errors
/// `invalid_config` for a cursor that this store did not make.
pub(crate) fn from_cursor(cursor: &Cursor) -> StoreResult<&str> {
    cursor
        .0
        .strip_prefix(KIND)
        .filter(|key| is_sort_key(key))
        .ok_or_else(|| {
            StoreError::invalid_config(
                "the cursor was not made by the Elasticsearch store: start the scan without one",
            )
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warren_plugin_api::Timestamp;

    use super::*;
    use crate::job_key::{document_id, sort_key};

    proptest! {
        #[test]
        fn a_cursor_leads_back_to_its_place(time: Option<i64>, job_id in "\\PC{1,40}") {
            let key = sort_key(time.map(Timestamp::from_unix_us), &document_id(&job_id));
            let cursor = to_cursor(&key);
            prop_assert!(cursor.0.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(from_cursor(&cursor), Ok(key.as_str()));
        }

        #[test]
        fn any_text_is_a_cursor_or_refused(text in "(elasticsearch:)?[01]?[0-9a-f]{0,17}:?.{0,8}") {
            if let Err(error) = from_cursor(&Cursor(text)) {
                prop_assert!(error.to_string().starts_with("invalid_config"));
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "elasticsearch",
            "elasticsearch:",
            "elasticsearch:0:",
            "elasticsearch:0:a b",
            "elasticsearch:0:_a",
            "elasticsearch:1:a",
            "elasticsearch:18000000000000000",
            "elasticsearch:1800000000000000G:a",
            "elasticsearch:28000000000000000:a",
            "postgres:0:a",
        ] {
            let cursor = Cursor(text.into());
            assert!(from_cursor(&cursor).is_err(), "{text}");
        }
    }
}
