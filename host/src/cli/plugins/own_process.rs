//! A plugin is tried out in a process of its own: one that ends its process is told of like any
//! other defect.

use std::{
    io::Write,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
        unix::process::ExitStatusExt,
    },
    path::Path,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::cli::error::{CliError, Exit};

/// Tells the second process that it is the second one. Not a setting of the user's.
const MARK: &str = "_WARREN_CHECKS_HERE";
/// What the second process says when it has come to its end.
const DONE: &str = "done";

/// What the second process is about to do, said to the first.
pub(super) struct Progress {
    first_process: Option<UnixStream>,
}

impl Progress {
    /// `None` in the first process.
    pub(super) fn of_second_process() -> Option<Self> {
        std::env::var_os(MARK)?;
        end_with_the_first_process();
        // Its input is the first one's ear; anything else that is there is left alone.
        let input = std::io::stdin().as_fd().try_clone_to_owned().ok();
        let first_process = input
            .map(UnixStream::from)
            .filter(|it| it.local_addr().is_ok());
        Some(Self { first_process })
    }

    pub(super) fn say(&self, what: &str) {
        if let Some(mut stream) = self.first_process.as_ref() {
            let _ = writeln!(stream, "{what}");
        }
    }

    pub(super) fn done(&self) {
        self.say(DONE);
    }
}

fn end_with_the_first_process() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
}

/// Runs this same command in a second process, which prints what there is to print.
pub(super) async fn run(file: &Path) -> Result<Exit, CliError> {
    let cannot = |error: std::io::Error| {
        let text = format!("cannot start a process to check the plugin in: {error}");
        CliError::new(Exit::Failure, text)
    };
    let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
    let program = std::env::current_exe().map_err(cannot)?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(OwnedFd::from(theirs));
    let mut child = command.spawn().map_err(cannot)?;
    // Closes our copy of its end, so that the reader sees an end.
    drop(command);
    ours.set_nonblocking(true).map_err(cannot)?;
    let ours = tokio::net::UnixStream::from_std(ours).map_err(cannot)?;
    let said = Arc::new(Mutex::new("loading it".to_owned()));
    let reading = tokio::spawn(keep_last_line(ours, Arc::clone(&said)));
    let status = child.wait().await.map_err(cannot)?;
    // A process that the plugin has started may hold the other end open.
    let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
    let last = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ended(file, status, &last)
}

async fn keep_last_line(stream: tokio::net::UnixStream, said: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        *said.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }
}

fn ended(file: &Path, status: ExitStatus, last: &str) -> Result<Exit, CliError> {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) if last == DONE => return Ok(exit_of(code)),
        // The reader of what it printed has seen enough.
        (None, Some(signal)) if signal == Signal::SIGPIPE as i32 => return Ok(Exit::Failure),
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => signal
            .and_then(|signal| Signal::try_from(signal).ok())
            .map_or_else(|| "a signal".to_owned(), |signal| signal.to_string()),
    };
    let text = format!(
        "{}: the plugin ended the process that it was checked in, with {how}, while {last}",
        file.display()
    );
    Err(CliError::new(Exit::StoreUnusable, text)
        .with_hint("a worker that loads it would end like this process"))
}

fn exit_of(code: i32) -> Exit {
    [Exit::Ok, Exit::Usage, Exit::StoreUnusable]
        .into_iter()
        .find(|exit| i32::from(exit.code()) == code)
        .unwrap_or(Exit::Failure)
}
