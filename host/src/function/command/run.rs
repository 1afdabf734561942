//! One run of a command: the job on stdin, the result from stdout, the tail of stderr for errors.

use std::{os::unix::process::ExitStatusExt, pin::pin, process::ExitStatus, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
};
use warren_plugin_api::Payload;

use super::{
    CommandError, FunctionConfig,
    job_line::job_line,
    launch::{Launcher, not_started},
    process::{EndOnDrop, ProcessGroup},
    progress::{self, ProgressPipe},
    stderr_tail::StderrTail,
};
use crate::function::{Call, Handler, JobContext, JobError};

/// The most that a result may have.
pub(super) const MAX_OUTPUT_BYTES: usize = 64 * 1024 * 1024;
/// How long the last output of a command that has ended may take to arrive.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// `EX_TEMPFAIL` of sysexits.h: "the user is invited to retry".
const TEMPORARY_FAILURE: i32 = 75;

/// Runs a command for each job.
#[derive(Debug)]
pub(super) struct CommandHandler {
    launcher: Launcher,
    /// Runs may say how far they have come.
    reports_progress: bool,
}

impl CommandHandler {
    pub(super) fn new(function: &str, config: &FunctionConfig) -> Result<Self, CommandError> {
        Ok(Self {
            launcher: Launcher::new(function, config)?,
            reports_progress: config.progress,
        })
    }

    fn command(&self, call: &Call) -> Command {
        let facts = call.context.facts();
        let mut command = self.launcher.command();
        command
            .env("WARREN_JOB_ID", facts.job_id.as_str())
            .env("WARREN_FUNCTION", facts.function.as_str())
            .env("WARREN_QUEUE", facts.queue.as_str())
            .env("WARREN_ATTEMPT", facts.attempt.to_string());
        command
    }
}

impl Handler for CommandHandler {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Payload, JobError>> {
        let mut command = self.command(&call);
        let reports_progress = self.reports_progress;
        async move {
            let input = job_line(&call)?;
            let mut progress = None;
            if reports_progress {
                let pipe = ProgressPipe::new().map_err(|error| not_started(&error))?;
                command.env(progress::VARIABLE, pipe.path());
                progress = Some(pipe);
            }
            let group = ProcessGroup::spawn(&mut command).map_err(|error| not_started(&error))?;
            run(group, input, progress, &call.context).await
        }
        .boxed()
    }
}

async fn run(
    mut group: ProcessGroup,
    input: Vec<u8>,
    mut progress: Option<ProgressPipe>,
    context: &JobContext,
) -> Result<Payload, JobError> {
    let stdin = group.child.stdin.take();
    let stdout = group.child.stdout.take();
    let mut stderr = group.child.stderr.take().map(StderrTail::of);
    let mut running = EndOnDrop(Some(group));
    let Some(child) = running.0.as_mut().map(|group| &mut group.child) else {
        return Err(JobError::new("CommandDied", "the process is gone"));
    };
    let mut output = Vec::new();
    // Output that fails the job ends the command, whatever it still wants to do.
    let attended = attend(child, feed(stdin, &input), read_all(stdout, &mut output));
    let status = tokio::select! {
        status = attended => status?,
        () = follow(&mut progress, context) => {
            return Err(JobError::new("CommandDied", "nobody attends to the process"));
        }
    };
    if let Some(progress) = &mut progress {
        // The last word. What cannot be read is not worth more than the result.
        let _ = progress.read(context);
    }
    if let Some(group) = running.0.take() {
        group.finished();
    }
    let errors = match &mut stderr {
        Some(stderr) => stderr.last_words().await,
        None => String::new(),
    };
    result(status, &output, &errors)
}

/// Passes the command's progress on; never ends.
async fn follow(progress: &mut Option<ProgressPipe>, context: &JobContext) {
    match progress {
        Some(progress) => progress.follow(context).await,
        None => std::future::pending().await,
    }
}

/// Feeds and reads the command until it has ended.
async fn attend(
    child: &mut Child,
    feed: impl Future<Output = ()>,
    read: impl Future<Output = Result<(), JobError>>,
) -> Result<ExitStatus, JobError> {
    let mut talk = pin!(async { tokio::try_join!(feed.map(Ok), read).map(drop) });
    tokio::select! {
        biased;
        talked = &mut talk => {
            talked?;
            Ok(child.wait().await?)
        }
        status = child.wait() => {
            // What the command left running may keep the pipes open for as long as it likes.
            if let Ok(talked) = tokio::time::timeout(LAST_OUTPUT, talk).await {
                talked?;
            }
            Ok(status?)
        }
    }
}

async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        // A command that does not read its input is free not to.
        let _ = stdin.write_all(input).await;
    }
}

/// What has been read when it is dropped is in `output`.
async fn read_all(
    pipe: Option<impl AsyncRead + Unpin>,
    output: &mut Vec<u8>,
) -> Result<(), JobError> {
    let Some(pipe) = pipe else { return Ok(()) };
    let mut pipe = pipe.take(MAX_OUTPUT_BYTES as u64 + 1);
    while pipe.read_buf(output).await? > 0 {}
    if output.len() > MAX_OUTPUT_BYTES {
        let message = format!("stdout has more than {MAX_OUTPUT_BYTES} bytes");
        return Err(JobError::new("OutputTooLarge", message).never_retry());
    }
    Ok(())
}

fn result(status: ExitStatus, output: &[u8], errors: &str) -> Result<Payload, JobError> {
    if !status.success() {
        let error = JobError::new("CommandFailed", describe(status)).with_detail(errors);
        // Anything but the exit code for "try again" is left to the retry policy as well.
        return Err(match status.code() {
            Some(TEMPORARY_FAILURE) => JobError {
                kind: "TemporaryFailure".to_owned(),
                ..error
            },
            _ => error,
        });
    }
    if output.iter().all(u8::is_ascii_whitespace) {
        return Ok(Payload::from("null"));
    }
    if let Err(error) = serde_json::from_slice::<&RawValue>(output) {
        let head: String = String::from_utf8_lossy(output).chars().take(80).collect();
        let message = format!("stdout is not JSON ({error}): {head:?}");
        return Err(JobError::new("InvalidOutput", message)
            .with_detail(errors)
            .never_retry());
    }
    Ok(Payload::from(output.trim_ascii()))
}

pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the command ended with exit code {code}"),
        (None, Some(signal)) => format!("the command was killed by signal {signal}"),
        (None, None) => "the command ended abnormally".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio_util::sync::CancellationToken;

    use super::{super::stderr_tail::KEPT_BYTES, *};
    use crate::function::{FunctionRegistry, JobContext, JobFacts, RetryAdvice};

    fn functions(script: &str) -> FunctionRegistry {
        let config: FunctionConfig = serde_json::from_value(serde_json::json!({
            "command": ["sh", "-c", script],
        }))
        .unwrap();
        let mut functions = FunctionRegistry::new();
        functions
            .register_commands(&BTreeMap::from([("f".to_owned(), config)]))
            .unwrap();
        functions
    }

    async fn run_script(script: &str, args: &str) -> Result<Payload, JobError> {
        run_in(&functions(script), args).await.0
    }

    /// The result, and the latest progress.
    async fn run_in(
        functions: &FunctionRegistry,
        args: &str,
    ) -> (Result<Payload, JobError>, Payload) {
        let facts = JobFacts {
            job_id: "job-1".into(),
            attempt: 1,
            ..JobFacts::default()
        };
        let context = JobContext::new(facts, functions.state(), CancellationToken::new());
        let call = Call {
            context: context.clone(),
            args: args.into(),
            kwargs: "{}".into(),
        };
        let result = functions.get("f").unwrap().handler.call(call).await;
        (result, context.progress())
    }

    #[tokio::test]
    async fn a_command_reports_progress_through_a_named_pipe() {
        let reporting = |script: &str| {
            let config = serde_json::from_value(serde_json::json!({
                "command": ["sh", "-c", script],
                "progress": true,
            }))
            .unwrap();
            let mut functions = FunctionRegistry::new();
            functions
                .register_commands(&BTreeMap::from([("f".to_owned(), config)]))
                .unwrap();
            functions
        };
        // Each `echo` opens the pipe and closes it; the last one is read after the end.
        let script = r#"echo '{"done": 1}' > "$WARREN_PROGRESS"
            echo no json > "$WARREN_PROGRESS"; head -c 200000 /dev/zero > "$WARREN_PROGRESS"
            echo > "$WARREN_PROGRESS"; echo '{"done": 3}' > "$WARREN_PROGRESS"
            printf '"%s"' "$WARREN_PROGRESS""#;
        let (result, progress) = run_in(&reporting(script), "[]").await;
        assert_eq!(progress.as_slice(), br#"{"done": 3}"#);
        let path: String = serde_json::from_slice(&result.unwrap()).unwrap();
        assert!(!std::path::Path::new(&path).exists(), "{path} remains");

        let (_, progress) = run_in(&reporting("exit 1"), "[]").await;
        assert!(progress.is_empty());
        let script = "[ -z \"$WARREN_PROGRESS\" ]";
        assert!(run_script(script, "[]").await.is_ok());
    }

    #[tokio::test]
    async fn a_command_gets_the_job_and_returns_json() {
        let output = run_script("cat", "[1, \"é\"]").await.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output).unwrap();
        assert_eq!(value["args"], serde_json::json!([1, "é"]));
        assert_eq!(value["job_id"], "job-1");
    }

    #[tokio::test]
    async fn no_output_is_null_and_input_need_not_be_read() {
        let big = format!("[\"{}\"]", "x".repeat(1_000_000));
        assert_eq!(run_script("exit 0", &big).await, Ok(Payload::from("null")));
    }

    #[tokio::test]
    async fn a_failure_carries_exit_code_and_stderr() {
        let error = run_script("echo oh no >&2; exit 3", "[]")
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "CommandFailed: the command ended with exit code 3"
        );
        assert_eq!(error.detail.as_deref(), Some("oh no"));
        let error = run_script("kill -9 $$", "[]").await.unwrap_err();
        assert!(error.message.contains("signal 9"), "{error}");
        let error = run_script("exit 75", "[]").await.unwrap_err();
        assert_eq!(error.kind, "TemporaryFailure");
    }

    #[tokio::test]
    async fn output_that_is_not_json_is_an_error() {
        let error = run_script("echo hello", "[]").await.unwrap_err();
        assert_eq!(error.kind, "InvalidOutput");
        assert!(error.message.contains("hello"), "{error}");
    }

    #[tokio::test]
    async fn much_stderr_neither_blocks_nor_fills_memory() {
        let script = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1";
        let error = run_script(script, "[]").await.unwrap_err();
        let detail = error.detail.unwrap();
        assert!(detail.ends_with("end") && detail.len() <= KEPT_BYTES);
    }

    #[tokio::test]
    async fn dropping_a_run_kills_what_the_command_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let run = tokio::spawn(async move { run_script(&script, "[]").await });
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let pid = loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if text.ends_with('\n') {
                break text.trim().to_owned();
            }
            assert!(
                std::time::Instant::now() < deadline,
                "the command did not start"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        run.abort();
        while is_running(&pid) {
            assert!(
                std::time::Instant::now() < deadline,
                "the grandchild still runs"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A zombie that its new parent has not reaped yet does not run any more.
    fn is_running(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// Fails loudly where a run would wait for a process that never ends.
    async fn run_soon(script: &str, args: &str) -> Result<Payload, JobError> {
        tokio::time::timeout(Duration::from_secs(60), run_script(script, args))
            .await
            .expect("the run ends with its command")
    }

    #[tokio::test]
    async fn output_without_end_is_refused_for_good_although_the_command_fails_of_it() {
        let error = run_soon("exec cat /dev/zero", "[]").await.unwrap_err();
        assert_eq!(error.kind, "OutputTooLarge");
        assert_eq!(error.retry, RetryAdvice::Never);
    }

    #[tokio::test]
    async fn a_child_that_keeps_stdout_open_does_not_outlast_its_command() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; echo 1", file.display());
        assert_eq!(run_soon(&script, "[]").await, Ok(Payload::from("1")));
        let pid = std::fs::read_to_string(&file).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while is_running(pid.trim()) {
            assert!(std::time::Instant::now() < deadline, "the child still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_child_that_keeps_stdin_open_does_not_outlast_its_command() {
        let big = format!("[\"{}\"]", "x".repeat(1_000_000));
        let script = "exec 3<&0; sleep 1000 <&3 >&- 2>&- & echo 1";
        assert_eq!(run_soon(script, &big).await, Ok(Payload::from("1")));
    }

    #[tokio::test]
    async fn a_command_that_fails_and_leaves_a_child_fails_with_its_exit_code() {
        let error = run_soon("sleep 1000 & echo oh no >&2; exit 3", "[]")
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "CommandFailed: the command ended with exit code 3"
        );
        assert_eq!(error.detail.as_deref(), Some("oh no"));
    }
}
