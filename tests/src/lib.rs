//! What the whole-system tests share: the built program as a process, the servers that it talks
//! to, and ways to disturb them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

mod built;
mod elasticsearch_server;
mod eventually;
pub mod fault;
pub mod fixtures;
mod postgres_server;
mod process;
mod proxy;
pub mod python;
mod rabbitmq;
mod rabbitmq_server;
pub mod raw_amqp;
mod redis_server;
mod s3_services;
mod secantus;
mod system;
mod target_folder;
mod venv;

pub use built::{plugin, plugin_folder, warren};
pub use elasticsearch_server::{Osmem, elasticsearch_url};
pub use eventually::{DEADLINE, eventually, eventually_true};
pub use postgres_server::postgres_url;
pub use process::{Ran, WorkerProcess};
pub use proxy::Proxy;
pub use rabbitmq::{Message, RabbitMq};
pub use rabbitmq_server::PrivateRabbitMq;
pub use redis_server::{PrivateRedis, free_port};
pub use s3_services::{S3_ACCESS_KEY_ID, S3_BUCKET, S3_SECRET_ACCESS_KEY, S3Service};
pub use secantus::Secantus;
pub use system::{System, amqp_url, command, redis_url, unique};
pub use target_folder::target_folder;
