//! What a worker says of itself while it runs.

use std::{sync::Arc, time::Duration};

use warren_plugin_api::{ErrorClass, Status};

use super::rig::Rig;
use crate::{
    store::BreakerState,
    worker::{HealthReport, HealthStatus, MemorySpool, NotTaking, WorkerHealth, test_store::Mode},
};

/// Waits until the report is as `wanted`.
async fn until(health: &WorkerHealth, wanted: impl Fn(&HealthReport) -> bool) -> HealthReport {
    let waiting = async {
        loop {
            let report = health.report();
            if wanted(&report) {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(20), waiting).await {
        Ok(report) => report,
        Err(_) => panic!("it is {:?}", health.report()),
    }
}

#[tokio::test]
async fn a_worker_is_ready_between_its_start_and_its_last_jobs() {
    let rig = Rig::new().await;
    rig.send("a", "waits_long").await;
    let running = rig.start(rig.builder());
    let ready = until(&running.health, |it| it.ready && it.jobs.running == 1).await;
    assert_eq!(ready.status, HealthStatus::Ok);
    assert_eq!((ready.worker.as_str(), ready.jobs.concurrency), ("w", 10));

    rig.shutdown.stop();
    let stopping = until(&running.health, |it| !it.ready).await;
    assert_eq!(stopping.jobs.not_taken_because, Some(NotTaking::Stopping));
    assert_eq!(stopping.status, HealthStatus::NotReady);
    assert!(stopping.live && stopping.jobs.running == 1);

    rig.functions.gate.notify_one();
    let health = running.health.clone();
    running.end().await;
    let ended = health.report();
    assert_eq!((ended.status, ended.live), (HealthStatus::Ended, false));
}

#[tokio::test]
async fn a_worker_without_its_store_takes_jobs_and_says_what_is_wrong() {
    let rig = Rig::new().await;
    rig.store.set(Mode::Fails(ErrorClass::Unavailable));
    rig.send("a", "echo").await;
    let running = rig.start(rig.builder());
    let troubled = until(&running.health, |it| it.spool.records == 1).await;
    assert_eq!(troubled.status, HealthStatus::Degraded);
    assert!(troubled.ready && troubled.spool.bytes > 0);
    let breaker = troubled.store.breaker.unwrap();
    assert_ne!(breaker.state, BreakerState::Closed);
    assert_eq!(breaker.last_error.unwrap().message, "as told");

    rig.store.set(Mode::Works);
    let well = until(&running.health, |it| it.status == HealthStatus::Ok).await;
    assert_eq!((well.spool.records, well.spool.bytes), (0, 0));
    assert_eq!(well.counts.results_replayed, 1);
    rig.shutdown.stop();
    running.end().await;
}

#[tokio::test]
async fn a_worker_whose_spool_is_full_says_that_it_takes_no_jobs() {
    let rig = Rig::new().await;
    rig.store.set(Mode::Fails(ErrorClass::Unavailable));
    rig.send("a", "echo").await;
    rig.send("b", "echo").await;
    let builder = rig.builder().spool(Arc::new(MemorySpool::new(1, 10_000)));
    let running = rig.start(builder);
    let full = until(&running.health, |it| !it.ready && it.counts.completed == 2).await;
    assert_eq!(full.jobs.not_taken_because, Some(NotTaking::SpoolFull));
    assert_eq!((full.spool.records, full.spool.no_room_for), (1, 1));
    rig.store.set(Mode::Works);
    until(&running.health, |it| it.status == HealthStatus::Ok).await;
    rig.shutdown.stop();
    running.end().await;
}

#[tokio::test]
async fn the_metrics_say_what_became_of_the_jobs() {
    let rig = Rig::new().await;
    let running = rig.start(rig.builder());
    // Calls are measured from the first look on.
    running.health.metrics();
    rig.send("a", "echo").await;
    rig.send("b", "detailed").await;
    rig.send("c", "nobody's").await;
    for (id, status) in [
        ("a", Status::Completed),
        ("b", Status::Failed),
        ("c", Status::Failed),
    ] {
        rig.store.wait_for(id, status).await;
    }
    until(&running.health, |it| it.counts.results_stored == 3).await;
    let text = running.health.metrics();
    for line in [
        "warren_jobs_total{function=\"echo\",outcome=\"completed\"} 1",
        "warren_jobs_total{function=\"detailed\",outcome=\"failed\"} 1",
        "warren_jobs_total{function=\"\",outcome=\"failed\"} 1",
        "warren_job_duration_seconds_count{function=\"echo\"} 1",
        "warren_job_duration_seconds_bucket{function=\"echo\",le=\"+Inf\"} 1",
        "warren_results_total{what=\"stored\"} 3",
        "warren_worker_ready 1.0",
        "warren_broker_connected 1.0",
        "warren_store_breaker{store=\"test\",state=\"closed\"} 1.0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
    }
    let calls = "warren_store_call_duration_seconds_count{store=\"test\",operation=\"put_many\"}";
    assert!(text.contains(calls), "{text}");
    rig.shutdown.stop();
    running.end().await;
}

/// So that no tool stumbles: a family is described once, before its samples, and each line is one.
#[tokio::test]
async fn every_line_of_the_metrics_belongs_to_a_family_that_was_described() {
    let rig = Rig::new().await;
    let text = rig.builder().build().unwrap().health().metrics();
    let mut families: Vec<&str> = Vec::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let name = described.split(' ').next().unwrap();
            assert!(!families.contains(&name), "{name} twice");
            families.push(name);
        } else if !line.starts_with("# HELP ") {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(name.starts_with(families.last().unwrap()), "{line}");
            let value = line.rsplit(' ').next().unwrap();
            value.parse::<f64>().unwrap();
        }
    }
    assert!(families.len() > 20, "{families:?}");
}
