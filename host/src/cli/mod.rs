//! The command line. Everything here parses, calls the library and prints; nothing decides.

mod arguments;
mod config_command;
mod config_init;
mod demo;
mod dlq;
mod enqueue;
mod error;
mod job;
mod output;
mod plugins;
mod queue;
mod results;
mod session;
mod spool;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};
use error::{CliError, Exit};
use output::Output;
use session::Session;

/// Runs the command that the process's arguments name.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    // A reader that has seen enough (`head`) ends this program like any other. But not a worker:
    // it writes to jobs that may end without reading.
    if !matches!(arguments.command, Command::Worker(_)) {
        reset_broken_pipe();
    }
    let output = Output::new(arguments.global.json, arguments.global.color);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            return ExitCode::from(Exit::Failure.code());
        }
    };
    let ended = runtime.block_on(dispatch(arguments, &output));
    // A store that blocks a thread must not keep the program from ending.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit().code())
        }
    }
}

fn reset_broken_pipe() {
    use nix::sys::signal::{SigHandler, Signal};
    // Without it `println!` panics; with it the process ends quietly.
    let _ = signal_default(Signal::SIGPIPE, SigHandler::SigDfl);
}

#[allow(
    unsafe_code,
    reason = "nix marks the call unsafe; no handler of ours is installed"
)]
fn signal_default(
    signal: nix::sys::signal::Signal,
    handler: nix::sys::signal::SigHandler,
) -> nix::Result<()> {
    // SAFETY: `SigDfl` runs no code of ours, and this is called before any thread starts.
    unsafe { nix::sys::signal::signal(signal, handler) }.map(drop)
}

async fn dispatch(arguments: Arguments, output: &Output) -> Result<Exit, CliError> {
    let Arguments { global, command } = arguments;
    let session = || Session::start(&global);
    match command {
        Command::Worker(command) => {
            let session = Session::start_worker(&global, &command.overrides())?;
            worker::run(session, &command, output).await
        }
        Command::Enqueue(command) => enqueue::run(&session()?, command, output).await,
        Command::Job(command) => job::run(&session()?, command, output).await,
        Command::Results(command) => results::run(&session()?, command, output).await,
        Command::Queue(command) => queue::run(&session()?, command, output).await,
        Command::Dlq(command) => dlq::run(&session()?, command, output).await,
        Command::Spool(command) => spool::run(&session()?, command, output).await,
        Command::Plugins(command) => plugins::run(&global, command, output).await,
        Command::Config(command) => config_command::run(&global, &command, output).await,
        Command::Demo(command) => demo::run(&global, &command, output).await,
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "warren", &mut std::io::stdout());
            Ok(Exit::Ok)
        }
        Command::Man { folder } => config_command::man(&folder),
    }
}
