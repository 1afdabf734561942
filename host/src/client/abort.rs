//! Aborting a job: first in the store, so that it stays aborted, then a word to every worker.

use std::time::Duration;

use warren_plugin_api::{Record, Status, Text, Timestamp, Write, WriteOutcome};

use super::{Client, ClientError};
use crate::broker::AbortRequest;

/// How often a job may change while it is being aborted.
const TRIES: usize = 10;

/// What became of a request to abort a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// It ends `aborted`. If it is running, it is being stopped.
    Aborted,
    /// It had ended already.
    Ended(Status),
    /// No such job is known.
    Unknown,
}

impl Client {
    /// Aborts a job that is queued, delayed, running or about to be repeated, wherever it is.
    ///
    /// A running Rust function is dropped at its next `await`, and its
    /// [`cancelled`](crate::function::JobContext::cancelled) token tells what it has left running;
    /// a command gets SIGTERM, and SIGKILL 2 seconds later.
    ///
    /// # Errors
    /// The store does not answer, or the broker does not: then the job is `aborted` in the store,
    /// but a worker that runs it may not know. Doing it again is harmless.
    pub async fn abort(&self, job_id: &str) -> Result<Abort, ClientError> {
        for _ in 0..TRIES {
            let Some(record) = self.store.get(job_id.into()).await? else {
                return Ok(Abort::Unknown);
            };
            let request = AbortRequest {
                job_id: record.job_id.clone(),
                enqueued_at: record.enqueued_at,
            };
            match record.status {
                Status::Aborted => {
                    self.broker.request_abort(&request).await?;
                    return Ok(Abort::Ended(Status::Aborted));
                }
                ended if ended.is_terminal() => return Ok(Abort::Ended(ended)),
                _ => {}
            }
            let write = Write::from(aborted(record, self.options.result_ttl));
            if self.store.put(write).await? == WriteOutcome::Written {
                self.announcer.ended(vec![request.job_id.clone()]);
                self.broker.request_abort(&request).await?;
                return Ok(Abort::Aborted);
            }
            // It has gone on meanwhile: look again.
        }
        Err(ClientError::Busy {
            job_id: job_id.to_owned(),
        })
    }
}

fn aborted(record: Record, ttl: Duration) -> Record {
    let now = Timestamp::now();
    Record {
        status: Status::Aborted,
        finished_at: Some(now),
        updated_at: Some(now),
        heartbeat_at: None,
        // It must outlive the message, which may be delayed for longer.
        expires_at: record
            .expires_at
            .map(|expires_at| expires_at.max(now.saturating_add(ttl))),
        error: Some(Text::from("JobAborted: aborted on request")),
        ..record
    }
}
