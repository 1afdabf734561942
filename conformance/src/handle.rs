//! An opened store whose errors end the case that did not expect them.

use warren_plugin_api::{
    BatchResult, Cursor, Filter, Page, Record, Stats, Status, StoreError, StoreObject, StoreResult,
    Text, Timestamp, Write, WriteOutcome,
};

use crate::expect::{Checked, Failure, ensure};

/// Calls of a case that must succeed. Where an error is expected, see [`Handle::raw`].
#[derive(Clone)]
pub(crate) struct Handle {
    object: StoreObject,
}

fn answered<T>(call: &str, result: StoreResult<T>) -> Checked<T> {
    result.map_err(|error: StoreError| Failure::unexpected(call, &error))
}

fn all_answered<T>(call: &str, result: BatchResult<T>) -> Checked<Vec<T>> {
    answered(call, result)?
        .into_iter()
        .enumerate()
        .map(|(index, answer)| answered(&format!("{call}, item {index}"), answer))
        .collect()
}

impl Handle {
    pub(crate) const fn new(object: StoreObject) -> Self {
        Self { object }
    }

    /// The store itself.
    pub(crate) const fn raw(&self) -> &StoreObject {
        &self.object
    }

    pub(crate) async fn put(&self, write: impl Into<Write>) -> Checked<WriteOutcome> {
        answered("put", self.object.put(write.into()).await)
    }

    pub(crate) async fn put_many(&self, writes: Vec<Write>) -> Checked<Vec<WriteOutcome>> {
        all_answered("put_many", self.object.put_many(writes).await)
    }

    /// A write that must take effect.
    pub(crate) async fn written(&self, write: impl Into<Write>) -> Checked {
        let write = write.into();
        let (job_id, mode) = (write.record.job_id.clone(), write.mode);
        let outcome = self.put(write).await?;
        ensure!(
            outcome == WriteOutcome::Written,
            "put of {job_id:?} ({mode:?}): expected Written, found {outcome:?}"
        );
        Ok(())
    }

    /// Writes that must all take effect, in batches.
    pub(crate) async fn all_written(&self, records: &[Record]) -> Checked {
        for records in records.chunks(1_000) {
            let writes = records.iter().cloned().map(Write::from).collect();
            let outcomes = self.put_many(writes).await?;
            for (record, outcome) in records.iter().zip(outcomes) {
                ensure!(
                    outcome == WriteOutcome::Written,
                    "put_many of {:?}: expected Written, found {outcome:?}",
                    record.job_id
                );
            }
        }
        Ok(())
    }

    pub(crate) async fn get(&self, job_id: &Text) -> Checked<Option<Record>> {
        answered("get", self.object.get(job_id.clone()).await)
    }

    pub(crate) async fn get_many(&self, job_ids: Vec<Text>) -> Checked<Vec<Option<Record>>> {
        all_answered("get_many", self.object.get_many(job_ids).await)
    }

    pub(crate) async fn status(&self, job_id: &Text) -> Checked<Option<Status>> {
        answered("status", self.object.status(job_id.clone()).await)
    }

    pub(crate) async fn status_many(&self, job_ids: Vec<Text>) -> Checked<Vec<Option<Status>>> {
        all_answered("status_many", self.object.status_many(job_ids).await)
    }

    pub(crate) async fn delete(&self, job_id: &Text) -> Checked<bool> {
        answered("delete", self.object.delete(job_id.clone()).await)
    }

    pub(crate) async fn delete_many(&self, job_ids: Vec<Text>) -> Checked<Vec<bool>> {
        all_answered("delete_many", self.object.delete_many(job_ids).await)
    }

    pub(crate) async fn page(
        &self,
        filter: &Filter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> Checked<Page> {
        let page = answered(
            "scan",
            self.object.scan(filter.clone(), cursor, limit).await,
        )?;
        ensure!(
            page.records.len() <= limit as usize,
            "scan: expected at most {limit} records on a page, found {}",
            page.records.len()
        );
        Ok(page)
    }

    /// A whole scan.
    pub(crate) async fn scan(&self, filter: &Filter, limit: u32) -> Checked<Vec<Record>> {
        const MOST_PAGES: usize = 1_000_000;
        let mut found = Vec::new();
        let mut cursor = None;
        for _ in 0..MOST_PAGES {
            let page = self.page(filter, cursor.clone(), limit).await?;
            found.extend(page.records);
            match page.next {
                None => return Ok(found),
                next => {
                    ensure!(
                        next != cursor,
                        "scan: expected to get on, found the cursor {next:?} again"
                    );
                    cursor = next;
                }
            }
        }
        Err(Failure::Broken(format!(
            "scan: expected an end, found more than {MOST_PAGES} pages"
        )))
    }

    pub(crate) async fn cleanup(&self, now: Timestamp, limit: u32) -> Checked<u64> {
        let removed = answered(
            "cleanup_expired",
            self.object.cleanup_expired(now, limit).await,
        )?;
        ensure!(
            removed <= u64::from(limit),
            "cleanup_expired: expected at most {limit} removed, found {removed}"
        );
        Ok(removed)
    }

    /// Cleans up as the host does: again while the answer is the limit.
    pub(crate) async fn cleanup_all(&self, now: Timestamp, limit: u32) -> Checked<u64> {
        const MOST_CALLS: usize = 100_000;
        let mut total = 0;
        for _ in 0..MOST_CALLS {
            let removed = self.cleanup(now, limit).await?;
            total += removed;
            if removed < u64::from(limit) {
                return Ok(total);
            }
        }
        Err(Failure::Broken(format!(
            "cleanup_expired: expected an end, found {limit} removed {MOST_CALLS} times"
        )))
    }

    pub(crate) async fn stats(&self) -> Checked<Stats> {
        answered("stats", self.object.stats().await)
    }

    pub(crate) async fn close(&self) -> Checked {
        answered("close", self.object.close().await)
    }
}
