use serde_json::json;
use warren_plugin_api::{Filter, Status, StoreObject, Write, WriteMode, WriteOutcome};

use super::{
    assert_unavailable, completed, eventually, member, open, put, queued, record,
    switchable::Backend, written,
};

async fn fanout(members: [&Backend; 2], require: &str) -> StoreObject {
    let members = members.map(member);
    open("fanout", json!({ "members": members, "require": require })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_has_what_was_acknowledged() {
    let (first, second) = (Backend::new(), Backend::new());
    let store = fanout([&first, &second], "all").await;
    written(&store, &completed("job")).await;
    for backend in [&first, &second] {
        assert_eq!(backend.has("job").unwrap().status, Status::Completed);
    }
    // The first one judges.
    assert_eq!(put(&store, &queued("job")).await, Ok(WriteOutcome::Stale));
    assert_eq!(store.delete("job".into()).await, Ok(true));
    assert!(first.has("job").is_none() && second.has("job").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_are_required_a_write_that_one_missed_is_repeated_until_it_has_it() {
    let (first, second) = (Backend::new(), Backend::new());
    let store = fanout([&first, &second], "all").await;
    second.go_away();
    let job = completed("job");
    assert_unavailable(put(&store, &job).await, &["members.1 (switchable)"]);
    assert_unavailable(store.health_check().await, &["members.1 (switchable)"]);
    second.come_back();
    eventually("the repeated write is answered", async || {
        put(&store, &job).await.is_ok()
    })
    .await;
    assert_eq!(second.has("job"), Some(job));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_first_is_enough_another_one_may_be_away() {
    let (first, second) = (Backend::new(), Backend::new());
    second.go_away();
    let store = fanout([&first, &second], "primary").await;
    written(&store, &completed("job")).await;
    assert!(store.get("job".into()).await.unwrap().is_some());
    let health = store.health_check().await.unwrap();
    assert!(
        health.warnings[0].contains("members.1 (switchable)"),
        "{health:?}"
    );
    // Not so for a delete: what is deleted must not come back with that member.
    assert_unavailable(store.delete("job".into()).await, &["members.1"]);
    second.come_back();
    let mut later = 0;
    eventually("it takes records again", || {
        later += 1;
        let (store, second) = (&store, &second);
        async move {
            let job = format!("later {later}");
            written(store, &completed(&job)).await;
            second.has(&job).is_some()
        }
    })
    .await;
    // What it missed stays missed, until it is copied there.
    assert!(second.has("job").is_none());
    first.go_away();
    assert_unavailable(put(&store, &completed("another")).await, &["members.0"]);
    assert_unavailable(store.health_check().await, &["members.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_first_is_away_the_next_one_answers() {
    let (first, second) = (Backend::new(), Backend::new());
    let store = fanout([&first, &second], "all").await;
    for job in ["a", "b", "c"] {
        written(&store, &completed(job)).await;
    }
    first.go_away();
    let found = store.get_many(vec!["b".into(), "a".into()]).await.unwrap();
    assert!(found.iter().all(|found| found.as_ref().unwrap().is_some()));
    assert_eq!(store.status("c".into()).await, Ok(Some(Status::Completed)));
    // The first may know of it.
    assert_unavailable(store.get("unknown".into()).await, &["members.0"]);
    let page = store.scan(Filter::default(), None, 2).await.unwrap();
    assert_eq!(page.records.len(), 2);
    // The rest of a scan comes from where it began, also when the first is back.
    first.come_back();
    first.lose("c");
    let page = store.scan(Filter::default(), page.next, 2).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.next, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_has_lost_is_brought_back_when_it_is_read() {
    let (first, second) = (Backend::new(), Backend::new());
    let store = fanout([&first, &second], "all").await;
    written(&store, &completed("job")).await;
    first.lose("job");
    assert!(store.get("job".into()).await.unwrap().is_some());
    assert_eq!(first.has("job").unwrap().status, Status::Completed);
    let claim = Write {
        record: queued("job"),
        mode: WriteMode::IfAbsent,
    };
    assert_eq!(store.put(claim).await, Ok(WriteOutcome::Stale));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_record_of_another_member_stays() {
    let (first, second) = (Backend::new(), Backend::new());
    let store = fanout([&first, &second], "all").await;
    second.set(record("job", Status::Completed, 3));
    written(&store, &record("job", Status::InProgress, 2)).await;
    assert_eq!(second.has("job").unwrap().attempt, 3);
}
