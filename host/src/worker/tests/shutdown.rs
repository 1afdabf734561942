//! A worker that is asked to stop loses nothing.

use std::time::Duration;

use warren_plugin_api::Status;

use super::rig::{Rig, Running};
use crate::worker::{Burst, WorkerError};

impl Running {
    /// Waits until so many jobs are running.
    async fn runs(&self, count: u64) {
        let reached = async {
            while self.stats.report().running != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_graceful_stop_lets_running_jobs_finish_and_starts_no_more() {
    let rig = Rig::new().await;
    for id in ["a", "b", "c"] {
        rig.send(id, "waits").await;
    }
    let running = rig.start(rig.builder().concurrency(1).prefetch(10));
    running.runs(1).await;
    rig.shutdown.stop();
    rig.functions.gate.notify_one();
    let report = running.end().await;
    assert_eq!((report.completed, rig.functions.runs()), (1, 1));
    assert_eq!(rig.store.record("a").unwrap().status, Status::Completed);
    assert_eq!(rig.queued().await.len(), 2);
}

#[tokio::test]
async fn a_second_request_gives_running_jobs_back_at_once() {
    let rig = Rig::new().await;
    rig.send("a", "waits").await;
    let running = rig.start(rig.builder());
    running.runs(1).await;
    rig.store.wait_for("a", Status::InProgress).await;
    rig.shutdown.request();
    rig.shutdown.request();
    let report = running.end().await;
    assert_eq!((report.completed, report.requeued), (0, 1));
    let record = rig.store.record("a").unwrap();
    assert_eq!(
        (record.status, record.worker.as_str()),
        (Status::InProgress, "")
    );
    assert_eq!(rig.queued().await.len(), 1);
}

#[tokio::test]
async fn after_the_grace_time_running_jobs_are_given_back() {
    let rig = Rig::new().await;
    rig.send("a", "waits").await;
    let running = rig.start(rig.builder().grace(Duration::from_millis(50)));
    running.runs(1).await;
    rig.shutdown.stop();
    let report = running.end().await;
    assert_eq!(report.requeued, 1);
    assert_eq!(rig.queued().await.len(), 1);
}

#[tokio::test]
async fn a_burst_that_takes_too_long_ends_with_everything_in_its_place() {
    let rig = Rig::new().await;
    rig.send("a", "waits").await;
    rig.send("b", "waits").await;
    let burst = Burst {
        timeout: Duration::from_millis(100),
        ..Burst::default()
    };
    let builder = rig
        .builder()
        .concurrency(1)
        .burst(burst)
        .grace(Duration::from_millis(50));
    let report = rig.start(builder).end().await;
    assert_eq!((report.completed, rig.functions.runs()), (0, 1));
    assert_eq!(rig.queued().await.len(), 2);
}

#[tokio::test]
async fn a_burst_over_an_empty_queue_ends_at_once() {
    let rig = Rig::new().await;
    let report = rig.burst().await;
    assert_eq!(report, Default::default());
}

#[tokio::test]
async fn a_broker_that_is_closed_ends_the_worker_with_an_error() {
    let rig = Rig::new().await;
    let running = rig.start(rig.builder());
    rig.send("a", "echo").await;
    rig.store.wait_for("a", Status::Completed).await;
    rig.broker.close().await;
    assert_eq!(running.result().await, Err(WorkerError::ConsumerEnded));
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_by_name() {
    let rig = Rig::new().await;
    let refused = [
        rig.builder().queues([]),
        rig.builder().concurrency(0),
        rig.builder().prefetch(0),
        rig.builder().name(""),
        rig.builder().result_ttl(Duration::ZERO),
        rig.builder().max_lost_runs(0),
    ];
    let names = [
        "queues",
        "concurrency",
        "prefetch",
        "name",
        "result_ttl",
        "max_lost_runs",
    ];
    for (builder, name) in refused.into_iter().zip(names) {
        let error = builder.build().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("worker option {name:?} is ")),
            "{error}"
        );
    }
}
