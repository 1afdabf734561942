//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Measures Warren against bare lapin and redis-rs, side by side.
#[derive(Debug, Parser, Serialize)]
#[command(
    name = "warren-bench",
    version,
    after_help = "Example: cargo run --release -p warren-bench -- e2e --rounds 5\n\n\
        Needs RabbitMQ at WARREN_TEST_AMQP_URL (amqp://guest:guest@127.0.0.1:5672/%2f) and Redis \
        at WARREN_TEST_REDIS_URL (redis://127.0.0.1:6379/)."
)]
pub(crate) struct Options {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Jobs of one round.
    #[arg(long, global = true, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) jobs: u32,

    /// Rounds of each side, alternating.
    #[arg(long, global = true, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Samples of one round of `latency`.
    #[arg(long, global = true, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) samples: u32,

    /// Where `e2e` keeps results. With `memory` the bare loop writes nothing.
    #[arg(long, global = true, value_enum, default_value_t = StoreKind::Redis)]
    pub(crate) store: StoreKind,

    /// Leave out the bare side of `e2e`: for profiling Warren.
    #[arg(long, global = true)]
    pub(crate) only_warren: bool,

    /// Also write every round's figures to this file.
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
}

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Jobs per second from a full queue to the last acknowledgement.
    E2e,
    /// Jobs sent per second, against confirmed publishes.
    Enqueue,
    /// From enqueueing to the result, on an idle worker.
    Latency,
    /// One call of the memory store: through the plugin boundary, and directly.
    StoreCall,
    /// Batches of records written to Redis: through the plugin, and by a bare pipeline.
    RedisStore,
    /// Everything.
    All,
}

/// A store that comes as a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StoreKind {
    /// Results in Redis.
    Redis,
    /// Results in this process.
    Memory,
}

impl StoreKind {
    /// The name that its plugin registers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memory => "memory",
        }
    }
}
