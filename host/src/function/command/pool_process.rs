//! One process of a pool, and what is said to it and by it.

use std::{io, os::fd::AsFd, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout, Command},
};
use warren_plugin_api::Payload;

use super::{
    launch::not_started,
    process::{EndOnDrop, ProcessGroup},
    run::{MAX_OUTPUT_BYTES, describe},
    stderr_tail::StderrTail,
};
use crate::function::{JobContext, JobError, RetryAdvice};

/// stderr comes by another pipe than the answer: so long it may take to arrive.
const STDERR_LAG: Duration = Duration::from_millis(20);

/// A process that runs one job after another. Dropping it ends it, with all that it started.
#[derive(Debug)]
pub(super) struct PoolProcess {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: StderrTail,
    running: EndOnDrop,
    jobs_done: u32,
}

/// How a job's conversation ended.
pub(super) enum Conversation {
    /// The process answered and can take another job.
    Answered(Result<Payload, JobError>),
    /// It did not keep to the protocol, or has ended: it can take no more.
    Broken(JobError),
}

/// A process that has no job.
pub(super) enum IdleState {
    /// It waits for one.
    Ready,
    /// It has ended, or closed its stdout.
    Ended,
    /// It has written what belongs to no job, and the next one would take for its answer.
    Talking,
}

/// A line that a process writes. `{"progress": …}` any number of times, then one of the others.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    #[serde(borrow)]
    Progress(&'a RawValue),
    #[serde(borrow)]
    Result(&'a RawValue),
    Error(ReportedError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportedError {
    #[serde(rename = "type", default = "unnamed")]
    kind: String,
    message: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    retry: Option<ReportedRetry>,
}

fn unnamed() -> String {
    "Error".to_owned()
}

/// `false` never, `true` by the policy, a number after that many seconds.
#[derive(Deserialize)]
#[serde(untagged)]
enum ReportedRetry {
    Whether(bool),
    AfterSeconds(f64),
}

impl PoolProcess {
    pub(super) fn start(command: &mut Command) -> Result<Self, JobError> {
        let mut group = ProcessGroup::spawn(command).map_err(|error| not_started(&error))?;
        let child = &mut group.child;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(not_started(&"its pipes are missing"));
        };
        Ok(Self {
            stdin,
            stdout: BufReader::new(stdout),
            stderr: StderrTail::of(stderr),
            running: EndOnDrop(Some(group)),
            jobs_done: 0,
        })
    }

    pub(super) const fn jobs_done(&self) -> u32 {
        self.jobs_done
    }

    /// What it has to say while it runs no job.
    pub(super) fn idle_state(&mut self) -> IdleState {
        // The system is asked, because the runtime may not have been told yet.
        let mut pipe = [PollFd::new(
            self.stdout.get_ref().as_fd(),
            PollFlags::POLLIN,
        )];
        let seen = match poll(&mut pipe, PollTimeout::ZERO) {
            Ok(_) => pipe[0].revents().unwrap_or(PollFlags::POLLERR),
            Err(_) => PollFlags::POLLERR,
        };
        if !self.stdout.buffer().is_empty() || seen.contains(PollFlags::POLLIN) {
            return IdleState::Talking;
        }
        let group = self.running.0.as_mut();
        let runs = group.is_some_and(|group| matches!(group.child.try_wait(), Ok(None)));
        if runs && seen.is_empty() {
            IdleState::Ready
        } else {
            IdleState::Ended
        }
    }

    /// Hands over a job.
    ///
    /// # Errors
    /// It does not read any more, and has not got the whole job.
    pub(super) async fn send(&mut self, job: &[u8]) -> io::Result<()> {
        self.stderr.clear();
        self.stdin.write_all(job).await?;
        self.stdin.flush().await
    }

    /// Waits for the answer to the job.
    pub(super) async fn answer(&mut self, context: &JobContext) -> Conversation {
        loop {
            let line = match self.read_line().await {
                Ok(Some(line)) => line,
                Ok(None) => return Conversation::Broken(self.died().await),
                Err(error) => return Conversation::Broken(error),
            };
            match serde_json::from_slice(&line) {
                Ok(Line::Progress(progress)) => {
                    // Any raw JSON can be written as JSON.
                    let _ = context.set_progress(&progress);
                }
                Ok(Line::Result(result)) => {
                    self.jobs_done += 1;
                    return Conversation::Answered(Ok(Payload::from(result.get())));
                }
                Ok(Line::Error(error)) => {
                    self.jobs_done += 1;
                    return Conversation::Answered(Err(self.reported(error).await));
                }
                Err(error) => return Conversation::Broken(self.garbage(&line, &error)),
            }
        }
    }

    /// `None` at the end.
    async fn read_line(&mut self) -> Result<Option<Vec<u8>>, JobError> {
        let mut line = Vec::new();
        let limit = MAX_OUTPUT_BYTES as u64 + 1;
        let read = (&mut self.stdout)
            .take(limit)
            .read_until(b'\n', &mut line)
            .await;
        if line.len() > MAX_OUTPUT_BYTES {
            let message = format!("a line of stdout has more than {MAX_OUTPUT_BYTES} bytes");
            return Err(JobError::new("OutputTooLarge", message).never_retry());
        }
        Ok(match read {
            Ok(1..) => Some(line),
            Ok(0) | Err(_) => None,
        })
    }

    /// Why it can take no more.
    pub(super) async fn died(&mut self) -> JobError {
        let errors = self.stderr.last_words().await;
        let status = match &mut self.running.0 {
            Some(group) => tokio::time::timeout(STDERR_LAG, group.child.wait()).await,
            None => return JobError::new("CommandDied", "the process is gone"),
        };
        let how = match status {
            Ok(Ok(status)) => describe(status),
            Ok(Err(_)) | Err(_) => "the command closed its stdout".to_owned(),
        };
        JobError::new("CommandDied", format!("{how} before it answered")).with_detail(errors)
    }

    async fn reported(&self, reported: ReportedError) -> JobError {
        let detail = match reported.detail {
            Some(detail) => detail,
            None => {
                tokio::time::sleep(STDERR_LAG).await;
                self.stderr.text()
            }
        };
        let retry = match reported.retry {
            None | Some(ReportedRetry::Whether(true)) => RetryAdvice::Policy,
            Some(ReportedRetry::Whether(false)) => RetryAdvice::Never,
            Some(ReportedRetry::AfterSeconds(seconds)) => {
                // What is no time, such as -1, is now.
                RetryAdvice::After(Duration::try_from_secs_f64(seconds).unwrap_or_default())
            }
        };
        JobError {
            retry,
            ..JobError::new(reported.kind, reported.message).with_detail(detail)
        }
    }

    fn garbage(&self, line: &[u8], error: &serde_json::Error) -> JobError {
        let head: String = String::from_utf8_lossy(line).chars().take(80).collect();
        let message = format!(
            "a line of stdout is not an answer ({error}): {head:?}; \
             expected {{\"result\": …}}, {{\"error\": {{\"message\": …}}}} or {{\"progress\": …}}"
        );
        JobError::new("InvalidOutput", message)
            .with_detail(self.stderr.text())
            .never_retry()
    }
}
