//! What an embedding program may do at certain moments of a worker's life.
//!
//! A hook observes. It may fail, panic or hang: that is logged and counted, it is cut off after
//! the worker's hook timeout, and no job's outcome changes. Only `on_startup` is different: if it
//! fails, the worker does not start.

use std::{fmt, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use warren_plugin_api::{Payload, Status, Text, Timestamp};

use super::{WorkerReport, stats::WorkerStats};

/// Why a hook failed, in its own words.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// What a hook returns.
pub type HookResult = Result<(), HookError>;

type Hook<C> = Arc<dyn Fn(C) -> BoxFuture<'static, HookResult> + Send + Sync>;

/// The hooks of a worker. All are optional.
#[derive(Clone, Default)]
pub struct Hooks {
    startup: Option<Hook<StartupContext>>,
    shutdown: Option<Hook<WorkerReport>>,
    job_start: Option<Hook<Arc<JobInfo>>>,
    job_end: Option<Hook<JobEnd>>,
    job_success: Option<Hook<JobEnd>>,
    job_failure: Option<Hook<JobEnd>>,
}

/// What `on_startup` is told.
#[derive(Debug, Clone)]
pub struct StartupContext {
    /// The worker's id.
    pub worker: String,
    /// The queues it is about to consume.
    pub queues: Vec<String>,
}

/// What is known about an attempt before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobInfo {
    /// The job.
    pub job_id: Text,
    /// The function it names.
    pub function: Text,
    /// The queue it was taken from.
    pub queue: String,
    /// The worker that has taken it.
    pub worker: Text,
    /// 1-based.
    pub attempt: u32,
    /// When a client accepted it.
    pub enqueued_at: Option<Timestamp>,
}

/// What is known about an attempt after it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// The attempt.
    pub job: Arc<JobInfo>,
    /// `completed`, `failed`, `aborted`, or `retrying` when another attempt follows.
    pub status: Status,
    /// What it returned, JSON; empty unless it completed.
    pub result: Payload,
    /// Why it did not complete, as `Type: message`.
    pub error: Option<Text>,
    /// How long the function ran; `None` when it was not run.
    pub duration: Option<Duration>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident => $field:ident($context:ty),)*) => {
        impl Hooks {
            $($(#[$doc])*
            #[must_use]
            pub fn $name<H, F>(mut self, hook: H) -> Self
            where
                H: Fn($context) -> F + Send + Sync + 'static,
                F: Future<Output = HookResult> + Send + 'static,
            {
                self.$field = Some(Arc::new(move |context| hook(context).boxed()));
                self
            })*
        }
    };
}

setters! {
    /// Runs after the queues were declared and before the first job is taken.
    on_startup => startup(StartupContext),
    /// Runs last, when no job is running any more and all results are stored.
    on_shutdown => shutdown(WorkerReport),
    /// Runs before each attempt; the attempt waits for it.
    on_job_start => job_start(Arc<JobInfo>),
    /// Runs after each attempt that was started, whatever its end.
    on_job_end => job_end(JobEnd),
    /// Runs when a job has completed.
    on_job_success => job_success(JobEnd),
    /// Runs when a job has ended without completing, started or not. Not before a retry.
    on_job_failure => job_failure(JobEnd),
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("on_startup", &self.startup.is_some())
            .field("on_shutdown", &self.shutdown.is_some())
            .field("on_job_start", &self.job_start.is_some())
            .field("on_job_end", &self.job_end.is_some())
            .field("on_job_success", &self.job_success.is_some())
            .field("on_job_failure", &self.job_failure.is_some())
            .finish()
    }
}

/// Runs hooks for one worker.
#[derive(Debug, Clone)]
pub(super) struct HookRunner {
    hooks: Hooks,
    timeout: Duration,
    stats: WorkerStats,
}

impl HookRunner {
    pub(super) fn new(hooks: Hooks, timeout: Duration, stats: WorkerStats) -> Self {
        Self {
            hooks,
            timeout,
            stats,
        }
    }

    /// # Errors
    /// What went wrong, in one sentence.
    pub(super) async fn startup(&self, context: StartupContext) -> Result<(), String> {
        match &self.hooks.startup {
            Some(hook) => self.call(hook, context).await,
            None => Ok(()),
        }
    }

    pub(super) async fn shutdown(&self, report: WorkerReport) {
        self.observe("on_shutdown", self.hooks.shutdown.as_ref(), report, None)
            .await;
    }

    pub(super) fn wants_jobs(&self) -> bool {
        let hooks = &self.hooks;
        hooks.job_start.is_some()
            || hooks.job_end.is_some()
            || hooks.job_success.is_some()
            || hooks.job_failure.is_some()
    }

    pub(super) async fn job_start(&self, job: &Arc<JobInfo>) {
        let context = Arc::clone(job);
        self.observe(
            "on_job_start",
            self.hooks.job_start.as_ref(),
            context,
            Some(job),
        )
        .await;
    }

    pub(super) async fn job_end(&self, end: JobEnd, was_started: bool) {
        let job = Arc::clone(&end.job);
        let job = Some(&job);
        match end.status {
            Status::Completed => {
                let hook = self.hooks.job_success.as_ref();
                self.observe("on_job_success", hook, end.clone(), job).await;
            }
            Status::Failed | Status::Aborted => {
                let hook = self.hooks.job_failure.as_ref();
                self.observe("on_job_failure", hook, end.clone(), job).await;
            }
            Status::Queued | Status::InProgress | Status::Retrying => {}
        }
        if was_started {
            self.observe("on_job_end", self.hooks.job_end.as_ref(), end, job)
                .await;
        }
    }

    async fn observe<C>(
        &self,
        name: &'static str,
        hook: Option<&Hook<C>>,
        context: C,
        job: Option<&Arc<JobInfo>>,
    ) {
        let Some(hook) = hook else { return };
        if let Err(problem) = self.call(hook, context).await {
            self.stats.0.hook_failures.increment();
            let job_id = job.map(|job| job.job_id.as_str());
            tracing::warn!(
                hook = name,
                job_id,
                problem,
                "a hook failed; the job is not affected"
            );
        }
    }

    async fn call<C>(&self, hook: &Hook<C>, context: C) -> Result<(), String> {
        // The call itself may panic as well as the future that it makes.
        let running = AssertUnwindSafe(async { hook(context).await }).catch_unwind();
        match tokio::time::timeout(self.timeout, running).await {
            Ok(Ok(outcome)) => outcome.map_err(|error| error.to_string()),
            Ok(Err(panic)) => Err(format!("it panicked: {}", panic_text(&*panic))),
            Err(_elapsed) => Err(format!("it did not end within {:?}", self.timeout)),
        }
    }
}

/// What a panic said, if it said it in words.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(hooks: Hooks) -> HookRunner {
        HookRunner::new(hooks, Duration::from_secs(5), WorkerStats::default())
    }

    fn context() -> StartupContext {
        StartupContext {
            worker: "w".to_owned(),
            queues: vec!["q".to_owned()],
        }
    }

    #[tokio::test]
    async fn a_failing_start_says_why() {
        let failing = runner(Hooks::default().on_startup(async |_| Err("no database".into())));
        assert_eq!(
            failing.startup(context()).await,
            Err("no database".to_owned())
        );
        let panicking = runner(Hooks::default().on_startup(|_| async { panic!("boom") }));
        assert_eq!(
            panicking.startup(context()).await,
            Err("it panicked: boom".to_owned())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_hook_is_cut_off_and_counted() {
        let hooks = Hooks::default().on_shutdown(|_| std::future::pending());
        let runner = runner(hooks);
        runner.shutdown(WorkerReport::default()).await;
        assert_eq!(runner.stats.report().hook_failures, 1);
    }
}
