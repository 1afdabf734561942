//! The store's operations.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use tokio::sync::watch;
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, Filter, Health, HostContext, Page, Record,
    ResultStore, ScanOrder, Stats, Status, StoreError, StoreResult, Text, Timestamp, Write,
    WriteOutcome,
};

use crate::{config::MemoryConfig, cursor::Place, footprint::Incoming, shared::Shared};

/// Items of a batch that are done in one go, while other callers wait.
const ITEMS_AT_ONCE: usize = 64;
/// Records that a scan looks at in one go.
const LOOKED_AT_ONCE: usize = 1_000;
/// Records that one call of `scan` looks at before it returns what it has found.
const LOOKED_AT_PER_PAGE: usize = 200_000;

/// Keeps records in this process's memory, the most recently used ones up to a limit.
pub struct MemoryStore {
    shared: Arc<Shared>,
    closed: watch::Sender<bool>,
}

impl ResultStore for MemoryStore {
    type Config = MemoryConfig;

    const CAPABILITIES: Capabilities = Capabilities {
        durable: false,
        embedded: true,
        native_expiry: true,
        push: true,
        scan: true,
        scan_order: ScanOrder::NewestFirst,
        stats: true,
        max_record_bytes: None,
    };

    async fn open(config: MemoryConfig, host: HostContext) -> StoreResult<Self> {
        let shared = Shared::join(config, host)?;
        Ok(Self {
            shared,
            closed: watch::Sender::new(false),
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_record_bytes: Some(self.shared.limits.max_record_bytes),
            ..Self::CAPABILITIES
        }
    }

    // The records are asked when these are called: a future that holds one would be copied with it.

    fn put(&self, write: Write) -> impl Future<Output = StoreResult<WriteOutcome>> {
        ready(self.put_now(write))
    }

    fn get(&self, job_id: Text) -> impl Future<Output = StoreResult<Option<Record>>> {
        let found = self.shared.records().get(&job_id, Timestamp::now());
        async move { Ok(found.map(|record| Record::clone(&record))) }
    }

    async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut writes = writes.into_iter();
        while writes.len() > 0 {
            let prepared: Vec<_> = writes
                .by_ref()
                .take(ITEMS_AT_ONCE)
                .map(|write| {
                    let incoming = Incoming::new(write, &self.shared.limits)?;
                    Ok((incoming.ended(), incoming))
                })
                .collect();
            let mut gone = Vec::new();
            let now = Timestamp::now();
            let written: Vec<_> = {
                let mut records = self.shared.records();
                let mut put = |(ended, incoming)| (ended, records.put(incoming, now, &mut gone));
                prepared
                    .into_iter()
                    .map(|prepared: StoreResult<_>| prepared.map(&mut put))
                    .collect()
            };
            outcomes.extend(written.into_iter().map(|written| {
                let (ended, is_written) = written?;
                Ok(self.announced(is_written, ended))
            }));
        }
        Ok(outcomes)
    }

    async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        let mut answers = Vec::with_capacity(job_ids.len());
        for job_ids in job_ids.chunks(ITEMS_AT_ONCE) {
            let now = Timestamp::now();
            let found: Vec<_> = {
                let mut records = self.shared.records();
                job_ids
                    .iter()
                    .map(|job_id| records.get(job_id, now))
                    .collect()
            };
            answers.extend(
                found
                    .into_iter()
                    .map(|record| Ok(record.map(|record| Record::clone(&record)))),
            );
        }
        Ok(answers)
    }

    async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        Ok(self.shared.records().status(&job_id, Timestamp::now()))
    }

    async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        let mut answers = Vec::with_capacity(job_ids.len());
        for job_ids in job_ids.chunks(ITEMS_AT_ONCE) {
            let now = Timestamp::now();
            let mut records = self.shared.records();
            answers.extend(job_ids.iter().map(|job_id| Ok(records.status(job_id, now))));
        }
        Ok(answers)
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        let deleted = self.shared.records().delete(&job_id);
        Ok(deleted.is_some_and(|record| !record.is_expired(Timestamp::now())))
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        let mut after = cursor.as_ref().map(Place::from_cursor).transpose()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for _ in 0..LOOKED_AT_PER_PAGE / LOOKED_AT_ONCE {
            let missing = limit - found.len();
            let now = Timestamp::now();
            let stretch = self
                .shared
                .records()
                .scan(&filter, after, missing, LOOKED_AT_ONCE, now);
            found.extend(stretch.records);
            after = stretch.next;
            if after.is_none() || found.len() == limit {
                break;
            }
            tokio::task::yield_now().await;
        }
        let records = found.into_iter().map(|record| {
            let mut record = Record::clone(&record);
            filter.trim(&mut record);
            record
        });
        Ok(Page {
            records: records.collect(),
            next: after.map(Place::to_cursor),
        })
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(self.shared.remove_expired(now, limit).await as u64)
    }

    async fn health_check(&self) -> StoreResult<Health> {
        let figures = self.shared.records().figures();
        let limits = &self.shared.limits;
        Ok(Health {
            detail: format!(
                "in this process's memory: {} of at most {} records, {} of at most {} bytes",
                figures.records, limits.max_records, figures.bytes, limits.max_bytes
            ),
            warnings: (figures.removed.evicted > 0)
                .then(|| {
                    format!(
                        "{} records went before their time: the store was full",
                        figures.removed.evicted
                    )
                })
                .into_iter()
                .collect(),
        })
    }

    async fn stats(&self) -> StoreResult<Stats> {
        self.shared
            .remove_expired(Timestamp::now(), usize::MAX)
            .await;
        let figures = self.shared.records().figures();
        let limits = &self.shared.limits;
        Ok(Stats {
            records: Some(figures.records),
            by_status: figures.by_status,
            bytes: Some(figures.bytes),
            details: [
                ("evicted", figures.removed.evicted),
                ("expired", figures.removed.expired),
                ("max_bytes", limits.max_bytes),
                ("max_records", limits.max_records),
            ]
            .map(|(name, figure)| (name.to_owned(), figure.into()))
            .into(),
        })
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        let _subscription = self.shared.subscribers.add(sink.clone());
        sink.ready();
        let mut closed = self.closed.subscribe();
        let _ = closed.wait_for(|closed| *closed).await;
        Err(StoreError::unavailable("the store was closed"))
    }

    async fn close(&self) -> StoreResult<()> {
        self.leave();
        Ok(())
    }
}

impl MemoryStore {
    fn put_now(&self, write: Write) -> StoreResult<WriteOutcome> {
        let incoming = Incoming::new(write, &self.shared.limits)?;
        let ended = incoming.ended();
        let now = Timestamp::now();
        let mut gone = Vec::new();
        let is_written = self.shared.records().put(incoming, now, &mut gone);
        Ok(self.announced(is_written, ended))
    }

    /// Tells the subscribers that a job has `ended`, if that was written.
    fn announced(&self, is_written: bool, ended: Option<Arc<Record>>) -> WriteOutcome {
        if !is_written {
            return WriteOutcome::Stale;
        }
        if let Some(record) = ended {
            self.shared
                .subscribers
                .announce(&record.job_id, record.status);
        }
        WriteOutcome::Written
    }

    fn leave(&self) {
        if !self.closed.send_replace(true) {
            self.shared.leave();
        }
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use warren_plugin_api::{ErrorClass, Payload};

    use super::*;

    async fn open(config: serde_json::Value) -> StoreResult<MemoryStore> {
        let config = serde_json::from_value(config).unwrap();
        MemoryStore::open(config, HostContext::silent()).await
    }

    fn record(job_id: &str) -> Record {
        Record {
            job_id: job_id.into(),
            ..Record::default()
        }
    }

    #[tokio::test]
    async fn only_stores_of_one_name_share_records() {
        let [first, second, other] =
            ["shares", "shares", "shares not"].map(|name| serde_json::json!({"name": name}));
        let (first, second) = (open(first).await.unwrap(), open(second).await.unwrap());
        let (other, nameless) = (
            open(other).await.unwrap(),
            open(serde_json::json!({})).await.unwrap(),
        );
        first.put(record("a").into()).await.unwrap();
        assert!(second.get("a".into()).await.unwrap().is_some());
        assert!(other.get("a".into()).await.unwrap().is_none());
        assert!(nameless.get("a".into()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn one_name_with_two_sizes_is_refused() {
        let _open = open(serde_json::json!({"name": "sizes"})).await.unwrap();
        let error = open(serde_json::json!({"name": "sizes", "max_records": 1}))
            .await
            .err()
            .unwrap();
        assert_eq!(error.class(), ErrorClass::InvalidConfig);
    }

    #[tokio::test]
    async fn records_end_with_the_last_handle() {
        let config = serde_json::json!({"name": "ends"});
        let first = open(config.clone()).await.unwrap();
        let second = open(config.clone()).await.unwrap();
        first.put(record("a").into()).await.unwrap();
        first.close().await.unwrap();
        first.close().await.unwrap();
        drop(first);
        assert!(second.get("a".into()).await.unwrap().is_some());
        second.close().await.unwrap();
        let third = open(config).await.unwrap();
        assert!(third.get("a".into()).await.unwrap().is_none());
        drop(second);
        third.put(record("b").into()).await.unwrap();
        assert!(third.get("b".into()).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn expired_records_are_removed_without_being_asked_for() {
        let store = open(serde_json::json!({"cleanup_interval": "10ms"}))
            .await
            .unwrap();
        let expired = Record {
            expires_at: Some(Timestamp::MIN),
            ..record("a")
        };
        store.put(expired.into()).await.unwrap();
        let cleaned = async {
            while store.shared.records().figures().records > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), cleaned)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_record_of_countless_extras_is_too_large() {
        let store = open(serde_json::json!({"max_bytes": 65536})).await.unwrap();
        let extra = vec![(Text::new(), Payload::empty()); 1_000];
        let error = store
            .put(
                Record {
                    extra,
                    ..record("a")
                }
                .into(),
            )
            .await
            .unwrap_err();
        assert_eq!(error.class(), ErrorClass::TooLarge);
    }

    #[tokio::test]
    async fn eviction_shows_in_health_and_stats() {
        let store = open(serde_json::json!({"max_records": 1})).await.unwrap();
        assert!(store.health_check().await.unwrap().warnings.is_empty());
        for job_id in ["a", "b"] {
            store.put(record(job_id).into()).await.unwrap();
        }
        assert_eq!(store.health_check().await.unwrap().warnings.len(), 1);
        assert_eq!(store.stats().await.unwrap().details["evicted"], 1);
    }

    #[test]
    fn outside_of_tokio_it_says_so() {
        let opened = MemoryStore::open(MemoryConfig::default(), HostContext::silent());
        let mut opened = std::pin::pin!(opened);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(Err(error)) = opened.as_mut().poll(&mut context) else {
            panic!("it must not open");
        };
        assert_eq!(error.class(), ErrorClass::Internal);
    }
}
