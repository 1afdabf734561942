//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::{counted::HotPath, stores::Backend};

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

    /// Jobs of one round; 20,000, with --quick 4,000.
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,

    /// Rounds of each side, alternating; 5, with --quick 3.
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// Samples of one round of `latency`; 1,000, with --quick 300.
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,

    /// Less of everything: `all` within about 5 minutes, for a first look.
    #[arg(long, global = true)]
    pub(crate) quick: bool,

    /// Where `e2e` keeps results. With `memory` the bare loop writes nothing.
    #[arg(long, global = true, value_enum, default_value_t = StoreKind::Redis)]
    pub(crate) store: StoreKind,

    /// Only this store in `stores` and `cost`, which knows the first four; may be repeated.
    #[arg(long, global = true, value_enum, value_name = "STORE")]
    pub(crate) only: Vec<Backend>,

    /// Leave out the bare side of `e2e`: for profiling Warren.
    #[arg(long, global = true)]
    pub(crate) only_warren: bool,

    /// Also write every round's figures to this file.
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,

    /// Also draw the ratios into this SVG file.
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) plot: Option<PathBuf>,
}

impl Options {
    pub(crate) fn jobs(&self) -> u32 {
        self.jobs.unwrap_or(if self.quick { 4_000 } else { 20_000 })
    }

    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    pub(crate) fn samples(&self) -> u32 {
        self.samples.unwrap_or(if self.quick { 300 } else { 1_000 })
    }
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand, Serialize)]
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
    /// Celery, taskiq, dramatiq, arq and rabbitmq-arq, from PyPI, and the celery crate and apalis,
    /// from crates.io, beside Warren.
    Peers,
    /// Long queues, many stored results, large results, two processes, memory.
    Scale,
    /// From starting `warren worker` to its first job, and `warren job get`.
    Start,
    /// Clean release builds of the host and of each plugin, which takes long; not part of `all`.
    Build,
    /// Instructions of the hot path, counted by valgrind, against those in the repository.
    Instructions {
        /// Put what was counted into the repository.
        #[arg(long)]
        record: bool,
    },
    /// Each store against its bare driver, which does the same work.
    Stores,
    /// Bytes of a record, and whether scans and cleanups stay as fast when there are more.
    Cost {
        /// The most records that each store is filled with.
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..))]
        records: u32,
    },
    /// Everything but `build`, `cost`, `instructions` and `stores`.
    All,
    /// What `instructions` runs under valgrind.
    #[command(hide = true)]
    Counted {
        /// Which path.
        path: HotPath,
    },
    /// A worker in a process of its own, for `scale`.
    #[command(hide = true)]
    WorkerProcess(WorkerProcess),
}

/// A worker of `scale`. It says on standard output what it has done, and ends with its input.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize)]
pub(crate) struct WorkerProcess {
    /// The queue.
    #[arg(long)]
    pub(crate) queue: String,
    /// The prefix of keys in Redis.
    #[arg(long)]
    pub(crate) prefix: String,
    /// Jobs under way at once.
    #[arg(long)]
    pub(crate) concurrency: u16,
    /// Jobs do not end before the process does.
    #[arg(long)]
    pub(crate) hold: bool,
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
