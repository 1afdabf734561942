//! One call of a store: what the plugin boundary costs. The same memory store is called through
//! its loaded plugin file and linked into this program; beside it the maps that it could be.

use std::{
    hint::black_box,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use lru::LruCache;
use moka::sync::Cache;
use tokio::runtime::Handle;
use warren_plugin_api::{HostContext, Record, ResultStore, StoreObject, StoreResult, Text, Write};
use warren_store_memory::MemoryStore;

use crate::{
    error::{BenchError, ensure},
    figures::{Measure, Unit},
    options::{Options, StoreKind},
    plugins,
    redis_store::completed_record,
    warren_side::BATCH,
};

/// Calls of each thread in one round, whatever `--jobs` is: a call takes well under a microsecond.
const CALLS: usize = 50 * BATCH;

/// Measures `--rounds` rounds of each operation, by one thread and by two at once.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Measure>, BenchError> {
    // A plugin is opened by a host that has a runtime; its calls come from plain threads here.
    let mut measures = Vec::new();
    for threads in [1, 2] {
        for operation in [Operation::Put, Operation::Get, Operation::PutMany] {
            measures.push(one_measure(options, operation, threads).await?);
        }
    }
    Ok(measures)
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Put,
    Get,
    PutMany,
}

async fn one_measure(
    options: &Options,
    operation: Operation,
    threads: usize,
) -> Result<Measure, BenchError> {
    let name = match operation {
        Operation::Put => "put".to_owned(),
        Operation::Get => "get".to_owned(),
        Operation::PutMany => format!("put_many, per record of {BATCH}"),
    };
    let sides = [
        "memory store, linked",
        "memory store, plugin",
        "moka alone",
        "lru alone",
    ];
    let plural = if threads == 1 { "" } else { "s" };
    let name = format!("{name}, {threads} thread{plural}");
    eprintln!("store call: {name}");
    let mut measure = Measure::new(name, Unit::Nanoseconds, &sides);
    for _ in 0..options.rounds() {
        let subjects = [
            Subject::linked().await?,
            Subject::plugin().await?,
            Subject::Moka(Cache::new(1_000_000)),
            Subject::lru(),
        ];
        let mut figures = Vec::new();
        for subject in subjects {
            figures.push(ns_per_item(subject, operation, threads).await?);
        }
        measure.add_round(figures);
    }
    Ok(measure)
}

/// What is called.
#[derive(Clone)]
enum Subject {
    Linked(Arc<MemoryStore>),
    Plugin(StoreObject),
    Moka(Cache<Text, Arc<Record>>),
    Lru(Arc<Mutex<LruCache<Text, Arc<Record>>>>),
}

impl Subject {
    async fn linked() -> Result<Self, BenchError> {
        let config = serde_json::from_value(plugins::memory_config())?;
        let store = MemoryStore::open(config, HostContext::silent()).await?;
        Ok(Self::Linked(Arc::new(store)))
    }

    async fn plugin() -> Result<Self, BenchError> {
        let config = plugins::memory_config();
        Ok(Self::Plugin(
            plugins::open_with(StoreKind::Memory, &config).await?,
        ))
    }

    fn lru() -> Self {
        const ROOM: NonZeroUsize = NonZeroUsize::new(1_000_000).unwrap();
        Self::Lru(Arc::new(Mutex::new(LruCache::new(ROOM))))
    }
}

/// Has `threads` threads do the operation at the same time; returns what one item of one thread
/// took.
async fn ns_per_item(
    subject: Subject,
    operation: Operation,
    threads: usize,
) -> Result<f64, BenchError> {
    let runtime = Handle::current();
    let measuring = move || {
        let start = std::sync::Barrier::new(threads);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    let caller = Caller {
                        subject: subject.clone(),
                        runtime: runtime.clone(),
                    };
                    scope.spawn(|| caller.run(operation, &start))
                })
                .collect();
            let times: Result<Vec<f64>, BenchError> = workers
                .into_iter()
                .map(|worker| worker.join().map_err(|_| BenchError::Panicked)?)
                .collect();
            Ok(times?.into_iter().sum::<f64>() / threads as f64)
        })
    };
    tokio::task::spawn_blocking(measuring)
        .await
        .map_err(|_| BenchError::Panicked)?
}

struct Caller {
    subject: Subject,
    runtime: Handle,
}

impl Caller {
    /// Prepares everything, waits for the other threads, and returns the nanoseconds per item.
    fn run(self, operation: Operation, start: &std::sync::Barrier) -> Result<f64, BenchError> {
        let records: Vec<Record> = (0..CALLS).map(|_| completed_record()).collect();
        let job_ids: Vec<Text> = records.iter().map(|record| record.job_id.clone()).collect();
        let writes = records.into_iter().map(Write::from).collect();
        let took = match operation {
            Operation::Put => {
                start.wait();
                let began = Instant::now();
                self.put(writes)?;
                began.elapsed()
            }
            Operation::Get => {
                self.put(writes)?;
                start.wait();
                let began = Instant::now();
                self.get(&job_ids)?;
                began.elapsed()
            }
            Operation::PutMany => {
                let batches = batches(writes);
                start.wait();
                let began = Instant::now();
                self.put_many(batches)?;
                began.elapsed()
            }
        };
        Ok(took.as_secs_f64() * 1e9 / CALLS as f64)
    }

    fn put(&self, writes: Vec<Write>) -> Result<(), BenchError> {
        match &self.subject {
            Subject::Linked(store) => self.runtime.block_on(async {
                for write in writes {
                    black_box(store.put(write).await?);
                }
                StoreResult::Ok(())
            })?,
            Subject::Plugin(store) => self.runtime.block_on(async {
                for write in writes {
                    black_box(store.put(write).await?);
                }
                StoreResult::Ok(())
            })?,
            Subject::Moka(cache) => {
                for Write { record, .. } in writes {
                    cache.insert(record.job_id.clone(), Arc::new(record));
                }
            }
            Subject::Lru(cache) => {
                for Write { record, .. } in writes {
                    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
                    black_box(cache.put(record.job_id.clone(), Arc::new(record)));
                }
            }
        }
        Ok(())
    }

    /// Every side gives its caller a record of its own, as a store does.
    fn get(&self, job_ids: &[Text]) -> Result<(), BenchError> {
        let mut found = 0;
        match &self.subject {
            Subject::Linked(store) => self.runtime.block_on(async {
                for job_id in job_ids {
                    found += usize::from(black_box(store.get(job_id.clone()).await?).is_some());
                }
                StoreResult::Ok(())
            })?,
            Subject::Plugin(store) => self.runtime.block_on(async {
                for job_id in job_ids {
                    found += usize::from(black_box(store.get(job_id.clone()).await?).is_some());
                }
                StoreResult::Ok(())
            })?,
            Subject::Moka(cache) => {
                for job_id in job_ids {
                    let record = cache.get(job_id).map(|record| Record::clone(&record));
                    found += usize::from(black_box(record).is_some());
                }
            }
            Subject::Lru(cache) => {
                for job_id in job_ids {
                    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
                    let record = cache.get(job_id).map(Arc::clone);
                    drop(cache);
                    let record = record.map(|record| Record::clone(&record));
                    found += usize::from(black_box(record).is_some());
                }
            }
        }
        ensure("records that were found", found, job_ids.len())
    }

    /// The maps alone have no batches: they take one record after the other.
    fn put_many(&self, batches: Vec<Vec<Write>>) -> Result<(), BenchError> {
        match &self.subject {
            Subject::Linked(store) => self.runtime.block_on(async {
                for batch in batches {
                    black_box(store.put_many(batch).await?);
                }
                StoreResult::Ok(())
            })?,
            Subject::Plugin(store) => self.runtime.block_on(async {
                for batch in batches {
                    black_box(store.put_many(batch).await?);
                }
                StoreResult::Ok(())
            })?,
            Subject::Moka(_) | Subject::Lru(_) => {
                for batch in batches {
                    self.put(batch)?;
                }
            }
        }
        Ok(())
    }
}

fn batches(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut writes = writes.into_iter();
    std::iter::from_fn(|| {
        let batch: Vec<Write> = writes.by_ref().take(BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    })
    .collect()
}
