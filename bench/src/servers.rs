//! RabbitMQ and Redis, and everything that a run leaves behind on them.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use redis::aio::MultiplexedConnection;
use warren::broker::{BrokerSettings, BrokerUrl, QueueName};

use crate::{error::BenchError, test_servers::TestServers};

const DEFAULT_AMQP: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
const DEFAULT_REDIS: &str = "redis://127.0.0.1:6379/";
/// Keys that are looked at, and deleted, in one go.
const KEYS_AT_ONCE: usize = 5_000;
/// How long what an interrupted side has sent may take to arrive, before it is deleted.
const LAST_WRITES: Duration = Duration::from_millis(300);

/// The servers, and the names that this run uses on them: no other run has the same.
#[derive(Debug)]
pub(crate) struct Servers {
    amqp_url: String,
    redis_url: String,
    redis: redis::Client,
    run: String,
    queues: Mutex<BTreeSet<String>>,
    others: TestServers,
}

impl Servers {
    /// Finds both servers.
    pub(crate) async fn find() -> Result<Self, BenchError> {
        let run = format!("warren-bench-{}", uuid::Uuid::new_v4().simple());
        Self::named(&run).await
    }

    /// Finds both servers, for a part of the run of this name.
    pub(crate) async fn named(run: &str) -> Result<Self, BenchError> {
        let variable = |name, default: &str| std::env::var(name).unwrap_or(default.to_owned());
        let redis_url = variable("WARREN_TEST_REDIS_URL", DEFAULT_REDIS);
        let redis = redis::Client::open(redis_url.as_str())?;
        let servers = Self {
            amqp_url: variable("WARREN_TEST_AMQP_URL", DEFAULT_AMQP),
            redis_url,
            redis,
            run: run.to_owned(),
            queues: Mutex::default(),
            others: TestServers::default(),
        };
        let connection = servers.amqp().await?;
        close(&connection).await;
        servers.redis().await?;
        Ok(servers)
    }

    /// A connection to RabbitMQ.
    pub(crate) async fn amqp(&self) -> Result<Connection, BenchError> {
        let connecting = Connection::connect(&self.amqp_url, ConnectionProperties::default());
        match connecting.await {
            Ok(connection) => Ok(connection),
            Err(error) => Err(BenchError::NoBroker {
                // Shown without its password.
                address: self.broker_url()?.to_string(),
                reason: error.to_string(),
            }),
        }
    }

    /// A connection to Redis. Its clones share one socket.
    pub(crate) async fn redis(&self) -> Result<MultiplexedConnection, BenchError> {
        let connecting = self.redis.get_multiplexed_async_connection();
        connecting.await.map_err(|error| BenchError::NoRedis {
            address: self.redis.get_connection_info().addr().to_string(),
            reason: error.to_string(),
        })
    }

    pub(crate) fn amqp_url(&self) -> &str {
        &self.amqp_url
    }

    pub(crate) fn redis_url(&self) -> &str {
        &self.redis_url
    }

    /// Those that no machine has running.
    pub(crate) const fn others(&self) -> &TestServers {
        &self.others
    }

    /// How Warren reaches the broker.
    pub(crate) fn broker_settings(&self) -> Result<BrokerSettings, BenchError> {
        Ok(BrokerSettings::new(self.broker_url()?))
    }

    fn broker_url(&self) -> Result<BrokerUrl, BenchError> {
        Ok(self.amqp_url.parse()?)
    }

    /// What every key of this run begins with.
    pub(crate) fn key_prefix(&self) -> &str {
        &self.run
    }

    /// A queue of this run's own, declared as Warren does.
    pub(crate) async fn queue(&self, channel: &Channel) -> Result<QueueName, BenchError> {
        let name = format!("{}-{}", self.run, uuid::Uuid::new_v4().simple());
        let queue = QueueName::new(name)?;
        self.lock().insert(queue.to_string());
        let options = QueueDeclareOptions::durable();
        let arguments = FieldTable::default();
        channel
            .queue_declare(queue.as_str().into(), options, arguments)
            .await?;
        Ok(queue)
    }

    /// Deletes a queue and the dead-letter queue that Warren declares beside it; returns how many
    /// messages were left.
    pub(crate) async fn delete_queue(&self, queue: &QueueName) -> Result<u32, BenchError> {
        let connection = self.amqp().await?;
        let channel = connection.create_channel().await?;
        let left = delete(&channel, queue.as_str()).await?;
        self.lock().remove(queue.as_str());
        close(&connection).await;
        Ok(left)
    }

    /// Deletes every key of this run.
    pub(crate) async fn delete_keys(&self) -> Result<(), BenchError> {
        delete_keys(&mut self.redis().await?, &self.run).await
    }

    /// Deletes what is left of this run.
    pub(crate) async fn clean_up(&self) -> Result<(), BenchError> {
        let queues = std::mem::take(&mut *self.lock());
        if !queues.is_empty() {
            let connection = self.amqp().await?;
            let channel = connection.create_channel().await?;
            for queue in queues {
                delete(&channel, &queue).await?;
            }
            close(&connection).await;
            tokio::time::sleep(LAST_WRITES).await;
        }
        self.delete_keys().await
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes a connection that has done its work.
pub(crate) async fn close(connection: &Connection) {
    // It is an error when one of its channels is closing already, as a dropped one is.
    let _ = connection.close(200, "done".into()).await;
}

async fn delete(channel: &Channel, queue: &str) -> Result<u32, BenchError> {
    let options = QueueDeleteOptions::default();
    let dead_letters = format!("{queue}.dlq");
    let left = channel.queue_delete(queue.into(), options).await?;
    let dead = channel
        .queue_delete(dead_letters.as_str().into(), options)
        .await?;
    Ok(left + dead)
}

/// Deletes the keys that begin with `prefix`.
pub(crate) async fn delete_keys(
    redis: &mut MultiplexedConnection,
    prefix: &str,
) -> Result<(), BenchError> {
    let pattern = format!("{prefix}*");
    let mut cursor = 0_u64;
    loop {
        let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(&pattern)
            .arg("COUNT")
            .arg(KEYS_AT_ONCE)
            .query_async(redis)
            .await?;
        if !keys.is_empty() {
            let () = redis::cmd("UNLINK").arg(keys).query_async(redis).await?;
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}
