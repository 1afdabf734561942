//! Asking the store.

use warren_plugin_api::{
    BatchResult, Cursor, Filter, Page, Record, Stats, Status, StoreResult, Text,
};

use super::Client;

impl Client {
    /// What is known of a job; `None` for an id that was never sent, or whose record has expired.
    ///
    /// # Errors
    /// The store's.
    pub async fn result(&self, job_id: &str) -> StoreResult<Option<Record>> {
        self.store.get(job_id.into()).await
    }

    /// What is known of many jobs, in the order of the ids.
    ///
    /// # Errors
    /// The store's: as a whole, or for single records.
    pub async fn results(&self, job_ids: &[impl AsRef<str>]) -> BatchResult<Option<Record>> {
        self.store.get_many(texts(job_ids)).await
    }

    /// Where a job stands; `None` as for [`result`](Self::result).
    ///
    /// # Errors
    /// The store's.
    pub async fn status(&self, job_id: &str) -> StoreResult<Option<Status>> {
        self.store.status(job_id.into()).await
    }

    /// Where many jobs stand.
    ///
    /// # Errors
    /// The store's.
    pub async fn statuses(&self, job_ids: &[impl AsRef<str>]) -> BatchResult<Option<Status>> {
        self.store.status_many(texts(job_ids)).await
    }

    /// Deletes the record of a job, not the job: one that is queued or runs still runs.
    /// `true` when there was a record. Whoever waits for the job is told.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, job_id: &str) -> StoreResult<bool> {
        let was_there = self.store.delete(job_id.into()).await?;
        self.announcer.deleted(vec![job_id.into()]);
        Ok(was_there)
    }

    /// As [`delete`](Self::delete), for many; answers in the order of the ids.
    ///
    /// # Errors
    /// The store's: as a whole, or for single records.
    pub async fn delete_many(&self, job_ids: &[impl AsRef<str>]) -> BatchResult<bool> {
        let job_ids = texts(job_ids);
        let answers = self.store.delete_many(job_ids.clone()).await?;
        self.announcer.deleted(job_ids);
        Ok(answers)
    }

    /// Lists records, page by page: see [`ResultStore::scan`](warren_plugin_api::ResultStore::scan).
    ///
    /// # Errors
    /// The store's; `unsupported` for a store that cannot list.
    pub async fn list(
        &self,
        filter: Filter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> StoreResult<Page> {
        self.store.scan(filter, cursor, limit).await
    }

    /// What the store holds.
    ///
    /// # Errors
    /// The store's; `unsupported` for a store that does not count.
    pub async fn stats(&self) -> StoreResult<Stats> {
        self.store.stats().await
    }
}

fn texts(job_ids: &[impl AsRef<str>]) -> Vec<Text> {
    job_ids
        .iter()
        .map(|job_id| job_id.as_ref().into())
        .collect()
}
