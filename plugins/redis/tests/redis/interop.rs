//! Records of rabbitmq-arq, as they were captured from it, and Warren's as Python reads them.

use redis::cmd;
use serde_json::{Value, json};
use warren_plugin_api::{
    ErrorClass, Filter, Record, ResultStore, Status, Timestamp, Write, WriteMode, WriteOutcome,
};

use crate::support::{TestStore, class, record};

/// Captured from rabbitmq-arq 0.2.2, but for the years, which are far enough not to expire.
const QUEUED: &str = r#"{"job_id":"spec-plain-1","status":"queued","result":null,"error":null,"start_time":"2126-11-24T00:32:30.524654+00:00","end_time":null,"duration":null,"worker_id":"pending","queue_name":"spec_q1","retry_count":0,"created_at":"2126-11-24T00:32:30.525843+00:00","expires_at":"2126-11-25T00:32:30.524530+00:00","function_name":"add","args":[2,3],"kwargs":{}}"#;
const COMPLETED: &str = r#"{"job_id":"w-add","status":"completed","result":5,"error":null,"start_time":"2126-11-24T02:02:23.248480+00:00","end_time":"2126-11-24T02:02:23.248872+00:00","duration":0.000392,"worker_id":"spec_worker","queue_name":"spec_q3","retry_count":0,"created_at":"2126-11-24T02:02:23.248895+00:00","expires_at":"2126-11-25T02:02:23.248900+00:00","function_name":"add","args":[2,3],"kwargs":{}}"#;
const FAILED: &str = r#"{"job_id":"w-fail","status":"failed","result":null,"error":"ValueError: boom é中","start_time":"2126-11-24T02:02:23+00:00","end_time":null,"duration":0.000499,"worker_id":"spec_worker","queue_name":"spec_q3","retry_count":1,"created_at":"2126-11-24T02:02:23.248895+00:00","expires_at":null,"function_name":"fail","args":[],"kwargs":{}}"#;

fn at(text: &str) -> Option<Timestamp> {
    Some(Timestamp::parse_rfc3339(text).unwrap())
}

/// What `RedisResultStore.store_result` of rabbitmq-arq sends.
fn python_writes(store: &TestStore, json: &str) {
    let fields: Value = serde_json::from_str(json).unwrap();
    let text = |key: &str| fields[key].as_str().unwrap().to_owned();
    let (job_id, queue) = (text("job_id"), text("queue_name"));
    let set = store.key(&format!("queue:{queue}:results"));
    redis::pipe()
        .atomic()
        .cmd("SETEX")
        .arg(store.key(&format!("result:{job_id}")))
        .arg(86_399)
        .arg(json)
        .cmd("SETEX")
        .arg(store.key(&format!("status:{job_id}")))
        .arg(86_399)
        .arg(text("status"))
        .cmd("SADD")
        .arg(&set)
        .arg(&job_id)
        .cmd("EXPIRE")
        .arg(&set)
        .arg(86_399)
        .exec(&mut store.plain())
        .unwrap();
}

#[tokio::test]
async fn every_captured_record_is_read_exactly() {
    let store = TestStore::open().await;
    for json in [QUEUED, COMPLETED, FAILED] {
        python_writes(&store, json);
    }
    let get = async |job_id: &str| store.store.get(job_id.into()).await.unwrap().unwrap();
    assert_eq!(
        get("spec-plain-1").await,
        Record {
            job_id: "spec-plain-1".into(),
            status: Status::Queued,
            attempt: 1,
            queue: "spec_q1".into(),
            function: "add".into(),
            enqueued_at: at("2126-11-24T00:32:30.524654Z"),
            updated_at: at("2126-11-24T00:32:30.525843Z"),
            expires_at: at("2126-11-25T00:32:30.524530Z"),
            args: "[2,3]".into(),
            kwargs: "{}".into(),
            ..Record::default()
        }
    );
    assert_eq!(
        get("w-add").await,
        Record {
            job_id: "w-add".into(),
            status: Status::Completed,
            attempt: 1,
            queue: "spec_q3".into(),
            function: "add".into(),
            worker: "spec_worker".into(),
            started_at: at("2126-11-24T02:02:23.248480Z"),
            finished_at: at("2126-11-24T02:02:23.248872Z"),
            updated_at: at("2126-11-24T02:02:23.248895Z"),
            expires_at: at("2126-11-25T02:02:23.248900Z"),
            duration: Some(std::time::Duration::from_micros(392)),
            args: "[2,3]".into(),
            kwargs: "{}".into(),
            result: "5".into(),
            ..Record::default()
        }
    );
    let failed = get("w-fail").await;
    assert_eq!(failed.attempt, 2);
    assert_eq!(failed.error.as_deref(), Some("ValueError: boom é中"));
    assert!(failed.result.is_empty() && failed.expires_at.is_none());
    let statuses = store
        .store
        .status_many(vec!["w-add".into(), "w-fail".into(), "nobody".into()])
        .await
        .unwrap();
    assert_eq!(
        statuses.into_iter().map(Result::unwrap).collect::<Vec<_>>(),
        [Some(Status::Completed), Some(Status::Failed), None]
    );
}

#[tokio::test]
async fn a_job_of_python_s_that_returned_nothing_returned_null() {
    let store = TestStore::open().await;
    python_writes(
        &store,
        &COMPLETED.replace("\"result\":5", "\"result\":null"),
    );
    let read = store.store.get("w-add".into()).await.unwrap().unwrap();
    assert_eq!(read.result.as_slice(), b"null");
}

#[tokio::test]
async fn times_are_read_however_python_programs_write_them() {
    let store = TestStore::open().await;
    for (written, micros) in [
        ("\"2126-11-24T02:02:23.248480Z\"", 248_480),
        ("\"2126-11-24 03:02:23.248480123+01:00\"", 248_480),
        ("\"2126-11-24T02:02:23\"", 0),
        ("4951159343.5", 500_000),
    ] {
        let json = COMPLETED.replace("\"2126-11-24T02:02:23.248480+00:00\"", written);
        python_writes(&store, &json);
        let read = store.store.get("w-add".into()).await.unwrap().unwrap();
        let expected = at("2126-11-24T02:02:23Z").unwrap().unix_us() + micros;
        assert_eq!(
            read.started_at,
            Some(Timestamp::from_unix_us(expected)),
            "{written}"
        );
    }
    python_writes(
        &store,
        &COMPLETED.replace("\"2126-11-24T02:02:23.248480+00:00\"", "\"noon\""),
    );
    let unreadable = store.store.get("w-add".into()).await;
    assert_eq!(class(&unreadable), Some(ErrorClass::CorruptData));
}

#[tokio::test]
async fn python_finds_all_fifteen_keys_with_the_types_that_it_takes() {
    let store = TestStore::open().await;
    // The least there can be: no time, no worker, no payloads.
    let bare = Record {
        job_id: "bare".into(),
        queue: "q".into(),
        function: "f".into(),
        ..Record::default()
    };
    let mut odd = record("odd", Status::Completed);
    odd.args = "{\"not\": \"a list\"}".into();
    odd.kwargs = "[NaN]".into();
    odd.result = vec![0xff, 0xfe].into();
    odd.started_at = Some(Timestamp::MAX);
    odd.duration = Some(std::time::Duration::from_micros(1_500_001));
    let mut plain = record("plain", Status::Failed);
    plain.attempt = 3;
    plain.error = Some("ValueError: é\n\"中\"\u{0}".into());
    plain.result = "{\"half\": [1.5]}".into();
    for write in [bare, odd, plain] {
        store.store.put(write.into()).await.unwrap();
    }
    let read = |job_id: &str| -> Value {
        let json: String = store.ask(cmd("GET").arg(store.key(&format!("result:{job_id}"))));
        serde_json::from_str(&json).unwrap()
    };
    let bare = read("bare");
    for (key, expected) in [
        ("status", json!("queued")),
        ("result", json!(null)),
        ("error", json!(null)),
        ("start_time", json!("1970-01-01T00:00:00+00:00")),
        ("end_time", json!(null)),
        ("duration", json!(null)),
        ("worker_id", json!("pending")),
        ("queue_name", json!("q")),
        ("retry_count", json!(-1)),
        ("created_at", json!("1970-01-01T00:00:00+00:00")),
        ("expires_at", json!(null)),
        ("function_name", json!("f")),
        ("args", json!([])),
        ("kwargs", json!({})),
        ("job_id", json!("bare")),
    ] {
        assert_eq!(bare.get(key), Some(&expected), "{key}");
    }
    let odd = read("odd");
    assert_eq!(odd["args"], json!([]));
    assert_eq!(odd["kwargs"], json!({}));
    assert_eq!(odd["result"], json!(null));
    assert_eq!(odd["duration"], json!(1.500_001));
    assert_eq!(odd["start_time"], json!("9999-12-31T23:59:59.999999+00:00"));
    let plain = read("plain");
    assert_eq!(plain["retry_count"], json!(2));
    assert_eq!(plain["error"], json!("ValueError: é\n\"中\"\u{0}"));
    assert_eq!(plain["result"], json!({"half": [1.5]}));
    assert_eq!(plain["args"], json!([1]));
}

#[tokio::test]
async fn a_status_word_and_the_queue_s_set_stand_beside_the_record() {
    let store = TestStore::open().await;
    store
        .store
        .put(record("a:*", Status::InProgress).into())
        .await
        .unwrap();
    let word: String = store.ask(cmd("GET").arg(store.key("status:a:*")));
    assert_eq!(word, "in_progress");
    let ids: Vec<String> = store.ask(cmd("SMEMBERS").arg(store.key("queue:orders:results")));
    assert_eq!(ids, ["a:*"]);
    for key in ["status:a:*", "result:a:*"] {
        let left: i64 = store.ask(cmd("PTTL").arg(store.key(key)));
        assert!((3_000_000..=3_600_001).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn python_s_record_guards_against_a_stale_write() {
    let store = TestStore::open().await;
    python_writes(&store, FAILED);
    let write = |attempt: u32, status: Status| {
        let mut record = record("w-fail", status);
        record.attempt = attempt;
        store.store.put(record.into())
    };
    assert_eq!(write(9, Status::Queued).await, Ok(WriteOutcome::Stale));
    assert_eq!(write(1, Status::Completed).await, Ok(WriteOutcome::Stale));
    assert_eq!(write(2, Status::Completed).await, Ok(WriteOutcome::Stale));
    let absent = Write {
        record: record("w-fail", Status::Queued),
        mode: WriteMode::IfAbsent,
    };
    assert_eq!(store.store.put(absent).await, Ok(WriteOutcome::Stale));
    assert_eq!(
        write(3, Status::InProgress).await,
        Ok(WriteOutcome::Written)
    );
}

#[tokio::test]
async fn python_s_record_counts_as_absent_once_its_expiry_has_passed() {
    let store = TestStore::open().await;
    // Python gives Redis a day when the job's own expiry has passed.
    python_writes(&store, &COMPLETED.replace("2126-11-25", "2001-11-25"));
    assert_eq!(store.store.get("w-add".into()).await, Ok(None));
    assert_eq!(store.store.status("w-add".into()).await, Ok(None));
    assert_eq!(store.store.delete("w-add".into()).await, Ok(false));
    python_writes(&store, &COMPLETED.replace("2126-11-25", "2001-11-25"));
    let again = record("w-add", Status::Queued);
    assert_eq!(
        store.store.put(again.into()).await,
        Ok(WriteOutcome::Written)
    );
}

#[tokio::test]
async fn a_record_of_python_s_is_adopted_by_the_first_write_over_it() {
    let store = TestStore::open().await;
    python_writes(&store, QUEUED);
    let scan = async || {
        let page = store.store.scan(Filter::default(), None, 10).await.unwrap();
        page.records
            .into_iter()
            .map(|record| record.job_id.to_string())
            .collect::<Vec<_>>()
    };
    assert!(scan().await.is_empty());
    let mut taken = record("spec-plain-1", Status::InProgress);
    taken.queue = "other".into();
    store.store.put(taken.into()).await.unwrap();
    assert_eq!(scan().await, ["spec-plain-1"]);
    assert_eq!(
        store
            .keys_left()
            .iter()
            .filter(|key| key.contains(":queue:"))
            .count(),
        1,
        "the id has left the set of its old queue"
    );
}

#[tokio::test]
async fn a_record_that_python_wrote_over_stays_listed_and_is_left_to_redis() {
    let store = TestStore::open().await;
    let mut ours = record("w-add", Status::Queued);
    ours.queue = "spec_q3".into();
    store.store.put(ours.into()).await.unwrap();
    python_writes(&store, COMPLETED);
    let listed = store.store.scan(Filter::default(), None, 10).await.unwrap();
    assert_eq!(listed.records.len(), 1);
    assert_eq!(listed.records[0].status, Status::Completed);
    let tomorrow = Timestamp::now().saturating_add(std::time::Duration::from_secs(80_000));
    assert_eq!(store.store.cleanup_expired(tomorrow, 10).await, Ok(0));
    assert!(store.store.get("w-add".into()).await.unwrap().is_some());
    // Python deletes without knowing the indexes; the next scan puts them right.
    store.ask::<i64>(
        cmd("DEL")
            .arg(store.key("result:w-add"))
            .arg(store.key("status:w-add")),
    );
    let listed = store.store.scan(Filter::default(), None, 10).await.unwrap();
    assert!(listed.records.is_empty());
    assert_eq!(store.keys_left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_set_that_python_lets_expire_lives_as_long_as_warren_s_records_in_it() {
    let store = TestStore::open().await;
    python_writes(&store, COMPLETED);
    let set = store.key("queue:spec_q3:results");
    store.ask::<i64>(cmd("EXPIRE").arg(&set).arg(60));
    let mut ours = record("ours", Status::Completed);
    ours.queue = "spec_q3".into();
    store.store.put(ours.clone().into()).await.unwrap();
    let left: i64 = store.ask(cmd("TTL").arg(&set));
    assert!((3_500..=3_600).contains(&left), "{left}");
    ours.job_id = "for ever".into();
    ours.expires_at = None;
    store.store.put(ours.into()).await.unwrap();
    assert_eq!(store.ask::<i64>(cmd("TTL").arg(&set)), -1);
}

#[tokio::test]
async fn a_damaged_record_is_reported_and_a_write_replaces_it() {
    let store = TestStore::open().await;
    for damaged in [
        "{\"status\":",
        "[]",
        "null",
        "{\"status\":\"done\"}",
        "\u{1}",
    ] {
        store.ask::<()>(cmd("SET").arg(store.key("result:a")).arg(damaged));
        assert_eq!(
            class(&store.store.get("a".into()).await),
            Some(ErrorClass::CorruptData),
            "{damaged}"
        );
        assert_eq!(
            class(&store.store.status("a".into()).await),
            Some(ErrorClass::CorruptData)
        );
        // Something is there, so a client does not get this id.
        let claim = Write {
            record: record("a", Status::Queued),
            mode: WriteMode::IfAbsent,
        };
        assert_eq!(store.store.put(claim).await, Ok(WriteOutcome::Stale));
        let write = record("a", Status::Queued);
        assert_eq!(
            store.store.put(write.clone().into()).await,
            Ok(WriteOutcome::Written)
        );
        assert_eq!(store.store.get("a".into()).await, Ok(Some(write)));
    }
    store.ask::<()>(cmd("SET").arg(store.key("result:b")).arg("?"));
    assert_eq!(store.store.delete("b".into()).await, Ok(true));
    assert_eq!(store.store.get("b".into()).await, Ok(None));
    // A key of another type is another program's.
    store.ask::<()>(cmd("LPUSH").arg(store.key("result:c")).arg("?"));
    let foreign = store.store.get("c".into()).await;
    assert_eq!(class(&foreign), Some(ErrorClass::CorruptData));
}
