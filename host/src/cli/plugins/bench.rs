//! How fast a store's calls are, on this machine, now. A first look and no comparison.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, try_join_all};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use warren_plugin_api::{
    BatchResult, Cursor, Filter, Record, Status, StoreError, StoreObject, StoreResult, Text,
    Timestamp, Write,
};

use super::suite::on_own_threads;
use crate::{
    cli::{error::CliError, output::Output},
    store::StoreType,
};

/// Records that exist at once: the writes go round among them.
const RECORDS: u64 = 4_096;
const BATCH: u64 = 512;
const PAGE: u32 = 512;
/// What was written and not deleted, because the store failed, is gone after this.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// One measurement.
pub(super) struct Measured {
    pub(super) operation: &'static str,
    pub(super) callers: usize,
    pub(super) figures: Result<Figures, String>,
}

/// What a measurement came to.
pub(super) struct Figures {
    calls: usize,
    records_per_second: f64,
    bytes_per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// Records that a call has moved, and their bytes.
type Moved = (u64, u64);
type Call = Arc<dyn Fn() -> BoxFuture<'static, StoreResult<Moved>> + Send + Sync>;

pub(super) async fn run(
    store: &StoreType,
    config: &Value,
    time: Duration,
    deadline: Duration,
    output: &Output,
) -> Result<Vec<Measured>, CliError> {
    let object = store.open_within(deadline, config).await?;
    let measurements = Measurements::new(object, deadline);
    let list = measurements.list()?;
    let bar = output.progress_bar(list.len() as u64, "measurements");
    let names: Vec<_> = list.iter().map(|it| (it.0, it.1)).collect();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    // On threads of its own, for a store that blocks them.
    let measuring = tokio::spawn(on_own_threads(async move {
        for (operation, callers, call) in list {
            let figures = measure(call, callers, time, deadline).await;
            let _ = sender.send(Measured {
                operation,
                callers,
                figures: figures.map_err(|error| error.to_string()),
            });
        }
        measurements.clean_up().await;
    }));
    let mut all = Vec::new();
    let limit = time + 3 * deadline;
    for (operation, callers) in names {
        match tokio::time::timeout(limit, receiver.recv()).await {
            Ok(Some(measured)) => all.push(measured),
            Ok(None) | Err(_) => {
                all.push(Measured {
                    operation,
                    callers,
                    figures: Err("its calls block the threads they run on".to_owned()),
                });
                break;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    // Deleting must not take for ever either.
    let _ = tokio::time::timeout(limit, measuring).await;
    Ok(all)
}

struct Measurements {
    store: StoreObject,
    prefix: String,
    /// The longest that one call may take.
    deadline: Duration,
    /// Each write goes to the next of [`RECORDS`] records,
    written: AtomicU64,
    /// and each read to the next of those that were written.
    read: AtomicU64,
}

impl Measurements {
    fn new(store: StoreObject, deadline: Duration) -> Arc<Self> {
        Arc::new(Self {
            store,
            prefix: format!("bench-{}", uuid::Uuid::new_v4().simple()),
            deadline,
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
        })
    }

    /// Writes come first: the reads find what they wrote.
    fn list(self: &Arc<Self>) -> Result<Vec<(&'static str, usize, Call)>, CliError> {
        let capabilities = self.store.capabilities()?;
        let mut list: Vec<(&'static str, usize, Call)> = vec![
            ("put_many(512)", 1, self.call(Self::put_many)),
            ("put", 1, self.call(Self::put)),
            ("put", 64, self.call(Self::put)),
            ("get", 1, self.call(Self::get)),
            ("get_many(512)", 1, self.call(Self::get_many)),
            ("status_many(512)", 1, self.call(Self::status_many)),
        ];
        if capabilities.scan {
            let cursor = Arc::new(Mutex::new(None));
            let scan = self.call(move |this| {
                let cursor = Arc::clone(&cursor);
                async move { this.scan_page(&mut *cursor.lock().await).await }
            });
            list.push(("scan page", 1, scan));
        }
        Ok(list)
    }

    fn call<F, R>(self: &Arc<Self>, call: F) -> Call
    where
        F: Fn(Arc<Self>) -> R + Send + Sync + 'static,
        R: Future<Output = StoreResult<Moved>> + Send + 'static,
    {
        let this = Arc::clone(self);
        Arc::new(move || Box::pin(call(Arc::clone(&this))))
    }

    fn id(&self, number: u64) -> Text {
        format!("{}-{}", self.prefix, number % RECORDS).into()
    }

    /// A finished job. Each round over the records is a later attempt, which replaces the last.
    fn record(&self, number: u64) -> Record {
        let now = Timestamp::now();
        let attempt = u32::try_from(number / RECORDS + 1).unwrap_or(u32::MAX);
        Record {
            job_id: self.id(number),
            status: Status::Completed,
            attempt,
            queue: self.prefix.as_str().into(),
            function: "bench".into(),
            worker: "bench".into(),
            enqueued_at: Some(now),
            started_at: Some(now),
            finished_at: Some(now),
            updated_at: Some(now),
            expires_at: Some(now.saturating_add(LIFETIME)),
            duration: Some(Duration::from_millis(1)),
            args: format!("[{number}, \"{}\"]", "a".repeat(80)).into(),
            result: format!("\"{}\"", "r".repeat(80)).into(),
            ..Record::default()
        }
    }

    async fn put(self: Arc<Self>) -> StoreResult<Moved> {
        let record = self.record(self.written.fetch_add(1, Ordering::Relaxed));
        let bytes = size(&record);
        self.store.put(record.into()).await?;
        Ok((1, bytes))
    }

    async fn put_many(self: Arc<Self>) -> StoreResult<Moved> {
        let first = self.written.fetch_add(BATCH, Ordering::Relaxed);
        let records: Vec<_> = (first..first + BATCH).map(|n| self.record(n)).collect();
        let bytes = records.iter().map(size).sum();
        let writes = records.into_iter().map(Write::from).collect();
        all_of(self.store.put_many(writes).await)?;
        Ok((BATCH, bytes))
    }

    async fn get(self: Arc<Self>) -> StoreResult<Moved> {
        let id = self.next_ids(1).remove(0);
        let record = self.store.get(id).await?.ok_or_else(not_found)?;
        Ok((1, size(&record)))
    }

    /// A store that is slow has not written all of them.
    fn next_ids(&self, count: u64) -> Vec<Text> {
        let written = self.written.load(Ordering::Relaxed).clamp(1, RECORDS);
        let first = self.read.fetch_add(count, Ordering::Relaxed);
        (first..first + count)
            .map(|n| self.id(n % written))
            .collect()
    }

    async fn get_many(self: Arc<Self>) -> StoreResult<Moved> {
        let mut bytes = 0;
        for record in all_of(self.store.get_many(self.next_ids(BATCH)).await)? {
            bytes += size(&record.ok_or_else(not_found)?);
        }
        Ok((BATCH, bytes))
    }

    async fn status_many(self: Arc<Self>) -> StoreResult<Moved> {
        for status in all_of(self.store.status_many(self.next_ids(BATCH)).await)? {
            status.ok_or_else(not_found)?;
        }
        Ok((BATCH, 0))
    }

    /// The next page, or the first one after the last.
    async fn scan_page(&self, cursor: &mut Option<Cursor>) -> StoreResult<Moved> {
        let filter = Filter {
            queue: Some(self.prefix.as_str().into()),
            ..Filter::default()
        };
        let page = self.store.scan(filter, cursor.take(), PAGE).await?;
        *cursor = page.next;
        let bytes = page.records.iter().map(size).sum();
        Ok((page.records.len() as u64, bytes))
    }

    /// What cannot be deleted expires.
    async fn clean_up(&self) {
        for first in (0..RECORDS).step_by(1_024) {
            let ids = (first..first + 1_024).map(|n| self.id(n)).collect();
            let deleting = self.store.delete_many(ids);
            if !matches!(
                tokio::time::timeout(self.deadline, deleting).await,
                Ok(Ok(_))
            ) {
                break;
            }
        }
        let _ = tokio::time::timeout(self.deadline, self.store.close()).await;
    }
}

fn size(record: &Record) -> u64 {
    record.size_bytes() as u64
}

fn not_found() -> StoreError {
    StoreError::internal("expected a record that was written before, found none")
}

fn all_of<T>(answers: BatchResult<T>) -> StoreResult<Vec<T>> {
    answers?.into_iter().collect()
}

async fn measure(
    call: Call,
    callers: usize,
    time: Duration,
    deadline: Duration,
) -> StoreResult<Figures> {
    // The first call connects.
    within_deadline(&call, deadline).await?;
    let started = Instant::now();
    let until = started + time;
    let calling = (0..callers).map(|_| {
        let call = Arc::clone(&call);
        async move {
            let caller = tokio::spawn(async move {
                let (mut took, mut records, mut bytes) = (Vec::new(), 0, 0);
                while took.is_empty() || Instant::now() < until {
                    let began = Instant::now();
                    let moved = within_deadline(&call, deadline).await?;
                    took.push(began.elapsed());
                    records += moved.0;
                    bytes += moved.1;
                    if callers > 1 {
                        // A store that answers at once would let few of them have a turn.
                        tokio::task::yield_now().await;
                    }
                }
                StoreResult::Ok((took, records, bytes))
            });
            let ended = caller.await;
            ended.unwrap_or_else(|error| Err(StoreError::internal(error.to_string())))
        }
    });
    let (mut took, mut records, mut bytes) = (Vec::new(), 0, 0);
    for caller in try_join_all(calling).await? {
        took.extend(caller.0);
        records += caller.1;
        bytes += caller.2;
    }
    let seconds = started.elapsed().as_secs_f64();
    took.sort_unstable();
    Ok(Figures {
        calls: took.len(),
        records_per_second: records as f64 / seconds,
        bytes_per_second: bytes as f64 / seconds,
        p50: share(&took, 50),
        p99: share(&took, 99),
    })
}

async fn within_deadline(call: &Call, deadline: Duration) -> StoreResult<Moved> {
    let late = |_| StoreError::unavailable(format!("no answer within {deadline:?}"));
    tokio::time::timeout(deadline, call()).await.map_err(late)?
}

/// The time that `percent` of the calls did not exceed.
fn share(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

impl Measured {
    pub(super) fn to_json(&self) -> Value {
        let mut json = json!({ "operation": self.operation, "callers": self.callers });
        match &self.figures {
            Ok(figures) => {
                json["calls"] = json!(figures.calls);
                json["records_per_second"] = json!(figures.records_per_second.round());
                json["bytes_per_second"] = json!(figures.bytes_per_second.round());
                json["p50_us"] = json!(microseconds(figures.p50));
                json["p99_us"] = json!(microseconds(figures.p99));
            }
            Err(error) => json["error"] = json!(error),
        }
        json
    }

    fn row(&self) -> Vec<String> {
        let mut row = vec![self.operation.to_owned(), self.callers.to_string()];
        match &self.figures {
            Ok(figures) => row.extend([
                format!("{:.0}", figures.records_per_second),
                format!("{:.1?}", figures.p50),
                format!("{:.1?}", figures.p99),
                format!("{:.1}", figures.bytes_per_second / 1e6),
            ]),
            Err(error) => row.push(error.clone()),
        }
        row
    }
}

fn microseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

pub(super) fn print(measured: &[Measured], time: Duration, output: &Output) {
    output.print_line("");
    output.print_table(
        &["CALL", "CALLERS", "RECORDS/S", "P50", "P99", "MB/S"],
        measured.iter().map(Measured::row).collect(),
    );
    output.print_line(&format!(
        "each for {time:?}, on small records, on this machine as it is now: a first look, and no \
         comparison"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_ranks() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(share(&times, 50), Duration::from_millis(100));
        assert_eq!(share(&times, 99), Duration::from_millis(198));
        assert_eq!(share(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(share(&[], 50), Duration::ZERO);
    }
}
