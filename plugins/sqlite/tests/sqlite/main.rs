//! The SQLite store on real files, with real processes beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod conformance;
mod files;
mod processes;
mod room;
mod support;
