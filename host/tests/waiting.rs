//! Waiting for jobs on a store that announces nothing: word comes over the broker. Each test runs
//! on the in-process broker and on RabbitMQ.
//!
//! Needs RabbitMQ at `WARREN_TEST_AMQP_URL`, by default `amqp://guest:guest@127.0.0.1:5672/%2f`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use tokio::task::JoinHandle;
use warren::{
    broker::{Broker, BrokerSettings},
    client::{Client, ClientOptions, CompletionEvent, WaitError, Waiters},
    store::{Store, StorePolicy},
};
use warren_plugin_api::{
    BatchResult, Capabilities, Health, HostContext, Record, ResultStore, Status, StoreObject,
    StoreResult, Text, Timestamp, Write, WriteOutcome,
};

/// No test that passes waits for this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// So far apart that what a test sees was announced.
const NO_SAFETY_READ: Duration = Duration::from_secs(3600);

/// A map that announces nothing and counts how often it is asked.
#[derive(Clone, Default)]
struct MapStore {
    records: Arc<Mutex<HashMap<Text, Record>>>,
    /// Calls that read.
    calls: Arc<AtomicUsize>,
    /// Records that were asked for.
    reads: Arc<AtomicUsize>,
}

impl MapStore {
    fn open(&self) -> Store {
        let object = StoreObject::from_store(self.clone());
        Store::new("map", object, StorePolicy::default()).unwrap()
    }

    fn set(&self, job_id: &str, status: Status) {
        self.insert(Record {
            job_id: job_id.into(),
            status,
            ..Record::default()
        });
    }

    fn insert(&self, record: Record) {
        let mut records = self.records.lock().unwrap();
        records.insert(record.job_id.clone(), record);
    }

    fn find(&self, job_id: &str) -> Option<Record> {
        let records = self.records.lock().unwrap();
        let record = records.get(job_id)?;
        (!record.is_expired(Timestamp::now())).then(|| record.clone())
    }

    /// Waits until so many records were asked for.
    async fn was_read(&self, times: usize) {
        let reading = async {
            while self.reads.load(Ordering::Relaxed) < times {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within(reading).await;
    }

    fn note_read(&self, records: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.reads.fetch_add(records, Ordering::Relaxed);
    }
}

impl ResultStore for MapStore {
    type Config = ();
    const CAPABILITIES: Capabilities = Capabilities::NONE;

    async fn open((): (), _: HostContext) -> StoreResult<Self> {
        Ok(Self::default())
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        self.insert(write.record);
        Ok(WriteOutcome::Written)
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        self.note_read(1);
        // As over a network: many who ask do so at the same time.
        tokio::task::yield_now().await;
        Ok(self.find(&job_id))
    }

    async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        self.note_read(job_ids.len());
        Ok(job_ids.iter().map(|job_id| Ok(self.find(job_id))).collect())
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        Ok(self.records.lock().unwrap().remove(&job_id).is_some())
    }

    async fn health_check(&self) -> StoreResult<Health> {
        Ok(Health::default())
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it comes in time")
}

/// A store, a client that waits, and another process's client that ends jobs.
struct Rig {
    store: MapStore,
    waiting: Client,
    other: Client,
    /// Told of everything: while it is there, every job is listened for.
    all: BoxStream<'static, CompletionEvent>,
    name: String,
}

impl Rig {
    /// Begins to listen for all jobs before anything happens.
    async fn new(url: &str) -> Self {
        let store = MapStore::default();
        let waiting = client(url, &store).await;
        let other = client(url, &store).await;
        let mut all = waiting.completions();
        let first = within(all.next()).await;
        assert_eq!(first, Some(CompletionEvent::MayHaveMissed));
        Self {
            store,
            waiting,
            other,
            all,
            name: uuid::Uuid::new_v4().simple().to_string(),
        }
    }

    /// An id that no other test has on the same broker.
    fn id(&self, name: impl std::fmt::Display) -> String {
        format!("{}-{name}", self.name)
    }

    fn running(&self, name: impl std::fmt::Display) -> String {
        let id = self.id(name);
        self.store.set(&id, Status::InProgress);
        id
    }

    /// Waits in a task of its own, which has looked at the store when this returns.
    async fn wait(&self, id: &str) -> JoinHandle<Result<Record, WaitError>> {
        let (client, id) = (self.waiting.clone(), id.to_owned());
        let reads = self.store.reads.load(Ordering::Relaxed);
        let waiting = tokio::spawn(async move { client.wait(&id, PATIENCE).await });
        self.store.was_read(reads + 1).await;
        waiting
    }

    /// Ends a job as a worker does.
    fn end(&self, id: &str, status: Status) {
        self.store.set(id, status);
        self.other.broker().announce_ended([Text::from(id)]);
    }
}

async fn broker(url: &str) -> Broker {
    let settings = BrokerSettings::new(url.parse().unwrap());
    Broker::connect(&settings).await.unwrap_or_else(|error| {
        panic!("{error}; start it, for example: apt-get install rabbitmq-server")
    })
}

async fn client(url: &str, store: &MapStore) -> Client {
    let options = ClientOptions {
        safety_read: NO_SAFETY_READ,
        ..ClientOptions::default()
    };
    Client::with_options(broker(url).await, store.open(), options)
}

fn amqp_url() -> String {
    std::env::var("WARREN_TEST_AMQP_URL")
        .unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// Makes two tests of each function: one per broker.
macro_rules! on_both_brokers {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test]
            async fn $name() {
                let url = format!("memory://waiting-{}", stringify!($name));
                super::$name(super::Rig::new(&url).await).await;
            })*
        }
        mod on_rabbitmq {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Rig::new(&super::amqp_url()).await).await;
            })*
        }
    };
}

on_both_brokers![
    an_end_before_the_wait_is_found,
    an_end_is_told_and_the_store_is_not_polled,
    a_job_that_is_aborted_elsewhere_wakes_who_waits,
    a_deleted_job_wakes_who_waits,
    an_expired_job_wakes_who_waits,
    ten_thousand_waiters_share_one_subscription_and_few_calls,
    any_waits_for_the_first_and_forgives_unknown_jobs,
    each_comes_as_it_ends,
    a_stream_tells_of_jobs_of_this_store_alone,
    a_dropped_wait_takes_nothing_from_others,
    a_word_that_is_not_true_ends_nothing,
];

async fn an_end_before_the_wait_is_found(rig: Rig) {
    let id = rig.id("a");
    rig.store.set(&id, Status::Failed);
    let record = within(rig.waiting.wait(&id, PATIENCE)).await.unwrap();
    assert_eq!(record.status, Status::Failed);
    let unknown = rig.waiting.wait("nobody", PATIENCE).await;
    assert!(matches!(unknown, Err(WaitError::UnknownJob { .. })));
}

async fn an_end_is_told_and_the_store_is_not_polled(rig: Rig) {
    let id = rig.running("a");
    let waiting = rig.wait(&id).await;
    rig.end(&id, Status::Completed);
    let record = within(waiting).await.unwrap().unwrap();
    assert_eq!(record.status, Status::Completed);
    // Once before the wait, once after the word; the stream reads it too.
    let calls = rig.store.calls.load(Ordering::Relaxed);
    assert!(calls <= 4, "{calls} calls");
}

async fn a_job_that_is_aborted_elsewhere_wakes_who_waits(rig: Rig) {
    let id = rig.running("a");
    let waiting = rig.wait(&id).await;
    rig.other.abort(&id).await.unwrap();
    let record = within(waiting).await.unwrap().unwrap();
    assert_eq!(record.status, Status::Aborted);
}

async fn a_deleted_job_wakes_who_waits(rig: Rig) {
    let ids = [rig.running("a"), rig.running("b")];
    let waiting = [rig.wait(&ids[0]).await, rig.wait(&ids[1]).await];
    assert!(rig.other.delete(&ids[0]).await.unwrap());
    let deleted = rig.other.delete_many(&ids[1..]).await.unwrap();
    assert_eq!(deleted, [Ok(true)]);
    for (waiting, job_id) in waiting.into_iter().zip(ids) {
        let ended = within(waiting).await.unwrap();
        assert_eq!(ended, Err(WaitError::Gone { job_id }));
    }
}

async fn an_expired_job_wakes_who_waits(rig: Rig) {
    let job_id = rig.id("a");
    rig.store.insert(Record {
        job_id: job_id.as_str().into(),
        status: Status::Queued,
        expires_at: Some(Timestamp::now().saturating_add(Duration::from_millis(1_200))),
        ..Record::default()
    });
    let ended = within(rig.waiting.wait(&job_id, PATIENCE)).await;
    assert_eq!(ended, Err(WaitError::Gone { job_id }));
}

async fn ten_thousand_waiters_share_one_subscription_and_few_calls(rig: Rig) {
    const WAITERS: usize = 10_000;
    let ids: Vec<String> = (0..WAITERS).map(|number| rig.running(number)).collect();
    let client = rig.waiting.clone();
    let waiting = {
        let ids = ids.clone();
        tokio::spawn(async move { client.wait_all(&ids, PATIENCE).await })
    };
    rig.store.was_read(WAITERS).await;
    let looked = rig.store.calls.load(Ordering::Relaxed);
    assert!(looked < WAITERS / 20, "{looked} calls before the wait");
    for id in &ids {
        rig.store.set(id, Status::Completed);
    }
    // More at once than a worker ever says: what the way has no room for is found by the look that
    // follows, and so that nothing is lost here, it is said bit by bit.
    for ids in ids.chunks(500) {
        let ids: Vec<Text> = ids.iter().map(|id| id.as_str().into()).collect();
        rig.other.broker().announce_ended(ids);
        tokio::task::yield_now().await;
    }
    for ended in within(waiting).await.unwrap() {
        assert_eq!(ended.unwrap().status, Status::Completed);
    }
}

async fn any_waits_for_the_first_and_forgives_unknown_jobs(rig: Rig) {
    let ids = vec![rig.id("unknown"), rig.running("slow"), rig.running("fast")];
    let waiting = {
        let (client, ids) = (rig.waiting.clone(), ids.clone());
        tokio::spawn(async move { client.wait_any(&ids, PATIENCE).await })
    };
    rig.store.was_read(3).await;
    rig.end(&ids[2], Status::Failed);
    let record = within(waiting).await.unwrap().unwrap();
    assert_eq!(record.job_id.as_str(), ids[2]);

    let none = rig.waiting.wait_any(&ids[..1], PATIENCE).await;
    assert!(
        matches!(none, Err(WaitError::UnknownJob { .. })),
        "{none:?}"
    );
    let none: [&str; 0] = [];
    let none = rig.waiting.wait_any(&none, PATIENCE).await;
    assert_eq!(none, Err(WaitError::NoJobs));
    let timeout = Duration::from_millis(1);
    let late = rig.waiting.wait_any(&ids[1..2], timeout).await;
    assert_eq!(late, Err(WaitError::NoneEnded { jobs: 1, timeout }));
}

async fn each_comes_as_it_ends(rig: Rig) {
    let ids = [rig.running("a"), rig.running("b"), rig.running("never")];
    let timeout = Duration::from_secs(5);
    let mut each = rig.waiting.wait_each(&ids, timeout);
    for index in [1, 0] {
        rig.end(&ids[index], Status::Completed);
        let (place, ended) = within(each.next()).await.unwrap();
        assert_eq!(
            (place, ended.unwrap().job_id.as_str()),
            (index, &*ids[index])
        );
    }
    let (place, ended) = within(each.next()).await.unwrap();
    let job_id = ids[2].clone();
    assert_eq!(
        (place, ended),
        (2, Err(WaitError::Timeout { job_id, timeout }))
    );
    assert!(each.next().await.is_none());
}

async fn a_stream_tells_of_jobs_of_this_store_alone(mut rig: Rig) {
    let mut expected = BTreeSet::new();
    for number in 0..100 {
        let id = rig.id(number);
        // Somebody else's store has it, or it only was said to have ended.
        match number % 4 {
            0 => rig.other.broker().announce_ended([Text::from(id.as_str())]),
            1 => {
                rig.store.set(&id, Status::InProgress);
                rig.other.broker().announce_ended([Text::from(id.as_str())]);
            }
            _ => {
                rig.end(&id, Status::Completed);
                expected.insert(id);
            }
        }
    }
    let mut found = BTreeSet::new();
    while found.len() < expected.len() {
        match within(rig.all.next()).await {
            Some(CompletionEvent::Ended(record)) => {
                assert_eq!(record.status, Status::Completed);
                found.insert(record.job_id.to_string());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(found, expected);
}

async fn a_dropped_wait_takes_nothing_from_others(rig: Rig) {
    let id = rig.running("a");
    let (one, other) = (rig.wait(&id).await, rig.wait(&id).await);
    one.abort();
    assert!(one.await.is_err());
    rig.end(&id, Status::Completed);
    assert!(within(other).await.unwrap().is_ok());
}

async fn a_word_that_is_not_true_ends_nothing(rig: Rig) {
    let id = rig.running("a");
    let waiting = rig.wait(&id).await;
    let reads = rig.store.reads.load(Ordering::Relaxed);
    rig.other.broker().announce_ended([Text::from(id.as_str())]);
    rig.store.was_read(reads + 1).await;
    assert!(!waiting.is_finished());
    rig.end(&id, Status::Completed);
    assert!(within(waiting).await.unwrap().is_ok());
}

/// Nobody tells anything: the store is looked at.
#[tokio::test]
async fn without_a_broker_the_store_is_asked() {
    let store = MapStore::default();
    store.set("a", Status::InProgress);
    let waiters = Waiters::new(store.open(), None, NO_SAFETY_READ);
    let waiting = {
        let waiters = waiters.clone();
        tokio::spawn(async move { waiters.wait("a", PATIENCE).await })
    };
    store.was_read(1).await;
    store.set("a", Status::Completed);
    assert!(within(waiting).await.unwrap().is_ok());
}

/// A word that was lost is found by the safety read.
#[tokio::test]
async fn a_lost_word_is_made_good() {
    let store = MapStore::default();
    store.set("a", Status::InProgress);
    let broker = broker("memory://a_lost_word").await;
    let waiters = Waiters::new(store.open(), Some(broker), Duration::from_millis(50));
    let mut all = waiters.completions();
    within(all.next()).await;
    let waiting = {
        let waiters = waiters.clone();
        tokio::spawn(async move { waiters.wait("a", PATIENCE).await })
    };
    store.was_read(1).await;
    store.set("a", Status::Completed);
    assert!(within(waiting).await.unwrap().is_ok());
}

/// Anybody may write to an exchange.
#[tokio::test]
async fn garbage_on_the_exchange_harms_nobody() {
    let rig = Rig::new(&amqp_url()).await;
    let id = rig.running("a");
    let waiting = rig.wait(&id).await;
    let connection = lapin::Connection::connect(&amqp_url(), Default::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let huge = format!("{{\"jobs\": [{:?}]}}", "x".repeat(2 << 20));
    let deep = "[".repeat(100_000);
    let bodies = [
        "",
        "\u{0}",
        "{}",
        "{\"jobs\": {}}",
        "{\"jobs\": [null]}",
        &huge,
        &deep,
    ];
    for key in (0..64).map(|key| key.to_string()) {
        for body in bodies {
            let sent = channel
                .basic_publish(
                    "warren.completions".into(),
                    key.as_str().into(),
                    Default::default(),
                    body.as_bytes(),
                    Default::default(),
                )
                .await
                .unwrap();
            // No confirm was asked for.
            drop(sent);
            if body.len() > 1000 && key != "0" {
                break;
            }
        }
    }
    connection.close(200, "done".into()).await.unwrap();
    rig.end(&id, Status::Completed);
    assert!(within(waiting).await.unwrap().is_ok());
}
