//! The id of a job's document, and its place in the order of scans.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use warren_plugin_api::Timestamp;

/// The servers take 512 bytes; an ordinary job id is far below.
const MOST_PLAIN_BYTES: usize = 200;
/// What begins the id of a document whose job's id is not taken as it is.
const HASHED: char = '~';

/// A job's id as it is when it is short and of plain characters, else `~` and its SHA-256: the
/// servers take 512 bytes at most, a job's id has up to 1,024.
pub(crate) fn document_id(job_id: &str) -> String {
    if job_id.len() <= MOST_PLAIN_BYTES && is_plain(job_id) {
        return job_id.to_owned();
    }
    let digest = Sha256::digest(job_id.as_bytes());
    format!("{HASHED}{}", URL_SAFE_NO_PAD.encode(digest))
}

fn is_plain(text: &str) -> bool {
    // Nothing that begins with an underscore: some tools keep such ids to themselves.
    !text.is_empty()
        && !text.starts_with('_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte))
}

/// What scans are ordered by, the greatest first: the time as 16 hexadecimal digits that sort as
/// it does, then the document's id. Without a time it is less than with any.
pub(crate) fn sort_key(enqueued_at: Option<Timestamp>, document_id: &str) -> String {
    match enqueued_at {
        Some(time) => {
            let ordered = time.unix_us().cast_unsigned() ^ (1 << 63);
            format!("1{ordered:016x}:{document_id}")
        }
        None => format!("0:{document_id}"),
    }
}

/// Whether the text could be a sort key.
pub(crate) fn is_sort_key(text: &str) -> bool {
    let document_id = match text.split_once(':') {
        Some(("0", document_id)) => document_id,
        Some((time, document_id)) => {
            let is_time = time.len() == 17
                && time.starts_with('1')
                && time
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            if !is_time {
                return false;
            }
            document_id
        }
        None => return false,
    };
    is_plain(document_id.strip_prefix(HASHED).unwrap_or(document_id))
        || document_id.starts_with(HASHED) && is_hash(&document_id[HASHED.len_utf8()..])
}

/// A digest may begin with an underscore.
fn is_hash(text: &str) -> bool {
    URL_SAFE_NO_PAD
        .decode(text)
        .is_ok_and(|digest| digest.len() == 32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_ids_stay_readable_and_others_fit() {
        assert_eq!(document_id("order-17:a.b_c"), "order-17:a.b_c");
        let mut seen = HashSet::new();
        let long = "x".repeat(201);
        for job_id in [
            "_all",
            "~",
            "~a",
            "a b",
            "é",
            "e\u{301}",
            "a\0",
            "a/b",
            "A",
            "a",
            &long,
            &"é".repeat(512),
        ] {
            let id = document_id(job_id);
            assert!(id.len() <= 512 && id.is_ascii(), "{job_id}: {id}");
            assert!(seen.insert(id), "{job_id}");
        }
    }

    #[test]
    fn a_hash_is_never_another_job_s_own_id() {
        let hashed = document_id("a b");
        assert_ne!(document_id(&hashed), hashed);
    }

    proptest! {
        #[test]
        fn keys_sort_as_times_do(a: Option<i64>, b: Option<i64>, id in "[a-z~]{0,3}") {
            let key = |time: Option<i64>| sort_key(time.map(Timestamp::from_unix_us), &id);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
        }

        #[test]
        fn every_key_is_one(time: Option<i64>, job_id in ".{1,300}") {
            let key = sort_key(time.map(Timestamp::from_unix_us), &document_id(&job_id));
            prop_assert!(is_sort_key(&key), "{}", key);
        }
    }
}
