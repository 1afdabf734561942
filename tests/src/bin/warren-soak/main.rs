//! Runs one worker for a long time, with faults around it, and samples what could grow.
//!
//! Starts a RabbitMQ and a Redis of its own. Ends with a failure when a job did not run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot be made is not to be printed"
)]

mod faults;
mod plot;
mod sample;

use std::{
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use nix::sys::signal::Signal;
use warren_tests::{
    PrivateRabbitMq, WorkerProcess,
    fault::{Mix, Round, StoreKind},
};

use sample::Samples;

/// Runs a worker under load and faults, and plots its memory, files, threads, tasks, and what is
/// on the servers.
#[derive(Debug, Parser)]
struct Options {
    /// For how long.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Jobs a second; half of what a first burst could do when absent.
    #[arg(long)]
    rate: Option<usize>,
    /// Where faults and jobs come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder for `soak.csv` and `soak.svg`.
    #[arg(long, default_value = "docs/soak")]
    out: PathBuf,
}

const SAMPLE_EVERY: Duration = Duration::from_secs(10);
const FAULT_EVERY: Duration = Duration::from_secs(30);
/// Records live shorter than the run, so that their number can be seen to stay the same.
const RESULT_TTL: &str = "result_store.ttl=2m";
/// How long what is left may take when all was sent.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let options = Options::parse();
    let broker = PrivateRabbitMq::start();
    let mut round = Round::new(&broker.url(), StoreKind::Redis, 0, options.seed);
    let worker = round.system.worker(&[
        "--set",
        RESULT_TTL,
        "--log-level",
        "warn,warren::runtime=debug,warren::worker::consume=info",
    ]);
    let capacity = capacity(&mut round);
    let rate = options.rate.unwrap_or(capacity / 2).max(1);
    println!("capacity {capacity} jobs/s, load {rate} jobs/s");
    let mut samples = Samples::new(&options.out);
    let sent = run(&options, &mut round, &broker, &worker, rate, &mut samples);
    let missing = missing(&round, &sent);
    samples.take(&worker, &broker, &round);
    samples.write();
    println!(
        "{} minutes, {} jobs, {} faults, {} not run",
        options.minutes,
        sent.len(),
        round.faults(),
        missing
    );
    worker.signal(Signal::SIGTERM);
    let ran = worker.ended();
    if missing > 0 || ran.code != 0 {
        eprintln!(
            "the worker ended with {} and said:\n{}",
            ran.code, ran.stderr
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Jobs a second, of those that the load consists of.
fn capacity(round: &mut Round) -> usize {
    const BURST: usize = 400;
    round.load_of(Mix::Quick, BURST);
    let began = Instant::now();
    let sent = round.sent().len();
    round.awaits("the first burst ends", |ledger| ledger.ended() >= sent);
    (sent as f64 / began.elapsed().as_secs_f64()) as usize
}

/// Sends, breaks and samples until the time is over. Returns the jobs that were sent.
fn run(
    options: &Options,
    round: &mut Round,
    broker: &PrivateRabbitMq,
    worker: &WorkerProcess,
    rate: usize,
    samples: &mut Samples,
) -> Vec<String> {
    let began = Instant::now();
    let end = began + Duration::from_secs(60 * options.minutes);
    let mut sent = Vec::new();
    let (mut next_sample, mut next_fault) = (began, began + FAULT_EVERY);
    let mut seconds = 0;
    while Instant::now() < end {
        round.load_of(Mix::Healthy, rate);
        if Instant::now() >= next_fault {
            faults::any(round);
            next_fault = Instant::now() + FAULT_EVERY;
        }
        sent.extend(round.sent());
        if Instant::now() >= next_sample {
            samples.take(worker, broker, round);
            samples.write();
            next_sample += SAMPLE_EVERY;
        }
        // A second for each load, or longer while a fault keeps it from being sent.
        seconds += 1;
        let next = began + Duration::from_secs(seconds);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if Instant::now() > next + Duration::from_secs(5) {
            seconds = began.elapsed().as_secs();
        }
    }
    sent
}

/// How many of the jobs have no end in the ledger, once that changes no more.
fn missing(round: &Round, sent: &[String]) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let runs = round.ledger().runs();
        let has_ended = |id: &&String| {
            let runs = runs.get(*id).into_iter().flatten();
            runs.filter_map(|run| run.end.as_deref())
                .any(|end| end != "again")
        };
        let missing = sent.len() - sent.iter().filter(has_ended).count();
        if missing == 0 || Instant::now() > deadline {
            return missing;
        }
        thread::sleep(Duration::from_secs(1));
    }
}
