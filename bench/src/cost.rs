//! What records cost, and whether it stays the same when there are more of them: bytes for each,
//! time for a page of a scan and for a batch of a cleanup, with 10,000 records, 100,000 and so on
//! up to `--records`.

use std::time::{Duration, Instant};

use warren_plugin_api::{Cursor, Filter, Record, Status, StoreObject, Timestamp, Write, WriteMode};

use crate::{
    error::{BenchError, ensure},
    figures::{Measure, Unit},
    options::Options,
    redis_store::completed_record,
    servers::Servers,
    stores::{Backend, Place},
    warren_side::BATCH,
};

const PAGE: u32 = 100;
/// Expired records that one call of the cleanup removes.
const EXPIRED: u32 = 1_000;
const QUEUES: usize = 20;
/// One record in so many is of the function that is searched for.
const RARE: u32 = 1_000;
/// Pages that are read of each scan.
const PAGES: usize = 9;

/// Fills each store step by step and measures at each step.
pub(crate) async fn measure(
    options: &Options,
    records: u32,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    let steps: Vec<u32> = [10_000, 100_000, 1_000_000, 10_000_000]
        .into_iter()
        .filter(|step| *step < records)
        .chain([records])
        .collect();
    let mut measures = Vec::new();
    for backend in Backend::of_cost(&options.only)? {
        let place = Place::new(backend, servers).await?;
        let measured = measure_one(&place, &steps).await;
        place.remove().await?;
        measures.extend(measured?);
    }
    Ok(measures)
}

async fn measure_one(place: &Place, steps: &[u32]) -> Result<Vec<Measure>, BenchError> {
    let name = place.backend().name();
    let store = place.open().await?;
    let labels: Vec<String> = steps.iter().map(|step| format!("{step} records")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let of = |what: &str, unit| Measure::new(format!("{name}, {what}"), unit, &labels);
    let mut bytes = of("bytes of a record", Unit::Bytes);
    let mut scans: Vec<(Measure, Filter)> = scans()
        .into_iter()
        .map(|(what, filter)| (of(&what, Unit::Microseconds), filter))
        .collect();
    let mut cleanup = of(&format!("cleanup of {EXPIRED}"), Unit::Microseconds);
    let mut there = 0;
    for (at, step) in steps.iter().enumerate() {
        eprintln!("{name}: filling up to {step} records");
        fill(&store, there..*step).await?;
        there = *step;
        if let Some(all) = store.stats().await?.bytes {
            bytes.sides[at].rounds.push(all as f64 / f64::from(*step));
        }
        for (measure, filter) in &mut scans {
            measure.sides[at].rounds = pages(&store, filter).await?;
        }
        for _ in 0..3 {
            cleanup.sides[at]
                .rounds
                .push(micros(clean_up(&store).await?));
        }
    }
    store.close().await?;
    let mut measures = vec![bytes];
    measures.extend(scans.into_iter().map(|(measure, _)| measure));
    measures.push(cleanup);
    Ok(measures)
}

/// What is listed.
fn scans() -> Vec<(String, Filter)> {
    let page = |what: &str| format!("page of {PAGE}, {what}");
    vec![
        (page("everything"), Filter::default()),
        (
            page("of a queue"),
            Filter {
                queue: Some("queue-7".into()),
                ..Filter::default()
            },
        ),
        (
            page("failed ones, 1 in 100"),
            Filter {
                statuses: vec![Status::Failed],
                ..Filter::default()
            },
        ),
        (
            page(&format!("of a function, 1 in {RARE}")),
            Filter {
                function: Some("rare".into()),
                ..Filter::default()
            },
        ),
    ]
}

fn record(number: u32) -> Record {
    let now = Timestamp::now();
    Record {
        queue: format!("queue-{}", number as usize % QUEUES).into(),
        status: if number % 100 == 3 {
            Status::Failed
        } else {
            Status::Completed
        },
        function: if number.is_multiple_of(RARE) {
            "rare"
        } else {
            "add"
        }
        .into(),
        enqueued_at: Some(now),
        ..completed_record()
    }
}

async fn fill(store: &StoreObject, numbers: std::ops::Range<u32>) -> Result<(), BenchError> {
    let numbers: Vec<u32> = numbers.collect();
    for batch in numbers.chunks(BATCH) {
        let writes = batch.iter().map(|number| Write::from(record(*number)));
        for answer in store.put_many(writes.collect()).await? {
            answer?;
        }
    }
    Ok(())
}

/// The time of each page, from the first one on.
async fn pages(store: &StoreObject, filter: &Filter) -> Result<Vec<f64>, BenchError> {
    let mut times = Vec::new();
    let mut cursor: Option<Cursor> = None;
    for _ in 0..PAGES {
        let began = Instant::now();
        let mut found = 0;
        // A store may give less than asked for; what counts is the time for so many records.
        while found < PAGE as usize {
            let wanted = PAGE - found as u32;
            let page = store.scan(filter.clone(), cursor.take(), wanted).await?;
            found += page.records.len();
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        if found < PAGE as usize {
            // The end: a rare filter finds no whole page in a small store.
            break;
        }
        times.push(micros(began.elapsed()));
    }
    Ok(times)
}

/// The time to remove records that have just expired, while all others are live.
async fn clean_up(store: &StoreObject) -> Result<Duration, BenchError> {
    let soon = Timestamp::now().saturating_add(Duration::from_millis(1));
    let expiring = (0..EXPIRED).map(|number| Write {
        record: Record {
            expires_at: Some(soon.saturating_add(Duration::from_secs(2))),
            ..record(number)
        },
        mode: WriteMode::IfNewer,
    });
    for answer in store.put_many(expiring.collect()).await? {
        answer?;
    }
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let native = store.capabilities()?.native_expiry;
    let began = Instant::now();
    let removed = store.cleanup_expired(Timestamp::now(), EXPIRED).await?;
    let took = began.elapsed();
    if !native {
        ensure("records removed", removed, u64::from(EXPIRED))?;
    }
    Ok(took)
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
