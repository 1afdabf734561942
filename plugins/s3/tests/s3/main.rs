//! The S3 store against an imitation of S3 in memory: the requests that it makes, as Amazon's API
//! reference has them, and what it makes of answers that a real service gives when it likes.
//!
//! The workspace's tests run the suite over the plugin file, and a part of it over real services.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod answers;
mod crashes;
mod credentials;
mod expiry;
mod memory_s3;
mod preconditions;
mod requests;
mod support;
mod tls;
