//! Measures Warren against the bare libraries that it is built on, side by side in one run.
//!
//! Every figure comes from rounds that alternate between the sides, so that a machine that is
//! slow for a while is slow for all of them; what counts is the ratio within a round.

mod bare;
mod end_to_end;
mod enqueue;
mod error;
mod figures;
mod latency;
mod options;
mod plugins;
mod redis_store;
mod report;
mod servers;
mod store_call;
mod warren_side;

use std::process::ExitCode;

use clap::Parser;

use error::BenchError;
use figures::Measure;
use options::{Command, Options};
use servers::Servers;
use warren::worker::{Shutdown, signals::listen};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(measures) => match report::publish(&options, &measures) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        Err(error) => failed(&error),
    }
}

fn failed(error: &BenchError) -> ExitCode {
    eprintln!("warren-bench: {error}");
    match error {
        BenchError::Interrupted => ExitCode::from(130),
        _ => ExitCode::FAILURE,
    }
}

/// Measures what was asked for. Whatever was made on the servers is deleted at the end, also
/// after an error, on Ctrl-C and on SIGTERM.
async fn run(options: &Options) -> Result<Vec<Measure>, BenchError> {
    if options.command == Command::StoreCall {
        return store_call::measure(options).await;
    }
    let interrupted = Shutdown::new();
    let _listener = listen(interrupted.clone()).map_err(BenchError::Signals)?;
    let servers = Servers::find().await?;
    let measured = tokio::select! {
        measured = measure(options, &servers) => measured,
        () = interrupted.stopping() => Err(BenchError::Interrupted),
    };
    let cleaned = servers.clean_up().await;
    let measures = measured?;
    cleaned?;
    Ok(measures)
}

async fn measure(options: &Options, servers: &Servers) -> Result<Vec<Measure>, BenchError> {
    Ok(match options.command {
        Command::E2e => end_to_end::measure(options, servers).await?,
        Command::Enqueue => enqueue::measure(options, servers).await?,
        Command::Latency => latency::measure(options, servers).await?,
        Command::StoreCall => store_call::measure(options).await?,
        Command::RedisStore => redis_store::measure(options, servers).await?,
        Command::All => {
            let mut all = end_to_end::measure(options, servers).await?;
            all.extend(enqueue::measure(options, servers).await?);
            all.extend(latency::measure(options, servers).await?);
            all.extend(store_call::measure(options).await?);
            all.extend(redis_store::measure(options, servers).await?);
            all
        }
    })
}
