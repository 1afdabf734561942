//! The names of objects.
//!
//! An id may be any text of up to 1 KB, a key may not, and services differ in what they do to `//`
//! and `/./`: so ids and queues stand in keys as hashes, times as digits that sort.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The names of one store's objects.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// Empty, or with a slash at its end.
    prefix: String,
}

/// Where a record is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) time: Option<i64>,
    pub(crate) job: String,
    pub(crate) token: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        let mut prefix = prefix.to_owned();
        if !prefix.is_empty() {
            prefix.push('/');
        }
        Self { prefix }
    }

    /// What holds for all of these objects: which format they have, what was found out.
    pub(crate) fn marker(&self) -> String {
        format!("{}store.json", self.prefix)
    }

    pub(crate) fn probe(&self, name: &str) -> String {
        format!("{}probe-{name}", self.prefix)
    }

    pub(crate) fn records(&self) -> String {
        format!("{}records/", self.prefix)
    }

    pub(crate) fn index(&self) -> String {
        format!("{}index/", self.prefix)
    }

    /// `job` is its hash.
    pub(crate) fn record(&self, job: &str) -> String {
        format!("{}records/{job}", self.prefix)
    }

    /// Entries of all records, the newest first.
    pub(crate) fn by_time(&self) -> String {
        format!("{}index/time/", self.prefix)
    }

    /// Entries of one queue's records, the newest first; `queue` is its hash.
    pub(crate) fn by_queue(&self, queue: &str) -> String {
        format!("{}index/queue/{queue}/", self.prefix)
    }

    /// Entries of the records that expire, the earliest first.
    pub(crate) fn by_expiry(&self) -> String {
        format!("{}index/expiry/", self.prefix)
    }
}

/// A job's id in keys.
pub(crate) fn job(id: &str) -> String {
    hex(&Sha256::digest(id))
}

/// A queue's name in keys.
pub(crate) fn queue(name: &str) -> String {
    hex(&Sha256::digest(name)[..16])
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A word that nobody else makes.
pub(crate) fn random() -> String {
    format!("{:016x}", rand::random::<u64>())
}

const NO_TIME: &str = "none";
/// Behind every entry of one time: entries go on with a `-`.
const BEHIND: char = '~';

fn sortable(time: i64) -> u64 {
    time.cast_unsigned() ^ (1 << 63)
}

/// What the names of entries of this time begin with, where the newest come first. Without a time
/// it is the last.
pub(crate) fn newest_first(time: Option<i64>) -> String {
    match time {
        Some(time) => format!("{:016x}", !sortable(time)),
        None => NO_TIME.to_owned(),
    }
}

/// Likewise where the earliest come first.
pub(crate) fn earliest_first(time: i64) -> String {
    format!("{:016x}", sortable(time))
}

/// Behind all entries that begin with this time.
pub(crate) fn behind(time: &str) -> String {
    format!("{time}{BEHIND}")
}

/// The name of an entry within its index.
pub(crate) fn entry(time: &str, job: &str, token: &str) -> String {
    format!("{time}-{job}-{token}")
}

impl Entry {
    /// An entry of the indexes by time and by queue.
    pub(crate) fn newest_first(name: &str) -> Option<Self> {
        Self::parse(name, |time| {
            if time == NO_TIME {
                return Some(None);
            }
            digits(time).map(|time| Some((!time ^ (1 << 63)).cast_signed()))
        })
    }

    /// An entry of the index by expiry.
    pub(crate) fn earliest_first(name: &str) -> Option<Self> {
        Self::parse(name, |time| {
            digits(time).map(|time| Some((time ^ (1 << 63)).cast_signed()))
        })
    }

    fn parse(name: &str, time: impl Fn(&str) -> Option<Option<i64>>) -> Option<Self> {
        let mut parts = name.split('-');
        let (when, job, token) = (parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str| {
            text.bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_whole = parts.next().is_none()
            && (job.len() == 64 && is_hex(job))
            && (token.len() == 16 && is_hex(token));
        Some(Self {
            time: time(when).filter(|_| is_whole)?,
            job: job.to_owned(),
            token: token.to_owned(),
        })
    }
}

fn digits(text: &str) -> Option<u64> {
    let is_number = text.len() == 16 && !text.starts_with('+');
    is_number.then(|| u64::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_sort_by_time_and_lead_back(a in any::<i64>(), b in any::<i64>(), id in ".{1,40}") {
            let name = |time: String| entry(&time, &job(&id), "0123456789abcdef");
            let (newer, older) = (name(newest_first(Some(a.max(b)))), name(newest_first(Some(a.min(b)))));
            prop_assert!(newer <= older && older < name(newest_first(None)));
            prop_assert_eq!(Entry::newest_first(&older).unwrap().time, Some(a.min(b)));
            let (early, late) = (name(earliest_first(a.min(b))), name(earliest_first(a.max(b))));
            prop_assert!(early <= late);
            prop_assert_eq!(Entry::earliest_first(&late).unwrap().time, Some(a.max(b)));
            prop_assert!(behind(&newest_first(Some(a))) > name(newest_first(Some(a))));
        }

        #[test]
        fn a_foreign_name_is_no_entry(name in ".{0,100}") {
            prop_assert!(Entry::newest_first(&name).is_none());
            prop_assert!(Entry::earliest_first(&name).is_none());
        }
    }

    #[test]
    fn ids_of_any_text_make_keys_that_every_service_takes() {
        let keys = Keys::new("a/b");
        for id in ["x", "a//b/./..", "é\0", &"x".repeat(1_024)] {
            let key = keys.record(&job(id));
            assert_eq!(key.len(), "a/b/records/".len() + 64);
            assert!(key.is_ascii());
        }
        assert_eq!(Keys::new("").by_time(), "index/time/");
    }
}
