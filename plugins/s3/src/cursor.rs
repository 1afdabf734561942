//! Where a scan goes on, as text.

use warren_plugin_api::{Cursor, StoreError, StoreResult};

use crate::keys::Entry;

const KIND: &str = "s3:";

/// The cursor behind the entry of this name.
pub(crate) fn to_cursor(name: &str) -> Cursor {
    Cursor(format!("{KIND}{name}"))
}

/// The name of the entry that was looked at last.
pub(crate) fn from_cursor(cursor: &Cursor) -> StoreResult<&str> {
    let name = cursor.0.strip_prefix(KIND);
    name.filter(|name| Entry::newest_first(name).is_some())
        .ok_or_else(|| {
            StoreError::invalid_config(
                "the cursor was not made by the S3 store: start the scan without one",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    #[test]
    fn a_cursor_leads_back_and_anything_else_is_refused() {
        let name = keys::entry(
            &keys::newest_first(Some(-1)),
            &keys::job("a"),
            &keys::random(),
        );
        assert_eq!(from_cursor(&to_cursor(&name)), Ok(name.as_str()));
        for text in ["", "s3:", "redis:1", "s3:x", &format!("s3:{name}-")] {
            let error = from_cursor(&Cursor(text.into())).unwrap_err();
            assert!(error.to_string().starts_with("invalid_config"), "{text}");
        }
    }
}
