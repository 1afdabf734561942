//! The command line without any server: what it prints, where its settings come from, what it
//! says when something is wrong, and how it exits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

#[path = "cli/config.rs"]
mod config;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/documents.rs"]
mod documents;
#[path = "cli/init.rs"]
mod init;
#[path = "cli/plugins.rs"]
mod plugins;
#[path = "cli/secrets.rs"]
mod secrets;

use warren_tests::System;

/// A broker and a store within the process.
const IN_PROCESS: &str = "[broker]\nurl = \"memory://\"\n\n[result_store]\ntype = \"memory\"\n";

fn in_process(more: &str) -> System {
    System::with_config(&format!("{IN_PROCESS}\n{more}"))
}
