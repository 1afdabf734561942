//! A client and a worker over the in-process broker, with a store that announces completions.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use warren_plugin_api::{
    Capabilities, CompletionSink, Health, HostContext, Record, ResultStore, Status, StoreObject,
    StoreResult, Text, Write, WriteMode, WriteOutcome,
};

use super::*;
use crate::{
    broker::{BrokerSettings, QueueName},
    function::{FunctionRegistry, JobContext, JobError},
    store::StorePolicy,
    worker::{Shutdown, Worker},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A map that announces, and counts its reads.
#[derive(Clone, Default)]
struct Announcing {
    records: Arc<Mutex<HashMap<Text, Record>>>,
    sinks: Arc<Mutex<Vec<CompletionSink>>>,
    reads: Arc<AtomicUsize>,
    /// Announces ends with their records.
    sends_records: Arc<AtomicBool>,
    /// Never answers writes of `queued` records.
    hangs_when_queued: Arc<AtomicBool>,
}

impl ResultStore for Announcing {
    type Config = ();
    const CAPABILITIES: Capabilities = Capabilities {
        push: true,
        ..Capabilities::NONE
    };

    async fn open(_config: (), _host: HostContext) -> StoreResult<Self> {
        Ok(Self::default())
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        let Write { record, mode } = write;
        if record.status == Status::Queued && self.hangs_when_queued.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let mut records = self.records.lock().unwrap();
        let stored = records.get(&record.job_id);
        let is_stale = stored.is_some_and(|stored| match mode {
            WriteMode::Always => false,
            WriteMode::IfAbsent => true,
            WriteMode::IfNewer => !record.version().replaces(stored.version()),
        });
        if is_stale {
            return Ok(WriteOutcome::Stale);
        }
        records.insert(record.job_id.clone(), record.clone());
        drop(records);
        if record.status.is_terminal() {
            let sends_records = self.sends_records.load(Ordering::Relaxed);
            for sink in self.sinks.lock().unwrap().iter() {
                if sends_records && sink.wants_record(&record.job_id) {
                    sink.completed_with(record.clone());
                } else {
                    sink.completed(record.job_id.clone(), record.status);
                }
            }
        }
        Ok(WriteOutcome::Written)
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.records.lock().unwrap().get(&job_id).cloned())
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        Ok(self.records.lock().unwrap().remove(&job_id).is_some())
    }

    async fn health_check(&self) -> StoreResult<Health> {
        Ok(Health::default())
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        self.sinks.lock().unwrap().push(sink.clone());
        sink.ready();
        std::future::pending().await
    }
}

impl Announcing {
    fn open(&self) -> Store {
        let object = StoreObject::from_store(self.clone());
        Store::new("announcing", object, StorePolicy::default()).unwrap()
    }
}

struct Rig {
    client: Client,
    store: Announcing,
    shutdown: Shutdown,
    queue: QueueName,
}

impl Rig {
    async fn new() -> Self {
        let url = format!("memory://{}", uuid::Uuid::new_v4());
        let settings = BrokerSettings::new(url.parse().unwrap());
        let broker = Broker::connect(&settings).await.unwrap();
        let queue = QueueName::new("jobs").unwrap();
        let store = Announcing::default();
        Self {
            client: Client::new(broker, store.open()),
            store,
            shutdown: Shutdown::new(),
            queue,
        }
    }

    fn start_worker(&self) {
        let mut functions = FunctionRegistry::new();
        let double =
            |_: JobContext, (number,): (i64,)| async move { Ok::<_, JobError>(number * 2) };
        functions.register("double", double).unwrap();
        // What the worker reads is not the client's to count.
        let store = Announcing {
            reads: Arc::default(),
            ..self.store.clone()
        };
        let worker = Worker::builder(self.client.broker().clone(), store.open())
            .queues([self.queue.clone()])
            .functions(functions)
            .build()
            .unwrap();
        tokio::spawn(worker.run(self.shutdown.clone()));
    }

    fn request(&self) -> JobRequest {
        JobRequest::new("double").arg(4).queue(self.queue.as_str())
    }
}

#[tokio::test]
async fn a_job_that_is_run_is_read_once_when_its_end_is_announced() {
    reads_of_a_job_that_is_run_come_to(1, Rig::new().await).await;
}

#[tokio::test]
async fn a_job_whose_record_comes_with_its_end_is_not_read() {
    let rig = Rig::new().await;
    rig.store.sends_records.store(true, Ordering::Relaxed);
    reads_of_a_job_that_is_run_come_to(0, rig).await;
}

async fn reads_of_a_job_that_is_run_come_to(expected: usize, rig: Rig) {
    rig.start_worker();
    // The first ones bring the subscriptions up, each of which looks once for what it has missed.
    let mut reads = 0;
    for _ in 0..100 {
        rig.store.reads.store(0, Ordering::Relaxed);
        let record = rig.client.run(rig.request(), PATIENCE).await.unwrap();
        assert_eq!(
            (record.status, &*record.result),
            (Status::Completed, &b"8"[..])
        );
        reads = rig.store.reads.load(Ordering::Relaxed);
        if reads == expected {
            break;
        }
    }
    assert_eq!(reads, expected);
    rig.shutdown.stop_now();
}

#[tokio::test]
async fn a_record_that_came_along_is_not_believed_when_the_job_was_sent_again() {
    let rig = Rig::new().await;
    rig.store.sends_records.store(true, Ordering::Relaxed);
    let record = |status, attempt| Record {
        job_id: "mine".into(),
        status,
        attempt,
        ..Record::default()
    };
    let put = async |record: Record, mode| {
        let write = Write { record, mode };
        assert_eq!(rig.store.put(write).await, Ok(WriteOutcome::Written));
    };
    put(record(Status::InProgress, 1), WriteMode::Always).await;
    // Keeps the place in which what came along is kept.
    let mut first = Box::pin(rig.client.wait("mine", PATIENCE));
    assert!(futures_util::poll!(&mut first).is_pending());
    while rig.store.sinks.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    put(record(Status::Failed, 1), WriteMode::Always).await;
    put(record(Status::Queued, 1), WriteMode::Always).await;
    let second = rig.client.wait("mine", PATIENCE);
    let end = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        put(record(Status::Completed, 1), WriteMode::Always).await;
    };
    let (ended, ()) = tokio::join!(second, end);
    assert_eq!(ended.unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_job_that_ends_at_once_is_not_recorded_before_and_any_other_is() {
    let rig = Rig::new().await;
    let ended = rig
        .client
        .run(rig.request(), Duration::from_millis(100))
        .await;
    assert!(matches!(
        ended,
        Err(RunError::Wait(WaitError::Timeout { .. }))
    ));
    let records = std::mem::take(&mut *rig.store.records.lock().unwrap());
    let statuses: Vec<Status> = records.values().map(|record| record.status).collect();
    assert_eq!(statuses, [Status::Queued]);

    rig.store.hangs_when_queued.store(true, Ordering::Relaxed);
    rig.start_worker();
    let record = rig.client.run(rig.request(), PATIENCE).await.unwrap();
    assert_eq!(record.status, Status::Completed);
    rig.shutdown.stop_now();
}

#[tokio::test]
async fn a_job_that_is_run_waits_for_its_record_only_if_others_may_know_its_id() {
    let rig = Rig::new().await;
    rig.store.hangs_when_queued.store(true, Ordering::Relaxed);
    let named = rig.client.run(rig.request().id("mine"), PATIENCE);
    let gave_up = tokio::time::timeout(Duration::from_millis(50), named).await;
    assert!(gave_up.is_err());
    let info = rig.client.broker().queue_info(&rig.queue).await.unwrap();
    assert_eq!(info.unwrap().ready, 0);

    rig.start_worker();
    let record = rig.client.run(rig.request(), PATIENCE).await.unwrap();
    assert_eq!(record.status, Status::Completed);
    rig.shutdown.stop_now();
}

#[tokio::test]
async fn a_job_that_exists_and_is_kept_is_only_waited_for() {
    let rig = Rig::new().await;
    let request = rig.request().id("mine").if_exists(IfExists::Keep);
    rig.client.enqueue(request.clone()).await.unwrap();
    rig.start_worker();
    let first = rig.client.run(request.clone(), PATIENCE).await.unwrap();
    let again = rig.client.run(request, PATIENCE).await.unwrap();
    assert_eq!(first, again);
    rig.shutdown.stop_now();
}

#[tokio::test]
async fn a_job_that_nobody_runs_is_given_up_and_a_duplicate_is_refused() {
    let rig = Rig::new().await;
    let request = rig.request().id("mine");
    let gave_up = rig
        .client
        .run(request.clone(), Duration::from_millis(20))
        .await;
    assert!(matches!(
        gave_up,
        Err(RunError::Wait(WaitError::Timeout { .. }))
    ));
    let refused = rig.client.run(request, PATIENCE).await;
    assert!(matches!(
        refused,
        Err(RunError::Enqueue(EnqueueError::Duplicate { .. }))
    ));
}

#[tokio::test]
async fn many_jobs_are_answered_in_their_order_over_several_portions() {
    let rig = Rig::new().await;
    let requests: Vec<JobRequest> = (0..300)
        .map(|number| rig.request().id(format!("job {}", number % 299)))
        .collect();
    let answers = rig.client.enqueue_many(requests).await;
    let ids: Vec<String> = answers[..299]
        .iter()
        .map(|it| it.as_ref().unwrap().job_id.to_string())
        .collect();
    let expected: Vec<String> = (0..299).map(|number| format!("job {number}")).collect();
    assert_eq!(ids, expected);
    assert!(matches!(answers[299], Err(EnqueueError::Duplicate { .. })));
    let info = rig.client.broker().queue_info(&rig.queue).await.unwrap();
    assert_eq!(info.unwrap().ready, 299);
}
