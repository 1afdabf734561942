//! Each store against its bare driver, which does the same work: the same tables, keys and indexes
//! are written, with the same durability, a later record is never overwritten, endings are
//! announced in the same step, and what is read becomes records.

mod backend;
mod elasticsearch;
mod elasticsearch_document;
mod http;
mod json_record;
mod mongodb;
mod mongodb_document;
mod postgres;
mod redis;
mod s3;
mod s3_object;
mod sizes;
mod sqlite;

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use warren_plugin_api::{Record, StoreObject, StoreResult, Text, Write, WriteOutcome};

pub(crate) use backend::{Backend, Place};
pub(crate) use sizes::measure as measure_sizes;

use crate::{
    error::{BenchError, ensure},
    figures::{Measure, Unit},
    options::Options,
    redis_store::completed_record,
    servers::Servers,
    warren_side::BATCH,
};

/// How many of the records are written one by one: each waits for the disk.
const SINGLE: u32 = 20;

/// What both sides do, with what they are given: as the worker does, nobody keeps a copy.
trait Side: Send {
    fn put(&mut self, record: Record) -> BoxFuture<'_, Result<(), BenchError>>;
    fn put_many(&mut self, records: Vec<Record>) -> BoxFuture<'_, Result<(), BenchError>>;
    /// What was found.
    fn get_many(&mut self, ids: Vec<Text>) -> BoxFuture<'_, Result<Vec<Record>, BenchError>>;
}

/// What a bare side does by itself, of a single record as of many.
trait Driver: Send {
    fn write(&mut self, records: &[Record]) -> impl Future<Output = Result<(), BenchError>> + Send;
    /// What was found.
    fn read(
        &mut self,
        ids: &[Text],
    ) -> impl Future<Output = Result<Vec<Record>, BenchError>> + Send;
}

impl<D: Driver> Side for D {
    fn put(&mut self, record: Record) -> BoxFuture<'_, Result<(), BenchError>> {
        Box::pin(async move { self.write(&[record]).await })
    }

    fn put_many(&mut self, records: Vec<Record>) -> BoxFuture<'_, Result<(), BenchError>> {
        Box::pin(async move { self.write(&records).await })
    }

    fn get_many(&mut self, ids: Vec<Text>) -> BoxFuture<'_, Result<Vec<Record>, BenchError>> {
        Box::pin(async move { self.read(&ids).await })
    }
}

/// Measures `--rounds` rounds of `--jobs` records, of slow stores fewer, on each side of each store.
pub(crate) async fn measure(
    options: &Options,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    let mut measures = Vec::new();
    for backend in Backend::chosen(&options.only) {
        if backend == Backend::Memory {
            // It has no driver.
            continue;
        }
        let of = |what: &str| {
            let name = format!("{}, {what}", backend.name());
            Measure::new(name, Unit::PerSecond, &["bare driver", "store"])
        };
        let mut put = of("put");
        let mut put_many = of(&format!("put_many of {BATCH}"));
        let mut get_many = of(&format!("get_many of {BATCH}"));
        for round in 1..=options.rounds() {
            eprintln!("{}: round {round} of {}", backend.name(), options.rounds());
            let records = backend.records(options.jobs());
            let [bare, store] = one_round(backend, records, servers).await?;
            put.add_round([bare.put, store.put]);
            put_many.add_round([bare.put_many, store.put_many]);
            get_many.add_round([bare.get_many, store.get_many]);
        }
        measures.extend([put, put_many, get_many]);
    }
    Ok(measures)
}

/// Records a second.
#[derive(Debug, Default, Clone, Copy)]
struct Rates {
    put: f64,
    put_many: f64,
    get_many: f64,
}

async fn one_round(
    backend: Backend,
    records: u32,
    servers: &Servers,
) -> Result<[Rates; 2], BenchError> {
    let places = [
        Place::new(backend, servers).await?,
        Place::new(backend, servers).await?,
    ];
    let measured = measure_sides(&places, records).await;
    for place in places {
        place.remove().await?;
    }
    measured
}

/// The sides take turns call by call: whatever else the machine does slows both down.
async fn measure_sides(
    [for_bare, for_store]: &[Place; 2],
    records: u32,
) -> Result<[Rates; 2], BenchError> {
    let bare = bare(for_bare).await?;
    let mut sides: Sides = [bare, Box::new(Store(for_store.open().await?))];
    let made = || (0..records).map(|_| completed_record()).collect();
    let mut singly: [Vec<Record>; 2] = [made(), made()];
    let ids = singly
        .each_ref()
        .map(|made| made.iter().map(|it| it.job_id.clone()).collect::<Vec<_>>());
    let single = (records / SINGLE) as usize;
    let batched = singly.each_mut().map(|made| made.split_off(single));
    let put = rates(
        &mut sides,
        singly.map(|it| each(it, |record| Work::Put(Box::new(record)))),
    )
    .await?;
    let batched = batched.map(|it| each(batches(it), Work::PutMany));
    let put_many = rates(&mut sides, batched).await?;
    let ids = ids.map(|it| each(batches(it), Work::GetMany));
    let get_many = rates(&mut sides, ids).await?;
    Ok([0, 1].map(|at| Rates {
        put: put[at],
        put_many: put_many[at],
        get_many: get_many[at],
    }))
}

type Sides = [Box<dyn Side>; 2];

/// One call, with what is handed over.
enum Work {
    Put(Box<Record>),
    PutMany(Vec<Record>),
    GetMany(Vec<Text>),
}

impl Work {
    fn records(&self) -> usize {
        match self {
            Self::Put(_) => 1,
            Self::PutMany(records) => records.len(),
            Self::GetMany(ids) => ids.len(),
        }
    }

    async fn be_done_by(self, side: &mut dyn Side) -> Result<(), BenchError> {
        match self {
            Self::Put(record) => side.put(*record).await,
            Self::PutMany(records) => side.put_many(records).await,
            Self::GetMany(ids) => {
                let expected = ids.len();
                ensure("records found", side.get_many(ids).await?.len(), expected)
            }
        }
    }
}

fn each<T>(items: Vec<T>, work: fn(T) -> Work) -> Vec<Work> {
    items.into_iter().map(work).collect()
}

fn batches<T>(items: Vec<T>) -> Vec<Vec<T>> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| {
        let batch: Vec<T> = items.by_ref().take(BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    })
    .collect()
}

/// Records a second of each side.
async fn rates(sides: &mut Sides, [bare, store]: [Vec<Work>; 2]) -> Result<[f64; 2], BenchError> {
    let (mut took, mut records) = ([Duration::ZERO; 2], [0; 2]);
    for (number, pair) in bare.into_iter().zip(store).enumerate() {
        let mut turns = [(0, pair.0), (1, pair.1)];
        if !number.is_multiple_of(2) {
            turns.reverse();
        }
        for (at, work) in turns {
            records[at] += work.records();
            let began = Instant::now();
            work.be_done_by(&mut *sides[at]).await?;
            took[at] += began.elapsed();
        }
    }
    Ok([0, 1].map(|at| records[at] as f64 / took[at].as_secs_f64()))
}

async fn bare(place: &Place) -> Result<Box<dyn Side>, BenchError> {
    // The store makes its tables, which the bare side then uses.
    place.open().await?.close().await?;
    Ok(match place.backend() {
        Backend::Postgres => Box::new(postgres::Bare::connect(place).await?),
        Backend::Redis => Box::new(redis::Bare::connect(place).await?),
        Backend::Mongodb => Box::new(mongodb::Bare::connect(place).await?),
        Backend::S3 => Box::new(s3::Bare::connect(place)?),
        Backend::Elasticsearch => Box::new(elasticsearch::Bare::connect(place)?),
        Backend::Sqlite | Backend::Memory => Box::new(sqlite::Bare::open(place)?),
    })
}

/// A store as a plugin file.
struct Store(StoreObject);

impl Side for Store {
    fn put(&mut self, record: Record) -> BoxFuture<'_, Result<(), BenchError>> {
        Box::pin(async {
            let outcome = self.0.put(Write::from(record)).await?;
            ensure("the answer to a new record", outcome, WriteOutcome::Written)
        })
    }

    fn put_many(&mut self, records: Vec<Record>) -> BoxFuture<'_, Result<(), BenchError>> {
        Box::pin(async {
            let writes = records.into_iter().map(Write::from).collect();
            for answer in self.0.put_many(writes).await? {
                ensure("the answer to a new record", answer?, WriteOutcome::Written)?;
            }
            Ok(())
        })
    }

    fn get_many(&mut self, ids: Vec<Text>) -> BoxFuture<'_, Result<Vec<Record>, BenchError>> {
        Box::pin(async {
            let answers = self.0.get_many(ids).await?.into_iter();
            let found: StoreResult<_> = answers.filter_map(Result::transpose).collect();
            Ok(found?)
        })
    }
}
