//! The command line of Warren.

use std::process::ExitCode;

fn main() -> ExitCode {
    warren::cli::run()
}
