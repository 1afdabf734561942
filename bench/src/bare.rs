//! The bare side: what a program does that uses lapin and redis-rs and nothing else. It writes
//! the same keys as Warren's Redis store, through one atomic pipeline per job, and answers each
//! delivery by itself.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions},
    types::FieldTable,
};
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use warren::{
    broker::QueueName,
    job::{JobId, JobMessage},
};
use warren_plugin_api::{Payload, Timestamp};

use crate::{
    error::{BenchError, ensure},
    servers::{self, Servers},
};

/// How long results are kept, as by Warren's default.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The name of this side in records.
const WORKER: &str = "bare";

/// The parts of a job's message that the loop needs.
#[derive(Debug, Deserialize)]
pub(crate) struct Job<'a> {
    pub(crate) job_id: &'a str,
    function: &'a str,
    pub(crate) args: (i64, i64),
    #[serde(borrow)]
    kwargs: &'a RawValue,
    queue_name: &'a str,
    job_try: u32,
    enqueue_time: &'a str,
}

/// The record that is kept, with rabbitmq-arq's fields.
#[derive(Debug, Serialize)]
struct StoredRecord<'a> {
    job_id: &'a str,
    status: &'a str,
    result: Option<i64>,
    error: Option<&'a str>,
    start_time: &'a str,
    end_time: Option<&'a str>,
    duration: Option<f64>,
    worker_id: &'a str,
    queue_name: &'a str,
    retry_count: u32,
    created_at: &'a str,
    expires_at: &'a str,
    function_name: &'a str,
    args: (i64, i64),
    kwargs: &'a RawValue,
}

/// Where records go.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    pub(crate) fn status(&self, job_id: &str) -> String {
        format!("{}:status:{job_id}", self.prefix)
    }

    /// Adds one record's commands to a pipeline.
    pub(crate) fn write(
        &self,
        pipeline: &mut redis::Pipeline,
        queue: &str,
        job_id: &str,
        status: &str,
        record: &[u8],
    ) {
        let index = format!("{}:queue:{queue}:results", self.prefix);
        let ttl = TTL.as_secs();
        pipeline
            .set_ex(format!("{}:result:{job_id}", self.prefix), record, ttl)
            .ignore()
            .set_ex(self.status(job_id), status, ttl)
            .ignore()
            .sadd(&index, job_id)
            .ignore()
            .expire(&index, TTL.as_secs() as i64)
            .ignore();
    }
}

/// The record of a job that has run, as JSON.
pub(crate) fn completed(
    job: &Job<'_>,
    result: i64,
    began: Timestamp,
) -> Result<Vec<u8>, BenchError> {
    let now = Timestamp::now();
    let ended = now.to_string();
    let duration = now.saturating_duration_since(began).as_secs_f64();
    Ok(serde_json::to_vec(&StoredRecord {
        job_id: job.job_id,
        status: "completed",
        result: Some(result),
        error: None,
        start_time: &began.to_string(),
        end_time: Some(&ended),
        duration: Some(duration),
        worker_id: WORKER,
        queue_name: job.queue_name,
        retry_count: job.job_try.saturating_sub(1),
        created_at: &ended,
        expires_at: &now.saturating_add(TTL).to_string(),
        function_name: job.function,
        args: job.args,
        kwargs: job.kwargs,
    })?)
}

/// The record of a job that waits, as JSON.
pub(crate) fn queued(body: &[u8]) -> Result<Vec<u8>, BenchError> {
    let job: Job<'_> = serde_json::from_slice(body)?;
    let now = Timestamp::now();
    Ok(serde_json::to_vec(&StoredRecord {
        job_id: job.job_id,
        status: "queued",
        result: None,
        error: None,
        start_time: job.enqueue_time,
        end_time: None,
        duration: None,
        worker_id: "pending",
        queue_name: job.queue_name,
        retry_count: 0,
        created_at: &now.to_string(),
        expires_at: &now.saturating_add(TTL).to_string(),
        function_name: job.function,
        args: job.args,
        kwargs: job.kwargs,
    })?)
}

/// Runs every job of `queue` with at most `in_flight` under way, and returns how long it took from
/// the start of consuming to the last acknowledgement. Without `redis` nothing is stored.
pub(crate) async fn run_jobs(
    servers: &Servers,
    queue: &QueueName,
    jobs: u32,
    in_flight: u16,
    redis: Option<MultiplexedConnection>,
) -> Result<Duration, BenchError> {
    let connection = servers.amqp().await?;
    let channel = connection.create_channel().await?;
    let keys = Keys::new(servers.key_prefix());
    let (ended, mut endings) = mpsc::unbounded_channel();

    let began = Instant::now();
    let mut deliveries = consume(&channel, queue, in_flight).await?;
    let consuming = async {
        for _ in 0..jobs {
            let Some(delivery) = deliveries.next().await else {
                return ensure("deliveries of a full queue", "an end", "more");
            };
            let (delivery, keys) = (delivery?, keys.clone());
            let (redis, ended) = (redis.clone(), ended.clone());
            tokio::spawn(async move {
                // Nobody listens any more after an error.
                let _ = ended.send(run_job(delivery, &keys, redis).await);
            });
        }
        Ok::<(), BenchError>(())
    };
    let counting = async {
        for _ in 0..jobs {
            if let Some(ending) = endings.recv().await {
                ending?;
            }
        }
        Ok(())
    };
    tokio::try_join!(consuming, counting)?;
    let took = began.elapsed();

    servers::close(&connection).await;
    Ok(took)
}

/// Starts to consume `queue`.
pub(crate) async fn consume(
    channel: &Channel,
    queue: &QueueName,
    in_flight: u16,
) -> Result<lapin::Consumer, BenchError> {
    channel
        .basic_qos(in_flight, BasicQosOptions::default())
        .await?;
    let options = BasicConsumeOptions::default();
    Ok(channel
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            options,
            FieldTable::default(),
        )
        .await?)
}

async fn run_job(
    delivery: Delivery,
    keys: &Keys,
    redis: Option<MultiplexedConnection>,
) -> Result<(), BenchError> {
    let began = Timestamp::now();
    let job: Job<'_> = serde_json::from_slice(&delivery.data)?;
    let record = completed(&job, job.args.0 + job.args.1, began)?;
    if let Some(mut redis) = redis {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        keys.write(
            &mut pipeline,
            job.queue_name,
            job.job_id,
            "completed",
            &record,
        );
        let () = pipeline.query_async(&mut redis).await?;
    }
    delivery.ack(BasicAckOptions::default()).await?;
    Ok(())
}

/// Job messages as Warren's client makes them: `add(1, 2)`.
pub(crate) fn messages(queue: &QueueName, count: u32) -> Vec<(JobId, Payload)> {
    (0..count)
        .map(|_| {
            let job_id = JobId::random();
            let message = JobMessage {
                args: Payload::from("[1,2]"),
                ..JobMessage::new(job_id.clone(), "add", queue.as_str())
            };
            (job_id, message.to_body())
        })
        .collect()
}

/// Sends one persistent message; the broker's answer is still to come.
pub(crate) async fn publish(
    channel: &Channel,
    queue: &QueueName,
    body: &[u8],
    properties: BasicProperties,
) -> Result<PublisherConfirm, BenchError> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = properties.with_delivery_mode(2);
    Ok(channel
        .basic_publish("".into(), queue.as_str().into(), options, body, properties)
        .await?)
}

/// Waits for the broker's answer.
pub(crate) async fn confirmed(confirm: PublisherConfirm) -> Result<(), BenchError> {
    let is_taken = matches!(confirm.await?, Confirmation::Ack(None));
    ensure("a publish was taken by the broker", is_taken, true)
}
