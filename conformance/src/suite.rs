//! Running the suite over a store.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use serde_json::Value;
use warren_plugin_api::{Capabilities, StoreObject, StoreResult, Text};

use crate::{
    case::{self, Case},
    context::Context,
    expect::Failure,
    report::{CaseReport, Outcome, Report},
};

pub(crate) type Opener =
    Arc<dyn Fn() -> BoxFuture<'static, StoreResult<StoreObject>> + Send + Sync>;
pub(crate) type Damage = Arc<dyn Fn(Text) -> BoxFuture<'static, ()> + Send + Sync>;

/// How long a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Batches of 1,000 and few rounds: seconds, for a first look.
    Quick,
    /// Everything: batches of 10,000, whole matrices.
    #[default]
    Full,
}

/// The suite, ready to run over one store.
///
/// Runs inside a tokio runtime of several threads, with time enabled.
#[derive(Clone)]
pub struct Suite {
    options: Arc<Options>,
}

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) opener: Opener,
    pub(crate) scale: Scale,
    pub(crate) alone: bool,
    pub(crate) case_timeout: Duration,
    pub(crate) most_tested_record_bytes: u64,
    pub(crate) declared: Option<Capabilities>,
    pub(crate) config_schema: Option<Value>,
    pub(crate) secrets: Vec<String>,
    pub(crate) unreachable: Option<Opener>,
    pub(crate) unresponsive: Option<Opener>,
    pub(crate) wrong_credentials: Option<Opener>,
    pub(crate) no_room: Option<Opener>,
    pub(crate) damage: Option<Damage>,
}

fn boxed<F, R>(open: F) -> Opener
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = StoreResult<StoreObject>> + Send + 'static,
{
    Arc::new(move || Box::pin(open()))
}

impl Suite {
    /// A suite over the store that `open` opens. Each call must open the same backing data again:
    /// the suite compares several handles, and reads after closing what it wrote before.
    pub fn new<F, R>(open: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = StoreResult<StoreObject>> + Send + 'static,
    {
        Self {
            options: Arc::new(Options {
                opener: boxed(open),
                scale: Scale::default(),
                alone: false,
                case_timeout: Duration::from_secs(60),
                most_tested_record_bytes: 32 * 1024 * 1024,
                declared: None,
                config_schema: None,
                secrets: Vec::new(),
                unreachable: None,
                unresponsive: None,
                wrong_credentials: None,
                no_room: None,
                damage: None,
            }),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }

    /// How long the run may take.
    #[must_use]
    pub fn scale(self, scale: Scale) -> Self {
        self.with(|options| options.scale = scale)
    }

    /// Promises that nobody else uses the store meanwhile and that it holds no other data. Figures
    /// are then checked exactly, and listings without a filter too. Never promise it of a store
    /// with data that matters: a case lets time pass for `cleanup_expired`.
    #[must_use]
    pub fn alone(self) -> Self {
        self.with(|options| options.alone = true)
    }

    /// How long one case may take before it counts as failed. Default: 60 seconds.
    #[must_use]
    pub fn case_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.case_timeout = timeout)
    }

    /// Record limits beyond this many bytes are not tried out. Default: 32 MiB.
    #[must_use]
    pub fn most_tested_record_bytes(self, bytes: u64) -> Self {
        self.with(|options| options.most_tested_record_bytes = bytes)
    }

    /// What the plugin's manifest declares: the opened store may not claim more.
    #[must_use]
    pub fn declared(self, capabilities: Capabilities) -> Self {
        self.with(|options| options.declared = Some(capabilities))
    }

    /// The JSON Schema of the store's configuration, as the plugin's manifest has it.
    #[must_use]
    pub fn config_schema(self, schema: Value) -> Self {
        self.with(|options| options.config_schema = Some(schema))
    }

    /// A word of the store's configuration, such as a password, that it must never show.
    #[must_use]
    pub fn secret(self, word: impl Into<String>) -> Self {
        self.with(|options| options.secrets.push(word.into()))
    }

    /// How to open the store on a backend that is not there, such as a port without a server.
    #[must_use]
    pub fn unreachable<F, R>(self, open: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = StoreResult<StoreObject>> + Send + 'static,
    {
        self.with(|options| options.unreachable = Some(boxed(open)))
    }

    /// How to open the store on a backend that takes connections and answers nothing.
    #[must_use]
    pub fn unresponsive<F, R>(self, open: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = StoreResult<StoreObject>> + Send + 'static,
    {
        self.with(|options| options.unresponsive = Some(boxed(open)))
    }

    /// How to open the store with credentials that its backend refuses.
    #[must_use]
    pub fn wrong_credentials<F, R>(self, open: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = StoreResult<StoreObject>> + Send + 'static,
    {
        self.with(|options| options.wrong_credentials = Some(boxed(open)))
    }

    /// How to open the store on a backend that has no room for another record: a full disk, a
    /// limit of memory.
    #[must_use]
    pub fn no_room<F, R>(self, open: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = StoreResult<StoreObject>> + Send + 'static,
    {
        self.with(|options| options.no_room = Some(boxed(open)))
    }

    /// How to make the stored record of a job unreadable, behind the store's back.
    #[must_use]
    pub fn damage<F, R>(self, damage: F) -> Self
    where
        F: Fn(Text) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.with(|options| {
            options.damage = Some(Arc::new(move |job_id| Box::pin(damage(job_id))));
        })
    }

    /// Runs every case.
    pub async fn run(&self) -> Report {
        self.run_matching("").await
    }

    /// Runs the cases whose id begins with `prefix`: a group, or one case.
    pub async fn run_matching(&self, prefix: &str) -> Report {
        let mut cases = Vec::new();
        for case in case::all().filter(|case| case.info.id.starts_with(prefix)) {
            cases.push(self.run_one(case).await);
        }
        Report { cases }
    }

    /// Runs one case; `None` when there is no case of this id.
    pub async fn run_case(&self, id: &str) -> Option<CaseReport> {
        let case = case::all().find(|case| case.info.id == id)?;
        Some(self.run_one(case).await)
    }

    async fn run_one(&self, case: &'static Case) -> CaseReport {
        let started = Instant::now();
        let outcome = match Context::open(case.info.id, Arc::clone(&self.options)).await {
            Ok(context) => {
                let context = Arc::new(context);
                let outcome = self.judged(case, &context).await;
                context.clean_up().await;
                outcome
            }
            Err(failure) => outcome_of(Err(failure)),
        };
        CaseReport {
            id: case.info.id,
            rules: case.info.rules,
            outcome,
            took: started.elapsed(),
        }
    }

    /// On a task of its own: a panic ends there, and a store that blocks holds up nobody else.
    async fn judged(&self, case: &'static Case, context: &Arc<Context>) -> Outcome {
        for need in case.needs {
            if let Some(reason) = need.missing(context.capabilities(), &self.options) {
                return Outcome::NotApplicable(reason.to_owned());
            }
        }
        let context = Arc::clone(context);
        let mut task = tokio::spawn(async move { (case.run)(&context).await });
        let timeout = self.options.case_timeout;
        match tokio::time::timeout(timeout, &mut task).await {
            Ok(Ok(checked)) => outcome_of(checked),
            Ok(Err(error)) => Outcome::Failed(panic_text(error)),
            Err(_elapsed) => {
                task.abort();
                Outcome::Failed(format!(
                    "expected an end within {timeout:?}, found a call that hangs"
                ))
            }
        }
    }
}

fn outcome_of(checked: Result<(), Failure>) -> Outcome {
    match checked {
        Ok(()) => Outcome::Passed,
        Err(Failure::Broken(reason)) => Outcome::Failed(reason),
        Err(Failure::NotApplicable(reason)) => Outcome::NotApplicable(reason),
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else {
        return "the case was cancelled".to_owned();
    };
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    format!("expected no panic, found: {text}")
}
