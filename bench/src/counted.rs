//! The hot path, a piece at a time, for valgrind to count the instructions of.

use std::hint::black_box;

use clap::ValueEnum;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use warren::{
    broker::{Broker, BrokerSettings, BrokerUrl, QueueName},
    client::Client,
    store::{Store, StorePolicy},
    worker::{Shutdown, Worker},
};
use warren_plugin_api::{HostContext, Record, ResultStore, StoreObject, StoreResult, Text, Write};
use warren_store_memory::MemoryStore;

use crate::{
    error::{BenchError, ensure},
    options::StoreKind,
    plugins,
    redis_store::completed_record,
    warren_side::{self, BATCH},
};

/// How often a path is taken while it is counted.
pub(crate) const TIMES: usize = 4 * BATCH;
/// What valgrind is told to count.
pub(crate) const COUNTED_FUNCTION: &str = "*warren_bench*counted_part*";

/// A piece of the hot path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HotPath {
    /// A record into the memory store, called directly.
    PutLinked,
    /// The same through the plugin boundary.
    PutPlugin,
    /// A record out of the memory store, called directly.
    GetLinked,
    /// The same through the plugin boundary.
    GetPlugin,
    /// One record of a batch into the memory store, called directly.
    PutManyLinked,
    /// The same through the plugin boundary.
    PutManyPlugin,
    /// One job of a batch sent, with the broker in this process and the memory plugin.
    Enqueue,
    /// One job sent by itself.
    EnqueueOne,
    /// One job run by a worker, from its delivery to its answer.
    Job,
}

/// Takes `path` [`TIMES`] times, in one thread.
pub(crate) fn run(path: HotPath) -> Result<(), BenchError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::Signals)?;
    match path {
        HotPath::PutLinked => put(&runtime, &runtime.block_on(linked())?),
        HotPath::PutPlugin => put(&runtime, &runtime.block_on(plugin())?),
        HotPath::GetLinked => get(&runtime, &runtime.block_on(linked())?),
        HotPath::GetPlugin => get(&runtime, &runtime.block_on(plugin())?),
        HotPath::PutManyLinked => put_many(&runtime, &runtime.block_on(linked())?),
        HotPath::PutManyPlugin => put_many(&runtime, &runtime.block_on(plugin())?),
        HotPath::Enqueue => enqueue(&runtime, BATCH),
        HotPath::EnqueueOne => enqueue(&runtime, 1),
        HotPath::Job => job(&runtime),
    }
}

/// What is counted is what happens in here, in this thread.
#[inline(never)]
fn counted_part(work: &mut dyn FnMut() -> Result<(), BenchError>) -> Result<(), BenchError> {
    black_box(work())
}

async fn linked() -> Result<MemoryStore, BenchError> {
    let config = serde_json::from_value(plugins::memory_config())?;
    Ok(MemoryStore::open(config, HostContext::silent()).await?)
}

async fn plugin() -> Result<StoreObject, BenchError> {
    plugins::open_with(StoreKind::Memory, &plugins::memory_config()).await
}

/// The store's methods, whichever way it is called.
trait Called {
    fn put(&self, write: Write) -> impl Future<Output = StoreResult<()>>;
    fn get(&self, job_id: Text) -> impl Future<Output = StoreResult<Option<Record>>>;
    fn put_many(&self, writes: Vec<Write>) -> impl Future<Output = StoreResult<usize>>;
}

macro_rules! called {
    ($store:ty) => {
        impl Called for $store {
            async fn put(&self, write: Write) -> StoreResult<()> {
                <$store>::put(self, write).await.map(drop)
            }

            async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
                <$store>::get(self, job_id).await
            }

            async fn put_many(&self, writes: Vec<Write>) -> StoreResult<usize> {
                Ok(<$store>::put_many(self, writes).await?.len())
            }
        }
    };
}

called!(StoreObject);

impl Called for MemoryStore {
    async fn put(&self, write: Write) -> StoreResult<()> {
        ResultStore::put(self, write).await.map(drop)
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        ResultStore::get(self, job_id).await
    }

    async fn put_many(&self, writes: Vec<Write>) -> StoreResult<usize> {
        Ok(ResultStore::put_many(self, writes).await?.len())
    }
}

fn writes() -> Vec<Write> {
    (0..TIMES)
        .map(|_| Write::from(completed_record()))
        .collect()
}

fn put(runtime: &Runtime, store: &impl Called) -> Result<(), BenchError> {
    let mut writes = writes();
    counted_part(&mut || {
        runtime.block_on(async {
            for write in writes.drain(..) {
                black_box(store.put(write).await?);
            }
            Ok(())
        })
    })
}

fn get(runtime: &Runtime, store: &impl Called) -> Result<(), BenchError> {
    let writes = writes();
    let ids: Vec<Text> = writes.iter().map(|it| it.record.job_id.clone()).collect();
    runtime.block_on(store.put_many(writes))?;
    let mut found = 0;
    counted_part(&mut || {
        runtime.block_on(async {
            for id in &ids {
                found += usize::from(black_box(store.get(id.clone()).await?).is_some());
            }
            Ok(())
        })
    })?;
    ensure("records that were found", found, TIMES)
}

fn put_many(runtime: &Runtime, store: &impl Called) -> Result<(), BenchError> {
    let mut batches: Vec<Vec<Write>> = writes().chunks(BATCH).map(<[Write]>::to_vec).collect();
    counted_part(&mut || {
        runtime.block_on(async {
            for batch in batches.drain(..) {
                black_box(store.put_many(batch).await?);
            }
            Ok(())
        })
    })
}

/// A broker in this process, and the memory plugin under the host's guard.
async fn client(queue: &QueueName) -> Result<Client, BenchError> {
    let url: BrokerUrl = "memory://counted".parse()?;
    let broker = Broker::connect(&BrokerSettings::new(url)).await?;
    broker.declare(queue).await?;
    let store = Store::new("memory", plugin().await?, StorePolicy::default())?;
    let client = Client::new(broker, store);
    // What happens once is not the hot path.
    warren_side::send(&client, queue, 1).await?;
    client.broker().purge(queue).await?;
    Ok(client)
}

fn enqueue(runtime: &Runtime, at_once: usize) -> Result<(), BenchError> {
    let queue = QueueName::new("counted")?;
    let client = runtime.block_on(client(&queue))?;
    let mut batches = vec![vec![warren_side::request(&queue); at_once]; TIMES / at_once];
    counted_part(&mut || {
        runtime.block_on(async {
            for batch in batches.drain(..) {
                for sent in client.enqueue_many(batch).await {
                    black_box(sent?);
                }
            }
            Ok(())
        })
    })
}

fn job(runtime: &Runtime) -> Result<(), BenchError> {
    let queue = QueueName::new("counted")?;
    let client = runtime.block_on(client(&queue))?;
    let times = u32::try_from(TIMES).unwrap_or(u32::MAX);
    runtime.block_on(warren_side::send(&client, &queue, times))?;
    let shutdown = Shutdown::new();
    let mut worker = Some(
        Worker::builder(client.broker().clone(), client.store().clone())
            .queues([queue])
            .functions(warren_side::functions(times, &shutdown)?)
            .concurrency(BATCH)
            .build()?,
    );
    let mut completed = 0;
    counted_part(&mut || {
        if let Some(worker) = worker.take() {
            completed = runtime.block_on(worker.run(shutdown.clone()))?.completed;
        }
        Ok(())
    })?;
    ensure("jobs that Warren ran", completed, u64::from(times))
}
