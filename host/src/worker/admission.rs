//! Whether a message's job is run at all.

use std::{sync::Arc, time::Duration};

use warren_plugin_api::{Record, Status, Timestamp};

use super::{attempt::LOST_RUNS, functions::CountedFunction, run::aborted, shared::Shared};
use crate::{
    function::JobError,
    job::{JobHeaders, JobMessage},
};

/// From this many hand-overs on, their number alone makes a message one that kills workers. RabbitMQ 4 gives up a quorum queue's message after as many, unless it is told otherwise.
const MOST_HAND_OVERS: u32 = 20;

/// What to do with a message that could be read.
#[derive(Debug)]
pub(super) enum Admission {
    /// Run it.
    Run {
        function: Arc<CountedFunction>,
        lost_runs: u32,
        needs_start_record: bool,
    },
    /// Its time has not come.
    Defer(Duration),
    /// It is sent again as it was read now, so that lost runs of it can be counted: by whom it is,
    /// or by how often it was handed over in vain, where neither the store nor the broker knows.
    SendAgain { hand_overs: u32 },
    /// The store says that this very attempt has ended: only the answer to the broker got lost.
    AlreadyEnded(Status),
    /// It waits for an earlier run of itself, and this worker stops.
    GiveBack,
    /// It expired or was cancelled.
    Abort(JobError),
    /// It cannot be run.
    Fail(JobError),
}

/// Decides about a message that came in at `now`.
///
/// The store is asked only about messages that were handed over before, or sent before this worker
/// began: asking about each would cost every job a round trip.
pub(super) async fn admit(
    shared: &Shared,
    message: &JobMessage,
    attempt: u32,
    headers: &JobHeaders,
    redelivered: bool,
    now: Timestamp,
) -> Admission {
    if let Some(expires) = message.expires.filter(|expires| *expires <= now) {
        let text = format!("expired at {expires}, before it could run");
        return Admission::Abort(JobError::new("JobExpired", text));
    }
    if shared.aborts.concern(message).await {
        return Admission::Abort(aborted());
    }
    if let Some(delay) = delay(message, headers, now) {
        return Admission::Defer(delay);
    }
    let mut lost_runs = 0;
    let suspicious = redelivered || headers.delivery_count > 0;
    if suspicious {
        if !message.is_identified {
            return Admission::SendAgain { hand_overs: 0 };
        }
        tokio::select! {
            () = shared.in_hand.until_let_go(message.job_id.as_text()) => {}
            () = shared.shutdown.stopping() => return Admission::GiveBack,
        }
        match Box::pin(look_up(shared, message, attempt)).await {
            Found::Waiting => {}
            Found::NoTrace => {
                let broker_counts = headers.delivery_count > 0;
                let hand_overs = if broker_counts {
                    headers.delivery_count
                } else {
                    headers.hand_overs.saturating_add(1)
                };
                if hand_overs >= MOST_HAND_OVERS.max(shared.options.max_lost_runs) {
                    return Admission::Fail(handed_over_in_vain(hand_overs));
                }
                if !broker_counts {
                    return Admission::SendAgain { hand_overs };
                }
            }
            Found::Lost(runs) => lost_runs = runs,
            Found::Ended(status) => return Admission::AlreadyEnded(status),
        }
        if lost_runs >= shared.options.max_lost_runs {
            return Admission::Fail(worker_lost(lost_runs));
        }
    }
    match shared.live.functions.get(&message.function) {
        Some(function) => Admission::Run {
            function,
            lost_runs,
            needs_start_record: suspicious,
        },
        None => Admission::Fail(unknown_function(shared, &message.function)),
    }
}

/// How long the job still has to wait.
fn delay(message: &JobMessage, headers: &JobHeaders, now: Timestamp) -> Option<Duration> {
    let defer_until = message.defer_until.filter(|_| !headers.client_delayed)?;
    let delay = defer_until.saturating_duration_since(now);
    (!delay.is_zero()).then_some(delay)
}

/// What the store says about a job that was handed over before.
enum Found {
    /// No run of it was lost: it waits, or was given back in good order, or no worker began it.
    Waiting,
    /// Nothing, and a run that was lost may have left no trace.
    NoTrace,
    /// So many workers started this attempt and were never heard of again.
    Lost(u32),
    /// This attempt has ended.
    Ended(Status),
}

async fn look_up(shared: &Shared, message: &JobMessage, attempt: u32) -> Found {
    let record = match shared.store.get(message.job_id.as_text().clone()).await {
        Ok(Some(record)) => record,
        // Who runs a message that was handed over before writes that down first. So a store that
        // keeps what it is told knows of every such run, while the broker's count rises, too, when
        // a worker stops or is cut off that held the message and never began it.
        Ok(None) if shared.store.capabilities().durable => return Found::Waiting,
        Ok(None) => return Found::NoTrace,
        Err(error) => {
            // A store that is down must not make a job look as if it had killed workers.
            tracing::debug!(%error, "cannot see what became of an earlier delivery");
            return Found::Waiting;
        }
    };
    // Ids can be used again: only a record of the same enqueueing is about this job. Any other may
    // be in the way of what this one writes.
    if record.enqueued_at != Some(message.enqueue_time) {
        return Found::NoTrace;
    }
    match record.status {
        // A retry is stored after its message was sent: that message carries the job now.
        Status::Completed | Status::Aborted | Status::Retrying if record.attempt >= attempt => {
            return Found::Ended(record.status);
        }
        Status::InProgress if record.attempt > attempt => return Found::Ended(record.status),
        Status::InProgress if record.attempt == attempt => {}
        // A failed job may have been sent again by hand, out of the dead-letter queue.
        _ => return Found::Waiting,
    }
    let runs = lost_runs_of(&record);
    let is_own = record.worker == shared.options.worker
        && record.started_at.is_some_and(|at| at >= shared.began_at);
    // Given back in good order, or delivered again after this worker lost its connection.
    if record.worker.is_empty() || is_own {
        Found::Lost(runs)
    } else {
        Found::Lost(runs + 1)
    }
}

fn lost_runs_of(record: &Record) -> u32 {
    record
        .extra
        .iter()
        .find(|(name, _)| *name == LOST_RUNS)
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok())
        .unwrap_or(0)
}

fn worker_lost(lost_runs: u32) -> JobError {
    JobError::new(
        "WorkerLost",
        format!("{lost_runs} workers died or lost their connection while they ran this job"),
    )
}

fn handed_over_in_vain(times: u32) -> JobError {
    JobError::new(
        "WorkerLost",
        format!(
            "the broker handed this job over {times} times without an answer, and the result store \
             cannot tell whether it ran"
        ),
    )
}

fn unknown_function(shared: &Shared, name: &str) -> JobError {
    const SHOWN: usize = 20;
    let mut known: Vec<String> = shared
        .options
        .functions
        .names()
        .map(|name| name.to_string())
        .collect();
    known.sort_unstable();
    let more = known.len().saturating_sub(SHOWN);
    known.truncate(SHOWN);
    let known = match (known.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => known.join(", "),
        (false, more) => format!("{} and {more} more", known.join(", ")),
    };
    let name: String = name.chars().take(200).collect();
    JobError::new(
        "UnknownFunction",
        format!("this worker has no function {name:?}; registered: {known}"),
    )
}
