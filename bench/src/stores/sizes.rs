//! Results of some size to Redis and back, one at a time: by the store, by its bare driver which
//! does the same work, and as values that nobody compares, lists or announces.

use std::time::{Duration, Instant};

use redis::{AsyncCommands, aio::MultiplexedConnection};
use warren_plugin_api::{Payload, Record, Text};

use super::{Backend, Driver, Place, Side, Store, bare};
use crate::{
    error::{BenchError, ensure},
    figures::{Measure, Unit},
    options::Options,
    redis_store::completed_record,
    servers::Servers,
};

const SIDES: [&str; 3] = [
    "bare redis-rs, the record",
    "plugin",
    "bare redis-rs, SETEX and GET of the result",
];

/// A name, bytes, and how many of it make up a round.
const SIZES: [(&str, usize, u32); 4] = [
    ("100 B", 100, 1_000),
    ("10 kB", 10_000, 500),
    ("1 MB", 1_000_000, 30),
    ("32 MB", 32_000_000, 3),
];

/// Measures `--rounds` rounds of each size.
pub(crate) async fn measure(
    options: &Options,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    let mut measures = Vec::new();
    for (name, bytes, times) in SIZES {
        eprintln!("scale: results of {name}");
        let name = format!("scale: result of {name}, put and get");
        let mut measure = Measure::new(name, Unit::Microseconds, &SIDES);
        let result = json_string(bytes);
        for _ in 0..options.rounds() {
            measure.add_round(one_round(&result, times, servers).await?);
        }
        measures.push(measure);
    }
    Ok(measures)
}

fn json_string(bytes: usize) -> Payload {
    let mut text = vec![b'x'; bytes];
    text[0] = b'"';
    text[bytes - 1] = b'"';
    Payload::from(text)
}

/// Microseconds of one result on each side. They take turns.
async fn one_round(
    result: &Payload,
    times: u32,
    servers: &Servers,
) -> Result<[f64; SIDES.len()], BenchError> {
    let for_bare = Place::new(Backend::Redis, servers).await?;
    let for_store = Place::new(Backend::Redis, servers).await?;
    let values = Values {
        redis: servers.redis().await?,
        prefix: servers.key_prefix().to_owned(),
    };
    let mut sides: [Box<dyn Side>; SIDES.len()] = [
        bare(&for_bare).await?,
        Box::new(Store(for_store.open().await?)),
        Box::new(values),
    ];
    let mut took = [Duration::ZERO; SIDES.len()];
    for number in 0..times as usize {
        for turn in 0..sides.len() {
            let at = (number + turn) % sides.len();
            let record = Record {
                result: result.clone(),
                ..completed_record()
            };
            let began = Instant::now();
            there_and_back(&mut *sides[at], record).await?;
            took[at] += began.elapsed();
        }
    }
    // Those of all three sides.
    servers.delete_keys().await?;
    Ok(took.map(|took| took.as_secs_f64() * 1e6 / f64::from(times)))
}

async fn there_and_back(side: &mut dyn Side, record: Record) -> Result<(), BenchError> {
    let (job_id, bytes) = (record.job_id.clone(), record.result.len());
    side.put(record).await?;
    let found = side.get_many(vec![job_id]).await?;
    let back = found.iter().map(|record| record.result.len()).sum();
    ensure("bytes that came back", back, bytes)
}

/// Results alone.
struct Values {
    redis: MultiplexedConnection,
    prefix: String,
}

impl Values {
    fn key(&self, job_id: &Text) -> String {
        format!("{}:value:{job_id}", self.prefix)
    }
}

impl Driver for Values {
    async fn write(&mut self, records: &[Record]) -> Result<(), BenchError> {
        for record in records {
            let key = self.key(&record.job_id);
            let () = self.redis.set_ex(key, &*record.result, 3_600).await?;
        }
        Ok(())
    }

    async fn read(&mut self, ids: &[Text]) -> Result<Vec<Record>, BenchError> {
        let mut found = Vec::with_capacity(ids.len());
        for job_id in ids {
            let value: Option<Vec<u8>> = self.redis.get(self.key(job_id)).await?;
            found.extend(value.map(|value| Record {
                result: value.into(),
                ..Record::default()
            }));
        }
        Ok(found)
    }
}
