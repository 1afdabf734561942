//! A record as an object, and the names of all objects, as the S3 store has them.

use std::fmt::Write;

use object_store::path::Path;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use warren_plugin_api::{Record, Status, Timestamp, Version};

use crate::error::BenchError;

/// The first line is shorter than this.
pub(super) const HEAD_BYTES: u64 = 1_024;

/// The first line, by which a record is judged. The second is the record.
#[derive(Serialize, Deserialize)]
pub(super) struct Head {
    state: String,
    warren: u32,
    status: Status,
    attempt: u32,
    expires_at: Option<Timestamp>,
    pub(super) listed: Listed,
    write: String,
}

/// The entries that lead to a record: of all by time, of its queue, and of those that expire.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Listed {
    token: String,
    enqueued_at: Option<Timestamp>,
    queue: String,
    expiry: Option<Timestamp>,
    at: Timestamp,
    lifecycle_days: Option<u16>,
}

impl Head {
    pub(super) const fn version_and_expiry(&self) -> (Version, Option<Timestamp>) {
        let version = Version {
            attempt: self.attempt,
            status: self.status,
        };
        (version, self.expires_at)
    }
}

impl Listed {
    pub(super) fn new(record: &Record) -> Self {
        Self {
            token: random(),
            enqueued_at: record.enqueued_at,
            queue: hex(&Sha256::digest(record.queue.as_str())[..16]),
            expiry: record.expires_at,
            at: Timestamp::now(),
            lifecycle_days: None,
        }
    }

    pub(super) fn keys(&self, prefix: &str, job: &str) -> [Path; 3] {
        let (token, queue) = (&self.token, &self.queue);
        let newest = !sortable(self.enqueued_at);
        let expiry = sortable(self.expiry);
        [
            format!("{prefix}/index/time/{newest:016x}-{job}-{token}"),
            format!("{prefix}/index/queue/{queue}/{newest:016x}-{job}-{token}"),
            format!("{prefix}/index/expiry/{expiry:016x}-{job}-{token}"),
        ]
        .map(Path::from)
    }
}

/// Every record that is measured has both times.
fn sortable(time: Option<Timestamp>) -> u64 {
    time.map_or(0, Timestamp::unix_us).cast_unsigned() ^ (1 << 63)
}

/// A job's id in keys.
pub(super) fn job(id: &str) -> String {
    hex(&Sha256::digest(id))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn random() -> String {
    format!("{:016x}", uuid::Uuid::new_v4().as_u64_pair().0)
}

pub(super) fn write(record: &Record, listed: &Listed) -> Result<Vec<u8>, BenchError> {
    let mut bytes = serde_json::to_vec(&Head {
        state: "record".to_owned(),
        warren: 1,
        status: record.status,
        attempt: record.attempt,
        expires_at: record.expires_at,
        listed: listed.clone(),
        write: random(),
    })?;
    bytes.push(b'\n');
    serde_json::to_writer(&mut bytes, record)?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn read_head(bytes: &[u8]) -> Result<Head, BenchError> {
    let line = bytes.split(|byte| *byte == b'\n').next();
    Ok(serde_json::from_slice(line.unwrap_or_default())?)
}

pub(super) fn read(bytes: &[u8]) -> Result<Record, BenchError> {
    // It says whether a record follows.
    read_head(bytes)?;
    let record = bytes.splitn(2, |byte| *byte == b'\n').nth(1);
    Ok(serde_json::from_slice(record.unwrap_or_default())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_store::completed_record;

    #[test]
    fn what_is_written_comes_back() {
        let record = completed_record();
        let bytes = write(&record, &Listed::new(&record)).unwrap();
        assert_eq!(read(&bytes).unwrap(), record);
        let head = read_head(&bytes).unwrap();
        assert_eq!(head.version_and_expiry(), record.version_and_expiry());
    }
}
