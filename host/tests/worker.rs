//! A worker over RabbitMQ: what the unit tests over the in-process broker cannot show.
//!
//! Needs RabbitMQ at `WARREN_TEST_AMQP_URL`, by default `amqp://guest:guest@127.0.0.1:5672/%2f`.

#![allow(clippy::unwrap_used)] // How a test fails.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use warren::{
    broker::{Broker, BrokerSettings, Headers, Publish, QueueName, Settle},
    function::{FunctionPolicy, FunctionRegistry, JobContext, JobError},
    job::{JobId, JobMessage, RetryPolicy},
    store::{Store, StorePolicy},
    worker::{Burst, Hooks, Shutdown, Worker, WorkerBuilder, WorkerReport},
};
use warren_plugin_api::{
    Capabilities, Health, HostContext, Record, ResultStore, Status, StoreObject, StoreResult, Text,
    Write, WriteOutcome,
};

/// The plainest store: a map that takes every newer record.
#[derive(Clone, Default)]
struct MapStore(Arc<Mutex<HashMap<Text, Record>>>);

impl MapStore {
    fn record(&self, id: &str) -> Option<Record> {
        self.0.lock().unwrap().get(id).cloned()
    }

    fn open(&self) -> Store {
        Store::new(
            "map",
            StoreObject::from_store(self.clone()),
            StorePolicy::default(),
        )
        .unwrap()
    }
}

impl ResultStore for MapStore {
    type Config = ();
    const CAPABILITIES: Capabilities = Capabilities::NONE;

    async fn open((): (), _: HostContext) -> StoreResult<Self> {
        Ok(Self::default())
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        let mut records = self.0.lock().unwrap();
        let record = write.record;
        let stored = records.get(&record.job_id);
        if stored.is_some_and(|old| !record.version().replaces(old.version())) {
            return Ok(WriteOutcome::Stale);
        }
        records.insert(record.job_id.clone(), record);
        Ok(WriteOutcome::Written)
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        Ok(self.record(&job_id))
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        Ok(self.0.lock().unwrap().remove(&job_id).is_some())
    }

    async fn health_check(&self) -> StoreResult<Health> {
        Ok(Health::default())
    }
}

struct Rig {
    broker: Broker,
    queue: QueueName,
    store: MapStore,
}

fn url() -> String {
    std::env::var("WARREN_TEST_AMQP_URL")
        .unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// Warren itself never deletes a queue.
async fn delete(queue: &QueueName) {
    let connection = lapin::Connection::connect(&url(), Default::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .queue_delete(queue.as_str().into(), Default::default())
        .await
        .unwrap();
}

async fn connect() -> Broker {
    Broker::connect(&BrokerSettings::new(url().parse().unwrap()))
        .await
        .unwrap()
}

impl Rig {
    async fn new() -> Self {
        let queue = QueueName::new(format!("warren-test-worker-{}", JobId::random())).unwrap();
        let broker = connect().await;
        broker.declare(&queue).await.unwrap();
        Self {
            broker,
            queue,
            store: MapStore::default(),
        }
    }

    async fn send(&self, ids: impl IntoIterator<Item = String>, function: &str) {
        let publishes = ids
            .into_iter()
            .map(|id| {
                let id = JobId::new(id).unwrap();
                let message = JobMessage::new(id, function, self.queue.as_str());
                Publish {
                    queue: self.queue.clone(),
                    body: message.to_body(),
                    headers: Headers::new(),
                    delay: Duration::ZERO,
                    priority: 0,
                    from_warren: true,
                }
            })
            .collect();
        for sent in self.broker.publish_many(publishes).await {
            sent.unwrap();
        }
    }

    fn worker(&self) -> WorkerBuilder {
        let policy = FunctionPolicy {
            retry: RetryPolicy {
                limit: 2,
                base: Duration::from_millis(50),
                ..Default::default()
            },
            ..Default::default()
        };
        let mut functions = FunctionRegistry::new();
        functions
            .register_with(
                "attempt",
                policy.clone(),
                async |job: JobContext, (): ()| Ok::<_, JobError>(job.attempt()),
            )
            .unwrap();
        functions
            .register_with(
                "second_time",
                policy.clone(),
                async |job: JobContext, (): ()| {
                    if job.attempt() < 2 {
                        Err(JobError::new("Early", "not yet"))
                    } else {
                        Ok(())
                    }
                },
            )
            .unwrap();
        functions
            .register_with("fails", policy.clone(), async |_: JobContext, (): ()| {
                Err::<(), _>(JobError::new("Broken", "x".repeat(300_000)))
            })
            .unwrap();
        functions
            .register_with("hangs", policy, async |_: JobContext, (): ()| {
                std::future::pending::<Result<(), JobError>>().await
            })
            .unwrap();
        Worker::builder(self.broker.clone(), self.store.open())
            .queues([self.queue.clone()])
            .functions(functions)
    }

    async fn burst(&self) -> WorkerReport {
        let worker = self
            .worker()
            .concurrency(20)
            .burst(Burst::default())
            .build()
            .unwrap();
        let run = worker.run(Shutdown::new());
        tokio::time::timeout(Duration::from_secs(60), run)
            .await
            .unwrap()
            .unwrap()
    }

    /// What is left in the queue and its dead-letter queue once this connection is gone. Deletes
    /// both.
    async fn left(self) -> (u64, u64) {
        self.broker.close().await;
        let broker = connect().await;
        let mut left = Vec::new();
        for queue in [self.queue.clone(), broker.dead_letter_queue(&self.queue)] {
            left.push(broker.queue_info(&queue).await.unwrap().unwrap().ready);
            delete(&queue).await;
        }
        (left[0], left[1])
    }
}

#[tokio::test]
async fn all_jobs_are_answered_before_the_worker_ends() {
    let rig = Rig::new().await;
    rig.send((0..500).map(|number| format!("job-{number}")), "attempt")
        .await;
    let report = rig.burst().await;
    assert_eq!(report.completed, 500);
    for number in 0..500 {
        let record = rig.store.record(&format!("job-{number}")).unwrap();
        assert_eq!(
            (record.status, record.result.as_slice()),
            (Status::Completed, &b"1"[..])
        );
    }
    assert_eq!(rig.left().await, (0, 0));
}

#[tokio::test]
async fn retries_come_back_and_failures_go_to_the_dead_letters() {
    let rig = Rig::new().await;
    rig.send(["again".to_owned()], "second_time").await;
    rig.send(["never".to_owned()], "fails").await;
    let report = rig.burst().await;
    let (again, never) = (
        rig.store.record("again").unwrap(),
        rig.store.record("never").unwrap(),
    );
    assert_eq!((again.status, again.attempt), (Status::Completed, 2));
    assert_eq!((never.status, never.attempt), (Status::Failed, 3));
    assert_eq!((report.completed, report.failed, report.retried), (1, 1, 3));
    let dead = rig.broker.dead_letter_queue(&rig.queue);
    let letters = rig.broker.fetch(&dead, 10).await.unwrap();
    assert_eq!(
        letters.len(),
        1,
        "and the connection has survived the long error"
    );
    for letter in letters {
        letter.acker.settle(Settle::Requeue).unwrap();
    }
    assert_eq!(rig.left().await, (0, 1));
}

#[tokio::test]
async fn an_interrupted_job_is_in_its_queue_again() {
    let rig = Rig::new().await;
    rig.send(["a".to_owned(), "b".to_owned()], "hangs").await;
    let shutdown = Shutdown::new();
    let worker = rig.worker().concurrency(1).prefetch(5).build().unwrap();
    let stats = worker.stats();
    let running = tokio::spawn(worker.run(shutdown.clone()));
    let started = async {
        while stats.report().running == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), started)
        .await
        .unwrap();
    shutdown.stop_now();
    let report = tokio::time::timeout(Duration::from_secs(20), running)
        .await
        .unwrap();
    assert_eq!(report.unwrap().unwrap().completed, 0);
    assert_eq!(rig.left().await, (2, 0));
}

#[tokio::test]
async fn a_dead_letter_queue_that_was_deleted_is_made_again() {
    let rig = Rig::new().await;
    rig.send(["a".to_owned()], "fails").await;
    let dead = rig.broker.dead_letter_queue(&rig.queue);
    // Runs after the queues were declared.
    let hooks = Hooks::default().on_startup(move |_| {
        let dead = dead.clone();
        async move {
            delete(&dead).await;
            Ok(())
        }
    });
    let worker = rig
        .worker()
        .hooks(hooks)
        .burst(Burst::default())
        .build()
        .unwrap();
    let run = worker.run(Shutdown::new());
    let report = tokio::time::timeout(Duration::from_secs(60), run)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((report.failed, report.requeued), (1, 0));
    assert_eq!(rig.left().await, (0, 1));
}
