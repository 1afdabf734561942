//! From enqueueing a job to having its result, one job at a time on an idle worker, against a bare
//! publish, consume, write to Redis, and reply.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel,
    options::{BasicAckOptions, BasicConsumeOptions},
    types::FieldTable,
};
use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;
use warren::{
    broker::{Broker, QueueName},
    client::Client,
    worker::{Shutdown, Worker, WorkerError, WorkerReport},
};
use warren_plugin_api::{Status, Timestamp};

use crate::{
    bare::{self, Job, Keys},
    error::{BenchError, ensure},
    figures::{Measure, Unit, quantile},
    options::{Options, StoreKind},
    plugins,
    servers::{self, Servers},
    warren_side,
};

/// Samples that nobody counts, at the start of each round.
const WARM_UP: u32 = 20;
/// How long a worker has been there before anything is measured. In its first five seconds it asks
/// the store about each job, which somebody may have cancelled before it was there to hear it.
const SETTLED: Duration = Duration::from_secs(6);
const WAIT_AT_MOST: Duration = Duration::from_secs(30);

/// Measures `--rounds` rounds of `--samples` jobs on each side.
pub(crate) async fn measure(
    options: &Options,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    let sides = ["bare round trip", "Warren, run", "Warren, enqueue and wait"];
    let shares = [(0.5, "p50"), (0.99, "p99")];
    let mut measures = shares
        .map(|(_, name)| Measure::new(format!("latency, {name}"), Unit::Microseconds, &sides));
    let mut bare = BareRig::start(servers).await?;
    let warren = WarrenRig::start(servers).await?;
    let count = WARM_UP + options.samples();
    for round in 1..=options.rounds() {
        eprintln!("latency: round {round} of {}", options.rounds());
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..count {
            times[0].push(bare.round_trip().await?);
        }
        for _ in 0..count {
            times[1].push(warren.run_one().await?);
        }
        for _ in 0..count {
            times[2].push(warren.enqueue_and_wait().await?);
        }
        let times = times.map(sorted);
        for (measure, (share, _)) in measures.iter_mut().zip(shares) {
            let figures = times.iter().map(|times| quantile(times, share));
            measure.add_round(figures.into_iter().flatten());
        }
    }
    bare.stop().await?;
    warren.stop().await?;
    let mut measures = Vec::from(measures);
    measures.push(at_half_load(options, servers).await?);
    Ok(measures)
}

/// The same beside half of the jobs that can be sent and run at once for long: first how many
/// those are is measured.
async fn at_half_load(options: &Options, servers: &Servers) -> Result<Measure, BenchError> {
    let sides = [
        "Warren, run, p50, idle",
        "p50 at half load",
        "p99 at half load",
    ];
    let mut measure = Measure::new("latency at half load", Unit::Microseconds, &sides);
    for round in 1..=options.rounds() {
        eprintln!(
            "latency at half load: round {round} of {}",
            options.rounds()
        );
        let rig = WarrenRig::start(servers).await?;
        let began = Instant::now();
        let ids = warren_side::send(&rig.client, &rig.queue, options.jobs()).await?;
        rig.client
            .wait_all(&ids[ids.len() - 1..], WAIT_AT_MOST)
            .await;
        let most = f64::from(options.jobs()) / began.elapsed().as_secs_f64();
        let mut idle = Vec::new();
        for _ in 0..WARM_UP + options.samples() / 2 {
            idle.push(rig.run_one().await?);
        }
        let load = rig.load(most / 2.0);
        let mut loaded = Vec::new();
        for _ in 0..WARM_UP + options.samples() / 2 {
            loaded.push(rig.run_one().await?);
        }
        drop(load);
        let (idle, loaded) = (sorted(idle), sorted(loaded));
        let figures = [(&idle, 0.5), (&loaded, 0.5), (&loaded, 0.99)];
        measure.add_round(
            figures
                .iter()
                .filter_map(|(it, share)| quantile(it, *share)),
        );
        // What is under way still has to end.
        tokio::time::sleep(Duration::from_millis(500)).await;
        rig.stop().await?;
    }
    measure.note(
        1,
        "half of the rate at which one client sends and one worker runs jobs",
    );
    Ok(measure)
}

/// In microseconds, without the first ones.
fn sorted(times: Vec<Duration>) -> Vec<f64> {
    let times = times.iter().skip(WARM_UP as usize);
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e6).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// A bare loop that answers each message to the queue that it names, and somebody who asks.
struct BareRig<'a> {
    servers: &'a Servers,
    connections: [lapin::Connection; 2],
    channel: Channel,
    queue: QueueName,
    reply_queue: QueueName,
    replies: lapin::Consumer,
    worker: AbortOnDrop<Result<(), BenchError>>,
}

impl<'a> BareRig<'a> {
    async fn start(servers: &'a Servers) -> Result<Self, BenchError> {
        let connections = [servers.amqp().await?, servers.amqp().await?];
        let channel = connections[0].create_channel().await?;
        let queue = servers.queue(&channel).await?;
        let reply_queue = servers.queue(&channel).await?;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let replies = channel
            .basic_consume(
                reply_queue.as_str().into(),
                "".into(),
                options,
                FieldTable::default(),
            )
            .await?;
        let worker_channel = connections[1].create_channel().await?;
        let deliveries = bare::consume(&worker_channel, &queue, 10).await?;
        let keys = Keys::new(servers.key_prefix());
        let redis = servers.redis().await?;
        let worker = tokio::spawn(reply_to_all(worker_channel, deliveries, keys, redis));
        Ok(Self {
            servers,
            connections,
            channel,
            queue,
            reply_queue,
            replies,
            worker: AbortOnDrop(worker),
        })
    }

    async fn round_trip(&mut self) -> Result<Duration, BenchError> {
        let began = Instant::now();
        for (job_id, body) in bare::messages(&self.queue, 1) {
            let properties = BasicProperties::default()
                .with_reply_to(self.reply_queue.as_str().into())
                .with_correlation_id(job_id.as_str().into());
            bare::publish(&self.channel, &self.queue, &body, properties).await?;
            let next = tokio::time::timeout(WAIT_AT_MOST, self.replies.next());
            let reply = match next.await {
                Ok(Some(reply)) => reply?,
                Ok(None) | Err(_) => {
                    return ensure("a reply", "none", "one").map(|()| began.elapsed());
                }
            };
            ensure("the reply", reply.data.as_slice(), b"3".as_slice())?;
        }
        Ok(began.elapsed())
    }

    async fn stop(self) -> Result<(), BenchError> {
        drop(self.worker);
        for connection in &self.connections {
            servers::close(connection).await;
        }
        for queue in [&self.queue, &self.reply_queue] {
            self.servers.delete_queue(queue).await?;
        }
        Ok(())
    }
}

async fn reply_to_all(
    channel: Channel,
    mut deliveries: lapin::Consumer,
    keys: Keys,
    mut redis: MultiplexedConnection,
) -> Result<(), BenchError> {
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        let began = Timestamp::now();
        let job: Job<'_> = serde_json::from_slice(&delivery.data)?;
        let result = job.args.0 + job.args.1;
        let record = bare::completed(&job, result, began)?;
        let mut pipeline = redis::pipe();
        keys.write(pipeline.atomic(), "bare", job.job_id, "completed", &record);
        let () = pipeline.query_async(&mut redis).await?;
        if let Some(reply_to) = delivery.properties.reply_to() {
            let reply_to = QueueName::new(reply_to.to_string())?;
            let body = serde_json::to_vec(&result)?;
            bare::publish(&channel, &reply_to, &body, BasicProperties::default()).await?;
        }
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

/// A worker and a client of Warren, on connections and stores of their own.
pub(crate) struct WarrenRig<'a> {
    servers: &'a Servers,
    client: Client,
    queue: QueueName,
    shutdown: Shutdown,
    worker: AbortOnDrop<Result<WorkerReport, WorkerError>>,
}

impl<'a> WarrenRig<'a> {
    pub(crate) async fn start(servers: &'a Servers) -> Result<Self, BenchError> {
        let connection = servers.amqp().await?;
        let queue = servers.queue(&connection.create_channel().await?).await?;
        servers::close(&connection).await;

        let settings = servers.broker_settings()?;
        let shutdown = Shutdown::new();
        let worker = Worker::builder(
            Broker::connect(&settings).await?,
            plugins::open_guarded(StoreKind::Redis, servers).await?,
        )
        .queues([queue.clone()])
        .functions(warren_side::functions(u32::MAX, &shutdown)?)
        .build()?;
        let client = Client::new(
            Broker::connect(&settings).await?,
            plugins::open_guarded(StoreKind::Redis, servers).await?,
        );
        let worker = tokio::spawn(worker.run(shutdown.clone()));
        tokio::time::sleep(SETTLED).await;
        Ok(Self {
            servers,
            client,
            queue,
            shutdown,
            worker: AbortOnDrop(worker),
        })
    }

    /// One call that sends a job and waits for its end.
    pub(crate) async fn run_one(&self) -> Result<Duration, BenchError> {
        let began = Instant::now();
        let request = warren_side::request(&self.queue);
        let record = self.client.run(request, WAIT_AT_MOST).await?;
        let took = began.elapsed();
        ensure("the job's status", record.status, Status::Completed)?;
        Ok(took)
    }

    /// One call that sends a job, and another one that waits for its end.
    async fn enqueue_and_wait(&self) -> Result<Duration, BenchError> {
        let began = Instant::now();
        let enqueued = self
            .client
            .enqueue(warren_side::request(&self.queue))
            .await?;
        let record = self.client.wait(&enqueued.job_id, WAIT_AT_MOST).await?;
        let took = began.elapsed();
        ensure("the job's status", record.status, Status::Completed)?;
        Ok(took)
    }

    /// Sends jobs at an even rate until dropped: what the samples have beside them.
    fn load(&self, per_second: f64) -> AbortOnDrop<()> {
        const TICK: Duration = Duration::from_millis(2);
        let (client, queue) = (self.client.clone(), self.queue.clone());
        AbortOnDrop(tokio::spawn(async move {
            let began = Instant::now();
            let mut sent = 0.0;
            loop {
                tokio::time::sleep(TICK).await;
                let due = began.elapsed().as_secs_f64() * per_second;
                let count = (due - sent).max(0.0) as usize;
                sent += count as f64;
                let client = client.clone();
                let requests = vec![warren_side::request(&queue); count];
                // Not waited for: a slow moment must not become a lower load.
                tokio::spawn(async move { client.enqueue_many(requests).await });
            }
        }))
    }

    pub(crate) async fn stop(mut self) -> Result<(), BenchError> {
        self.shutdown.stop();
        (&mut self.worker.0)
            .await
            .map_err(|_| BenchError::Panicked)??;
        self.client.broker().close().await;
        self.servers.delete_queue(&self.queue).await?;
        self.servers.delete_keys().await
    }
}

/// A task that ends with its owner.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
