//! From the secondary to the primary, once that is back.

use std::sync::Arc;

use warren_plugin_api::{
    ErrorClass, Filter, Record, StoreError, StoreResult, Text, Write, WriteMode,
};

use super::{super::to_its_end, Shared};

/// Records that are brought back at once.
const BATCH: u32 = 200;

impl Shared {
    /// Brings back what the secondary may hold of these jobs. Their locks are held.
    ///
    /// # Errors
    /// One of the two is away.
    pub(super) async fn settle(&self, job_ids: &[Text]) -> StoreResult<()> {
        if !self.side.may_owe() {
            return Ok(());
        }
        let asked = self.secondary.store().get_many(job_ids.to_vec());
        let found = match self.secondary.call_for_all(asked).await {
            Ok(found) => found,
            Err(error) if self.is_no_matter(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        // What cannot be read cannot be brought back either, and must not stop the rest.
        let records: Vec<Record> = found.into_iter().filter_map(|it| it.ok()?).collect();
        self.bring_back(records).await.map(drop)
    }

    /// As [`settle`](Self::settle), without the locks: it takes them where there is something to
    /// be done.
    pub(super) async fn settle_in_turn(self: &Arc<Self>, job_ids: Vec<Text>) -> StoreResult<()> {
        let asked = self.secondary.store().status_many(job_ids.clone());
        let there = match self.secondary.call_for_all(asked).await {
            Ok(there) => there,
            Err(error) if self.is_no_matter(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let there: Vec<Text> = job_ids
            .into_iter()
            .zip(there)
            .filter(|(_, there)| matches!(there, Ok(Some(_))))
            .map(|(job_id, _)| job_id)
            .collect();
        if there.is_empty() {
            return Ok(());
        }
        let this = Arc::clone(self);
        to_its_end(async move {
            let _held = this.locks.lock(there.iter()).await;
            this.settle(&there).await
        })
        .await
    }

    /// Brings back everything that the secondary holds.
    ///
    /// # Errors
    /// One of the two is away.
    pub(super) async fn bring_back_all(&self) -> StoreResult<()> {
        let mark = self.side.written();
        let (mut brought, mut left) = (0, 0);
        let mut cursor = None;
        loop {
            let filter = Filter {
                without_payloads: true,
                ..Filter::default()
            };
            let page = self.secondary.store().scan(filter, cursor, BATCH);
            let page = match self.secondary.call(page).await {
                Ok(page) => page,
                Err(error) if self.is_no_matter(&error) => return Ok(()),
                Err(error) => return Err(error),
            };
            let job_ids: Vec<Text> = page.records.into_iter().map(|it| it.job_id).collect();
            if !job_ids.is_empty() {
                self.side.found_in_secondary();
                let found = job_ids.len();
                let moved = self.bring_back_locked(job_ids).await?;
                brought += moved;
                left += found - moved;
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        if brought > 0 {
            tracing::info!(
                brought,
                left,
                "records of the secondary are in the primary store"
            );
        }
        if left == 0 {
            self.side.found_empty(mark);
        }
        Ok(())
    }

    async fn bring_back_locked(&self, job_ids: Vec<Text>) -> StoreResult<usize> {
        let _held = self.locks.lock(job_ids.iter()).await;
        let asked = self.secondary.store().get_many(job_ids);
        let found = self.secondary.call_for_all(asked).await?;
        let records = found.into_iter().filter_map(|it| it.ok()?).collect();
        self.bring_back(records).await
    }

    /// A secondary that is away while nothing is owed, as far as is known, is no reason not to use
    /// the primary.
    fn is_no_matter(&self, error: &StoreError) -> bool {
        error.class() == ErrorClass::Unavailable && !self.side.owes()
    }

    /// Writes these records of the secondary to the primary and removes them from the secondary.
    /// Their locks are held.
    async fn bring_back(&self, records: Vec<Record>) -> StoreResult<usize> {
        if records.is_empty() {
            return Ok(0);
        }
        let job_ids: Vec<Text> = records.iter().map(|record| record.job_id.clone()).collect();
        let asked = self.primary.store().get_many(job_ids.clone());
        let known = self.ask_primary_many(asked).await?;
        let writes = records.iter().zip(known).map(|(record, known)| Write {
            mode: match known {
                Ok(Some(known)) if is_another_job(record, &known) => WriteMode::Always,
                _ => WriteMode::IfNewer,
            },
            record: record.clone(),
        });
        let taken = self.primary.store().put_many(writes.collect());
        let taken = self.ask_primary_many(taken).await?;
        let mut first_error = None;
        let mut done = Vec::with_capacity(records.len());
        for (record, taken) in records.into_iter().zip(taken) {
            match taken {
                // Stale: the primary knows better.
                Ok(_) => done.push(record),
                // It will never be taken; `warren results export` still finds it.
                Err(error) if !error.class().may_pass() => {
                    tracing::warn!(%error, job_id = %record.job_id, "a record stays in the secondary store");
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let removed = self.remove(done).await?;
        match first_error {
            Some(error) => Err(error),
            None => Ok(removed),
        }
    }

    /// Removes records that are in the primary from the secondary, unless another process has
    /// written to them meanwhile. How many.
    async fn remove(&self, done: Vec<Record>) -> StoreResult<usize> {
        if done.is_empty() {
            return Ok(0);
        }
        let job_ids: Vec<Text> = done.iter().map(|record| record.job_id.clone()).collect();
        let asked = self.secondary.store().get_many(job_ids);
        let there = self.secondary.call_for_all(asked).await?;
        let unchanged: Vec<Text> = done
            .into_iter()
            .zip(there)
            .filter(|(brought, there)| matches!(there, Ok(Some(there)) if there == brought))
            .map(|(brought, _)| brought.job_id)
            .collect();
        let removed = unchanged.len();
        let deleted = self.secondary.store().delete_many(unchanged);
        for deleted in self.secondary.call_many(deleted).await? {
            deleted?;
        }
        Ok(removed)
    }
}

/// Whether the secondary's record is of a job that was sent anew under the same id since the
/// primary's was: then versions say nothing.
fn is_another_job(secondary: &Record, primary: &Record) -> bool {
    match (secondary.enqueued_at, primary.enqueued_at) {
        (Some(secondary), Some(primary)) => secondary > primary,
        _ => false,
    }
}
