//! Measures Warren against the bare libraries that it is built on, side by side in one run.
//!
//! Every figure comes from rounds that alternate between the sides, so that a machine that is
//! slow for a while is slow for all of them; what counts is the ratio within a round.

mod bare;
mod clean_builds;
mod cost;
mod counted;
mod end_to_end;
mod enqueue;
mod error;
mod figures;
mod instructions;
mod latency;
mod options;
mod peers;
mod plot;
mod plugins;
mod redis_store;
mod report;
mod scale;
mod servers;
mod start;
mod store_call;
mod stores;
mod test_servers;
mod warren_side;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use error::BenchError;
use figures::Measure;
use options::{Command, Options};
use servers::Servers;
use warren::worker::{Shutdown, signals::listen};

/// How long one part may take: a server that hangs must not take the other figures away.
const LIMIT: Duration = Duration::from_secs(8 * 60);
/// How much longer for each 10,000 records of `cost`.
const FILLING: Duration = Duration::from_secs(20);
const QUICK_LIMIT: Duration = Duration::from_secs(3 * 60);

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.command {
        // What is counted has a runtime of its own.
        Command::Counted { path } => counted::run(*path),
        Command::Instructions { record } => instructions::measure(*record),
        Command::Build => clean_builds::measure().and_then(|it| report::publish(&options, &it)),
        _ => match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime.block_on(run(&options)),
            Err(error) => Err(BenchError::Process(error)),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warren-bench: {error}");
            match error {
                BenchError::Interrupted => ExitCode::from(130),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Measures what was asked for, and shows it. Whatever was made on the servers is deleted at the
/// end, also after an error, on Ctrl-C and on SIGTERM.
async fn run(options: &Options) -> Result<(), BenchError> {
    if let Command::WorkerProcess(process) = &options.command {
        return scale::worker_process(process).await;
    }
    if options.command == Command::StoreCall {
        let measures = store_call::measure(options).await?;
        return report::publish(options, &measures);
    }
    let interrupted = Shutdown::new();
    let _listener = listen(interrupted.clone()).map_err(BenchError::Signals)?;
    let servers = Servers::find().await?;
    let mut measures = Vec::new();
    let mut failures = 0;
    for part in parts(&options.command) {
        let limit = part.limit(options);
        let measured = tokio::select! {
            measured = measure(part, options, &servers) => measured,
            () = interrupted.stopping() => Err(BenchError::Interrupted),
            () = tokio::time::sleep(limit) => {
                let part = format!("{part:?}");
                Err(BenchError::TooLong { part, limit })
            }
        };
        match measured {
            Ok(measured) => measures.extend(measured),
            Err(BenchError::Interrupted) => {
                servers.clean_up().await?;
                return Err(BenchError::Interrupted);
            }
            // The figures of the other parts are as good without it.
            Err(error) => {
                eprintln!("warren-bench: {error}");
                failures += 1;
                servers.clean_up().await?;
            }
        }
    }
    servers.clean_up().await?;
    report::publish(options, &measures)?;
    match failures {
        0 => Ok(()),
        failures => Err(BenchError::Incomplete { failures }),
    }
}

/// A measurement that needs the servers.
#[derive(Debug, Clone, Copy)]
enum Part {
    E2e,
    Enqueue,
    Latency,
    StoreCall,
    RedisStore,
    Scale,
    Start,
    Peers,
    Stores,
    Cost { records: u32 },
}

impl Part {
    /// Filling stores takes as long as there are records.
    fn limit(self, options: &Options) -> Duration {
        match self {
            Self::Cost { records } => LIMIT + FILLING * (records / 10_000),
            _ if options.quick => QUICK_LIMIT,
            _ => LIMIT,
        }
    }
}

fn parts(command: &Command) -> Vec<Part> {
    match command {
        Command::E2e => vec![Part::E2e],
        Command::Enqueue => vec![Part::Enqueue],
        Command::Latency => vec![Part::Latency],
        Command::RedisStore => vec![Part::RedisStore],
        Command::Scale => vec![Part::Scale],
        Command::Start => vec![Part::Start],
        Command::Peers => vec![Part::Peers],
        Command::Stores => vec![Part::Stores],
        Command::Cost { records } => vec![Part::Cost { records: *records }],
        Command::All => vec![
            Part::E2e,
            Part::Enqueue,
            Part::Latency,
            Part::StoreCall,
            Part::RedisStore,
            Part::Start,
            Part::Peers,
            Part::Scale,
        ],
        // They are done without the servers.
        Command::StoreCall
        | Command::Build
        | Command::Instructions { .. }
        | Command::Counted { .. }
        | Command::WorkerProcess(_) => Vec::new(),
    }
}

async fn measure(
    part: Part,
    options: &Options,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    match part {
        Part::E2e => end_to_end::measure(options, servers).await,
        Part::Enqueue => enqueue::measure(options, servers).await,
        Part::Latency => latency::measure(options, servers).await,
        Part::StoreCall => store_call::measure(options).await,
        Part::RedisStore => redis_store::measure(options, servers).await,
        Part::Scale => scale::measure(options, servers).await,
        Part::Start => start::measure(options, servers).await,
        Part::Peers => peers::measure(options, servers).await,
        Part::Stores => stores::measure(options, servers).await,
        Part::Cost { records } => cost::measure(options, records, servers).await,
    }
}
