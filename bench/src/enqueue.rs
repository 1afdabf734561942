//! Jobs sent per second: Warren's client against confirmed persistent publishes, with and without
//! the `queued` record that Warren writes first.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use futures_util::future::try_join_all;
use lapin::{BasicProperties, Channel, options::ConfirmSelectOptions};
use redis::aio::MultiplexedConnection;
use warren::{
    broker::{Broker, QueueName},
    client::Client,
    job::JobId,
};
use warren_plugin_api::Payload;

use crate::{
    bare::{self, Keys},
    error::{BenchError, ensure},
    figures::{Measure, Unit},
    options::{Options, StoreKind},
    plugins,
    servers::{self, Servers},
    warren_side::{self, BATCH},
};

/// Callers that each send one job after the other.
const CALLERS: u32 = 64;

/// Measures `--rounds` rounds of `--jobs` jobs on each side.
pub(crate) async fn measure(
    options: &Options,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    let rig = Rig::new(servers).await?;
    let sides = ["bare publishes", "bare, with record", "Warren"];
    let batch_name = format!("enqueue, {BATCH} at a time");
    let mut batches = Measure::new(batch_name, Unit::PerSecond, &sides);
    let single_name = format!("enqueue, {CALLERS} callers");
    let mut singles = Measure::new(single_name, Unit::PerSecond, &sides);
    for round in 1..=options.rounds() {
        eprintln!("enqueue: round {round} of {}", options.rounds());
        batches.add_round([
            rig.rate(options.jobs(), Way::BareBatches { record: false })
                .await?,
            rig.rate(options.jobs(), Way::BareBatches { record: true })
                .await?,
            rig.rate(options.jobs(), Way::WarrenBatches).await?,
        ]);
        singles.add_round([
            rig.rate(options.jobs(), Way::BareCallers { record: false })
                .await?,
            rig.rate(options.jobs(), Way::BareCallers { record: true })
                .await?,
            rig.rate(options.jobs(), Way::WarrenCallers).await?,
        ]);
    }
    rig.close().await?;
    Ok(vec![batches, singles])
}

#[derive(Debug, Clone, Copy)]
enum Way {
    BareBatches { record: bool },
    BareCallers { record: bool },
    WarrenBatches,
    WarrenCallers,
}

struct Rig<'a> {
    servers: &'a Servers,
    connection: lapin::Connection,
    channel: Channel,
    redis: MultiplexedConnection,
    keys: Keys,
    client: Client,
}

impl<'a> Rig<'a> {
    async fn new(servers: &'a Servers) -> Result<Self, BenchError> {
        let connection = servers.amqp().await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let broker = Broker::connect(&servers.broker_settings()?).await?;
        let store = plugins::open_guarded(StoreKind::Redis, servers).await?;
        Ok(Self {
            servers,
            connection,
            channel,
            redis: servers.redis().await?,
            keys: Keys::new(servers.key_prefix()),
            client: Client::new(broker, store),
        })
    }

    async fn close(self) -> Result<(), BenchError> {
        self.client.broker().close().await;
        self.client.store().close().await?;
        servers::close(&self.connection).await;
        Ok(())
    }

    /// Sends `jobs` jobs to a fresh queue, and checks that they have arrived.
    async fn rate(&self, jobs: u32, way: Way) -> Result<f64, BenchError> {
        let queue = self.servers.queue(&self.channel).await?;
        // The first job declares the queue, which is not what is measured.
        warren_side::send(&self.client, &queue, 1).await?;
        let began = Instant::now();
        match way {
            Way::BareBatches { record } => self.bare_batches(&queue, jobs, record).await?,
            Way::BareCallers { record } => self.bare_callers(&queue, jobs, record).await?,
            Way::WarrenBatches => {
                warren_side::send(&self.client, &queue, jobs).await?;
            }
            Way::WarrenCallers => self.warren_callers(&queue, jobs).await?,
        }
        let took = began.elapsed();
        let arrived = self.servers.delete_queue(&queue).await?;
        ensure("jobs that have arrived", arrived, jobs + 1)?;
        self.servers.delete_keys().await?;
        Ok(f64::from(jobs) / took.as_secs_f64())
    }

    async fn bare_batches(
        &self,
        queue: &QueueName,
        jobs: u32,
        record: bool,
    ) -> Result<(), BenchError> {
        let mut left = jobs;
        while left > 0 {
            let count = left.min(BATCH as u32);
            left -= count;
            let messages = bare::messages(queue, count);
            if record {
                self.write_queued(queue, &messages).await?;
            }
            // All at once: lapin answers each send only when it was written.
            try_join_all(messages.iter().map(|(_, body)| self.publish(queue, body))).await?;
        }
        Ok(())
    }

    async fn bare_callers(
        &self,
        queue: &QueueName,
        jobs: u32,
        record: bool,
    ) -> Result<(), BenchError> {
        let sent = AtomicU32::new(0);
        let caller = || async {
            while sent.fetch_add(1, Ordering::Relaxed) < jobs {
                let messages = bare::messages(queue, 1);
                if record {
                    self.write_queued(queue, &messages).await?;
                }
                for (_, body) in &messages {
                    self.publish(queue, body).await?;
                }
            }
            Ok::<(), BenchError>(())
        };
        try_join_all((0..CALLERS).map(|_| caller())).await?;
        Ok(())
    }

    async fn publish(&self, queue: &QueueName, body: &[u8]) -> Result<(), BenchError> {
        let properties = BasicProperties::default();
        bare::confirmed(bare::publish(&self.channel, queue, body, properties).await?).await
    }

    async fn warren_callers(&self, queue: &QueueName, jobs: u32) -> Result<(), BenchError> {
        let sent = AtomicU32::new(0);
        let caller = || async {
            while sent.fetch_add(1, Ordering::Relaxed) < jobs {
                let enqueued = self.client.enqueue(warren_side::request(queue)).await?;
                if let Some(error) = enqueued.unrecorded {
                    return Err(error.into());
                }
            }
            Ok::<(), BenchError>(())
        };
        try_join_all((0..CALLERS).map(|_| caller())).await?;
        Ok(())
    }

    async fn write_queued(
        &self,
        queue: &QueueName,
        messages: &[(JobId, Payload)],
    ) -> Result<(), BenchError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for (job_id, body) in messages {
            let record = bare::queued(body)?;
            let (queue, job_id) = (queue.as_str(), job_id.as_str());
            self.keys
                .write(&mut pipeline, queue, job_id, "queued", &record);
        }
        Ok(pipeline.query_async(&mut self.redis.clone()).await?)
    }
}
