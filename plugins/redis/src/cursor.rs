//! Where a scan goes on, as text.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use warren_plugin_api::{Cursor, StoreError, StoreResult};

use crate::keys::Member;

const KIND: &str = "redis:";

/// The cursor that goes on after `member` of the index.
pub(crate) fn after(member: &[u8]) -> Cursor {
    Cursor(format!("{KIND}{}", URL_SAFE_NO_PAD.encode(member)))
}

/// The member that a cursor goes on after.
pub(crate) fn member(cursor: &Cursor) -> StoreResult<Vec<u8>> {
    cursor
        .0
        .strip_prefix(KIND)
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .filter(|member| Member::parse(member).is_some())
        .ok_or_else(|| {
            StoreError::invalid_config(
                "the cursor was not made by the Redis store: start the scan without one",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::index_entry;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let place = [index_entry(None, &"a queue".into()), b"job\n1".to_vec()].concat();
        let cursor = after(&place);
        assert!(cursor.0.is_ascii() && !cursor.0.contains('\n'));
        assert_eq!(member(&cursor), Ok(place));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "redis", "redis:", "redis:!", "memory:1:2", "redis:YWJj"] {
            let error = member(&Cursor(text.into())).unwrap_err();
            assert!(error.to_string().starts_with("invalid_config"), "{text}");
        }
    }
}
