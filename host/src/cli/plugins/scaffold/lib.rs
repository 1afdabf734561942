//! A Warren result store. It keeps records in a map: put your backend in the map's place.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use schemars::JsonSchema;
use serde::Deserialize;
use warren_plugin_api::{
    Capabilities, Cursor, Filter, Health, HostContext, Page, Record, ResultStore, Stats,
    StoreError, StoreResult, Text, Timestamp, Write, WriteOutcome,
};

/// What an operator writes into `[result_store.config]`. The host checks it against this type and
/// shows these comments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The largest record that is taken, in bytes. Default: 1048576 (1 MiB).
    max_record_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_record_bytes: 1024 * 1024,
        }
    }
}

/// Keeps records in memory.
struct MapStore {
    records: Mutex<BTreeMap<Text, Record>>,
    max_record_bytes: u64,
}

impl ResultStore for MapStore {
    type Config = Config;

    /// The most that this store can do. What it does not declare it need not have.
    const CAPABILITIES: Capabilities = Capabilities {
        scan: true,
        stats: true,
        ..Capabilities::NONE
    };

    /// A backend that is away is `unavailable`, what an operator must change `invalid_config`.
    async fn open(config: Config, _host: HostContext) -> StoreResult<Self> {
        Ok(Self {
            records: Mutex::default(),
            max_record_bytes: config.max_record_bytes,
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_record_bytes: Some(self.max_record_bytes),
            ..Self::CAPABILITIES
        }
    }

    /// The heart of the contract: a late write never hides a later one. The lock makes the check
    /// and the write one step; a database does both in one statement.
    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        let bytes = write.record.size_bytes();
        if bytes as u64 > self.max_record_bytes {
            let most = self.max_record_bytes;
            let text = format!("the record has {bytes} bytes, at most {most} are taken");
            return Err(StoreError::too_large(text));
        }
        let mut records = self.records();
        let stored = records.get(&write.record.job_id);
        if !write.may_replace(stored.map(Record::version_and_expiry), Timestamp::now()) {
            return Ok(WriteOutcome::Stale);
        }
        records.insert(write.record.job_id.clone(), write.record);
        Ok(WriteOutcome::Written)
    }

    /// An expired record is as good as absent, here and everywhere.
    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        let records = self.records();
        let stored = records.get(&job_id).cloned();
        Ok(stored.filter(|record| !record.is_expired(Timestamp::now())))
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        let removed = self.records().remove(&job_id);
        Ok(removed.is_some_and(|record| !record.is_expired(Timestamp::now())))
    }

    /// In the order of ids, which no write changes: a page goes on after the last id of the one
    /// before it.
    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        let last = cursor.map(|cursor| id_in(&cursor)).transpose()?;
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let now = Timestamp::now();
        let mut page = Page::default();
        for (job_id, record) in self.records().range((after, Bound::Unbounded)) {
            if record.is_expired(now) || !filter.matches(record) {
                continue;
            }
            let mut record = record.clone();
            filter.trim(&mut record);
            page.records.push(record);
            if page.records.len() >= limit as usize {
                page.next = Some(cursor_after(job_id));
                break;
            }
        }
        Ok(page)
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        let mut records = self.records();
        let expired = records.extract_if(.., |_, record| record.is_expired(now));
        Ok(expired.take(limit as usize).count() as u64)
    }

    async fn stats(&self) -> StoreResult<Stats> {
        let (now, mut by_status) = (Timestamp::now(), BTreeMap::new());
        for record in self.records().values() {
            if !record.is_expired(now) {
                *by_status.entry(record.status).or_default() += 1;
            }
        }
        Ok(Stats {
            records: Some(by_status.values().sum()),
            by_status,
            ..Stats::default()
        })
    }

    /// Ask the backend something cheap, and say what answered: `Example 1.2 at db.example`.
    async fn health_check(&self) -> StoreResult<Health> {
        Ok(Health {
            detail: format!("{} records in a map", self.records().len()),
            ..Health::default()
        })
    }
}

impl MapStore {
    fn records(&self) -> MutexGuard<'_, BTreeMap<Text, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cursor is one word, for command lines; an id is any text: so it is written in hexadecimal.
fn cursor_after(job_id: &str) -> Cursor {
    let hex: String = job_id.bytes().map(|byte| format!("{byte:02x}")).collect();
    Cursor(format!("after-{hex}"))
}

fn id_in(cursor: &Cursor) -> StoreResult<Text> {
    let decoded = cursor.0.strip_prefix("after-").and_then(|hex| {
        let bytes: Option<Vec<u8>> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        String::from_utf8(bytes?).ok()
    });
    decoded.map(Text::from).ok_or_else(|| {
        StoreError::invalid_config(
            "the cursor was not made by this store: start the scan without one",
        )
    })
}

warren_plugin_api::export_store!(MapStore, name = "STORE_NAME");

#[cfg(test)]
mod tests {
    use warren_conformance::{Scale, Suite};
    use warren_plugin_api::{HostContext, ResultStore, StoreObject};

    use super::{Config, MapStore};

    /// Each call must open the same backing data: a folder or a prefix of this test's own. What a
    /// map keeps in each handle is not applicable where handles are compared.
    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_the_contract() {
        let suite = Suite::new(|| async {
            let store = MapStore::open(Config::default(), HostContext::silent()).await?;
            Ok(StoreObject::from_store(store))
        });
        let suite = suite.alone().declared(MapStore::CAPABILITIES);
        suite.scale(Scale::Quick).run().await.assert_passed();
    }
}
