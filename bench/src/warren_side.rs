//! Warren's side: its worker and its client, used as a Rust program uses them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use warren::{
    broker::{Broker, QueueName},
    client::{Client, JobRequest},
    function::{FunctionRegistry, JobContext, JobError},
    store::Store,
    worker::{Shutdown, Worker},
};
use warren_plugin_api::Status;

use crate::{
    error::{BenchError, ensure},
    servers::Servers,
};

/// Jobs that are sent with one call.
pub(crate) const BATCH: usize = 512;
/// How long the broker may take to see that a worker has gone.
const LEAVE_DEADLINE: Duration = Duration::from_secs(10);

/// `add(1, 2)`.
pub(crate) fn request(queue: &QueueName) -> JobRequest {
    JobRequest::new("add").arg(1).arg(2).queue(queue.as_str())
}

/// Sends `count` jobs and returns their ids.
pub(crate) async fn send(
    client: &Client,
    queue: &QueueName,
    count: u32,
) -> Result<Vec<String>, BenchError> {
    let mut job_ids = Vec::with_capacity(count as usize);
    let requests = vec![request(queue); count as usize];
    for batch in requests.chunks(BATCH) {
        for answer in client.enqueue_many(batch.to_vec()).await {
            let enqueued = answer?;
            if let Some(error) = enqueued.unrecorded {
                return Err(error.into());
            }
            job_ids.push(enqueued.job_id.into());
        }
    }
    Ok(job_ids)
}

/// The function of all jobs. Asks for the end of the worker when it has run `last` times.
pub(crate) fn functions(last: u32, shutdown: &Shutdown) -> Result<FunctionRegistry, BenchError> {
    let left = Arc::new(AtomicU32::new(last));
    let shutdown = shutdown.clone();
    let mut functions = FunctionRegistry::new();
    functions.register("add", move |_job: JobContext, (a, b): (i64, i64)| {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            shutdown.stop();
        }
        async move { Ok::<_, JobError>(a + b) }
    })?;
    Ok(functions)
}

/// Runs every job of `queue` with at most `in_flight` under way, and returns how long it took from
/// the start of the worker until every result is stored and every delivery answered.
pub(crate) async fn run_jobs(
    servers: &Servers,
    store: Store,
    queue: &QueueName,
    jobs: u32,
    in_flight: u16,
) -> Result<Duration, BenchError> {
    let broker = Broker::connect(&servers.broker_settings()?).await?;
    let shutdown = Shutdown::new();
    let worker = Worker::builder(broker.clone(), store)
        .queues([queue.clone()])
        .functions(functions(jobs, &shutdown)?)
        .concurrency(usize::from(in_flight))
        .prefetch(in_flight)
        .build()?;

    let began = Instant::now();
    let report = worker.run(shutdown).await?;
    let took = began.elapsed();

    ensure("jobs that Warren ran", report.completed, u64::from(jobs))?;
    until_left(&broker, queue).await?;
    broker.close().await;
    Ok(took)
}

/// Waits until the broker has seen the worker's last answers and its goodbye.
async fn until_left(broker: &Broker, queue: &QueueName) -> Result<(), BenchError> {
    let deadline = Instant::now() + LEAVE_DEADLINE;
    loop {
        let consumers = broker
            .queue_info(queue)
            .await?
            .map_or(0, |info| info.consumers);
        if consumers == 0 {
            break;
        }
        if Instant::now() > deadline {
            return ensure("consumers of a worker that has ended", consumers, 0);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The consumer ends before the channel that carries the last answers.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

/// Fails unless every one of these jobs is stored as completed.
pub(crate) async fn all_completed(client: &Client, job_ids: &[String]) -> Result<(), BenchError> {
    let mut completed = 0;
    for batch in job_ids.chunks(BATCH) {
        for status in client.statuses(batch).await? {
            completed += usize::from(status? == Some(Status::Completed));
        }
    }
    ensure(
        "jobs that are stored as completed",
        completed,
        job_ids.len(),
    )
}
