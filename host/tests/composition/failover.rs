use std::time::Duration;

use serde_json::json;
use warren_plugin_api::{
    Filter, Record, Status, StoreObject, Timestamp, Write, WriteMode, WriteOutcome,
};

use super::{
    assert_unavailable, completed, eventually, member, open, put, queued, record,
    switchable::Backend, try_open, written,
};

async fn failover(primary: &Backend, secondary: &Backend) -> StoreObject {
    let config = json!({ "primary": member(primary), "secondary": member(secondary) });
    open("failover", config).await
}

async fn brought_back(primary: &Backend, secondary: &Backend, job_id: &str) {
    eventually("the record is in the primary alone", async || {
        primary.has(job_id).is_some() && secondary.has(job_id).is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_bridged_and_what_was_written_meanwhile_is_brought_back() {
    let (primary, secondary) = (Backend::new(), Backend::new());
    let store = failover(&primary, &secondary).await;
    written(&store, &completed("before")).await;
    assert!(secondary.has("before").is_none());
    primary.go_away();
    written(&store, &completed("meanwhile")).await;
    assert!(primary.has("meanwhile").is_none());
    assert!(store.get("meanwhile".into()).await.unwrap().is_some());
    assert_eq!(
        put(&store, &queued("meanwhile")).await,
        Ok(WriteOutcome::Stale)
    );
    // The primary may have it; that it does not exist would be a lie.
    assert_unavailable(
        store.get("before".into()).await,
        &["primary", "secondary has no record"],
    );
    assert_unavailable(store.scan(Filter::default(), None, 10).await, &["primary"]);
    assert_unavailable(
        store.delete("meanwhile".into()).await,
        &["a delete needs the primary"],
    );
    let health = store.health_check().await.unwrap();
    assert!(
        health.warnings[0].contains("primary (switchable)"),
        "{health:?}"
    );
    primary.come_back();
    brought_back(&primary, &secondary, "meanwhile").await;
    eventually("the primary is used", async || {
        let listed = store.scan(Filter::default(), None, 10).await;
        listed.is_ok_and(|page| page.records.len() == 2)
    })
    .await;
    assert!(store.get("before".into()).await.unwrap().is_some());
    assert_eq!(store.delete("meanwhile".into()).await, Ok(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_hangs_is_away() {
    let (primary, secondary) = (Backend::new(), Backend::new());
    let store = failover(&primary, &secondary).await;
    primary.hang();
    written(&store, &completed("job")).await;
    assert!(secondary.has("job").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_version_is_what_stays() {
    let (primary, secondary) = (Backend::new(), Backend::new());
    let store = failover(&primary, &secondary).await;
    written(&store, &record("later here", Status::InProgress, 1)).await;
    written(&store, &record("later there", Status::Completed, 2)).await;
    primary.go_away();
    written(&store, &record("later here", Status::Completed, 1)).await;
    // The secondary does not know that this is stale; the primary will say so.
    written(&store, &record("later there", Status::InProgress, 1)).await;
    primary.come_back();
    brought_back(&primary, &secondary, "later here").await;
    brought_back(&primary, &secondary, "later there").await;
    assert_eq!(primary.has("later here").unwrap().status, Status::Completed);
    assert_eq!(primary.has("later there").unwrap().attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_sent_anew_under_its_id_is_what_stays() {
    let (primary, secondary) = (Backend::new(), Backend::new());
    let store = failover(&primary, &secondary).await;
    let at = |micros: i64, record: Record| Record {
        enqueued_at: Some(Timestamp::from_unix_us(micros)),
        ..record
    };
    written(&store, &at(1, record("job", Status::Completed, 3))).await;
    primary.go_away();
    let anew = Write {
        record: at(2, queued("job")),
        mode: WriteMode::Always,
    };
    assert_eq!(store.put(anew).await, Ok(WriteOutcome::Written));
    written(&store, &at(2, completed("job"))).await;
    primary.come_back();
    brought_back(&primary, &secondary, "job").await;
    assert_eq!(primary.has("job").unwrap().attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_the_secondary_is_judged_before_a_new_write() {
    let (primary, secondary) = (Backend::new(), Backend::new());
    // Left by a process that is gone.
    secondary.set(completed("job"));
    let store = failover(&primary, &secondary).await;
    assert_eq!(
        put(&store, &record("job", Status::InProgress, 1)).await,
        Ok(WriteOutcome::Stale)
    );
    assert_eq!(primary.has("job").unwrap().status, Status::Completed);
    assert!(secondary.has("job").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_has_put_into_the_secondary_is_found() {
    let (primary, secondary) = (Backend::new(), Backend::new());
    let store = failover(&primary, &secondary).await;
    secondary.set(completed("job"));
    let found = store
        .get_many(vec!["none".into(), "job".into()])
        .await
        .unwrap();
    assert_eq!(found[0], Ok(None));
    assert!(found[1].as_ref().unwrap().is_some());
    assert!(primary.has("job").is_some() && secondary.has("job").is_none());
    // Deleted here, it must not come back from there.
    secondary.set(completed("other"));
    assert_eq!(store.delete("other".into()).await, Ok(true));
    assert_eq!(store.get("other".into()).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_opens_while_one_of_the_two_is_away() {
    let (primary, secondary) = (Backend::new(), Backend::new());
    primary.go_away();
    let store = failover(&primary, &secondary).await;
    written(&store, &completed("job")).await;
    primary.come_back();
    brought_back(&primary, &secondary, "job").await;

    let (primary, secondary) = (Backend::new(), Backend::new());
    secondary.go_away();
    let store = failover(&primary, &secondary).await;
    written(&store, &completed("job")).await;
    assert!(primary.has("job").is_some());
    assert_eq!(store.get("none".into()).await, Ok(None));
    let health = store.health_check().await.unwrap();
    assert!(
        health.warnings[0].contains("secondary (switchable)"),
        "{health:?}"
    );
    primary.go_away();
    let said = ["primary (switchable)", "secondary (switchable)"];
    assert_unavailable(put(&store, &completed("other")).await, &said);
    assert_unavailable(store.get("job".into()).await, &said);
    assert_unavailable(store.health_check().await, &said);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_secondary_is_away_with_what_was_written_to_it_its_jobs_are_unavailable() {
    let (primary, secondary) = (Backend::new(), Backend::new());
    let store = failover(&primary, &secondary).await;
    primary.go_away();
    written(&store, &completed("job")).await;
    secondary.go_away();
    primary.come_back();
    eventually("the primary is asked again", async || {
        let health = store.health_check().await;
        health.is_ok_and(|health| {
            health
                .detail
                .starts_with("primary (switchable): switched on")
        })
    })
    .await;
    // "None", as the primary has it, would deny what was acknowledged: while the secondary is left
    // alone, and whenever it is tried.
    for _ in 0..60 {
        assert_unavailable(store.get("job".into()).await, &[]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    secondary.come_back();
    brought_back(&primary, &secondary, "job").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_that_cannot_list_its_records_is_refused() {
    let (primary, secondary) = (Backend::new(), Backend::new());
    let mut second = member(&secondary);
    second["config"]["lists"] = json!(false);
    let config = json!({ "primary": member(&primary), "secondary": second });
    let error = try_open("failover", config).await.unwrap_err().to_string();
    assert!(
        error.contains("secondary (switchable) cannot list"),
        "{error}"
    );
}
