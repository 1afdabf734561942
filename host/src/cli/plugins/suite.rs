//! Running the conformance suite over a plugin, whatever the plugin does.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::oneshot;
use warren_conformance::{CaseInfo, CaseReport, Outcome, Report, Scale, Suite, cases, rules};
use warren_plugin_api::{ErrorClass, StoreError, StoreObject, StoreResult};

use super::{arguments::CheckCommand, check::Faults, own_process::Progress};
use crate::{
    cli::{
        error::{CliError, Exit},
        output::Output,
    },
    store::{OpenError, StoreType},
};

/// A store that has hung in this many cases would hang in the others too.
const MOST_HANGS: usize = 3;
/// Threads of a case: a call that blocks one must not stop its clock.
const THREADS: usize = 4;

/// The cases that were asked for.
pub(super) fn chosen_cases(only: &[String]) -> Result<Vec<CaseInfo>, CliError> {
    let chosen: Vec<CaseInfo> = cases().filter(|case| is_chosen(case, only)).collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let kept = rules()
        .into_iter()
        .find(|rule| only.iter().any(|only| only == rule.id));
    if let Some(rule) = kept {
        let text = format!(
            "{} is kept by Warren for every store: no case checks it",
            rule.id
        );
        return Err(CliError::new(Exit::Usage, text).with_hint(rule.text));
    }
    let mut groups: Vec<&str> = cases()
        .map(|case| case.id.split("::").next().unwrap_or(case.id))
        .collect();
    groups.dedup();
    let text = format!(
        "--only {}: no case begins so, and no case checks such a rule",
        only.join(" --only ")
    );
    Err(CliError::new(Exit::Usage, text)
        .with_hint(format!("groups of cases: {}", groups.join(", "))))
}

fn is_chosen(case: &CaseInfo, only: &[String]) -> bool {
    only.is_empty()
        || only
            .iter()
            .any(|only| case.id.starts_with(only.as_str()) || case.rules.contains(&only.as_str()))
}

/// The suite over what the plugin's constructor makes of `config`, anew for each handle.
pub(super) fn suite_over(
    store: &StoreType,
    config: &Value,
    faults: Faults,
    command: &CheckCommand,
) -> Suite {
    let scale = if command.full {
        Scale::Full
    } else {
        Scale::Quick
    };
    let mut suite = Suite::new(opener(store, config, command.timeout))
        .scale(scale)
        .case_timeout(command.timeout)
        .declared(store.capabilities().clone())
        .config_schema(store.manifest.config_schema.clone());
    if command.alone {
        suite = suite.alone();
    }
    let faulty = |config: &Value| opener(store, config, command.timeout);
    if let Some(config) = &faults.unreachable {
        suite = suite.unreachable(faulty(config));
    }
    if let Some(config) = &faults.unresponsive {
        suite = suite.unresponsive(faulty(config));
    }
    if let Some(config) = &faults.wrong_credentials {
        suite = suite.wrong_credentials(faulty(config));
    }
    if let Some(config) = &faults.no_room {
        suite = suite.no_room(faulty(config));
    }
    command
        .secret
        .iter()
        .fold(suite, |suite, word| suite.secret(word))
}

/// Opens another handle at each call.
pub(super) fn opener(
    store: &StoreType,
    config: &Value,
    deadline: Duration,
) -> impl Fn() -> BoxFuture<'static, StoreResult<StoreObject>> + Send + Sync + use<> {
    let (store, config) = (store.clone(), config.clone());
    move || {
        let (store, config) = (store.clone(), config.clone());
        Box::pin(async move {
            let opened = store.open_within(deadline, &config).await;
            opened.map_err(|error| match error {
                OpenError::Constructor { error, .. } => error,
                other => StoreError::internal(other.to_string()),
            })
        })
    }
}

/// What came of the cases.
pub(super) struct Ran {
    pub(super) report: Report,
    pub(super) not_tried: Option<NotTried>,
    /// No cases were chosen: it speaks of every rule.
    pub(super) of_all_rules: bool,
    pub(super) full: bool,
    pub(super) took: Duration,
}

/// Cases that nothing would be learned from.
pub(super) struct NotTried {
    pub(super) cases: Vec<CaseInfo>,
    pub(super) why: String,
}

/// Runs the cases one after the other, and gives up on a store that hangs again and again, or
/// whose backend went away meanwhile.
pub(super) async fn run(
    suite: &Suite,
    open: impl Fn() -> BoxFuture<'static, StoreResult<StoreObject>>,
    cases: Vec<CaseInfo>,
    command: &CheckCommand,
    progress: &Progress,
    output: &Output,
) -> Ran {
    let started = Instant::now();
    let bar = output.progress_bar(cases.len() as u64, "cases");
    let mut reports = Vec::with_capacity(cases.len());
    let (mut hung, mut cases) = (0, cases.into_iter());
    let mut why = None;
    while why.is_none()
        && let Some(case) = cases.next()
    {
        progress.say(&format!("in case {} ({})", case.id, case.rules.join(", ")));
        let report = run_case(suite, case, command.timeout).await;
        if matches!(report.outcome, Outcome::Failed(_)) {
            if report.took >= command.timeout {
                hung += 1;
            }
            why = if hung >= MOST_HANGS {
                Some(format!("the store hung in {MOST_HANGS}"))
            } else {
                let gone = unavailable(open(), command.timeout).await;
                gone.map(|error| format!("its backend does not answer any more: {error}"))
            };
        }
        bar.inc(1);
        reports.push(report);
    }
    let not_tried = why.map(|why| NotTried {
        cases: cases.collect(),
        why,
    });
    bar.finish_and_clear();
    Ran {
        report: Report { cases: reports },
        not_tried: not_tried.filter(|it| !it.cases.is_empty()),
        of_all_rules: command.only.is_empty(),
        full: command.full,
        took: started.elapsed(),
    }
}

/// What a new handle says, when that is that its backend is away.
async fn unavailable(
    opening: BoxFuture<'static, StoreResult<StoreObject>>,
    timeout: Duration,
) -> Option<StoreError> {
    let asked = on_own_threads(async move {
        let store = opening.await?;
        store.health_check().await?;
        store.close().await
    });
    let answer = tokio::time::timeout(timeout, asked).await.ok()??;
    answer
        .err()
        .filter(|error| error.class() == ErrorClass::Unavailable)
}

fn failed(case: CaseInfo, reason: String, took: Duration) -> CaseReport {
    CaseReport {
        id: case.id,
        rules: case.rules,
        outcome: Outcome::Failed(reason),
        took,
    }
}

/// One case on threads of its own: a store that blocks every one of them has them, and nothing
/// else of this program.
async fn run_case(suite: &Suite, case: CaseInfo, timeout: Duration) -> CaseReport {
    // Opening, the case itself and cleaning up have this long each.
    let limit = timeout * 3 + Duration::from_secs(1);
    let started = Instant::now();
    let suite = suite.clone();
    let ran = on_own_threads(async move { suite.run_case(case.id).await });
    match tokio::time::timeout(limit, ran).await {
        Ok(Some(Some(report))) => report,
        Ok(_) => failed(
            case,
            "the case could not be run".to_owned(),
            started.elapsed(),
        ),
        Err(_elapsed) => {
            let reason =
                format!("expected an end within {timeout:?}, found calls that block their threads");
            failed(case, reason, started.elapsed())
        }
    }
}

/// Runs `work` on a runtime of its own; `None` when there is none to be had.
pub(super) async fn on_own_threads<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("warren-check".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(THREADS)
                .enable_all()
                .build()?;
            // Nobody waits any more when the limit has passed.
            let _ = sender.send(runtime.block_on(work));
            // What still blocks a thread must not hold up this one.
            runtime.shutdown_background();
            std::io::Result::Ok(())
        })
        .ok()?;
    receiver.await.ok()
}
