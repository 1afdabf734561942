//! Jobs, sent by the built program while something else breaks.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use rand::{RngExt, rngs::StdRng};
use serde_json::json;

use crate::System;

/// What one run of the program sends.
const BATCH: usize = 30;
const PAUSE: Duration = Duration::from_millis(100);

/// Which jobs are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Jobs of every kind: quick and slow, failing, repeated, and delayed by up to two seconds.
    All,
    /// Jobs that end well, at once, after a while or at the second attempt, or are delayed.
    Healthy,
    /// Jobs that take no time.
    Quick,
    /// Jobs of a third of a second.
    Slow,
    /// Jobs of two seconds.
    Long,
    /// Jobs that are delayed by up to three seconds.
    Soon,
    /// Jobs that are delayed by five to seven seconds.
    Later,
    /// Jobs that fail with an error of 200 kB.
    LargeErrors,
    /// Jobs whose result is as large as a result can be, 64 MiB.
    LargeResults,
}

impl Mix {
    fn line(self, queue: &str, rng: &mut StdRng) -> String {
        let die = rng.random_range(0..10);
        let function = match self {
            Self::All => [
                "quick", "quick", "quick", "quick", "slow", "slow", "broken", "flaky",
            ]
            .get(die)
            .copied()
            .unwrap_or("quick"),
            Self::Healthy => match die {
                0 => "slow",
                1 => "flaky",
                _ => "quick",
            },
            Self::Quick => "quick",
            Self::Slow => "slow",
            Self::Long => "long",
            Self::LargeErrors => "loud",
            Self::LargeResults => "large",
            Self::Soon | Self::Later => "quick",
        };
        let mut line = json!({ "function": function, "queue": queue });
        let delay = match self {
            Self::All | Self::Healthy if die >= 8 => Some(1..2_000),
            Self::Soon => Some(1..3_000),
            Self::Later => Some(5_000..7_000),
            _ => None,
        };
        if let Some(ms) = delay {
            line["delay"] = json!(format!("{}ms", rng.random_range(ms)));
        }
        format!("{line}\n")
    }
}

/// Jobs that are being sent.
#[derive(Debug)]
pub struct Load {
    sending: JoinHandle<Vec<String>>,
    lines: usize,
}

impl Load {
    pub(super) fn start(system: &System, mix: Mix, jobs: usize, rng: &mut StdRng) -> Self {
        let batches: Vec<(Command, String)> = (0..jobs.div_ceil(BATCH))
            .map(|batch| {
                let size = BATCH.min(jobs - batch * BATCH);
                let lines = (0..size).map(|_| mix.line(&system.queue, rng)).collect();
                (system.command(&["enqueue", "--jsonl", "-"]), lines)
            })
            .collect();
        let sending = thread::spawn(move || {
            let mut sent = Vec::new();
            for (command, lines) in batches {
                sent.extend(send(command, &lines));
                thread::sleep(PAUSE);
            }
            sent
        });
        Self {
            sending,
            lines: jobs,
        }
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sending.is_finished()
    }

    /// Waits until everything was tried, and returns the ids of the jobs that the program said it
    /// had sent, and how many others there were: what became of those is not known.
    ///
    /// # Panics
    /// When the program cannot be run.
    pub fn finish(self) -> (Vec<String>, usize) {
        let sent = self.sending.join().expect("sending does not panic");
        let unknown = self.lines - sent.len();
        (sent, unknown)
    }
}

fn send(mut command: Command, lines: &str) -> Vec<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    // A program that ended early says in its output what it sent.
    let _ = stdin.write_all(lines.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it is a child");
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.lines().map(ToOwned::to_owned).collect()
}
