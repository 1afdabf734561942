//! Hooks see everything and change nothing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use warren_plugin_api::Status;

use super::rig::Rig;
use crate::worker::{Hooks, JobEnd, WorkerError};

type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: impl Into<String>) {
    log.lock().unwrap().push(what.into());
}

/// Hooks that write down when they are called.
fn writing(log: &Log) -> Hooks {
    let of_end = |name: &'static str, log: &Log| {
        let log = Arc::clone(log);
        move |end: JobEnd| {
            let error = end
                .error
                .map(|error| format!(" {error}"))
                .unwrap_or_default();
            note(
                &log,
                format!("{name} {} {}{error}", end.job.job_id, end.status),
            );
            async { Ok(()) }
        }
    };
    let (startup, shutdown, start) = (Arc::clone(log), Arc::clone(log), Arc::clone(log));
    Hooks::default()
        .on_startup(move |context| {
            note(
                &startup,
                format!("startup {} {:?}", context.worker, context.queues),
            );
            async { Ok(()) }
        })
        .on_shutdown(move |report| {
            note(
                &shutdown,
                format!("shutdown {}", report.completed + report.failed),
            );
            async { Ok(()) }
        })
        .on_job_start(move |job| {
            note(&start, format!("start {} {}", job.job_id, job.attempt));
            async { Ok(()) }
        })
        .on_job_end(of_end("end", log))
        .on_job_success(of_end("success", log))
        .on_job_failure(of_end("failure", log))
}

#[tokio::test]
async fn every_hook_is_called_in_its_place_and_sees_the_outcome() {
    let rig = Rig::new().await;
    let log = Log::default();
    rig.send("good", "echo").await;
    rig.send("bad", "detailed").await;
    rig.send("unknown", "nothing").await;
    rig.burst_with(rig.builder().concurrency(1).hooks(writing(&log)))
        .await;
    let log = log.lock().unwrap().clone();
    assert_eq!(log[0], "startup w [\"jobs\"]");
    assert_eq!(
        log[1..4],
        [
            "start good 1",
            "success good completed",
            "end good completed"
        ]
    );
    assert_eq!(log[4], "start bad 1");
    assert_eq!(log[5], "failure bad failed ValueError: boom é中");
    assert_eq!(log[6], "end bad failed ValueError: boom é中");
    assert!(
        log[7].starts_with("failure unknown failed UnknownFunction"),
        "{log:?}"
    );
    assert_eq!(log[8..], ["shutdown 3"]);
}

#[tokio::test]
async fn a_retry_is_an_end_and_no_failure() {
    let rig = Rig::new().await;
    let log = Log::default();
    rig.send("a", "asks").await;
    rig.burst_with(rig.builder().hooks(writing(&log))).await;
    let log = log.lock().unwrap().clone();
    let expected = [
        "start a 1",
        "end a retrying Retry: not yet",
        "start a 2",
        "success a completed",
    ];
    assert_eq!(log[1..5], expected);
}

#[tokio::test]
async fn hooks_that_fail_panic_or_hang_change_no_outcome() {
    let rig = Rig::new().await;
    rig.send("a", "echo").await;
    let hooks = Hooks::default()
        .on_job_start(async |_| Err("no".into()))
        .on_job_success(|_| async { panic!("boom") })
        .on_job_end(|_| std::future::pending())
        .on_shutdown(async |_| Err("no".into()));
    let builder = rig
        .builder()
        .hooks(hooks)
        .hook_timeout(Duration::from_millis(50));
    let report = rig.burst_with(builder).await;
    assert_eq!(rig.store.record("a").unwrap().status, Status::Completed);
    assert_eq!((report.completed, report.hook_failures), (1, 4));
    assert_eq!(rig.functions.runs(), 1);
}

#[tokio::test]
async fn a_failing_start_up_hook_keeps_the_worker_from_starting() {
    let rig = Rig::new().await;
    rig.send("a", "echo").await;
    let hooks = Hooks::default().on_startup(async |_| Err("no database".into()));
    let result = rig.start(rig.builder().hooks(hooks)).result().await;
    assert_eq!(
        result,
        Err(WorkerError::Startup {
            reason: "no database".to_owned()
        })
    );
    assert_eq!(rig.queued().await.len(), 1);
}
