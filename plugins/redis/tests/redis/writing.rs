//! What is written, when, and how exactly it comes back.

use std::time::Duration;

use proptest::prelude::*;
use redis::cmd;
use warren_plugin_api::{
    ErrorClass, Payload, Record, ResultStore, Status, Text, Timestamp, Write, WriteMode,
    WriteOutcome,
};

use crate::{
    server::PrivateServer,
    support::{TestStore, class, record},
};

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        Just(String::new()),
        Just("pending".to_owned()),
        "[a-z0-9:*{}\"\\\\]{1,12}",
        any::<String>(),
    ]
    .prop_map(Text::from)
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just("".into()),
        Just("null".into()),
        Just("[]".into()),
        Just("{}".into()),
        Just("[NaN, Infinity]".into()),
        Just(" 1".into()),
        Just("[[[[\"\\ud800\"]]]]".into()),
        "\\[[0-9]{1,3}(, [0-9]{1,3}){0,3}\\]".prop_map(Payload::from),
        any::<Vec<u8>>().prop_map(Payload::from),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap().into()),
        (1..300_usize).prop_map(|depth| [vec![b'['; depth], vec![b']'; depth]].concat().into()),
    ]
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of(prop_oneof![
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        any::<i64>().prop_map(Timestamp::from_unix_us),
        (0..4_000_000_000_000_000_i64).prop_map(Timestamp::from_unix_us),
    ])
}

fn any_record() -> impl Strategy<Value = Record> {
    let names = (text(), text(), text(), text(), prop::option::of(text()));
    let times = (time(), time(), time(), time(), time(), time());
    let payloads = (
        payload(),
        payload(),
        payload(),
        payload(),
        prop::collection::vec((text(), payload()), 0..3),
    );
    let rest = (
        prop::sample::select(Status::ALL.to_vec()),
        any::<u32>(),
        prop::option::of(any::<u64>().prop_map(Duration::from_micros)),
    );
    (names, times, payloads, rest).prop_map(|(names, times, payloads, rest)| Record {
        job_id: names.0,
        queue: names.1,
        function: names.2,
        worker: names.3,
        error: names.4,
        enqueued_at: times.0,
        started_at: times.1,
        finished_at: times.2,
        updated_at: times.3,
        heartbeat_at: times.4,
        expires_at: times.5,
        args: payloads.0,
        kwargs: payloads.1,
        result: payloads.2,
        progress: payloads.3,
        extra: payloads.4,
        status: rest.0,
        attempt: rest.1,
        duration: rest.2,
    })
}

proptest! {
    #[test]
    fn every_record_comes_back_bit_by_bit(record in any_record()) {
        let json = warren_store_redis::fuzzing::encode(&record);
        prop_assert!(std::str::from_utf8(&json).is_ok());
        let shown: serde_json::Value = serde_json::from_slice(&json).unwrap();
        prop_assert!(shown["args"].is_array() && shown["kwargs"].is_object());
        prop_assert_eq!(warren_store_redis::fuzzing::decode(json).unwrap(), record);
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
        let _ = warren_store_redis::fuzzing::decode(bytes);
    }

    #[test]
    fn no_damaged_record_makes_reading_panic(
        record in any_record(),
        at in any::<prop::sample::Index>(),
        bytes: Vec<u8>,
    ) {
        let mut json = warren_store_redis::fuzzing::encode(&record);
        let at = at.index(json.len());
        json.splice(at..(at + 1), bytes);
        let _ = warren_store_redis::fuzzing::decode(json);
    }
}

#[tokio::test]
async fn any_text_may_be_an_id_or_a_queue() {
    let store = TestStore::open().await;
    for name in [
        "a:b:results",
        "*?[x]",
        "{tag}",
        "\"},\"job_id\":\"x\\",
        "é中\u{1f600}",
        "\u{0}\n",
        "7:7:7:",
        &"x".repeat(1_024),
    ] {
        let mut write = record(name, Status::Queued);
        write.queue = name.into();
        store.store.put(write.clone().into()).await.unwrap();
        assert_eq!(store.store.get(name.into()).await, Ok(Some(write.clone())));
        assert_eq!(
            store.store.status(name.into()).await,
            Ok(Some(Status::Queued))
        );
        // The script reads the head again, long or escaped as it is.
        write.status = Status::InProgress;
        write.enqueued_at = None;
        store.store.put(write.clone().into()).await.unwrap();
        let older = record(name, Status::Queued);
        assert_eq!(store.store.put(older.into()).await, Ok(WriteOutcome::Stale));
        let listed = store
            .store
            .scan(warren_plugin_api::Filter::default(), None, 10)
            .await
            .unwrap();
        assert_eq!(listed.records, [write], "{name:?}");
        assert_eq!(store.store.delete(name.into()).await, Ok(true));
        assert_eq!(store.keys_left(), Vec::<String>::new(), "{name:?}");
    }
}

/// The script decides as the contract does, whoever wrote the record that is there.
#[tokio::test]
async fn the_script_keeps_the_contract_s_rule() {
    let store = TestStore::open().await;
    let now = Timestamp::now();
    let expiries = [
        None,
        Some(Timestamp::MAX),
        Some(now.saturating_add(Duration::from_secs(900))),
    ];
    let mut writes = Vec::new();
    let mut expected = Vec::new();
    for old in Status::ALL {
        for new in Status::ALL {
            for (old_attempt, new_attempt) in [(1, 1), (1, 2), (2, 1), (0, 1), (u32::MAX, u32::MAX)]
            {
                for mode in [WriteMode::IfNewer, WriteMode::IfAbsent, WriteMode::Always] {
                    for expires_at in expiries {
                        let job_id = format!("job-{}", writes.len());
                        let mut stored = record(&job_id, old);
                        stored.attempt = old_attempt;
                        stored.expires_at = expires_at;
                        let mut incoming = Write::from(record(&job_id, new));
                        incoming.record.attempt = new_attempt;
                        incoming.mode = mode;
                        expected.push(
                            if incoming.may_replace(Some(stored.version_and_expiry()), now) {
                                WriteOutcome::Written
                            } else {
                                WriteOutcome::Stale
                            },
                        );
                        writes.extend([stored.into(), incoming]);
                    }
                }
            }
        }
    }
    let outcomes = store.store.put_many(writes).await.unwrap();
    let second: Vec<_> = outcomes
        .chunks(2)
        .map(|pair| pair[1].clone().unwrap())
        .collect();
    assert_eq!(second, expected);
}

#[tokio::test]
async fn times_beyond_a_double_s_precision_decide_exactly() {
    let store = TestStore::open().await;
    for (expires_at, at, gone) in [
        (i64::MAX, i64::MAX - 1, false),
        (i64::MAX - 1, i64::MAX - 1, true),
        (i64::MAX - 2, i64::MAX - 1, true),
        (9_007_199_254_740_993, 9_007_199_254_740_992, false),
    ] {
        let mut write = record("a", Status::Queued);
        write.expires_at = Some(Timestamp::from_unix_us(expires_at));
        let write = Write {
            record: write,
            mode: WriteMode::Always,
        };
        store.store.put(write).await.unwrap();
        let removed = store
            .store
            .cleanup_expired(Timestamp::from_unix_us(at), 10)
            .await
            .unwrap();
        assert_eq!(removed, u64::from(gone), "{expires_at} at {at}");
    }
}

#[tokio::test]
async fn a_record_that_has_expired_when_it_is_written_leaves_nothing() {
    let store = TestStore::open().await;
    store
        .store
        .put(record("a", Status::Queued).into())
        .await
        .unwrap();
    for expires_at in [Timestamp::MIN, Timestamp::from_unix_us(0), Timestamp::now()] {
        let mut expired = record("a", Status::Completed);
        expired.expires_at = Some(expires_at);
        assert_eq!(
            store.store.put(expired.into()).await,
            Ok(WriteOutcome::Written)
        );
        assert_eq!(store.store.get("a".into()).await, Ok(None));
        assert_eq!(store.keys_left(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_record_without_expiry_stays() {
    let store = TestStore::open().await;
    let mut write = record("a", Status::Queued);
    store.store.put(write.clone().into()).await.unwrap();
    write.status = Status::Completed;
    write.expires_at = None;
    store.store.put(write.clone().into()).await.unwrap();
    assert_eq!(store.ask::<i64>(cmd("TTL").arg(store.key("result:a"))), -1);
    assert_eq!(store.ask::<i64>(cmd("TTL").arg(store.key("status:a"))), -1);
    assert_eq!(store.store.cleanup_expired(Timestamp::MAX, 10).await, Ok(0));
    assert_eq!(store.store.get("a".into()).await, Ok(Some(write)));
}

#[tokio::test]
async fn a_record_over_the_limit_is_refused_and_its_neighbours_are_written() {
    let store = TestStore::open().await;
    let small = crate::support::open(serde_json::json!({
        "redis_url": store.url, "key_prefix": store.prefix, "max_record_bytes": 1_000,
    }))
    .await
    .unwrap();
    let mut large = record("large", Status::Completed);
    large.result = vec![b'7'; 1_000].into();
    let outcomes = small
        .put_many(vec![
            record("a", Status::Queued).into(),
            large.into(),
            record("b", Status::Queued).into(),
        ])
        .await
        .unwrap();
    assert_eq!(outcomes[0], Ok(WriteOutcome::Written));
    assert_eq!(class(&outcomes[1]), Some(ErrorClass::TooLarge));
    assert_eq!(outcomes[2], Ok(WriteOutcome::Written));
    assert_eq!(small.get("large".into()).await, Ok(None));
}

#[tokio::test]
async fn a_job_that_moves_to_another_queue_leaves_the_old_one() {
    let store = TestStore::open().await;
    let mut write = record("a", Status::Queued);
    store.store.put(write.clone().into()).await.unwrap();
    write.status = Status::InProgress;
    write.queue = "returns".into();
    store.store.put(write.into()).await.unwrap();
    let members = |queue: &str| -> Vec<String> {
        store.ask(cmd("SMEMBERS").arg(store.key(&format!("queue:{queue}:results"))))
    };
    assert!(members("orders").is_empty());
    assert_eq!(members("returns"), ["a"]);
    assert_eq!(
        store.ask::<i64>(cmd("ZCARD").arg(store.key("warren:scan"))),
        1
    );
}

/// JSON of so many bytes.
fn json_of(bytes: usize) -> Payload {
    let text = "\u{e9} \\\" ".repeat(bytes / 6 - 1);
    serde_json::to_vec(&text).unwrap().into()
}

#[tokio::test]
async fn large_payloads_come_back_bit_by_bit() {
    let store = TestStore::open().await;
    for (number, bytes) in [4_000, 70_000, 200_000, 1_500_000].into_iter().enumerate() {
        let mut write = record(&number.to_string(), Status::Completed);
        write.args = [b"[", &*json_of(bytes / 2), b"]"].concat().into();
        write.kwargs = [b"{\"a\": ", &*json_of(bytes), b"}"].concat().into();
        write.result = json_of(bytes);
        write.progress = json_of(bytes / 3);
        write.extra = vec![("x".into(), vec![0xff; bytes].into())];
        store.store.put(write.clone().into()).await.unwrap();
        assert_eq!(store.store.get(write.job_id.clone()).await, Ok(Some(write)));
    }
}

#[tokio::test]
async fn a_large_record_follows_the_rules_of_all_and_leaves_nothing_staged() {
    let store = TestStore::open().await;
    let large = |status| Record {
        result: json_of(300_000),
        ..record("a", status)
    };
    let put = async |write: Record| {
        let outcome = store.store.put(write.into()).await;
        let staged = store
            .keys_left()
            .into_iter()
            .find(|key| key.contains("staged"));
        assert_eq!(staged, None);
        outcome.unwrap()
    };
    assert_eq!(
        put(record("a", Status::Queued)).await,
        WriteOutcome::Written
    );
    let mut completed = large(Status::Completed);
    completed.queue = "returns".into();
    assert_eq!(put(completed.clone()).await, WriteOutcome::Written);
    assert_eq!(put(large(Status::InProgress)).await, WriteOutcome::Stale);
    assert_eq!(
        store.store.get("a".into()).await,
        Ok(Some(completed.clone()))
    );
    let left = store.ask::<i64>(cmd("TTL").arg(store.key("result:a")));
    assert!((3_000..=3_600).contains(&left), "{left}");
    let orders: Vec<String> = store.ask(cmd("SMEMBERS").arg(store.key("queue:orders:results")));
    assert!(orders.is_empty());

    completed.attempt = 2;
    completed.expires_at = None;
    assert_eq!(put(completed.clone()).await, WriteOutcome::Written);
    assert_eq!(store.ask::<i64>(cmd("TTL").arg(store.key("result:a"))), -1);
    completed.attempt = 3;
    completed.expires_at = Some(Timestamp::now());
    assert_eq!(put(completed).await, WriteOutcome::Written);
    assert_eq!(store.keys_left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_large_record_is_stored_by_a_server_that_has_forgotten_the_script() {
    let server = PrivateServer::start(&[]).await;
    let store = crate::support::open(serde_json::json!({"redis_url": server.url()}))
        .await
        .unwrap();
    let mut plain = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    let mut write = record("a", Status::Completed);
    write.result = json_of(300_000);
    cmd("SCRIPT").arg("FLUSH").exec(&mut plain).unwrap();
    store.put(write.clone().into()).await.unwrap();
    assert_eq!(store.get("a".into()).await, Ok(Some(write)));
}

#[tokio::test]
async fn a_user_who_may_not_move_keys_stores_large_records_too() {
    let server = PrivateServer::start(&[]).await;
    let mut plain = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    for missing in ["-set", "-rename"] {
        cmd("ACL")
            .arg("SETUSER")
            .arg("still")
            .arg(&["reset", "on", ">s3cret", "~*", "&*", "+@all", missing])
            .exec(&mut plain)
            .unwrap();
        let url = format!("redis://still:s3cret@127.0.0.1:{}", server.port);
        let store = crate::support::open(serde_json::json!({"redis_url": url}))
            .await
            .unwrap();
        let mut write = record(missing, Status::Completed);
        write.result = json_of(300_000);
        for attempt in 1..3 {
            write.attempt = attempt;
            let outcome = store.put(write.clone().into()).await;
            assert_eq!(outcome, Ok(WriteOutcome::Written), "{missing}");
        }
        assert_eq!(store.get(missing.into()).await, Ok(Some(write)));
    }
}
