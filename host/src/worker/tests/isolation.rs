//! A store that hangs holds no more calls than it may, and no job once that is known.

use std::{num::NonZeroU32, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;
use warren_plugin_api::ErrorClass;

use super::rig::Rig;
use crate::{
    store::{BreakerState, StorePolicy},
    worker::test_store::{Mode, TestStore},
};

const DEADLINE: Duration = Duration::from_secs(5);

fn policy(calls: u32) -> StorePolicy {
    StorePolicy {
        deadline: DEADLINE,
        max_concurrent_calls: NonZeroU32::new(calls).unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_no_more_calls_than_it_may() {
    let test_store = TestStore::new();
    let store = test_store.open_with(policy(2));
    test_store.set(Mode::Holds);
    let began = Instant::now();
    let answers = join_all((0..5).map(|_| store.get("a".into()))).await;
    assert_eq!(began.elapsed(), DEADLINE, "all at once, none later");
    assert_eq!(test_store.reads(), 2);
    let report = store.report();
    assert_eq!((report.calls_timed_out, report.calls_busy), (2, 3));
    assert_eq!(report.calls_in_flight, 0);
    let mut busy = 0;
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unavailable);
        busy += usize::from(error.message().contains("busy: 2 calls"));
    }
    assert_eq!(busy, 3);
}

#[tokio::test]
async fn calls_beyond_the_limit_have_their_turn() {
    let test_store = TestStore::new();
    let store = test_store.open_with(policy(1));
    test_store.set(Mode::Holds);
    let calls = tokio::spawn({
        let store = store.clone();
        async move { join_all((0..20).map(|_| store.get("a".into()))).await }
    });
    while store.report().calls_in_flight == 0 {
        tokio::task::yield_now().await;
    }
    test_store.set(Mode::Works);
    for answer in calls.await.unwrap() {
        assert_eq!(answer, Ok(None));
    }
}

#[tokio::test]
async fn results_are_spooled_when_the_store_has_no_turn_for_them() {
    let rig = Rig::new().await;
    rig.send("a", "echo").await;
    let store = rig.store.open_with(StorePolicy {
        deadline: Duration::from_millis(200),
        ..policy(1)
    });
    rig.store.set(Mode::Holds);
    let worker = rig.start(rig.builder_on(store.clone()));
    // Somebody else of this process keeps the only turn taken.
    let crowd = tokio::spawn(async move {
        loop {
            let _ = store.get("x".into()).await;
        }
    });
    while worker.stats.report().results_spooled == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    crowd.abort();
    rig.store.set(Mode::Works);
    rig.store
        .wait_for("a", warren_plugin_api::Status::Completed)
        .await;
    rig.shutdown.stop();
    let report = worker.end().await;
    assert_eq!((report.results_lost, report.results_refused), (0, 0));
    assert_eq!(rig.functions.runs(), 1);
}

#[tokio::test]
async fn jobs_wait_for_a_store_that_hangs_once_and_then_no_more() {
    let rig = Rig::new().await;
    for number in 0..10 {
        rig.send(&format!("job-{number}"), "echo").await;
    }
    // The store is asked about what was handed over before.
    rig.redeliver().await;
    rig.store.set(Mode::Holds);
    let worker = rig.start(rig.builder().concurrency(1));
    let all_ran = async {
        while worker.stats.report().completed < 10 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_ran)
        .await
        .unwrap();
    assert_eq!(rig.store.reads(), 1);
    let report = worker.stats.report();
    assert!(report.store_calls_refused >= 9, "{report:?}");
    assert_eq!((report.store_opened, report.redelivered), (1, 10));
    let store = worker.stats.store().unwrap();
    let breaker = store.breaker.unwrap();
    assert_ne!(breaker.state, BreakerState::Closed);
    assert_eq!(breaker.last_error.unwrap().class, ErrorClass::Unavailable);

    rig.store.set(Mode::Works);
    for number in 0..10 {
        let id = format!("job-{number}");
        rig.store
            .wait_for(&id, warren_plugin_api::Status::Completed)
            .await;
    }
    rig.shutdown.stop();
    worker.end().await;
}

#[tokio::test]
async fn a_store_that_fails_a_reader_is_tried_again_although_nothing_is_to_be_written() {
    let rig = Rig::new().await;
    rig.send("a", "waits_long").await;
    rig.redeliver().await;
    rig.store.set(Mode::Fails(ErrorClass::Unavailable));
    let worker = rig.start(rig.builder());
    while worker.stats.report().store_opened == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    rig.store.set(Mode::Works);
    let stats = worker.stats.clone();
    let state = || stats.store().unwrap().breaker.unwrap().state;
    let answered = async {
        while state() == BreakerState::Open {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answered)
        .await
        .unwrap();
    while rig.functions.runs() == 0 {
        tokio::task::yield_now().await;
    }
    rig.functions.gate.notify_one();
    rig.store
        .wait_for("a", warren_plugin_api::Status::Completed)
        .await;
    rig.shutdown.stop();
    worker.end().await;
    assert_eq!(state(), BreakerState::Closed);
}
