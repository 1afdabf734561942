//! How the service is, and what the store holds.

use std::{collections::BTreeMap, time::Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use warren_plugin_api::{Health, Stats, Status, StoreResult, Timestamp};

use crate::{
    bucket::{MOST_KEYS, Part},
    lifecycle,
    object::Stored,
    shared::Shared,
};

impl Shared {
    /// Asks the service for one object, and once whether it keeps preconditions.
    pub(crate) async fn health(&self) -> StoreResult<Health> {
        self.make_ready().await?;
        let asked = Instant::now();
        self.bucket
            .get(&self.keys.marker(), Part::Beginning)
            .await?;
        let took = asked.elapsed();
        Ok(Health {
            detail: format!("S3 at {}, answered in {took:.1?}", self.address),
            warnings: self.warnings(),
        })
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.config.single_writer {
            warnings.push(
                "single_writer is on: a write of another process may hide a later one".to_owned(),
            );
        }
        if self.address.is_open_to_view {
            warnings.push(
                "the endpoint begins with http://: results go unencrypted over the network"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Counts the live records, at one request each, where there are few enough.
    pub(crate) async fn stats(&self) -> StoreResult<Stats> {
        let (jobs, bytes) = self.jobs().await?;
        let most = usize::try_from(self.config.count_up_to).unwrap_or(usize::MAX);
        let mut stats = Stats::default();
        if jobs.len() > most {
            let text = format!("more than {most}");
            stats.details.insert("record_objects".into(), text.into());
        } else {
            let count = jobs.len().into();
            let by_status = self.by_status(jobs).await?;
            stats.records = Some(by_status.values().sum());
            stats.by_status = by_status;
            stats.bytes = Some(bytes);
            stats.details.insert("record_objects".into(), count);
        }
        if let Some(days) = self.config.lifecycle_days {
            let rule = lifecycle::configuration(&self.keys, days);
            stats.details.insert("lifecycle_configuration".into(), rule);
        }
        Ok(stats)
    }

    /// Records that may be live, and the bytes of their objects; one more than are counted at most.
    async fn jobs(&self) -> StoreResult<(Vec<String>, u64)> {
        let most = usize::try_from(self.config.count_up_to).unwrap_or(usize::MAX);
        let (prefix, mut after) = (self.keys.records(), None);
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        loop {
            let page = self
                .bucket
                .list(&prefix, after.as_deref(), MOST_KEYS)
                .await?;
            after = page.names.last().map(|name| name.name.clone());
            for name in page.names {
                bytes += name.bytes;
                jobs.push(name.name);
            }
            if !page.is_cut || after.is_none() || jobs.len() > most {
                return Ok((jobs, bytes));
            }
        }
    }

    async fn by_status(&self, jobs: Vec<String>) -> StoreResult<BTreeMap<Status, u64>> {
        let now = Timestamp::now();
        let mut by_status = BTreeMap::new();
        let mut heads = stream::iter(jobs)
            .map(|job| async move { self.stored(&job).await })
            .buffer_unordered(self.at_once());
        while let Some(stored) = heads.try_next().await? {
            if let Stored::Record { head, .. } = stored
                && !head.is_expired(now)
            {
                *by_status.entry(head.status).or_insert(0) += 1;
            }
        }
        Ok(by_status)
    }
}
