//! One call of a function: its timeout, its panics, its progress, its interruption.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;
use warren_plugin_api::Timestamp;

use super::{attempt::Attempt, hooks::panic_text, outcome::Verdict, shared::Shared};
use crate::{
    broker::QueueName,
    function::{Call, Function, JobContext, JobError, JobFacts},
};

/// The shortest time between two writes of a job's progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(250);

/// How a call ended.
pub(super) enum Run {
    Ended(Verdict),
    /// The worker stops at once.
    Interrupted,
}

/// Calls `function` for a job of `queue`, under its timeout, until `stop` is cancelled. Whatever
/// it does, this returns.
pub(super) async fn call(
    shared: &Shared,
    queue: &QueueName,
    attempt: &Arc<Attempt>,
    function: &Function,
    stop: CancellationToken,
) -> Run {
    let slot = match slot(shared, attempt, function, &stop).await {
        Some(slot) if !stop.is_cancelled() => slot,
        _ => return stopped(shared),
    };
    let began = Instant::now();
    let timeout = function.policy.timeout;
    let facts = JobFacts {
        job_id: attempt.job_id.clone(),
        attempt: attempt.number,
        // Nearly always the same text.
        queue: if attempt.queue == queue.as_str() {
            attempt.queue.clone()
        } else {
            queue.as_str().into()
        },
        function: attempt.function.clone(),
        worker: shared.options.worker.clone(),
        enqueued_at: attempt.enqueued_at,
        deadline: Some(Timestamp::now().saturating_add(timeout)),
    };
    let context = JobContext::new(facts, shared.options.functions.state(), stop.clone());
    let call = Call {
        context: context.clone(),
        args: attempt.args.clone(),
        kwargs: attempt.kwargs.clone(),
    };
    let running = async { function.handler.call(call).await };
    let guarded = AssertUnwindSafe(running).catch_unwind();
    let run = tokio::select! {
        biased;
        outcome = tokio::time::timeout(timeout, guarded) => {
            Run::Ended(match outcome {
                Ok(Ok(Ok(result))) => Verdict::Completed(result),
                Ok(Ok(Err(error))) => Verdict::Failed(error),
                Ok(Err(panic)) => Verdict::Failed(JobError::new("Panic", panic_text(&*panic))),
                Err(_elapsed) => Verdict::Failed(timed_out(timeout, began.elapsed())),
            })
        }
        () = stop.cancelled() => stopped(shared),
        () = report_progress(shared, attempt, Some(&context)) => Run::Interrupted,
    };
    // What the function has left running, such as a thread of its own, is told to end.
    stop.cancel();
    drop(slot);
    attempt.set_progress(context.progress());
    run
}

/// Why a run was stopped from outside.
fn stopped(shared: &Shared) -> Run {
    if shared.cancel_jobs.is_cancelled() {
        Run::Interrupted
    } else {
        Run::Ended(Verdict::Aborted(aborted()))
    }
}

/// Waits for a permit of the function's handler, if it hands out any; `None` when `stop` comes
/// first.
async fn slot(
    shared: &Shared,
    attempt: &Arc<Attempt>,
    function: &Function,
    stop: &CancellationToken,
) -> Option<Option<OwnedSemaphorePermit>> {
    let Some(slots) = function.handler.slots() else {
        return Some(None);
    };
    tokio::select! {
        biased;
        // Nobody closes the semaphore.
        slot = slots.acquire_owned() => Some(slot.ok()),
        () = stop.cancelled() => None,
        () = report_progress(shared, attempt, None) => None,
    }
}

/// Keeps the record of a job up to date that runs in `context`, or waits for it; never ends.
async fn report_progress(shared: &Shared, attempt: &Arc<Attempt>, context: Option<&JobContext>) {
    loop {
        let heartbeat = shared.next_heartbeat();
        match context {
            Some(context) => {
                let reported = context.progress_reported();
                if tokio::time::timeout_at(heartbeat, reported).await.is_ok() {
                    attempt.set_progress(context.progress());
                }
            }
            None => tokio::time::sleep_until(heartbeat).await,
        }
        shared.results.running(attempt);
        tokio::time::sleep(PROGRESS_PAUSE).await;
    }
}

/// What is stored about a job that somebody asked to abort.
pub(super) fn aborted() -> JobError {
    JobError::new("JobAborted", "aborted on request")
}

fn timed_out(timeout: Duration, ran: Duration) -> JobError {
    let (limit, ran) = (timeout.as_secs_f64(), ran.as_secs_f64());
    JobError::new(
        "JobTimeout",
        format!("ran for {ran:.3} s, its timeout is {limit} s"),
    )
}
