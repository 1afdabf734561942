//! The worker as a process, on RabbitMQ and Redis: what becomes of jobs, and of the worker.
//!
//! Needs RabbitMQ at `WARREN_TEST_AMQP_URL` and Redis at `WARREN_TEST_REDIS_URL`, by default on
//! this machine's default ports, and the `redis-server` program for those that a test stops.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

#[path = "worker/abort.rs"]
mod abort;
#[path = "worker/client.rs"]
mod client;
#[path = "worker/commands.rs"]
mod commands;
#[path = "worker/composition.rs"]
mod composition;
#[path = "worker/dead_letters.rs"]
mod dead_letters;
#[path = "worker/elasticsearch.rs"]
mod elasticsearch;
#[path = "worker/faults.rs"]
mod faults;
#[path = "worker/headers.rs"]
mod headers;
#[path = "worker/health.rs"]
mod health;
#[path = "worker/lifecycle.rs"]
mod lifecycle;
#[path = "worker/messages.rs"]
mod messages;
#[path = "worker/migrate.rs"]
mod migrate;
#[path = "worker/pool.rs"]
mod pool;
#[path = "worker/quorum.rs"]
mod quorum;
#[path = "worker/results.rs"]
mod results;
#[path = "worker/s3.rs"]
mod s3;
#[path = "worker/signals.rs"]
mod signals;
#[path = "worker/spool.rs"]
mod spool;
#[path = "worker/waiting.rs"]
mod waiting;

use warren_tests::command;

/// Prints its own input, the job.
fn echo() -> String {
    command("echo", "cat")
}

/// Says that it runs by a line in `started`, and ends when there is `go`, or the folder is gone: the
/// command of a worker that is killed outlives it.
fn gated() -> String {
    command(
        "gated",
        "echo $WARREN_JOB_ID >> started; while [ -e started ] && [ ! -e go ]; do sleep 0.05; done; \
         echo $WARREN_JOB_ID >> finished; echo '\"went\"'",
    )
}
