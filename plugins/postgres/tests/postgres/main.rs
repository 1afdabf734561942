//! The PostgreSQL store against real servers: the one that runs (`WARREN_TEST_POSTGRES_URL`, by
//! default `postgresql://postgres@127.0.0.1:5432/test`; where that is not set and nothing answers
//! there, one of the tests' own), and private ones with the options that a test is about.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod conformance;
mod support;
