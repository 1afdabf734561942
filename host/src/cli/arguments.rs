//! What can be typed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};
use clap_complete::Shell;
use serde::Deserialize;
use warren_plugin_api::Status;

use super::plugins::PluginsCommand;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage or configuration
  3  the broker cannot be reached or refuses access
  4  the result store or a plugin cannot be used
  5  the job failed or was aborted
  6  no such job, queue or message
  7  the time to wait is up
  128 + signal  stopped by a signal before everything was finished

Configuration: a TOML file (--config, else $WARREN_CONFIG, else ./warren.toml), then the
environment (WARREN_BROKER_URL, WARREN_RESULT_STORE_TYPE, WARREN__SECTION__KEY), then flags.";

/// Runs jobs from RabbitMQ and keeps every job's result in a store that is a plugin.
#[derive(Debug, Parser)]
#[command(name = "warren", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: GlobalArguments,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalArguments {
    /// The configuration file.
    #[arg(long, global = true, env = "WARREN_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// A folder to load plugins from, instead of the default ones; may be repeated.
    #[arg(long = "plugin-dir", global = true, value_name = "DIR")]
    pub(super) plugin_dirs: Vec<PathBuf>,
    /// Set any key of the configuration: `--set worker.concurrency=8`; may be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto)]
    pub(super) color: ColorChoice,
    /// What to log: error, warn, info, debug, trace, or directives such as warren=debug.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
    /// How log lines look.
    #[arg(long, global = true, value_name = "text|json")]
    pub(super) log_format: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run jobs until a signal stops it.
    ///
    /// SIGTERM, SIGINT and SIGHUP: the first finishes running jobs and gives back the others, the
    /// second stops at once and gives back all.
    #[command(after_help = "Examples:
  warren worker --queue mail --queue images --concurrency 20
  warren worker --burst            # run what is there, then end
  warren worker --health-listen 127.0.0.1:9090")]
    Worker(WorkerCommand),
    /// Send a job.
    ///
    /// Arguments are read as JSON where they are JSON, else as text: `1` is a number, `'\"1\"'`
    /// and `one` are text.
    #[command(after_help = "Examples:
  warren enqueue add 1 2
  warren enqueue greet --kwarg name=Ann --delay 10m --wait
  warren enqueue --jsonl jobs.jsonl")]
    Enqueue(EnqueueCommand),
    /// Show jobs, or wait for them.
    #[command(subcommand)]
    Job(JobCommand),
    /// List, count and delete results.
    #[command(subcommand)]
    Results(ResultsCommand),
    /// Look at a queue, or empty it.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Look at jobs that failed for good, and run them again.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Look at results that wait for the store, and bring them to it.
    ///
    /// While the store is down, workers keep results in the spool (worker.spool) and bring them to
    /// the store when it is back. These commands are about what is there now.
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// List store plugins, check one, or begin one.
    #[command(subcommand)]
    Plugins(PluginsCommand),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run some jobs on a broker and a store within this process: needs no server.
    #[command(after_help = "Examples:
  warren demo
  warren demo --jobs 1000 --json")]
    Demo(DemoCommand),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:
  warren completions bash > /etc/bash_completion.d/warren")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write manual pages into a folder.
    Man {
        /// The folder.
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct WorkerCommand {
    /// A queue to take jobs from; may be repeated.
    #[arg(short, long = "queue", value_name = "QUEUE")]
    queues: Vec<String>,
    /// The most jobs that run at once.
    #[arg(short, long)]
    concurrency: Option<u16>,
    /// The most messages that are held unanswered.
    #[arg(long)]
    prefetch: Option<u16>,
    /// The worker's name in records.
    #[arg(long)]
    name: Option<String>,
    /// Serve /health and /metrics over HTTP at this address, such as 127.0.0.1:9090.
    #[arg(long, value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
    /// End when the queues are empty and nothing runs.
    #[arg(long)]
    pub(super) burst: bool,
    /// The longest that a burst may last.
    #[arg(long, requires = "burst", value_parser = humantime::parse_duration, default_value = "5m")]
    pub(super) burst_timeout: Duration,
    /// Only say whether broker, store and functions can be used.
    #[arg(long)]
    pub(super) check: bool,
}

impl WorkerCommand {
    /// The flags as keys of the configuration.
    pub(super) fn overrides(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut overrides = Vec::new();
        if !self.queues.is_empty() {
            let queues = self
                .queues
                .iter()
                .map(|queue| toml::Value::from(queue.as_str()));
            let list = toml::Value::Array(queues.collect());
            overrides.push(("--queue", "worker.queues", list.to_string()));
        }
        if let Some(concurrency) = self.concurrency {
            overrides.push((
                "--concurrency",
                "worker.concurrency",
                concurrency.to_string(),
            ));
        }
        if let Some(prefetch) = self.prefetch {
            overrides.push(("--prefetch", "worker.prefetch", prefetch.to_string()));
        }
        if let Some(address) = self.health_listen {
            let address = toml::Value::from(address.to_string());
            overrides.push((
                "--health-listen",
                "worker.health.listen",
                address.to_string(),
            ));
        }
        if let Some(name) = &self.name {
            overrides.push((
                "--name",
                "worker.name",
                toml::Value::from(name.as_str()).to_string(),
            ));
        }
        overrides
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum IfExistsArgument {
    #[default]
    Refuse,
    Keep,
    Replace,
}

#[derive(Debug, Args)]
pub(super) struct EnqueueCommand {
    /// The function to run.
    #[arg(required_unless_present = "jsonl", value_parser = NonEmptyStringValueParser::new())]
    pub(super) function: Option<String>,
    /// Its positional arguments.
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    pub(super) arguments: Vec<String>,
    /// A named argument; may be repeated.
    #[arg(short, long = "kwarg", value_name = "NAME=VALUE")]
    pub(super) kwargs: Vec<String>,
    /// The queue to send it to.
    #[arg(short, long, default_value = crate::client::DEFAULT_QUEUE)]
    pub(super) queue: String,
    /// The job's id; random when absent.
    #[arg(long)]
    pub(super) id: Option<String>,
    /// What to do when a job with this id exists.
    #[arg(long, value_enum, default_value_t = IfExistsArgument::Refuse)]
    pub(super) if_exists: IfExistsArgument,
    /// Run it no earlier than this from now: 30s, 5m, 2h.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(super) delay: Option<Duration>,
    /// Do not run it later than this from now.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(super) expires: Option<Duration>,
    /// How long its record is kept.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(super) ttl: Option<Duration>,
    /// How often it may be repeated.
    #[arg(long)]
    pub(super) retries: Option<u32>,
    /// Its priority, on queues that have priorities.
    #[arg(long, default_value_t = 0)]
    pub(super) priority: u8,
    /// Wait for the result and print it.
    #[arg(short, long)]
    pub(super) wait: bool,
    /// The longest time to wait.
    #[arg(long, requires = "wait", value_parser = humantime::parse_duration, default_value = "1h")]
    pub(super) timeout: Duration,
    /// Send a job for each line of a file (`-` for stdin): {"function": …, "args": […],
    /// "kwargs": {…}, "queue": …, "id": …, "if_exists": …, "delay": "5m", "expires": …, "ttl": …,
    /// "retries": …, "priority": …}. Only the function is needed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["function", "wait", "id", "kwargs", "delay", "expires", "ttl", "retries"])]
    pub(super) jsonl: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// Show what is known of jobs.
    #[command(after_help = "Example:
  warren job get 5f0c… --json")]
    Get {
        /// The jobs' ids.
        #[arg(required = true, value_name = "ID")]
        job_ids: Vec<String>,
    },
    /// Abort jobs that are queued, delayed or running.
    ///
    /// They end `aborted`. A running command gets SIGTERM, and SIGKILL 2 seconds later.
    #[command(after_help = "Example:
  warren job cancel 5f0c…")]
    Cancel {
        /// The jobs' ids.
        #[arg(required = true, value_name = "ID")]
        job_ids: Vec<String>,
    },
    /// Wait until jobs have ended, then show them.
    ///
    /// Prints results in the order of the ids, errors on stderr.
    #[command(after_help = "Examples:
  warren job wait 5f0c… --timeout 30s
  warren job wait 5f0c… 8d21… --any --json")]
    Wait {
        /// The jobs' ids.
        #[arg(required = true, value_name = "ID")]
        job_ids: Vec<String>,
        /// Until one of them has ended, and show that one.
        #[arg(long, conflicts_with = "all")]
        any: bool,
        /// Until all of them have ended (the default).
        #[arg(long)]
        all: bool,
        /// The longest time to wait.
        #[arg(long, value_parser = humantime::parse_duration, default_value = "1h")]
        timeout: Duration,
    },
}

fn status(word: &str) -> Result<Status, String> {
    word.parse()
        .map_err(|error: warren_plugin_api::UnknownStatus| error.to_string())
}

#[derive(Debug, Args)]
pub(super) struct FilterArguments {
    /// Only jobs with this status; may be repeated.
    #[arg(long = "status", value_name = "STATUS", value_parser = status)]
    pub(super) statuses: Vec<Status>,
    /// Only jobs of this function.
    #[arg(long)]
    pub(super) function: Option<String>,
    /// Only jobs of this queue.
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// Only jobs that were accepted no longer ago than this: 2h, 7d.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(super) since: Option<Duration>,
    /// Only jobs that were accepted longer ago than this.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(super) until: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ResultsCommand {
    /// List results, in the store's order.
    #[command(after_help = "Example:
  warren results ls --status failed --since 24h")]
    Ls {
        #[command(flatten)]
        filter: FilterArguments,
        /// The most results to list.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Go on where an earlier listing ended.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Print results as jobs end, from now on, until a signal stops it.
    #[command(after_help = "Examples:
  warren results watch --status failed
  warren results watch --queue mail --json --limit 100")]
    Watch {
        #[command(flatten)]
        filter: FilterArguments,
        /// End after so many.
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Count results.
    Stats,
    /// Delete results.
    #[command(after_help = "Example:
  warren results purge --status completed --until 7d --dry-run")]
    Purge {
        #[command(flatten)]
        filter: FilterArguments,
        /// Only say how many would be deleted.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Write results as lines of JSON, with everything that the store keeps.
    #[command(after_help = "Example:
  warren results export --status failed --out failed.jsonl")]
    Export {
        #[command(flatten)]
        filter: FilterArguments,
        /// The file to write; stdout when absent.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Read results from lines of JSON that `export` wrote. Expired ones are left out.
    #[command(after_help = "Example:
  warren results import failed.jsonl --when absent")]
    Import {
        /// The file; `-` for stdin.
        file: PathBuf,
        /// Which results take the place of those in the store.
        #[arg(long, value_enum, default_value_t = ImportWhen::Newer)]
        when: ImportWhen,
    },
    /// Copy every result from one store to another, read it back and compare.
    ///
    /// The stores are those of two configuration files. A migration that was interrupted goes on
    /// where it was; one that is repeated copies what is new. Workers may go on meanwhile.
    #[command(after_help = "Examples:
  warren results migrate --from redis.toml --to sqlite.toml --dry-run
  warren results migrate --from redis.toml --to sqlite.toml")]
    Migrate(MigrateCommand),
}

/// When a record that is imported takes the place of the one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ImportWhen {
    /// If there is none, or it is of an earlier attempt or status.
    Newer,
    /// If there is none.
    Absent,
    /// Always.
    Always,
}

#[derive(Debug, Args)]
pub(super) struct MigrateCommand {
    /// The configuration file with the store to copy from.
    #[arg(long, value_name = "FILE")]
    pub(super) from: PathBuf,
    /// The configuration file with the store to copy to.
    #[arg(long, value_name = "FILE")]
    pub(super) to: PathBuf,
    /// Only say how much would be copied.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Where to remember how far it has come.
    #[arg(long, value_name = "FILE", default_value = "warren-migrate.state")]
    pub(super) state: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// Show how many messages and consumers a queue has.
    Info {
        /// The queue.
        #[arg(default_value = crate::client::DEFAULT_QUEUE)]
        queue: String,
    },
    /// Delete all messages of a queue. Their records stay `queued`.
    Purge {
        /// The queue.
        queue: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct DlqFilter {
    /// The queue whose jobs failed.
    #[arg(short, long, default_value = crate::client::DEFAULT_QUEUE)]
    pub(super) queue: String,
    /// Only jobs with this id; may be repeated.
    #[arg(long = "id", value_name = "ID")]
    pub(super) job_ids: Vec<String>,
    /// Only jobs of this function.
    #[arg(long)]
    pub(super) function: Option<String>,
    /// Only jobs whose error's type or text contains this.
    #[arg(long)]
    pub(super) error: Option<String>,
    /// Only jobs that failed no longer ago than this: 2h, 7d.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(super) since: Option<Duration>,
    /// Only jobs that failed longer ago than this.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(super) until: Option<Duration>,
    /// The most messages to look at.
    #[arg(long, default_value_t = 1_000)]
    pub(super) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(super) enum DlqCommand {
    /// List jobs that failed for good.
    #[command(after_help = "Example:
  warren dlq ls --queue mail --since 24h --function send")]
    Ls(DlqFilter),
    /// Show jobs that failed for good with everything that is known of them.
    #[command(after_help = "Example:
  warren dlq show --queue mail --id order-17")]
    Show(DlqFilter),
    /// Delete the messages of jobs that failed for good. Their results stay.
    #[command(after_help = "Example:
  warren dlq drop --queue mail --until 30d --dry-run")]
    Drop {
        #[command(flatten)]
        filter: DlqFilter,
        /// Only say which would be deleted.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Send jobs that failed for good to their queue again, as new.
    #[command(after_help = "Example:
  warren dlq replay --queue mail --error timeout --rate 10")]
    Replay {
        #[command(flatten)]
        filter: DlqFilter,
        /// Only say which would be sent.
        #[arg(long)]
        dry_run: bool,
        /// The most jobs to send per second; as fast as it goes when absent.
        #[arg(long, value_name = "JOBS")]
        rate: Option<std::num::NonZeroU32>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SpoolCommand {
    /// Show how many results wait, and in whose spool.
    Status,
    /// List results that wait.
    Inspect {
        /// The most results to list.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Bring what dead workers left to the store. Living workers do so by themselves.
    Drain {
        /// The folder of workers with another `result_store.config`, as a warning names it,
        /// instead of the configured store's own.
        #[arg(long, value_name = "FOLDER")]
        from: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether the configuration can be used: keys, functions, store.
    Check,
    /// Write a configuration file to begin with.
    #[command(after_help = "Examples:
  warren config init
  warren config init --store redis --config /etc/warren/warren.toml")]
    Init {
        /// The store to keep results in; by default one that needs no server and is durable.
        #[arg(long, value_name = "NAME")]
        store: Option<String>,
        /// Write over a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Print the effective configuration and where each value comes from. Secrets are hidden.
    Show,
}

#[derive(Debug, Args)]
pub(super) struct DemoCommand {
    /// How many jobs to run.
    #[arg(long, default_value_t = 24)]
    pub(super) jobs: usize,
    /// The store to keep results in; by default one that needs no configuration and no server,
    /// and that another process can read afterwards.
    #[arg(long, value_name = "NAME")]
    pub(super) store: Option<String>,
}
