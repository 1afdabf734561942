//! What the whole-system tests share: the built program as a process, the servers that it talks
//! to, and ways to disturb them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

mod built;
mod eventually;
pub mod fixtures;
mod postgres_server;
mod process;
mod proxy;
pub mod python;
mod rabbitmq;
mod redis_server;
mod system;

pub use built::{plugin, plugin_folder, target_folder, warren};
pub use eventually::{DEADLINE, eventually, eventually_true};
pub use postgres_server::postgres_url;
pub use process::{Ran, WorkerProcess};
pub use proxy::Proxy;
pub use rabbitmq::{Message, RabbitMq};
pub use redis_server::{PrivateRedis, free_port};
pub use system::{System, amqp_url, command, redis_url, unique};
