//! Runs of the program: those that end by themselves, and workers.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::eventually;

/// A run that has ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it logged and complained about.
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: exit_code(output.status),
            stdout: String::from_utf8(output.stdout).expect("the program prints UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("the program logs UTF-8"),
        }
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).expect("it ended in some way")
}

impl Ran {
    /// Checks the exit code.
    ///
    /// # Panics
    /// When it is another one, with everything that was printed.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit code\nstdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    /// The one line that was printed.
    ///
    /// # Panics
    /// When it is not one.
    #[track_caller]
    pub fn line(&self) -> &str {
        let mut lines = self.stdout.lines();
        let line = lines.next().expect("a line is printed");
        assert_eq!(lines.next(), None, "one line is printed: {}", self.stdout);
        line
    }

    /// Everything printed, as one JSON value per line.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
            })
            .collect()
    }

    /// The one JSON value that was printed.
    ///
    /// # Panics
    /// When it is not one.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.line()).expect("JSON is printed")
    }
}

/// A running worker, Warren's or another. Killed when dropped; what it logged is shown when the test failed.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl WorkerProcess {
    /// Starts `command`, whose stderr is read from now on.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        Self::spawn_quiet(command)
    }

    /// As [`spawn`](Self::spawn), with its stdout where `command` says.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn spawn_quiet(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });
        Self {
            child,
            log,
            reader: Some(reader),
        }
    }

    /// Waits until the log says `text`.
    ///
    /// # Panics
    /// When it does not, or the process ends before.
    #[track_caller]
    pub fn logs(&mut self, text: &str) {
        eventually(&format!("the worker logs {text:?}"), || {
            if self.log().contains(text) {
                return Ok(());
            }
            let ended = self.child.try_wait().expect("it is a child");
            assert!(ended.is_none(), "the worker ended: {ended:?}");
            Err(self.log())
        });
    }

    /// What was logged so far.
    ///
    /// # Panics
    /// Never.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        kill(Pid::from_raw(pid), signal).expect("the worker runs");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn ended(mut self) -> Ran {
        let status = eventually("the worker ends", || {
            let ended = self.child.try_wait().expect("it is a child");
            ended.ok_or_else(|| self.log())
        });
        self.read_to_end();
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).expect("it prints UTF-8");
        }
        Ran {
            code: exit_code(status),
            stdout,
            stderr: self.log(),
        }
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn kill(mut self) {
        self.child.kill().expect("the worker runs");
        self.child.wait().expect("it is a child");
    }

    fn read_to_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- the worker logged:\n{}", self.log());
        }
    }
}
