//! Records written to Redis in batches: through the plugin, which refuses stale ones, and by a bare
//! pipeline, which overwrites whatever is there.

use std::time::Instant;

use warren::job::JobId;
use warren_plugin_api::{Payload, Record, Status, Timestamp, Write, WriteOutcome};

use crate::{
    bare::{self, Job, Keys},
    error::{BenchError, ensure},
    figures::{Measure, Unit},
    options::{Options, StoreKind},
    plugins,
    servers::Servers,
    warren_side::BATCH,
};

/// Measures `--rounds` rounds of `--jobs` records on each side, one batch after the other.
pub(crate) async fn measure(
    options: &Options,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    let sides = ["bare pipeline", "plugin, put_many"];
    let name = format!("records to Redis, {BATCH} at a time");
    let mut measure = Measure::new(name, Unit::PerSecond, &sides);
    for round in 1..=options.rounds() {
        eprintln!("redis store: round {round} of {}", options.rounds());
        measure.add_round([
            bare_rate(options.jobs(), servers).await?,
            plugin_rate(options.jobs(), servers).await?,
        ]);
    }
    Ok(vec![measure])
}

async fn bare_rate(jobs: u32, servers: &Servers) -> Result<f64, BenchError> {
    let mut redis = servers.redis().await?;
    let keys = Keys::new(servers.key_prefix());
    let queue = warren::broker::QueueName::new("bench")?;
    let messages = bare::messages(&queue, jobs);
    let began = Instant::now();
    for batch in messages.chunks(BATCH) {
        let mut pipeline = redis::pipe();
        for (job_id, body) in batch {
            let job: Job<'_> = serde_json::from_slice(body)?;
            let record = bare::completed(&job, 3, Timestamp::now())?;
            keys.write(
                &mut pipeline,
                queue.as_str(),
                job_id.as_str(),
                "completed",
                &record,
            );
        }
        let () = pipeline.query_async(&mut redis).await?;
    }
    let took = began.elapsed();
    servers.delete_keys().await?;
    Ok(f64::from(jobs) / took.as_secs_f64())
}

async fn plugin_rate(jobs: u32, servers: &Servers) -> Result<f64, BenchError> {
    let store = plugins::open(StoreKind::Redis, servers).await?;
    let records: Vec<Record> = (0..jobs).map(|_| completed_record()).collect();
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let writes = batch.iter().cloned().map(Write::from).collect();
        for answer in store.put_many(writes).await? {
            ensure("the answer to a new record", answer?, WriteOutcome::Written)?;
        }
    }
    let took = began.elapsed();
    store.close().await?;
    servers.delete_keys().await?;
    Ok(f64::from(jobs) / took.as_secs_f64())
}

/// The record of a job that has run, as the worker writes it.
pub(crate) fn completed_record() -> Record {
    let now = Timestamp::now();
    Record {
        job_id: JobId::random().into_text(),
        status: Status::Completed,
        attempt: 1,
        queue: "bench".into(),
        function: "add".into(),
        worker: "worker_0123abcd".into(),
        enqueued_at: Some(now),
        started_at: Some(now),
        finished_at: Some(now),
        updated_at: Some(now),
        expires_at: Some(now.saturating_add(std::time::Duration::from_secs(86_400))),
        duration: Some(std::time::Duration::from_micros(17)),
        args: Payload::from("[1,2]"),
        kwargs: Payload::from("{}"),
        result: Payload::from("3"),
        ..Record::default()
    }
}
