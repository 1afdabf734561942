//! Waiting clients are told of every end that a worker stores, and of nothing else.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::watch;
use warren_plugin_api::{ErrorClass, Status, Timestamp};

use super::rig::Rig;
use crate::{
    broker::{Announced, CompletionReceiver, Headers, Interest},
    job::JobMessage,
    worker::test_store::Mode,
};

struct Listener {
    _interest: watch::Sender<Interest>,
    receiver: CompletionReceiver,
    heard: BTreeSet<String>,
}

impl Listener {
    async fn new(rig: &Rig) -> Self {
        let interest = watch::Sender::new(Interest::ALL_JOBS);
        let mut receiver = rig.broker.completions(interest.subscribe());
        let up = receiver.next().await;
        assert_eq!(up, Some(Announced::Up(Interest::ALL_JOBS)));
        Self {
            _interest: interest,
            receiver,
            heard: BTreeSet::new(),
        }
    }

    async fn hears(&mut self, job_id: &str) {
        let hearing = async {
            while !self.heard.contains(job_id) {
                if let Some(Announced::Jobs(jobs)) = self.receiver.next().await {
                    self.heard.extend(jobs.iter().map(ToString::to_string));
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), hearing)
            .await
            .unwrap_or_else(|_| panic!("nothing is said of {job_id}: {:?}", self.heard));
    }
}

#[tokio::test]
async fn every_way_to_end_is_said_once_it_can_be_read() {
    let rig = Rig::new().await;
    let mut listener = Listener::new(&rig).await;
    rig.send("completed", "echo").await;
    rig.send("failed", "detailed").await;
    rig.send("unknown_function", "nobody").await;
    rig.send("retried", "flaky").await;
    let expired = JobMessage {
        expires: Some(Timestamp::from_unix_us(1)),
        ..rig.message("expired", "echo")
    };
    rig.send_message(expired).await;
    rig.send_raw("{\"job_id\": \"unreadable\"}", Headers::new())
        .await;
    rig.burst().await;
    let ended = [
        ("completed", Status::Completed),
        ("failed", Status::Failed),
        ("unknown_function", Status::Failed),
        ("retried", Status::Completed),
        ("expired", Status::Aborted),
        ("unreadable", Status::Failed),
    ];
    for (job_id, status) in ended {
        listener.hears(job_id).await;
        assert_eq!(rig.store.record(job_id).unwrap().status, status, "{job_id}");
    }
    assert_eq!(listener.heard.len(), ended.len(), "{:?}", listener.heard);
}

#[tokio::test]
async fn what_waited_in_the_spool_is_said_when_the_store_has_it() {
    let rig = Rig::new().await;
    let mut listener = Listener::new(&rig).await;
    rig.store.set(Mode::Fails(ErrorClass::Unavailable));
    let running = rig.start(rig.builder());
    rig.send("late", "echo").await;
    while running.stats.report().results_spooled == 0 {
        tokio::task::yield_now().await;
    }
    rig.store.set(Mode::Works);
    listener.hears("late").await;
    assert_eq!(rig.store.record("late").unwrap().status, Status::Completed);
    rig.shutdown.stop();
    running.end().await;
}
