use serde_json::json;
use warren_plugin_api::{Status, StoreObject, Write, WriteMode};

use super::{
    assert_unavailable, completed, eventually, member, open, put, queued, record,
    switchable::Backend, written,
};

async fn tiered(front: &Backend, back: &Backend, front_ttl: &str) -> StoreObject {
    let config = json!({ "front": member(front), "back": member(back), "front_ttl": front_ttl });
    open("tiered", config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_job_is_read_from_the_front_and_comes_back_as_it_was() {
    let (front, back) = (Backend::new(), Backend::new());
    let store = tiered(&front, &back, "1h").await;
    let here = completed("here");
    written(&store, &here).await;
    // One that another process wrote is copied when it is first read.
    let elsewhere = completed("elsewhere");
    back.set(elsewhere.clone());
    assert_eq!(
        store.get("elsewhere".into()).await,
        Ok(Some(elsewhere.clone()))
    );
    let asked = back.reads();
    for _ in 0..3 {
        assert_eq!(store.get("here".into()).await, Ok(Some(here.clone())));
        assert_eq!(
            store.get("elsewhere".into()).await,
            Ok(Some(elsewhere.clone()))
        );
        let statuses = store
            .status_many(vec!["here".into(), "elsewhere".into()])
            .await;
        assert_eq!(statuses.unwrap(), vec![Ok(Some(Status::Completed)); 2]);
    }
    assert_eq!(back.reads(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_not_ended_is_read_from_the_back() {
    let (front, back) = (Backend::new(), Backend::new());
    let store = tiered(&front, &back, "1h").await;
    written(&store, &queued("job")).await;
    assert_eq!(
        store.get("job".into()).await,
        Ok(Some(queued("job"))).map(|_| Some(back.has("job").unwrap()))
    );
    assert!(front.has("job").is_none());
    back.set(record("job", Status::InProgress, 1));
    let status = store.status("job".into()).await;
    assert_eq!(status, Ok(Some(Status::InProgress)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_process_changes_is_never_read_as_it_was() {
    let (front, back) = (Backend::new(), Backend::new());
    let store = tiered(&front, &back, "1h").await;
    let other_handle = tiered(&Backend::new(), &back, "1h").await;
    let same_configuration = tiered(&front, &back, "1h").await;
    written(&store, &completed("job")).await;
    assert!(store.get("job".into()).await.unwrap().is_some());
    // The front does not hear of it; nobody believes it any more.
    front.go_away();
    let anew = Write {
        record: record("job", Status::Completed, 2),
        mode: WriteMode::Always,
    };
    same_configuration.put(anew.clone()).await.unwrap();
    front.come_back();
    assert_eq!(store.get("job".into()).await, Ok(Some(anew.record)));
    front.go_away();
    assert_eq!(same_configuration.delete("job".into()).await, Ok(true));
    front.come_back();
    assert_eq!(store.get("job".into()).await, Ok(None));
    drop(other_handle);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_is_read_once_the_copy_has_expired() {
    let (front, back) = (Backend::new(), Backend::new());
    let store = tiered(&front, &back, "50ms").await;
    written(&store, &completed("job")).await;
    back.lose("job");
    eventually("the deleted job is gone", async || {
        store.get("job".into()).await.unwrap().is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_time_for_the_front_everything_is_read_from_the_back() {
    let (front, back) = (Backend::new(), Backend::new());
    let store = tiered(&front, &back, "0s").await;
    written(&store, &completed("job")).await;
    back.lose("job");
    assert_eq!(store.get("job".into()).await, Ok(None));
    assert!(front.has("job").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_that_is_away_is_done_without() {
    let (front, back) = (Backend::new(), Backend::new());
    front.go_away();
    // From the start, too.
    let store = tiered(&front, &back, "1h").await;
    written(&store, &completed("job")).await;
    assert!(store.get("job".into()).await.unwrap().is_some());
    let health = store.health_check().await.unwrap();
    assert!(
        health.detail.contains("back (switchable): switched on"),
        "{health:?}"
    );
    assert!(
        health.warnings[0].contains("front (switchable)"),
        "{health:?}"
    );
    assert_eq!(store.delete("job".into()).await, Ok(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_back_is_away_ended_jobs_can_be_read_and_nothing_is_written() {
    let (front, back) = (Backend::new(), Backend::new());
    let store = tiered(&front, &back, "1h").await;
    written(&store, &completed("job")).await;
    back.go_away();
    assert!(store.get("job".into()).await.unwrap().is_some());
    assert_unavailable(
        put(&store, &completed("other")).await,
        &["back (switchable)"],
    );
    assert_unavailable(store.get("other".into()).await, &["back (switchable)"]);
    assert_unavailable(store.health_check().await, &["back (switchable)"]);
    // Whether this reached the back is not known: the copy is not believed any more.
    assert_unavailable(put(&store, &completed("job")).await, &[]);
    assert_unavailable(store.get("job".into()).await, &[]);
}
