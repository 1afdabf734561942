//! Reading records and statuses by id.

use futures_util::{StreamExt, stream::FuturesOrdered};
use redis::Value;
use warren_plugin_api::{BatchResult, Record, Status, StoreResult, Text, Timestamp};

use crate::{
    connection::Connections,
    decode::{HEAD_BYTES, decode, decode_head},
    keys::Keys,
    script::unexpected,
};

/// Records that one command reads.
const RECORDS_AT_ONCE: usize = 128;
/// Commands that are sent before the first is answered.
const READS_AT_ONCE: usize = 4;
/// Statuses that one call reads.
const STATUSES_AT_ONCE: usize = 1_000;

/// What reading takes.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) connections: &'a Connections,
    pub(crate) keys: &'a Keys,
}

impl Reader<'_> {
    pub(crate) async fn get(&self, job_id: &str) -> StoreResult<Option<Record>> {
        let mut command = redis::cmd("GET");
        command.arg(self.keys.result(job_id));
        let answer = self.connections.command(&command).await?;
        live_record(answer, Timestamp::now())
    }

    pub(crate) async fn get_many(&self, job_ids: &[Text]) -> BatchResult<Option<Record>> {
        let mut records = Vec::with_capacity(job_ids.len());
        let mut chunks = job_ids.chunks(RECORDS_AT_ONCE);
        let mut under_way = FuturesOrdered::new();
        loop {
            // The next ones are on their way while one is decoded.
            while under_way.len() < READS_AT_ONCE
                && let Some(job_ids) = chunks.next()
            {
                under_way.push_back(self.results(job_ids));
            }
            let Some(answers) = under_way.next().await else {
                break;
            };
            let now = Timestamp::now();
            records.extend(answers?.into_iter().map(|answer| live_record(answer, now)));
        }
        Ok(records)
    }

    async fn results(&self, job_ids: &[Text]) -> StoreResult<Vec<Value>> {
        self.mget(job_ids.iter().map(|job_id| self.keys.result(job_id)))
            .await
    }

    pub(crate) async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        let mut statuses = self.statuses(&[job_id]).await?;
        statuses.pop().unwrap_or(Ok(None))
    }

    pub(crate) async fn status_many(&self, job_ids: &[Text]) -> BatchResult<Option<Status>> {
        let mut statuses = Vec::with_capacity(job_ids.len());
        for job_ids in job_ids.chunks(STATUSES_AT_ONCE) {
            statuses.extend(self.statuses(job_ids).await?);
        }
        Ok(statuses)
    }

    /// Reads the beginning of each record, which knows its expiry to the microsecond; the word
    /// under the status key does not, and is there for Python.
    async fn statuses(&self, job_ids: &[Text]) -> BatchResult<Option<Status>> {
        let mut heads = redis::pipe();
        for job_id in job_ids {
            heads
                .cmd("GETRANGE")
                .arg(self.keys.result(job_id))
                .arg(0)
                .arg(HEAD_BYTES - 1);
        }
        let answers = self.connections.read_many(&heads).await?;
        let now = Timestamp::now();
        let mut statuses = Vec::with_capacity(job_ids.len());
        for (answer, job_id) in answers.into_iter().zip(job_ids) {
            let head = match &answer {
                Value::BulkString(head) if head.is_empty() => None,
                Value::BulkString(head) => Some(decode_head(head)),
                _ => Some(None),
            };
            statuses.push(match head {
                None => Ok(None),
                Some(Some((status, expires_at))) => Ok(expires_at
                    .is_none_or(|expires_at| expires_at > now)
                    .then_some(status)),
                // Python's record, or a damaged one.
                Some(None) => self
                    .get(job_id)
                    .await
                    .map(|record| record.map(|record| record.status)),
            });
        }
        Ok(statuses)
    }

    /// One answer per key.
    pub(crate) async fn mget(
        &self,
        keys: impl ExactSizeIterator<Item = String>,
    ) -> StoreResult<Vec<Value>> {
        let expected = keys.len();
        let mut command = redis::cmd("MGET");
        for key in keys {
            command.arg(key);
        }
        match self.connections.command(&command).await? {
            Value::Array(answers) if answers.len() == expected => Ok(answers),
            answer => Err(unexpected(&answer)),
        }
    }
}

/// The record in an answer to `GET`, unless it has expired.
pub(crate) fn live_record(answer: Value, now: Timestamp) -> StoreResult<Option<Record>> {
    match answer {
        Value::Nil => Ok(None),
        Value::BulkString(json) => {
            decode(json).map(|record| Some(record).filter(|record| !record.is_expired(now)))
        }
        answer => Err(unexpected(&answer)),
    }
}
