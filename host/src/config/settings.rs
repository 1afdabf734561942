//! The settings, their defaults and their meaning.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    broker::{BrokerError, BrokerSettings, BrokerTls, QueueName, QueueType},
    client::DEFAULT_QUEUE,
    function::command::FunctionConfig,
    store::StorePolicy,
    worker::WhenFull,
};

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The broker.
    pub broker: BrokerConfig,
    /// The worker.
    pub worker: WorkerConfig,
    /// The result store.
    pub result_store: ResultStoreConfig,
    /// Where plugins are.
    pub plugins: PluginsConfig,
    /// Functions that are commands, by name.
    pub functions: BTreeMap<String, FunctionConfig>,
    /// What is logged.
    pub log: LogConfig,
}

/// `[broker]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerConfig {
    /// `amqp://user:password@host:5672/%2f`, `amqps://…`, or `memory://`.
    pub url: String,
    /// Authorities to trust with `amqps://`, besides those that browsers trust: a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca_file: Option<PathBuf>,
    /// The certificate to show to a broker that asks for one: a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_file: Option<PathBuf>,
    /// Its private key: a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key_file: Option<PathBuf>,
    /// The name that the broker's management shows.
    pub connection_name: String,
    /// The longest that one try to connect may take.
    #[serde(with = "crate::duration_text")]
    pub connect_timeout: Duration,
    /// How often both ends show that they are alive.
    #[serde(with = "crate::duration_text")]
    pub heartbeat: Duration,
    /// The longest that sending a message may take.
    #[serde(with = "crate::duration_text")]
    pub publish_timeout: Duration,
    /// What is added to a queue's name to name its dead-letter queue.
    pub dead_letter_suffix: String,
    /// `classic` or `quorum`.
    pub queue_type: QueueType,
    /// Declare queues with priorities from 0 to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_priority: Option<u8>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            url: "amqp://guest:guest@localhost:5672/%2f".to_owned(),
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            connection_name: "warren".to_owned(),
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(30),
            publish_timeout: Duration::from_secs(30),
            dead_letter_suffix: ".dlq".to_owned(),
            queue_type: QueueType::Classic,
            max_priority: None,
        }
    }
}

impl BrokerConfig {
    /// The settings for connecting.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn settings(&self) -> Result<BrokerSettings, BrokerError> {
        Ok(BrokerSettings {
            url: self.url.parse()?,
            tls: BrokerTls {
                ca_file: self.tls_ca_file.clone(),
                cert_file: self.tls_cert_file.clone(),
                key_file: self.tls_key_file.clone(),
            },
            connection_name: self.connection_name.clone(),
            connect_timeout: self.connect_timeout,
            heartbeat: self.heartbeat,
            publish_timeout: self.publish_timeout,
            dead_letter_suffix: self.dead_letter_suffix.clone(),
            queue_type: self.queue_type,
            max_priority: self.max_priority,
        })
    }
}

/// `[worker]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// The queues to take jobs from.
    pub queues: Vec<QueueName>,
    /// The most jobs that run at once.
    pub concurrency: u16,
    /// The most messages that are held unanswered, per queue; the concurrency when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefetch: Option<u16>,
    /// The worker's name in records; random when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How long running jobs may go on after the first signal to stop.
    #[serde(with = "crate::duration_text")]
    pub shutdown_grace: Duration,
    /// Where results wait while the store is down.
    pub spool: SpoolConfig,
    /// Whether health and metrics are served.
    pub health: HealthConfig,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            queues: QueueName::new(DEFAULT_QUEUE).into_iter().collect(),
            concurrency: 100,
            prefetch: None,
            name: None,
            shutdown_grace: Duration::from_secs(30),
            spool: SpoolConfig::default(),
            health: HealthConfig::default(),
        }
    }
}

/// `[worker.health]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// The address to serve `/health` and `/metrics` at, without encryption and to whoever asks;
    /// not served when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// `[worker.spool]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolConfig {
    /// Keep results on disk, so that they survive the worker. Else in its memory.
    pub durable: bool,
    /// The folder to keep them in; the user's state folder when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// The most bytes that a worker keeps there.
    pub max_bytes: u64,
    /// What to do when it is full, or its disk is: `stop` or `drop`.
    pub when_full: WhenFull,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            durable: true,
            dir: None,
            max_bytes: 1 << 30,
            when_full: WhenFull::Stop,
        }
    }
}

/// `[result_store]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResultStoreConfig {
    /// The name that a plugin registers. Warren prefers no store: there is no default.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub store_type: Option<String>,
    /// How long records are kept.
    #[serde(with = "crate::duration_text")]
    pub ttl: Duration,
    /// The longest that one call of the store may take.
    #[serde(with = "crate::duration_text")]
    pub deadline: Duration,
    /// The most calls of the store that are under way at once, in this process.
    pub max_concurrent_calls: NonZeroU32,
    /// Belongs to the store.
    pub config: toml::Table,
}

impl Default for ResultStoreConfig {
    fn default() -> Self {
        Self {
            store_type: None,
            ttl: Duration::from_secs(24 * 60 * 60),
            deadline: Duration::from_secs(5),
            max_concurrent_calls: StorePolicy::DEFAULT_MAX_CONCURRENT_CALLS,
            config: toml::Table::new(),
        }
    }
}

/// `[plugins]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginsConfig {
    /// Folders to load plugins from, instead of those next to the executable.
    pub dirs: Vec<PathBuf>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `warren=debug,lapin=warn`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}
