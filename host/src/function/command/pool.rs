//! A pool of long-lived processes that speak JSON lines: one job a line in, its answer a line out.
//!
//! A process that ends, answers garbage, goes on after its answer or exceeds its time is replaced:
//! what it says while it has no job reaches none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{process::Command, sync::Semaphore};
use warren_plugin_api::Payload;

use super::{
    CommandError, FunctionConfig,
    job_line::job_line,
    launch::Launcher,
    pool_process::{Conversation, IdleState, PoolProcess},
};
use crate::function::{Call, Handler, JobError};

/// Runs jobs on processes that stay.
#[derive(Debug)]
pub(super) struct PoolHandler {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    launcher: Launcher,
    slots: Arc<Semaphore>,
    /// A process is replaced after this many jobs.
    recycle_after: u32,
    idle: Mutex<Vec<PoolProcess>>,
}

impl PoolHandler {
    pub(super) fn new(
        function: &str,
        config: &FunctionConfig,
        processes: usize,
    ) -> Result<Self, CommandError> {
        Ok(Self {
            pool: Arc::new(Pool {
                launcher: Launcher::new(function, config)?,
                slots: Arc::new(Semaphore::new(processes)),
                recycle_after: config.recycle_after.map_or(u32::MAX, u32::from),
                idle: Mutex::default(),
            }),
        })
    }
}

impl Handler for PoolHandler {
    fn slots(&self) -> Option<Arc<Semaphore>> {
        Some(Arc::clone(&self.pool.slots))
    }

    fn call(&self, call: Call) -> BoxFuture<'static, Result<Payload, JobError>> {
        let pool = Arc::clone(&self.pool);
        async move { pool.run(call).await }.boxed()
    }
}

impl Pool {
    /// Dropping it ends the process that runs the job.
    async fn run(&self, call: Call) -> Result<Payload, JobError> {
        let line = job_line(&call)?;
        let mut process = match self.hand_to_idle(&line, &call).await {
            Some(process) => process,
            None => self.hand_to_new(&line, &call).await?,
        };
        match process.answer(&call.context).await {
            Conversation::Answered(answer) => {
                if process.jobs_done() < self.recycle_after {
                    self.idle().push(process);
                }
                answer
            }
            Conversation::Broken(error) => Err(error),
        }
    }

    async fn hand_to_idle(&self, line: &[u8], call: &Call) -> Option<PoolProcess> {
        let mut process = self.idle_process(call)?;
        // One that has stopped reading just now has run nothing: the job can go to another.
        process.send(line).await.ok()?;
        Some(process)
    }

    async fn hand_to_new(&self, line: &[u8], call: &Call) -> Result<PoolProcess, JobError> {
        let mut process = PoolProcess::start(&mut self.command(call))?;
        match process.send(line).await {
            Ok(()) => Ok(process),
            Err(_) => Err(process.died().await),
        }
    }

    fn command(&self, call: &Call) -> Command {
        let mut command = self.launcher.command();
        command.env("WARREN_FUNCTION", call.context.facts().function.as_str());
        command
    }

    fn idle_process(&self, call: &Call) -> Option<PoolProcess> {
        let mut idle = self.idle();
        while let Some(mut process) = idle.pop() {
            match process.idle_state() {
                IdleState::Ready => return Some(process),
                IdleState::Ended => {}
                IdleState::Talking => tracing::warn!(
                    function = call.context.facts().function.as_str(),
                    "a process of the pool wrote to stdout after its answer; it is replaced"
                ),
            }
        }
        None
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PoolProcess>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::function::{FunctionRegistry, JobContext, JobFacts, RetryAdvice};

    /// A pool of one shell that runs `script`, with `$line` at hand, for each job.
    fn shell(script: &str, recycle_after: Option<u32>) -> FunctionRegistry {
        let script = format!("while read -r line; do {script}\ndone");
        registry(json!({
            "command": ["sh", "-c", script],
            "processes": 1,
            "recycle_after": recycle_after,
        }))
    }

    fn registry(config: Value) -> FunctionRegistry {
        let config = serde_json::from_value(config).unwrap();
        let mut functions = FunctionRegistry::new();
        functions
            .register_commands(&BTreeMap::from([("f".to_owned(), config)]))
            .unwrap();
        functions
    }

    fn call(args: &str) -> Call {
        let facts = JobFacts {
            job_id: "job-1".into(),
            attempt: 1,
            ..JobFacts::default()
        };
        let context = JobContext::new(facts, Arc::default(), CancellationToken::new());
        Call {
            context,
            args: args.into(),
            kwargs: "{}".into(),
        }
    }

    async fn run(functions: &FunctionRegistry, args: &str) -> Result<Value, JobError> {
        let answer = functions.get("f").unwrap().handler.call(call(args)).await?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    const ECHO: &str = r#"printf '{"result": [%s, %s]}\n' "$$" "$line""#;

    #[tokio::test]
    async fn one_process_runs_job_after_job() {
        let functions = shell(ECHO, None);
        let first = run(&functions, "[1,\n 2]").await.unwrap();
        let second = run(&functions, "[\"é\"]").await.unwrap();
        assert_eq!(first[0], second[0], "the process stays");
        assert_eq!(first[1]["args"], json!([1, 2]));
        assert_eq!(second[1]["args"], json!(["é"]));
        assert_eq!(second[1]["job_id"], "job-1");
    }

    #[tokio::test]
    async fn a_process_is_replaced_after_its_number_of_jobs() {
        let functions = shell(ECHO, Some(2));
        let mut processes = Vec::new();
        for _ in 0..4 {
            processes.push(run(&functions, "[]").await.unwrap()[0].clone());
        }
        assert_eq!(processes[0], processes[1]);
        assert_ne!(processes[1], processes[2]);
        assert_eq!(processes[2], processes[3]);
    }

    #[tokio::test]
    async fn an_error_that_is_reported_says_what_the_process_said() {
        let functions = shell(
            r#"echo "a warning" >&2
            echo '{"error": {"type": "ValueError", "message": "no", "retry": 1.5}}'"#,
            None,
        );
        let error = run(&functions, "[]").await.unwrap_err();
        assert_eq!(error.to_string(), "ValueError: no");
        assert_eq!(error.retry, RetryAdvice::After(Duration::from_millis(1500)));
        assert!(run(&functions, "[]").await.is_err(), "and it can go on");
    }

    #[tokio::test]
    async fn progress_is_seen_before_the_result() {
        let functions = shell(
            r#"echo '{"progress": {"done": 1}}'; echo '{"result": null}'"#,
            None,
        );
        let call = call("[]");
        let context = call.context.clone();
        let answer = functions.get("f").unwrap().handler.call(call).await;
        assert_eq!(answer, Ok(Payload::from("null")));
        assert_eq!(context.progress().as_slice(), b"{\"done\": 1}");
    }

    #[tokio::test]
    async fn a_process_that_dies_is_replaced_and_its_last_words_are_kept() {
        let functions = shell(
            r#"case "$line" in *die*) echo "oh no" >&2; exit 3;; esac; echo '{"result": 1}'"#,
            None,
        );
        let error = run(&functions, "[\"die\"]").await.unwrap_err();
        assert_eq!(error.kind, "CommandDied");
        assert!(error.message.contains("exit code 3"), "{error}");
        assert_eq!(error.detail.as_deref(), Some("oh no"));
        assert_eq!(run(&functions, "[]").await, Ok(json!(1)));
    }

    #[tokio::test]
    async fn garbage_fails_the_job_and_replaces_the_process() {
        let functions = shell(
            r#"case "$line" in *mad*) echo hello;; esac; printf '{"result": %s}\n' "$$""#,
            None,
        );
        let before = run(&functions, "[]").await.unwrap();
        let error = run(&functions, "[\"mad\"]").await.unwrap_err();
        assert_eq!(error.kind, "InvalidOutput");
        assert!(error.message.contains("hello"), "{error}");
        let after = run(&functions, "[]").await.unwrap();
        assert_ne!(before, after, "what it says late must reach nobody");
    }

    #[tokio::test]
    async fn a_run_that_is_dropped_takes_its_process_with_it() {
        let functions = shell(
            r#"case "$line" in *hang*) sleep 1000;; esac; printf '{"result": %s}\n' "$$""#,
            None,
        );
        let before = run(&functions, "[]").await.unwrap();
        let hanging = run(&functions, "[\"hang\"]");
        assert!(
            tokio::time::timeout(Duration::from_millis(100), hanging)
                .await
                .is_err()
        );
        let after = run(&functions, "[]").await.unwrap();
        assert_ne!(before, after);
    }

    #[tokio::test]
    async fn a_second_answer_reaches_no_later_job() {
        let functions = shell(
            r#"printf '{"result": %s}\n{"result": "late"}\n' "$$""#,
            None,
        );
        let first = run(&functions, "[]").await.unwrap();
        let second = run(&functions, "[]").await.unwrap();
        assert!(second.is_number(), "{second}");
        assert_ne!(first, second, "the process is replaced");
    }

    #[tokio::test]
    async fn what_an_idle_process_says_reaches_no_later_job() {
        for late in [r#"{"result": "late"}"#, r#"{"progress": "late"}"#] {
            let folder = tempfile::tempdir().unwrap();
            let (go, said) = (folder.path().join("go"), folder.path().join("said"));
            let script = format!(
                r#"printf '{{"result": %s}}\n' "$$"
                while ! [ -e {} ]; do sleep 0.01; done; echo '{late}'; : > {}"#,
                go.display(),
                said.display(),
            );
            let functions = shell(&script, None);
            let first = run(&functions, "[]").await.unwrap();
            std::fs::write(&go, "").unwrap();
            appears(&said).await;
            let call = call("[]");
            let context = call.context.clone();
            let second = functions.get("f").unwrap().handler.call(call).await;
            let second: Value = serde_json::from_slice(&second.unwrap()).unwrap();
            assert!(second.is_number(), "{second}");
            assert_ne!(first, second, "the process is replaced");
            assert!(context.progress().is_empty());
        }
    }

    async fn appears(file: &std::path::Path) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !file.exists() {
            assert!(
                std::time::Instant::now() < deadline,
                "no {}",
                file.display()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_process_that_stops_reading_while_it_is_idle_fails_no_job() {
        // It has closed its stdin before it answers, and goes on living.
        let functions = shell(
            r#"exec 0<&-; printf '{"result": %s}\n' "$$"; sleep 1000"#,
            None,
        );
        let first = run(&functions, "[]").await.unwrap();
        let second = run(&functions, "[]").await.unwrap();
        assert_ne!(first, second);
    }

    #[tokio::test]
    async fn a_new_process_that_does_not_read_fails_its_job() {
        let big = format!("[\"{}\"]", "x".repeat(1_000_000));
        let config = json!({ "command": ["sh", "-c", "echo no >&2; exit 4"], "processes": 1 });
        let functions = registry(config);
        let error = run(&functions, &big).await.unwrap_err();
        assert_eq!(error.kind, "CommandDied");
        assert!(error.message.contains("exit code 4"), "{error}");
        assert_eq!(error.detail.as_deref(), Some("no"));
    }

    #[test]
    fn to_recycle_needs_a_pool() {
        let config = serde_json::from_value(json!({ "command": ["cat"], "recycle_after": 5 }));
        let functions = BTreeMap::from([("f".to_owned(), config.unwrap())]);
        let error = FunctionRegistry::new()
            .register_commands(&functions)
            .unwrap_err();
        assert!(matches!(error, CommandError::NoPool { .. }), "{error}");
    }
}
