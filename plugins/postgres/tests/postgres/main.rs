//! The PostgreSQL store against real servers: one that all tests share (`WARREN_TEST_POSTGRES_URL`,
//! or else one of their own), and private ones with the settings that a test is about.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod conformance;
mod faults;
mod listing;
mod login;
mod server;
mod support;
mod tables;
mod writing;
