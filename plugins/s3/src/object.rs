//! A record as an object: two lines of JSON, first what guards it, then the record.

use serde::{Deserialize, Serialize};
use warren_plugin_api::{Record, Status, StoreError, StoreResult, Timestamp, Version};

use crate::{
    keys::{self, Keys},
    remove::MARK_HOLDS_FOR,
};

/// The version of what is written here.
pub(crate) const FORMAT: u32 = 1;
/// The first line is shorter than this, so that it can be read alone.
pub(crate) const HEAD_BYTES: u64 = 1_024;

/// The first line of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum Head {
    /// A record follows.
    Record(RecordHead),
    /// The record is gone, and so will be the object.
    Removing(Removal),
}

/// What is known of a record without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordHead {
    pub(crate) warren: u32,
    pub(crate) status: Status,
    pub(crate) attempt: u32,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) listed: Listed,
    /// Whose write it is, for a writer that got no answer.
    pub(crate) write: String,
}

/// The record was here; nobody writes over it until whoever removes it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Removal {
    pub(crate) warren: u32,
    pub(crate) since: Timestamp,
    pub(crate) listed: Option<Listed>,
    pub(crate) write: String,
}

/// The entries that lead to a record. Its token is in their names: an entry with another one leads
/// nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) token: String,
    pub(crate) enqueued_at: Option<Timestamp>,
    /// The queue's hash.
    pub(crate) queue: String,
    /// When cleanup looks at the record first.
    pub(crate) expiry: Option<Timestamp>,
    /// When the entries were written.
    pub(crate) at: Timestamp,
    /// Whether a lifecycle rule may remove them, and after how many days it removes records.
    pub(crate) lifecycle_days: Option<u16>,
}

impl RecordHead {
    pub(crate) const fn version_and_expiry(&self) -> (Version, Option<Timestamp>) {
        let version = Version {
            attempt: self.attempt,
            status: self.status,
        };
        (version, self.expires_at)
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }
}

impl Removal {
    /// Whether whoever began it would have come to the end by now.
    pub(crate) fn is_given_up(&self, now: Timestamp) -> bool {
        now.saturating_duration_since(self.since) > MARK_HOLDS_FOR
    }
}

impl Listed {
    /// The name within the indexes by time and by queue.
    pub(crate) fn name(&self, job: &str) -> String {
        let time = keys::newest_first(self.enqueued_at.map(Timestamp::unix_us));
        keys::entry(&time, job, &self.token)
    }

    pub(crate) fn expiry_name(&self, job: &str, time: Timestamp) -> String {
        keys::entry(&keys::earliest_first(time.unix_us()), job, &self.token)
    }

    /// The keys of all entries.
    pub(crate) fn keys(&self, keys: &Keys, job: &str) -> Vec<String> {
        let name = self.name(job);
        let mut all = vec![
            format!("{}{name}", keys.by_time()),
            format!("{}{name}", keys.by_queue(&self.queue)),
        ];
        if let Some(time) = self.expiry {
            let name = self.expiry_name(job, time);
            all.push(format!("{}{name}", keys.by_expiry()));
        }
        all
    }
}

/// What lies under a record's key.
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    Absent,
    Record {
        head: RecordHead,
        etag: String,
    },
    Removing {
        removal: Removal,
        etag: String,
    },
    /// Something else.
    Unreadable {
        etag: String,
        why: StoreError,
    },
}

/// The object of a record.
pub(crate) fn encode(head: RecordHead, record: &Record) -> StoreResult<Vec<u8>> {
    let mut bytes = encode_head(&Head::Record(head))?;
    serde_json::to_writer(&mut bytes, record).map_err(|error| unwritable(&error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The object that stands in a record's place while it is removed.
pub(crate) fn encode_removal(removal: Removal) -> StoreResult<Vec<u8>> {
    encode_head(&Head::Removing(removal))
}

fn encode_head(head: &Head) -> StoreResult<Vec<u8>> {
    let mut bytes = serde_json::to_vec(head).map_err(|error| unwritable(&error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn unwritable(error: &serde_json::Error) -> StoreError {
    StoreError::internal(format!("cannot write a record as JSON: {error}"))
}

/// Reads the first line of an object, or of its beginning.
pub(crate) fn decode_head(bytes: &[u8]) -> StoreResult<Head> {
    #[derive(Deserialize)]
    struct Format {
        warren: u32,
    }
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or(bytes);
    let unreadable = |error: serde_json::Error| {
        StoreError::corrupt_data(format!(
            "what is stored is no record: its first line is none that this store writes ({error})"
        ))
    };
    let format: Format = serde_json::from_slice(line).map_err(unreadable)?;
    if format.warren != FORMAT {
        return Err(StoreError::corrupt_data(format!(
            "what is stored has format {}, expected {FORMAT}: a later Warren wrote it",
            format.warren
        )));
    }
    serde_json::from_slice(line).map_err(unreadable)
}

/// A whole object.
#[derive(Debug)]
pub(crate) enum Decoded {
    Record(RecordHead, Box<Record>),
    Removing(Removal),
}

/// Reads a whole object.
pub(crate) fn decode(bytes: &[u8]) -> StoreResult<Decoded> {
    let head = match decode_head(bytes)? {
        Head::Record(head) => head,
        Head::Removing(removal) => return Ok(Decoded::Removing(removal)),
    };
    let mut lines = bytes.splitn(2, |&byte| byte == b'\n');
    let record: Record = lines
        .nth(1)
        .ok_or_else(|| StoreError::corrupt_data("what is stored ends before the record"))
        .and_then(|line| {
            serde_json::from_slice(line).map_err(|error| {
                StoreError::corrupt_data(format!("what is stored is no whole record: {error}"))
            })
        })?;
    let agrees = head.version_and_expiry() == record.version_and_expiry();
    if !agrees {
        return Err(StoreError::corrupt_data(
            "the two lines of what is stored say different things of the record",
        ));
    }
    Ok(Decoded::Record(head, Box::new(record)))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn head_of(record: &Record) -> RecordHead {
        RecordHead {
            warren: FORMAT,
            status: record.status,
            attempt: record.attempt,
            expires_at: record.expires_at,
            listed: Listed {
                token: keys::random(),
                enqueued_at: record.enqueued_at,
                queue: keys::queue(&record.queue),
                expiry: record.expires_at,
                at: Timestamp::MIN,
                lifecycle_days: Some(u16::MAX),
            },
            write: keys::random(),
        }
    }

    #[test]
    fn the_longest_head_can_be_read_alone() {
        let record = Record {
            status: Status::InProgress,
            attempt: u32::MAX,
            enqueued_at: Some(Timestamp::MIN),
            expires_at: Some(Timestamp::MIN),
            ..Record::default()
        };
        let head = head_of(&record);
        let bytes = encode_head(&Head::Record(head.clone())).unwrap();
        assert!(bytes.len() < 512, "{}", bytes.len());
        let whole = encode(head.clone(), &record).unwrap();
        let start = &whole[..whole.len().min(usize::try_from(HEAD_BYTES).unwrap())];
        assert_eq!(decode_head(start), Ok(Head::Record(head)));
    }

    #[test]
    fn what_is_damaged_is_corrupt_data() {
        let record = Record::default();
        let whole = encode(head_of(&record), &record).unwrap();
        let other = encode(
            RecordHead {
                attempt: 7,
                ..head_of(&record)
            },
            &record,
        );
        let cut = &whole[..whole.len() / 2];
        for bytes in [
            b"".as_slice(),
            b"{}\n",
            b"{\"warren\":2}\n",
            cut,
            &other.unwrap(),
        ] {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.starts_with("corrupt_data"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
            let mut damaged = encode(head_of(&Record::default()), &Record::default()).unwrap();
            for (index, byte) in bytes.iter().enumerate().take(4) {
                let at = (index * 131 + usize::from(*byte)) % damaged.len();
                damaged[at] = *byte;
            }
            let _ = decode(&damaged);
        }
    }
}
