//! One run of a job, and the records that tell of it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use warren_plugin_api::{ErrorClass, Payload, Record, Status, StoreError, Text, Timestamp};

use super::in_hand::Held;
use crate::job::ReplayedFrom;

/// A record of a job that has not ended outlives the job by at least this time.
const UNFINISHED_TTL: Duration = Duration::from_secs(24 * 3600);

/// The name of the [`Record::extra`] value that counts workers lost while they ran this attempt.
pub(super) const LOST_RUNS: &str = "warren.lost_runs";
/// The name of the [`Record::extra`] value that says more about an error: a JSON string.
pub(super) const ERROR_DETAIL: &str = "warren.error_detail";

/// What stays the same throughout one attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) job_id: Text,
    /// The queue that the producer named, under which clients look for the record.
    pub(super) queue: Text,
    pub(super) function: Text,
    pub(super) args: Payload,
    pub(super) kwargs: Payload,
    pub(super) number: u32,
    pub(super) enqueued_at: Option<Timestamp>,
    /// `None` when the function is not run at all.
    pub(super) started_at: Option<Timestamp>,
    /// The client that made the job may write `queued` over how it ended.
    pub(super) may_be_written_over: bool,
    /// How long the result is kept.
    pub(super) result_ttl: Duration,
    /// Workers that were lost while they ran this attempt.
    pub(super) lost_runs: u32,
    /// The dead letter that the job was before somebody sent it again.
    pub(super) replayed_from: Option<Box<ReplayedFrom>>,
    /// The latest progress that the function reported.
    pub(super) progress: Mutex<Payload>,
    /// How far the `in_progress` record has come.
    pub(super) live: LiveRecord,
    /// Held until the ending is stored and the delivery answered.
    pub(super) _held: Option<Held>,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub(super) status: Status,
    pub(super) error: Option<Text>,
    /// More about the error.
    pub(super) detail: Option<Text>,
    pub(super) result: Payload,
    pub(super) finished_at: Timestamp,
    pub(super) duration: Option<Duration>,
    /// Until when another attempt may be waiting; zero for an ended job.
    pub(super) delay: Duration,
}

/// Where the `in_progress` record of an attempt is. Only the result writer changes it, but for
/// `announced`.
#[derive(Debug, Default)]
pub(super) struct LiveRecord {
    /// The writer was told to write it and has not begun.
    pub(super) announced: Flag,
    /// The store is writing it.
    pub(super) in_flight: Flag,
    /// It need not be written any more.
    pub(super) ended: Flag,
}

#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Returns what it was.
    pub(super) fn set(&self, value: bool) -> bool {
        self.0.swap(value, Ordering::AcqRel)
    }
}

impl Attempt {
    pub(super) fn set_progress(&self, progress: Payload) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// The record that says who runs the job.
    pub(super) fn running_record(&self, worker: &Text) -> Record {
        let now = Timestamp::now();
        let ttl = self.result_ttl.max(UNFINISHED_TTL);
        Record {
            status: Status::InProgress,
            worker: worker.clone(),
            heartbeat_at: Some(now),
            updated_at: Some(now),
            expires_at: Some(now.saturating_add(ttl)),
            ..self.record()
        }
    }

    /// The record that says that no worker runs the job any more, and another one may.
    pub(super) fn given_back_record(&self) -> Record {
        let mut record = self.running_record(&Text::new());
        record.heartbeat_at = None;
        record
    }

    /// The record of how it ended.
    pub(super) fn ended_record(&self, worker: &Text, ending: &Ending) -> Record {
        let ttl = if ending.status.is_terminal() {
            self.result_ttl
        } else {
            self.result_ttl
                .max(UNFINISHED_TTL)
                .saturating_add(ending.delay)
        };
        let mut record = self.record();
        if let Some(detail) = ending
            .detail
            .as_ref()
            .and_then(|text| serde_json::to_vec(text).ok())
        {
            record
                .extra
                .push((Text::from(ERROR_DETAIL), Payload::from(detail)));
        }
        Record {
            status: ending.status,
            worker: worker.clone(),
            finished_at: Some(ending.finished_at),
            updated_at: Some(ending.finished_at),
            expires_at: Some(ending.finished_at.saturating_add(ttl)),
            duration: ending.duration,
            error: ending.error.clone(),
            result: ending.result.clone(),
            ..record
        }
    }

    fn record(&self) -> Record {
        let mut extra = Vec::new();
        if let Some(replayed_from) = &self.replayed_from {
            extra.push(replayed_from.to_extra());
        }
        if self.lost_runs > 0 {
            extra.push((
                Text::from(LOST_RUNS),
                Payload::from(self.lost_runs.to_string()),
            ));
        }
        Record {
            job_id: self.job_id.clone(),
            queue: self.queue.clone(),
            function: self.function.clone(),
            attempt: self.number,
            enqueued_at: self.enqueued_at,
            started_at: self.started_at,
            args: self.args.clone(),
            kwargs: self.kwargs.clone(),
            progress: self
                .progress
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            extra,
            ..Record::default()
        }
    }
}

/// Makes a record that the store refused for good smaller, so that it may take it: first without
/// the arguments, then `failed` without the result. `false` when nothing is left to take away.
pub(super) fn lighten(record: &mut Record, refusal: &StoreError) -> bool {
    let has_arguments = !record.args.is_empty() || !record.kwargs.is_empty();
    if has_arguments {
        record.args = Payload::empty();
        record.kwargs = Payload::empty();
        if refusal.class() == ErrorClass::TooLarge {
            return true;
        }
    }
    if record.result.is_empty() && record.progress.is_empty() {
        return has_arguments;
    }
    let ended = record.status;
    record.result = Payload::empty();
    record.progress = Payload::empty();
    // A job that has not ended goes on without its progress in the store.
    if ended.is_terminal() {
        record.status = Status::Failed;
        record.error = Some(Text::from(format!(
            "ResultRefused: the job ended {ended}, but the store refused its result: {refusal}"
        )));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            job_id: Text::from("j"),
            status: Status::Completed,
            args: Payload::from("[1]"),
            kwargs: Payload::from("{}"),
            result: Payload::from("5"),
            ..Record::default()
        }
    }

    #[test]
    fn a_record_that_is_too_large_loses_its_arguments_first_and_then_its_result() {
        let mut record = record();
        let refusal = StoreError::too_large("9 bytes, at most 5");
        assert!(lighten(&mut record, &refusal));
        assert_eq!(
            (record.status, record.result.as_slice()),
            (Status::Completed, &b"5"[..])
        );
        assert!(record.args.is_empty());

        assert!(lighten(&mut record, &refusal));
        assert_eq!(record.status, Status::Failed);
        assert!(record.result.is_empty());
        assert!(
            record
                .error
                .as_ref()
                .unwrap()
                .contains("too_large: 9 bytes, at most 5")
        );

        assert!(!lighten(&mut record, &refusal));
    }

    #[test]
    fn any_other_refusal_leaves_no_payload() {
        let mut record = record();
        assert!(lighten(&mut record, &StoreError::unsupported("no nulls")));
        assert_eq!(record.status, Status::Failed);
        assert!(record.args.is_empty() && record.kwargs.is_empty() && record.result.is_empty());
    }
}
