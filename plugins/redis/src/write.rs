//! Writing and deleting records.

use redis::Cmd;
use warren_plugin_api::{
    BatchResult, HostContext, Record, StoreError, StoreResult, Text, Timestamp, Write, WriteMode,
    WriteOutcome,
};

use crate::{
    connection::Connections,
    encode::encode,
    keys::Keys,
    script::{Scripts, flags},
    warn_once::WarnOnce,
};

/// Records that one script writes, while other clients of the server wait: about 3 ms.
const RECORDS_AT_ONCE: usize = 512;
/// Bytes of records that one script takes, unless a single one is larger.
const BYTES_AT_ONCE: usize = 1024 * 1024;
/// Redis takes no longer value (`proto-max-bulk-len`).
const MOST_JSON_BYTES: usize = 512 * 1024 * 1024 - 1;

/// What writing takes.
pub(crate) struct Writer<'a> {
    pub(crate) connections: &'a Connections,
    pub(crate) keys: &'a Keys,
    pub(crate) scripts: &'a Scripts,
    pub(crate) host: &'a HostContext,
    pub(crate) max_record_bytes: u64,
    pub(crate) unannounced: &'a WarnOnce,
}

/// A write as the script takes it.
struct Prepared {
    keys: [String; 3],
    mode: &'static str,
    job_id: Text,
    expires_ms: Option<i64>,
    json: Vec<u8>,
}

/// What is sent in one call.
#[derive(Default)]
struct Chunk {
    writes: Vec<Prepared>,
    bytes: usize,
}

impl Writer<'_> {
    /// Writes in portions, one after the other: so two writes of one job act in their order. The
    /// next portion is made ready while the server works on the one before.
    pub(crate) async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut writes = writes.into_iter().peekable();
        let mut refused = Vec::new();
        let mut chunk = self.next_chunk(&mut writes, &mut refused);
        loop {
            let (written, (next_refused, next)) =
                futures_util::future::join(self.write(&chunk), async {
                    let mut refused = Vec::new();
                    let next = self.next_chunk(&mut writes, &mut refused);
                    (refused, next)
                })
                .await;
            let mut written = match written {
                Ok(written) => written.into_iter().map(Ok).collect::<Vec<_>>(),
                // Some portions are known to be written: then each item has its own answer.
                Err(error) if outcomes.is_empty() && next.is_empty() => return Err(error),
                Err(error) => vec![Err(error); chunk.writes.len()],
            }
            .into_iter();
            for refusal in refused {
                outcomes.extend(match refusal {
                    Some(error) => Some(Err(error)),
                    None => written.next(),
                });
            }
            if next_refused.is_empty() {
                return Ok(outcomes);
            }
            (refused, chunk) = (next_refused, next);
        }
    }

    /// Makes as many writes ready as go into one call. `refused` gets an entry per write: why it
    /// is refused, or `None`.
    fn next_chunk(
        &self,
        writes: &mut std::iter::Peekable<std::vec::IntoIter<Write>>,
        refused: &mut Vec<Option<StoreError>>,
    ) -> Chunk {
        let mut chunk = Chunk::default();
        while let Some(write) = writes.next_if(|write| chunk.has_room(write)) {
            match self.prepare(write) {
                Ok(prepared) => {
                    chunk.bytes += prepared.json.len();
                    chunk.writes.push(prepared);
                    refused.push(None);
                }
                Err(error) => refused.push(Some(error)),
            }
        }
        chunk
    }

    fn prepare(&self, write: Write) -> StoreResult<Prepared> {
        let record = write.record;
        let size = record.size_bytes() as u64;
        if size > self.max_record_bytes {
            return Err(StoreError::too_large(format!(
                "the record has {size} bytes and the Redis store takes {}: raise max_record_bytes",
                self.max_record_bytes
            )));
        }
        let mut json = Vec::new();
        encode(&record, &mut json);
        if json.len() > MOST_JSON_BYTES {
            return Err(StoreError::too_large(format!(
                "the record has {} bytes as JSON and Redis takes {MOST_JSON_BYTES}",
                json.len()
            )));
        }
        Ok(Prepared {
            keys: [
                self.keys.result(&record.job_id),
                self.keys.status(&record.job_id),
                self.keys.queue(&record.queue),
            ],
            mode: match write.mode {
                WriteMode::IfNewer => "n",
                WriteMode::IfAbsent => "a",
                WriteMode::Always => "w",
            },
            expires_ms: record.expires_at.map(expiry_ms),
            job_id: record.job_id,
            json,
        })
    }

    async fn write(&self, chunk: &Chunk) -> StoreResult<Vec<WriteOutcome>> {
        if chunk.is_empty() {
            return Ok(Vec::new());
        }
        let record_keys = chunk.keys();
        let mut call =
            self.scripts
                .put
                .call(self.keys, record_keys.iter().copied(), Timestamp::now());
        call.arg(self.keys.channel());
        for write in &chunk.writes {
            add_write(&mut call, write);
        }
        let answer = self.scripts.put.run(self.connections, &call).await?;
        let (written, rest) = flags(&answer, chunk.writes.len())?;
        if rest == b"!" {
            self.unannounced.warn(
                self.host,
                "the user may not publish on the store's channel: waiting clients hear of \
                 completed jobs only when they ask again",
            );
        }
        Ok(written
            .into_iter()
            .map(|written| {
                if written {
                    WriteOutcome::Written
                } else {
                    WriteOutcome::Stale
                }
            })
            .collect())
    }

    /// Deletes in portions.
    pub(crate) async fn delete_many(&self, job_ids: &[Text]) -> BatchResult<bool> {
        let mut deleted = Vec::with_capacity(job_ids.len());
        for job_ids in job_ids.chunks(RECORDS_AT_ONCE) {
            match self.delete(job_ids).await {
                Ok(answers) => deleted.extend(answers.into_iter().map(Ok)),
                Err(error) if deleted.is_empty() => return Err(error),
                Err(error) => deleted.extend(vec![Err(error); job_ids.len()]),
            }
        }
        Ok(deleted)
    }

    async fn delete(&self, job_ids: &[Text]) -> StoreResult<Vec<bool>> {
        let record_keys: Vec<String> = job_ids
            .iter()
            .flat_map(|job_id| [self.keys.result(job_id), self.keys.status(job_id)])
            .collect();
        let mut call = self.scripts.delete.call(
            self.keys,
            record_keys.iter().map(String::as_str),
            Timestamp::now(),
        );
        for job_id in job_ids {
            call.arg(job_id.as_str());
        }
        let answer = self.scripts.delete.run(self.connections, &call).await?;
        Ok(flags(&answer, job_ids.len())?.0)
    }
}

impl Chunk {
    fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    fn has_room(&self, write: &Write) -> bool {
        self.is_empty()
            || self.writes.len() < RECORDS_AT_ONCE
                && self.bytes + write.record.size_bytes() <= BYTES_AT_ONCE
    }

    fn keys(&self) -> Vec<&str> {
        self.writes
            .iter()
            .flat_map(|write| &write.keys)
            .map(String::as_str)
            .collect()
    }
}

fn add_write(call: &mut Cmd, write: &Prepared) {
    call.arg(write.mode).arg(write.job_id.as_str());
    match write.expires_ms {
        None => call.arg(""),
        Some(expires_ms) => call.arg(expires_ms),
    };
    call.arg(&write.json);
}

/// The first whole millisecond at which the record has expired: never too early.
fn expiry_ms(expires_at: Timestamp) -> i64 {
    let micros = expires_at.unix_us();
    micros.div_euclid(1_000) + i64::from(micros.rem_euclid(1_000) != 0)
}

/// The index entry that leads to `record`.
pub(crate) fn index_of(record: &Record) -> Vec<u8> {
    crate::keys::index_entry(record.enqueued_at, &record.queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_removes_a_record_no_sooner_than_it_expires() {
        for (micros, millis) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2), (-1, 0)] {
            assert_eq!(expiry_ms(Timestamp::from_unix_us(micros)), millis);
        }
        assert!(expiry_ms(Timestamp::MAX) > i64::MAX / 1_000);
    }
}
