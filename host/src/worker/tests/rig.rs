//! What the tests of this folder share: a broker, a store, functions, and a worker over them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use warren_plugin_api::{Payload, Timestamp};

use crate::{
    broker::{Broker, BrokerSettings, HeaderValue, Headers, Publish, QueueName, Settle},
    function::{Call, FunctionPolicy, FunctionRegistry, Handler, JobError, RetryAdvice},
    job::{JobId, JobMessage, RetryOn, RetryPolicy},
    store::Store,
    worker::{
        Burst, Shutdown, Worker, WorkerBuilder, WorkerError, WorkerHealth, WorkerReport,
        WorkerStats, test_store::TestStore,
    },
};

pub(super) struct Rig {
    pub(super) broker: Broker,
    pub(super) queue: QueueName,
    pub(super) store: TestStore,
    pub(super) functions: Functions,
    pub(super) shutdown: Shutdown,
}

/// A worker that is running.
pub(super) struct Running {
    pub(super) task: JoinHandle<Result<WorkerReport, WorkerError>>,
    pub(super) stats: WorkerStats,
    pub(super) health: WorkerHealth,
}

/// A message found in a queue.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) body: Payload,
    pub(super) headers: Headers,
    pub(super) priority: u8,
}

impl Rig {
    pub(super) async fn new() -> Self {
        let name = uuid::Uuid::new_v4();
        let settings = BrokerSettings::new(format!("memory://{name}").parse().unwrap());
        let broker = Broker::connect(&settings).await.unwrap();
        let queue = QueueName::new("jobs").unwrap();
        broker.declare(&queue).await.unwrap();
        Self {
            broker,
            queue,
            store: TestStore::new(),
            functions: Functions::default(),
            shutdown: Shutdown::new(),
        }
    }

    pub(super) fn builder(&self) -> WorkerBuilder {
        self.builder_with_deadline(Duration::from_millis(200))
    }

    pub(super) fn builder_with_deadline(&self, deadline: Duration) -> WorkerBuilder {
        self.builder_on(self.store.open(deadline))
    }

    pub(super) fn builder_on(&self, store: Store) -> WorkerBuilder {
        Worker::builder(self.broker.clone(), store)
            .queues([self.queue.clone()])
            .functions(self.functions.registry())
            .name("w")
    }

    /// Starts a worker that runs until it is asked to stop.
    pub(super) fn start(&self, builder: WorkerBuilder) -> Running {
        let worker = builder.build().unwrap();
        Running {
            stats: worker.stats(),
            health: worker.health(),
            task: tokio::spawn(worker.run(self.shutdown.clone())),
        }
    }

    /// Works until the queue is empty.
    pub(super) async fn burst(&self) -> WorkerReport {
        self.burst_with(self.builder()).await
    }

    pub(super) async fn burst_with(&self, builder: WorkerBuilder) -> WorkerReport {
        self.start(builder.burst(Burst::default())).end().await
    }

    /// Sends a job of `function` under `id`.
    pub(super) async fn send(&self, id: &str, function: &str) {
        self.send_message(self.message(id, function)).await;
    }

    pub(super) fn message(&self, id: &str, function: &str) -> JobMessage {
        JobMessage::new(JobId::new(id).unwrap(), function, self.queue.as_str())
    }

    pub(super) async fn send_message(&self, message: JobMessage) {
        self.send_raw(message.to_body(), Headers::new()).await;
    }

    pub(super) async fn send_raw(&self, body: impl Into<Payload>, headers: Headers) {
        self.send_with_priority(body, headers, 0).await;
    }

    pub(super) async fn send_with_priority(
        &self,
        body: impl Into<Payload>,
        headers: Headers,
        priority: u8,
    ) {
        let publish = Publish {
            queue: self.queue.clone(),
            body: body.into(),
            headers,
            delay: Duration::ZERO,
            priority,
            from_warren: true,
        };
        self.broker.publish(publish).await.unwrap();
    }

    /// Takes everything out of the queue.
    pub(super) async fn queued(&self) -> Vec<Found> {
        self.take(&self.queue).await
    }

    /// Takes everything out of the dead-letter queue.
    pub(super) async fn dead_letters(&self) -> Vec<Found> {
        self.take(&self.broker.dead_letter_queue(&self.queue)).await
    }

    async fn take(&self, queue: &QueueName) -> Vec<Found> {
        let deliveries = self.broker.fetch(queue, 1000).await.unwrap();
        deliveries
            .into_iter()
            .map(|delivery| {
                delivery.acker.settle(Settle::Ack).unwrap();
                Found {
                    body: delivery.body,
                    headers: delivery.headers,
                    priority: delivery.priority,
                }
            })
            .collect()
    }

    /// Hands every queued message over once and takes it back, as after a lost worker.
    pub(super) async fn redeliver(&self) {
        for delivery in self.broker.fetch(&self.queue, 1000).await.unwrap() {
            delivery.acker.settle(Settle::Requeue).unwrap();
        }
    }
}

impl Running {
    /// Waits until the worker has ended.
    pub(super) async fn end(self) -> WorkerReport {
        self.result().await.unwrap()
    }

    pub(super) async fn result(self) -> Result<WorkerReport, WorkerError> {
        tokio::time::timeout(Duration::from_secs(30), self.task)
            .await
            .unwrap()
            .unwrap()
    }
}

impl Found {
    pub(super) fn text(&self, header: &str) -> Option<&str> {
        match self.headers.get(header)? {
            HeaderValue::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn message(&self) -> JobMessage {
        JobMessage::parse(&self.body, Timestamp::now()).unwrap()
    }
}

/// The functions of these tests, and what they have seen.
#[derive(Clone, Default)]
pub(super) struct Functions {
    pub(super) runs: Arc<AtomicU32>,
    /// Attempts in the order in which they were run.
    pub(super) attempts: Arc<Mutex<Vec<u32>>>,
    /// Lets go the jobs of `wait`.
    pub(super) gate: Arc<tokio::sync::Notify>,
}

impl Functions {
    pub(super) fn runs(&self) -> u32 {
        self.runs.load(Ordering::Relaxed)
    }

    fn note(&self, call: &Call) -> u32 {
        self.attempts.lock().unwrap().push(call.context.attempt());
        self.runs.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// How a test function answers.
type Answer = Result<Payload, JobError>;

impl Functions {
    pub(super) fn registry(&self) -> FunctionRegistry {
        let mut registry = FunctionRegistry::default();
        let mut add = |name: &str, handler: Arc<dyn Handler>| {
            let retry = RetryPolicy {
                base: Duration::from_millis(1),
                on: RetryOn::Only(["OSError", "Panic", "JobTimeout"].map(str::to_owned).into()),
                ..RetryPolicy::default()
            };
            let timeout = match name {
                "waits_long" => Duration::from_secs(3600),
                _ => Duration::from_millis(200),
            };
            let policy = FunctionPolicy {
                timeout,
                retry,
                result_ttl: None,
            };
            registry.register_handler(name, policy, handler).unwrap();
        };
        let this = self.clone();
        add("echo", handler(&this, async |_, call, _| Ok(call.args)));
        add(
            "detailed",
            handler(&this, async |_, _, _| {
                let detail = Some("line 1\nline 2".to_owned());
                Err(JobError {
                    detail,
                    ..JobError::new("ValueError", "boom é中")
                })
            }),
        );
        add(
            "broken",
            handler(&this, async |_, _, _| Err(JobError::new("OSError", "gone"))),
        );
        add(
            "flaky",
            handler(&this, async |_, _, run| match run {
                1 | 2 => Err(JobError::new("OSError", "gone")),
                _ => Ok(Payload::from("\"at last\"")),
            }),
        );
        add(
            "asks",
            handler(&this, async |_, _, run| match run {
                1 => Err(JobError {
                    retry: RetryAdvice::After(Duration::from_millis(5)),
                    ..JobError::new("Retry", "not yet")
                }),
                _ => Ok(Payload::from("1")),
            }),
        );
        add(
            "huge_error",
            handler(&this, async |_, _, _| {
                Err(JobError::new("ValueError", "中".repeat(200_000)))
            }),
        );
        add(
            "panics",
            handler(&this, async |_, _, _| panic!("out of cheese")),
        );
        add(
            "hangs",
            handler(&this, async |_, _, _| std::future::pending().await),
        );
        add(
            "waits",
            handler(&this, async |functions: Functions, _, _| {
                functions.gate.notified().await;
                Ok(Payload::from("true"))
            }),
        );
        add(
            "waits_long",
            handler(&this, async |functions: Functions, _, _| {
                functions.gate.notified().await;
                Ok(Payload::from("true"))
            }),
        );
        add(
            "reports",
            handler(&this, async |functions: Functions, call, _| {
                call.context.set_progress(&50)?;
                functions.gate.notified().await;
                call.context.set_progress(&100)?;
                Ok(Payload::from("true"))
            }),
        );
        registry
    }
}

struct Closure<F>(Functions, F);

impl<F, R> Handler for Closure<F>
where
    F: Fn(Functions, Call, u32) -> R + Send + Sync,
    R: Future<Output = Answer> + Send + 'static,
{
    fn call(&self, call: Call) -> BoxFuture<'static, Answer> {
        let run = self.0.note(&call);
        Box::pin((self.1)(self.0.clone(), call, run))
    }
}

/// A function that is told how often functions of this rig have run.
fn handler<F, R>(functions: &Functions, function: F) -> Arc<dyn Handler>
where
    F: Fn(Functions, Call, u32) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    Arc::new(Closure(functions.clone(), function))
}
