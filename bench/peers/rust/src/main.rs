//! Measures a peer that is written in Rust, and prints what came of it as `../measure.py` does:
//!
//! ```text
//! warren-bench-peers PEER JOBS
//! ```
//!
//! JOBS jobs are sent while no worker is there, then a worker is started in this process and works
//! them off; the time counts from the first job that has run to the last. Neither peer keeps results
//! by itself, so that there is nothing to wait for, and no time from a job to its result.
//!
//! `PEER_AMQP_URL` says where RabbitMQ is, `PEER_NAME` is the name of the queue.

mod apalis;
mod celery;
mod ended;

use std::{env, error::Error, time::Instant};

/// Jobs that are sent, and run, at the same time.
const AT_ONCE: usize = 512;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What it takes to measure one.
trait Peer {
    async fn send(&mut self, jobs: usize) -> Outcome<()>;
    /// Runs jobs until it is dropped.
    async fn work(self) -> Outcome<()>;
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [peer, jobs] = &arguments[..] else {
        return Err("expected: warren-bench-peers PEER JOBS".into());
    };
    let (url, queue) = (env::var("PEER_AMQP_URL")?, env::var("PEER_NAME")?);
    let jobs = jobs.parse()?;
    match peer.as_str() {
        "celery-rs" => measure(celery::Sender::connect(&url, &queue).await?, jobs).await,
        "apalis" => measure(apalis::Sender::connect(&url, &queue)?, jobs).await,
        other => Err(format!("no peer {other:?}: celery-rs, apalis").into()),
    }
}

async fn measure(mut peer: impl Peer, jobs: usize) -> Outcome<()> {
    // The first makes the queue.
    peer.send(1).await?;
    let began = Instant::now();
    peer.send(jobs).await?;
    let sent_in = began.elapsed();
    let ran_in = tokio::select! {
        ended = peer.work() => return Err(format!("the worker ended: {ended:?}").into()),
        ran_in = ended::all_of(jobs + 1) => ran_in?,
    };
    let printed = serde_json::json!({
        "enqueue_per_second": jobs as f64 / sent_in.as_secs_f64(),
        "jobs_per_second": jobs as f64 / ran_in.as_secs_f64(),
        "samples": 0,
        "lost": 0,
        "p50_us": null,
        "p99_us": null,
    });
    println!("{printed}");
    Ok(())
}
