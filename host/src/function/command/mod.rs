//! Functions that are commands, in any language: a process per job, JSON in and JSON out.

mod config;
mod process;
mod run;

pub use config::{CommandError, FunctionConfig, RetryConfig};
