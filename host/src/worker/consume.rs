//! A running worker: takes deliveries, starts jobs, and ends in good order.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::Instant,
};
use tracing::Instrument;

use super::{
    Shutdown, Worker, WorkerError, WorkerReport,
    burst::BurstWatch,
    cleanup,
    execute::Job,
    hooks::StartupContext,
    live::{Ends, Phase},
    results::ResultWriter,
    shared::Shared,
};
use crate::{
    announcer::Announcer,
    broker::{Consumer, Settle},
    sleep::until,
};

/// How long interrupted jobs may take to let go before the worker ends without them.
const LET_GO: Duration = Duration::from_secs(5);
/// How long the last results may take to reach the store.
const LAST_RESULTS: Duration = Duration::from_secs(30);

/// Why a worker stopped consuming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Requested,
    QueuesEmpty,
    BurstTimeout,
    ConsumerEnded,
    WriterEnded,
}

/// See [`Worker::run`].
///
/// Runs on a task of its own: a future that `main` blocks on would be woken from another thread,
/// and would start its jobs on one, for each delivery.
pub(super) async fn run(worker: Worker, shutdown: Shutdown) -> Result<WorkerReport, WorkerError> {
    let running = tokio::spawn(run_here(worker, shutdown).in_current_span());
    let mut running = AbortOnDrop(running);
    match (&mut running.0).await {
        Ok(ended) => ended,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_cancelled) => Err(WorkerError::ConsumerEnded),
        },
    }
}

async fn run_here(worker: Worker, shutdown: Shutdown) -> Result<WorkerReport, WorkerError> {
    let Worker {
        broker,
        store,
        options,
        live,
    } = worker;
    let _ends = Ends(&live);
    let concurrency = options.concurrency;
    for queue in &options.queues {
        broker.declare(queue).await?;
    }
    let spooling = options.spooling.clone();
    let (results, writer) = ResultWriter::new(
        store.clone(),
        Announcer::new(store.clone(), Some(broker.clone())),
        options.worker.clone(),
        spooling,
        live.stats.clone(),
        Arc::clone(&live.breaker),
    );
    let shared = Arc::new(Shared::new(
        broker,
        options,
        results,
        Arc::clone(&live),
        shutdown,
    ));
    start_up(&shared).await?;

    let writer = tokio::spawn(writer.run());
    let cleanup = shared.options.cleanup_interval.map(|interval| {
        let store = shared.store.clone();
        AbortOnDrop(tokio::spawn(cleanup::run(store, interval)))
    });
    let aborts = {
        let (aborts, in_hand) = (Arc::clone(&shared.aborts), shared.in_hand.clone());
        let control = shared.broker.control();
        AbortOnDrop(tokio::spawn(async move {
            aborts.follow(control, &in_hand).await
        }))
    };
    let follower = {
        let live = Arc::clone(&live);
        AbortOnDrop(tokio::spawn(async move { live.follow_broker().await }))
    };
    let options = &shared.options;
    let mut consumer = shared
        .broker
        .consume(&options.queues, options.prefetch())
        .await?;
    tracing::info!(
        worker = %options.worker,
        queues = ?options.queues,
        concurrency,
        prefetch = options.prefetch(),
        store = shared.store.name(),
        functions = shared.options.functions.names().count(),
        "worker started"
    );

    live.enter(Phase::Running);
    let slots = Arc::new(Semaphore::new(concurrency));
    let stop = consume(&shared, &mut consumer, &slots).await;
    live.enter(Phase::Stopping);
    tracing::info!(reason = ?stop, "no more jobs are started");
    give_back_unstarted(&shared, &mut consumer).await;
    finish_running(&shared, &slots).await;
    let report = end(shared, writer).await;
    drop((cleanup, aborts, follower, consumer));
    match stop {
        Stop::ConsumerEnded => Err(WorkerError::ConsumerEnded),
        Stop::WriterEnded => Err(WorkerError::ResultWriterEnded),
        Stop::Requested | Stop::QueuesEmpty | Stop::BurstTimeout => Ok(report),
    }
}

async fn start_up(shared: &Shared) -> Result<(), WorkerError> {
    let context = StartupContext {
        worker: shared.options.worker.to_string(),
        queues: shared
            .options
            .queues
            .iter()
            .map(ToString::to_string)
            .collect(),
    };
    shared
        .hooks
        .startup(context)
        .await
        .map_err(|reason| WorkerError::Startup { reason })
}

/// Starts a job for each delivery, as many at once as there are slots, until there is a reason to
/// stop.
async fn consume(shared: &Arc<Shared>, consumer: &mut Consumer, slots: &Arc<Semaphore>) -> Stop {
    let mut burst = shared.options.burst.map(BurstWatch::start);
    // Made once: what it waits for takes a lock to begin waiting, and another one to end.
    let must_stop = must_stop(shared, burst.as_ref().map(BurstWatch::deadline));
    tokio::pin!(must_stop);
    loop {
        let slot = tokio::select! {
            biased;
            reason = &mut must_stop => return reason,
            slot = Arc::clone(slots).acquire_owned() => slot,
        };
        // Nobody closes the semaphore.
        let Ok(slot) = slot else {
            return Stop::Requested;
        };
        let delivery = loop {
            tokio::select! {
                biased;
                reason = &mut must_stop => return reason,
                delivery = consumer.next() => break delivery,
                () = tick(&mut burst) => {
                    let is_idle = slots.available_permits() + 1 == shared.options.concurrency;
                    if let Some(burst) = &mut burst
                        && is_idle
                        && burst.is_over(shared).await
                    {
                        return Stop::QueuesEmpty;
                    }
                }
            }
        };
        let Some(delivery) = delivery else {
            return Stop::ConsumerEnded;
        };
        if let Some(burst) = &mut burst {
            burst.busy();
        }
        if delivery.redelivered {
            shared.stats.0.redelivered.increment();
        }
        tokio::spawn(run_in_slot(Job::new(Arc::clone(shared), delivery), slot));
    }
}

/// Waits for a reason to stop that does not come from the queues.
async fn must_stop(shared: &Shared, burst_deadline: Option<Instant>) -> Stop {
    tokio::select! {
        biased;
        () = shared.shutdown.stopping() => Stop::Requested,
        () = until(burst_deadline) => Stop::BurstTimeout,
        () = shared.results.closed() => Stop::WriterEnded,
    }
}

async fn run_in_slot(job: Box<Job>, slot: OwnedSemaphorePermit) {
    job.execute().await;
    drop(slot);
}

/// What was handed over and not started goes back to its queue.
async fn give_back_unstarted(shared: &Shared, consumer: &mut Consumer) {
    consumer.stop().await;
    while let Some(delivery) = consumer.next().await {
        shared.stats.0.requeued.increment();
        let _ = delivery.acker.settle(Settle::Requeue);
    }
}

/// Lets running jobs finish within the grace time; interrupts those that do not.
async fn finish_running(shared: &Shared, slots: &Semaphore) {
    let concurrency = shared.options.concurrency;
    let running = concurrency.saturating_sub(slots.available_permits());
    if running > 0 {
        tracing::info!(running, grace = ?shared.options.grace, "running jobs may finish");
    }
    tokio::select! {
        biased;
        () = all_free(slots, concurrency) => return,
        () = shared.shutdown.stopping_now() => {}
        () = tokio::time::sleep(shared.options.grace) => shared.shutdown.stop_now(),
    }
    let interrupted = concurrency.saturating_sub(slots.available_permits());
    tracing::warn!(
        interrupted,
        "running jobs are interrupted and go back to their queues"
    );
    shared.cancel_jobs.cancel();
    if tokio::time::timeout(LET_GO, all_free(slots, concurrency))
        .await
        .is_err()
    {
        let stuck = concurrency.saturating_sub(slots.available_permits());
        tracing::error!(stuck, "jobs that block their thread cannot be interrupted");
    }
}

/// Waits until no slot is taken.
async fn all_free(slots: &Semaphore, concurrency: usize) {
    let all = u32::try_from(concurrency).unwrap_or(u32::MAX);
    // Nobody closes the semaphore.
    let _ = slots.acquire_many(all).await;
}

/// Brings the last results to the store, and says goodbye.
async fn end(shared: Arc<Shared>, writer: JoinHandle<usize>) -> WorkerReport {
    let (stats, hooks) = (shared.stats.clone(), shared.hooks.clone());
    let is_durable = shared.options.spooling.spool.is_durable();
    let patience = if shared.cancel_jobs.is_cancelled() {
        LET_GO
    } else {
        LAST_RESULTS
    };
    // The writer ends when the last sender, in here, is gone.
    drop(shared);
    match tokio::time::timeout(patience, writer).await {
        Ok(Ok(0)) => {}
        Ok(Ok(left)) if is_durable => tracing::warn!(
            left,
            "the result store did not come back: these records wait in the spool for the next worker"
        ),
        Ok(Ok(left)) => {
            stats.0.results_lost.add(left as u64);
            tracing::error!(
                left,
                "the result store did not come back: these records are lost"
            );
        }
        Ok(Err(error)) => tracing::error!(%error, "the result writer died"),
        Err(_elapsed) => tracing::error!("the last records did not reach the store in time"),
    }
    let report = stats.report();
    hooks.shutdown(report).await;
    let report = stats.report();
    tracing::info!(?report, "worker ended");
    report
}

async fn tick(burst: &mut Option<BurstWatch>) {
    match burst {
        Some(burst) => burst.tick().await,
        None => std::future::pending().await,
    }
}

/// Ends a background task with its owner.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
