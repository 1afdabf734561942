//! The MongoDB store against SecantusDB 0.7.0b3, a MongoDB-compatible server. It is no MongoDB:
//! what passes here was seen there alone, and `commands.rs` holds what is sent against MongoDB's
//! manual. `WARREN_TEST_MONGODB_URL` does not matter here: these tests kill their servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking, in its helpers too; some of these are shared"
)]

#[path = "../../../../tests/src/secantus.rs"]
#[allow(
    dead_code,
    reason = "shared with the workspace's tests, which use other parts"
)]
mod secantus;
mod support;
#[path = "../../../../tests/src/target_folder.rs"]
mod target_folder;
#[path = "../../../../tests/src/venv.rs"]
mod venv;
mod wire;

mod commands;
mod on_secantusdb_0_7_0b3 {
    mod collection;
    mod faults;
    mod login;
    mod writing;
}
