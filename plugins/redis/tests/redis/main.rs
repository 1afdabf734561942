//! The Redis store against real servers: the one that runs (`WARREN_TEST_REDIS_URL`, by default
//! `redis://127.0.0.1:6379/0`), and private ones started with the options that a test is about.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod batches;
mod conformance;
mod connecting;
mod faults;
mod interop;
mod listing;
mod login;
mod server;
mod support;
mod writing;
