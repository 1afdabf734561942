//! Writing: first the entries that will lead to a record, then the record, if nothing else has
//! come meanwhile.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::try_join_all, stream};
use warren_plugin_api::{
    BatchResult, StoreError, StoreResult, Text, Timestamp, Write, WriteMode, WriteOutcome,
};

use crate::{
    bucket::{Expected, PutAnswer},
    keys,
    object::{self, FORMAT, Listed, RecordHead, Stored},
    shared::{Shared, SharedStore, to_the_end},
};

/// How long one write goes on against others. Entries are younger than this when they come to
/// lead to a record; only far older ones are taken for leftovers.
const GOES_ON_FOR: Duration = Duration::from_secs(30);
/// How long a write waits between two looks at an object that is being removed.
const LOOKS_AGAIN_AFTER: Duration = Duration::from_millis(50);
const DAY_US: i64 = 86_400_000_000;

/// What a write has found out and done so far.
struct Attempt<'a> {
    store: &'a Shared,
    write: &'a Write,
    job: String,
    /// Tells this write from others.
    name: String,
    /// Entries that were made for this write alone.
    made: Option<Listed>,
}

/// What becomes of one look at what is stored.
enum Step {
    Ended(WriteOutcome),
    /// Somebody else was faster.
    Again,
}

pub(crate) async fn put(store: SharedStore, write: Write) -> StoreResult<WriteOutcome> {
    check_size(&store, &write)?;
    to_the_end(async move { Attempt::new(&store, &write).run().await }).await
}

/// Jobs at once, the writes of each in their order.
pub(crate) async fn put_many(store: &SharedStore, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
    let count = writes.len();
    let mut jobs: Vec<Vec<(usize, Write)>> = Vec::new();
    let mut places: HashMap<Text, usize> = HashMap::with_capacity(count);
    for (place, write) in writes.into_iter().enumerate() {
        let job = *places
            .entry(write.record.job_id.clone())
            .or_insert_with(|| {
                jobs.push(Vec::new());
                jobs.len() - 1
            });
        if let Some(job) = jobs.get_mut(job) {
            job.push((place, write));
        }
    }
    let mut outcomes: Vec<StoreResult<WriteOutcome>> = vec![Ok(WriteOutcome::Stale); count];
    let mut done = stream::iter(jobs)
        .map(|writes| async move {
            let mut outcomes = Vec::with_capacity(writes.len());
            for (place, write) in writes {
                outcomes.push((place, put(SharedStore::clone(store), write).await));
            }
            outcomes
        })
        .buffer_unordered(store.at_once());
    while let Some(of_one_job) = done.next().await {
        for (place, outcome) in of_one_job {
            if let Some(kept) = outcomes.get_mut(place) {
                *kept = outcome;
            }
        }
    }
    Ok(outcomes)
}

fn check_size(store: &Shared, write: &Write) -> StoreResult<()> {
    let (size, limit) = (
        write.record.size_bytes(),
        store.config.max_record_bytes.get(),
    );
    if u64::try_from(size).unwrap_or(u64::MAX) > limit {
        return Err(StoreError::too_large(format!(
            "the record has {size} bytes, max_record_bytes is {limit}"
        )));
    }
    Ok(())
}

impl<'a> Attempt<'a> {
    fn new(store: &'a Shared, write: &'a Write) -> Self {
        Self {
            store,
            write,
            job: keys::job(&write.record.job_id),
            name: keys::random(),
            made: None,
        }
    }

    async fn run(mut self) -> StoreResult<WriteOutcome> {
        self.store.make_ready().await?;
        let _alone = self.store.one_at_a_time(&self.job).await;
        let started = Instant::now();
        let outcome = loop {
            match self.step().await? {
                Step::Ended(outcome) => break outcome,
                Step::Again if started.elapsed() < GOES_ON_FOR => {}
                Step::Again => {
                    return Err(StoreError::conflict(
                        "others wrote or removed this job's record all the time",
                    ));
                }
            }
        };
        if outcome == WriteOutcome::Stale
            && let Some(made) = self.made.take()
        {
            self.unlist(&made).await;
        }
        Ok(outcome)
    }

    /// Looks at what is stored, and writes if nothing speaks against it.
    async fn step(&mut self) -> StoreResult<Step> {
        let now = Timestamp::now();
        let (expected, current, old) = match self.store.stored(&self.job).await? {
            Stored::Absent => (Expected::Nothing, None, None),
            // Done, though the answer was lost.
            Stored::Record { head, .. } if head.write == self.name => {
                return Ok(Step::Ended(WriteOutcome::Written));
            }
            Stored::Record { head, etag } => (Expected::Object(etag), Some(head), None),
            Stored::Removing { removal, .. } if !removal.is_given_up(now) => {
                tokio::time::sleep(LOOKS_AGAIN_AFTER).await;
                return Ok(Step::Again);
            }
            // Whoever removed it never came to the end.
            Stored::Removing { removal, etag } => (Expected::Object(etag), None, removal.listed),
            Stored::Unreadable { etag, .. } if self.write.mode == WriteMode::Always => {
                (Expected::Object(etag), None, None)
            }
            Stored::Unreadable { why, .. } => return Err(why),
        };
        let version = current.as_ref().map(RecordHead::version_and_expiry);
        if !self.write.may_replace(version, now) {
            return Ok(Step::Ended(WriteOutcome::Stale));
        }
        let current = current.map(|head| head.listed);
        let listed = self.listed(current.as_ref(), now).await?;
        let old = old.or(current).filter(|old| old.token != listed.token);
        if self.put_record(listed, &expected).await? == PutAnswer::Refused {
            return Ok(Step::Again);
        }
        if let Some(old) = old {
            self.unlist(&old).await;
        }
        Ok(Step::Ended(WriteOutcome::Written))
    }

    /// The entries that will lead to the record: those of the current one where they still say the
    /// truth, or new ones.
    async fn listed(&mut self, current: Option<&Listed>, now: Timestamp) -> StoreResult<Listed> {
        let wanted = self.wanted(now);
        if let Some(current) = current
            && keeps(current, &wanted, now)
        {
            let mut listed = current.clone();
            if needs_expiry(current.expiry, wanted.expiry, now) {
                listed.expiry = wanted.expiry;
                self.put_expiry(&listed).await?;
            }
            return Ok(listed);
        }
        if let Some(made) = &self.made {
            return Ok(made.clone());
        }
        self.made = Some(wanted.clone());
        let keys = wanted.keys(&self.store.keys, &self.job);
        let days = wanted.lifecycle_days;
        let puts = keys
            .iter()
            .map(|key| self.store.bucket.put(key, Vec::new(), days));
        try_join_all(puts).await?;
        Ok(wanted)
    }

    /// New entries for this record.
    fn wanted(&self, now: Timestamp) -> Listed {
        let record = &self.write.record;
        Listed {
            token: keys::random(),
            enqueued_at: record.enqueued_at,
            queue: keys::queue(&record.queue),
            expiry: record.expires_at,
            at: now,
            lifecycle_days: self.lifecycle_days(now),
        }
    }

    /// The days after which a lifecycle rule may remove the record: it has expired by then.
    fn lifecycle_days(&self, now: Timestamp) -> Option<u16> {
        let days = self.store.config.lifecycle_days?;
        let expires_at = self.write.record.expires_at?;
        let last = now.unix_us().saturating_add(i64::from(days) * DAY_US);
        (expires_at.unix_us() <= last).then_some(days)
    }

    async fn put_expiry(&self, listed: &Listed) -> StoreResult<()> {
        let Some(time) = listed.expiry else {
            return Ok(());
        };
        let name = listed.expiry_name(&self.job, time);
        let key = format!("{}{name}", self.store.keys.by_expiry());
        let days = listed.lifecycle_days;
        self.store.bucket.put(&key, Vec::new(), days).await
    }

    async fn put_record(&self, listed: Listed, expected: &Expected) -> StoreResult<PutAnswer> {
        let record = &self.write.record;
        let head = RecordHead {
            warren: FORMAT,
            status: record.status,
            attempt: record.attempt,
            expires_at: record.expires_at,
            listed,
            write: self.name.clone(),
        };
        let bytes = object::encode(head, record)?;
        let days = self.lifecycle_days(Timestamp::now());
        let key = self.store.keys.record(&self.job);
        self.store.bucket.put_if(&key, bytes, expected, days).await
    }

    /// Removes entries that lead nowhere. They are of no consequence, so a failure is of none.
    async fn unlist(&self, listed: &Listed) {
        let keys = listed.keys(&self.store.keys, &self.job);
        if let Err(error) = self.store.bucket.delete(keys).await {
            let host = &self.store.host;
            host.debug(format_args!("entries that lead nowhere stay: {error}"));
        }
    }
}

/// Whether entries of the current record can lead to the new one.
fn keeps(current: &Listed, wanted: &Listed, now: Timestamp) -> bool {
    // A rule removes entries after twice the days: until then they must outlive every record.
    let outlives = match current.lifecycle_days {
        None => true,
        Some(days) => {
            let age = now.unix_us().saturating_sub(current.at.unix_us());
            wanted.lifecycle_days == Some(days) && age < i64::from(days) * DAY_US
        }
    };
    outlives && current.enqueued_at == wanted.enqueued_at && current.queue == wanted.queue
}

/// Whether cleanup would come too late by the entry that is there, or it may be gone by now.
fn needs_expiry(current: Option<Timestamp>, wanted: Option<Timestamp>, now: Timestamp) -> bool {
    wanted.is_some_and(|wanted| !current.is_some_and(|current| now < current && current <= wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_us(1_000 * DAY_US);

    fn days(days: i64) -> Timestamp {
        Timestamp::from_unix_us(NOW.unix_us() + days * DAY_US)
    }

    fn listed(at: Timestamp, lifecycle_days: Option<u16>) -> Listed {
        Listed {
            token: keys::random(),
            enqueued_at: Some(NOW),
            queue: keys::queue("orders"),
            expiry: None,
            at,
            lifecycle_days,
        }
    }

    #[test]
    fn entries_are_kept_while_they_lead_to_the_record_and_outlive_it() {
        let plain = listed(NOW, None);
        assert!(keeps(&plain, &listed(NOW, Some(7)), NOW));
        assert!(keeps(
            &listed(days(-6), Some(7)),
            &listed(NOW, Some(7)),
            NOW
        ));
        assert!(!keeps(
            &listed(days(-7), Some(7)),
            &listed(NOW, Some(7)),
            NOW
        ));
        assert!(!keeps(&listed(NOW, Some(7)), &listed(NOW, None), NOW));
        assert!(!keeps(&listed(NOW, Some(7)), &listed(NOW, Some(30)), NOW));
        let elsewhere = Listed {
            queue: keys::queue("mail"),
            ..plain.clone()
        };
        assert!(!keeps(&plain, &elsewhere, NOW));
        let earlier = Listed {
            enqueued_at: None,
            ..plain.clone()
        };
        assert!(!keeps(&plain, &earlier, NOW));
    }

    #[test]
    fn cleanup_is_told_of_an_expiry_that_it_would_come_too_late_for() {
        for (current, wanted, needs) in [
            (None, None, false),
            (Some(days(1)), None, false),
            (None, Some(days(1)), true),
            (Some(days(1)), Some(days(2)), false),
            (Some(days(1)), Some(days(1)), false),
            (Some(days(2)), Some(days(1)), true),
            (Some(NOW), Some(days(1)), true),
            (Some(days(-1)), Some(days(1)), true),
        ] {
            assert_eq!(
                needs_expiry(current, wanted, NOW),
                needs,
                "{current:?} {wanted:?}"
            );
        }
    }
}
