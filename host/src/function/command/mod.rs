//! Functions that are commands, in any language, JSON in and JSON out: a process for each job, or
//! a pool of processes that stay.

mod config;
mod job_line;
mod launch;
mod pool;
mod pool_process;
mod process;
mod program;
mod progress;
mod run;
mod stderr_tail;

pub use config::{CommandError, FunctionConfig, RetryConfig};
