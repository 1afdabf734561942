//! A store in trouble costs no job its run, its outcome or its time.

use std::time::Duration;

use warren_plugin_api::{ErrorClass, Status};

use super::rig::Rig;
use crate::worker::test_store::Mode;

#[tokio::test]
async fn jobs_go_on_while_the_store_is_in_trouble_and_results_follow() {
    for mode in [
        Mode::Fails(ErrorClass::Unavailable),
        Mode::Panics,
        Mode::Holds,
    ] {
        let rig = Rig::new().await;
        rig.store.set(mode);
        for number in 0..50 {
            rig.send(&format!("job-{number}"), "echo").await;
        }
        let running = rig.start(rig.builder());
        let all_ran = async {
            while running.stats.report().completed < 50 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_ran)
            .await
            .unwrap();
        rig.store.set(Mode::Works);
        for number in 0..50 {
            rig.store
                .wait_for(&format!("job-{number}"), Status::Completed)
                .await;
        }
        rig.shutdown.stop();
        let report = running.end().await;
        assert_eq!((report.completed, report.results_lost), (50, 0), "{mode:?}");
        assert_eq!(rig.functions.runs(), 50);
    }
}

#[tokio::test]
async fn a_message_is_answered_only_after_its_record_is_stored() {
    let rig = Rig::new().await;
    rig.send("a", "echo").await;
    rig.store.set(Mode::Holds);
    let running = rig.start(rig.builder_with_deadline(Duration::from_secs(600)));
    while rig.functions.runs() == 0 {
        tokio::task::yield_now().await;
    }
    // The broker takes back what this worker has not answered, when the worker is gone.
    running.task.abort();
    assert!(running.task.await.is_err());
    let left = async {
        while rig
            .broker
            .queue_info(&rig.queue)
            .await
            .unwrap()
            .unwrap()
            .ready
            == 0
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), left)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_store_that_is_down_at_the_end_is_told_of() {
    let rig = Rig::new().await;
    rig.send("a", "echo").await;
    rig.store.set(Mode::Fails(ErrorClass::Unavailable));
    let report = rig.burst().await;
    assert_eq!(
        (
            report.completed,
            report.results_spooled,
            report.results_lost
        ),
        (1, 1, 1)
    );
    assert!(report.store_failures > 0);
}

#[tokio::test]
async fn the_store_is_asked_to_clean_up() {
    let rig = Rig::new().await;
    let running = rig.start(
        rig.builder()
            .cleanup_interval(Some(Duration::from_millis(5))),
    );
    tokio::time::timeout(Duration::from_secs(20), rig.store.cleaned_up())
        .await
        .unwrap();
    rig.shutdown.stop();
    running.end().await;
}
