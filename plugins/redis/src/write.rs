//! Writing and deleting records.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::{StreamExt, stream::FuturesOrdered};
use redis::{Cmd, ToRedisArgs, Value};
use warren_plugin_api::{
    BatchResult, HostContext, Record, StoreError, StoreResult, Text, Timestamp, Write, WriteMode,
    WriteOutcome,
};

use crate::{
    connection::{Connections, Lane},
    encode::encode,
    keys::Keys,
    pieces::Pieces,
    script::{Scripts, flags},
    warn_once::WarnOnce,
};

/// Records that one script takes, while other clients of the server wait: about 1 ms.
const RECORDS_AT_ONCE: usize = 128;
/// Calls that are sent before the first is answered.
const CALLS_AT_ONCE: usize = 3;
/// Bytes of records that one script takes, unless a single one is larger.
const BYTES_AT_ONCE: usize = 1024 * 1024;
/// Records from this size on are staged when they come alone.
const STAGED_FROM: usize = 128 * 1024;
/// How long one stays staged whose writer died in between.
const STAGED_FOR_MS: u32 = 60_000;
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
    /// The user may not do what staging takes.
    pub(crate) staging_refused: &'a AtomicBool,
}

/// A write as the script takes it.
struct Prepared {
    keys: [String; 3],
    mode: &'static str,
    job_id: Text,
    index_end: usize,
    expires_ms: Option<i64>,
    json: Pieces,
}

/// What is sent in one call.
#[derive(Default)]
struct Chunk {
    writes: Vec<Prepared>,
    job_ids: HashSet<Text>,
    /// For each write that came here, why it is not sent.
    refused: Vec<Option<StoreError>>,
    bytes: usize,
}

/// What came of a chunk.
struct Answered {
    refused: Vec<Option<StoreError>>,
    written: Vec<bool>,
    /// Why nothing is known of those that were sent.
    error: Option<StoreError>,
}

impl Answered {
    const fn all_failed(&self) -> bool {
        self.error.is_some()
    }

    fn into_outcomes(self) -> impl Iterator<Item = StoreResult<WriteOutcome>> {
        let mut written = self.written.into_iter();
        let error = self.error;
        self.refused.into_iter().map(move |refused| match refused {
            Some(refusal) => Err(refusal),
            None => match (written.next(), &error) {
                (Some(true), _) => Ok(WriteOutcome::Written),
                (Some(false), _) => Ok(WriteOutcome::Stale),
                (None, Some(error)) => Err(error.clone()),
                (None, None) => Err(StoreError::internal("a write was not answered")),
            },
        })
    }
}

impl Writer<'_> {
    /// Writes in portions, over one connection: so two writes of one job act in their order. The
    /// next portions are made ready and sent while the server works on the one before.
    pub(crate) async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut writes = writes.into_iter().peekable();
        let lane = self.connections.lane().await?;
        let mut under_way = FuturesOrdered::new();
        let mut failed_from_the_first = true;
        loop {
            while under_way.len() < CALLS_AT_ONCE && writes.peek().is_some() {
                let chunk = self.next_chunk(&mut writes);
                under_way.push_back(self.write(&lane, chunk));
                // Sends it; an answer is not waited for.
                let answered = tokio::select! {
                    biased;
                    answered = under_way.next() => answered,
                    () = std::future::ready(()) => None,
                };
                if let Some(answered) = answered {
                    failed_from_the_first &= answered.all_failed();
                    outcomes.push(answered);
                }
            }
            let Some(answered) = under_way.next().await else {
                break;
            };
            failed_from_the_first &= answered.all_failed();
            outcomes.push(answered);
        }
        if failed_from_the_first
            && let Some(Answered {
                error: Some(error), ..
            }) = outcomes.first()
        {
            return Err(error.clone());
        }
        Ok(outcomes
            .into_iter()
            .flat_map(Answered::into_outcomes)
            .collect())
    }

    /// Makes as many writes ready as go into one call.
    fn next_chunk(&self, writes: &mut std::iter::Peekable<std::vec::IntoIter<Write>>) -> Chunk {
        let mut chunk = Chunk::default();
        while let Some(write) = writes.next_if(|write| chunk.has_room(write)) {
            match self.prepare(write) {
                Ok(prepared) => {
                    chunk.bytes += prepared.json.len();
                    chunk.job_ids.insert(prepared.job_id.clone());
                    chunk.writes.push(prepared);
                    chunk.refused.push(None);
                }
                Err(error) => chunk.refused.push(Some(error)),
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
        let mut json = Pieces::default();
        let index_end = encode(&record, &mut json);
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
            index_end,
            expires_ms: record.expires_at.map(expiry_ms),
            job_id: record.job_id,
            json,
        })
    }

    async fn write(&self, lane: &Lane, chunk: Chunk) -> Answered {
        let (written, error) = match self.call(lane, &chunk.writes).await {
            Ok(written) => (written, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Answered {
            refused: chunk.refused,
            written,
            error,
        }
    }

    /// Whether each was written.
    async fn call(&self, lane: &Lane, writes: &[Prepared]) -> StoreResult<Vec<bool>> {
        let staged = match writes {
            [] => return Ok(Vec::new()),
            [large] if large.json.len() >= STAGED_FROM => self.put_staged(lane, large).await?,
            _ => None,
        };
        let answer = match staged {
            Some(answer) => answer,
            None => {
                let mut call = self.begin_call(writes);
                for write in writes {
                    add_write(&mut call, write, &write.json);
                }
                self.scripts.put.run(lane, &call).await?
            }
        };
        let (written, rest) = flags(&answer, writes.len())?;
        if rest == b"!" {
            self.unannounced.warn(
                self.host,
                "the user may not publish on the store's channel: waiting clients hear of \
                 completed jobs only when they ask again",
            );
        }
        Ok(written)
    }

    fn begin_call(&self, writes: &[Prepared]) -> Cmd {
        let record_keys: Vec<&str> = writes
            .iter()
            .flat_map(|write| &write.keys)
            .map(String::as_str)
            .collect();
        let keys = record_keys.into_iter();
        let mut call = self.scripts.put.call(self.keys, keys, Timestamp::now());
        call.arg(self.keys.channel());
        call
    }

    /// Brings a large record to the server under a key of its own, from which the script moves it:
    /// Lua would copy it twice. `None` where the server does not take it so.
    async fn put_staged(&self, lane: &Lane, write: &Prepared) -> StoreResult<Option<Value>> {
        if self.staging_refused.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let staged = self.keys.staged();
        let mut set = redis::cmd("SET");
        set.arg(&staged).arg(&write.json);
        set.arg("PX").arg(STAGED_FOR_MS);
        let mut call = self.begin_call(std::slice::from_ref(write));
        add_write(&mut call, write, write.json.head(write.index_end + 1));
        call.arg(&staged);
        let answer = self.scripts.put.run_after(lane, set, &call).await?;
        if answer.is_none() {
            self.staging_refused.store(true, Ordering::Relaxed);
        }
        Ok(answer)
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
        let lane = self.connections.lane().await?;
        let answer = self.scripts.delete.run(&lane, &call).await?;
        Ok(flags(&answer, job_ids.len())?.0)
    }
}

impl Chunk {
    fn has_room(&self, write: &Write) -> bool {
        self.refused.is_empty()
            || self.refused.len() < RECORDS_AT_ONCE
                && self.bytes + write.record.size_bytes() <= BYTES_AT_ONCE
                // The script decides about all before it writes any.
                && !self.job_ids.contains(&write.record.job_id)
    }
}

fn add_write(call: &mut Cmd, write: &Prepared, json: impl ToRedisArgs) {
    call.arg(format!("{}{}", write.mode, write.job_id.len()))
        .arg(write.job_id.as_str())
        .arg(write.index_end);
    match write.expires_ms {
        None => call.arg(""),
        Some(expires_ms) => call.arg(expires_ms),
    };
    call.arg(json);
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
