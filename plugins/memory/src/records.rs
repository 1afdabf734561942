//! The records and everything that is derived from them: what one lock protects.

use std::sync::Arc;

use hashbrown::HashMap;
use lru::LruCache;
use warren_plugin_api::{Filter, Record, Status, Text, Timestamp};

use crate::{config::Limits, cursor::Place, footprint::Incoming, index::Index};

/// Records in the order of their last use, with their indexes.
///
/// Whatever leaves is handed back, so that the caller frees it after letting go of the lock.
pub(crate) struct Records {
    limits: Limits,
    /// The number under which a job's record is kept for as long as it is here.
    numbers: HashMap<Text, u64>,
    by_use: LruCache<u64, Stored>,
    index: Index,
    next_number: u64,
    bytes: u64,
    removed: Removed,
}

struct Stored {
    record: Arc<Record>,
    bytes: u64,
}

/// How many records went otherwise than by `delete`, since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
}

/// What the store holds at one moment.
pub(crate) struct Figures {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) by_status: std::collections::BTreeMap<Status, u64>,
    pub(crate) removed: Removed,
}

/// A stretch of a scan.
pub(crate) struct Stretch {
    pub(crate) records: Vec<Arc<Record>>,
    /// The last place that was looked at; `None` at the end.
    pub(crate) next: Option<Place>,
}

impl Records {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            numbers: HashMap::new(),
            by_use: LruCache::unbounded(),
            index: Index::default(),
            next_number: 1,
            bytes: 0,
            removed: Removed::default(),
        }
    }

    /// Writes what may be written; `false` when the write is stale. Records that go for it are
    /// pushed to `gone`.
    pub(crate) fn put(
        &mut self,
        incoming: Incoming,
        now: Timestamp,
        gone: &mut Vec<Arc<Record>>,
    ) -> bool {
        let Incoming {
            record,
            mode,
            job_id,
            bytes,
        } = incoming;
        let number = self.numbers.get(&job_id).copied();
        let stored = number.and_then(|number| self.by_use.peek(&number));
        let stored = stored.map(|stored| stored.record.version_and_expiry());
        if !mode.may_replace(record.version(), stored, now) {
            gone.push(record);
            return false;
        }
        let new = Stored { record, bytes };
        self.bytes += bytes;
        match number {
            Some(number) => self.replace(number, new, gone),
            None => self.insert(job_id, new),
        }
        self.make_room(now, gone);
        true
    }

    fn insert(&mut self, job_id: Text, new: Stored) {
        let number = self.next_number;
        self.next_number += 1;
        self.numbers.insert(job_id, number);
        self.index.insert(number, &new.record);
        self.by_use.put(number, new);
    }

    fn replace(&mut self, number: u64, new: Stored, gone: &mut Vec<Arc<Record>>) {
        let record = Arc::clone(&new.record);
        if let Some(old) = self.by_use.put(number, new) {
            self.index.replace(number, &old.record, &record);
            self.bytes -= old.bytes;
            gone.push(old.record);
        }
    }

    /// Evicts until the limits are kept. The record written last is never among those that go:
    /// none that is larger than the whole store gets this far.
    fn make_room(&mut self, now: Timestamp, gone: &mut Vec<Arc<Record>>) {
        while self.by_use.len() as u64 > self.limits.max_records
            || self.bytes > self.limits.max_bytes
        {
            if self.remove_expired(now, 1, gone) > 0 {
                continue;
            }
            let Some((number, evicted)) = self.by_use.pop_lru() else {
                return;
            };
            self.removed.evicted += 1;
            gone.push(self.forget(number, evicted));
        }
    }

    /// Removes up to `limit` records that have expired by `now`; says how many.
    pub(crate) fn remove_expired(
        &mut self,
        now: Timestamp,
        limit: usize,
        gone: &mut Vec<Arc<Record>>,
    ) -> usize {
        let mut removed = 0;
        while removed < limit
            && let Some(number) = self.index.first_expired(now)
            && let Some(expired) = self.by_use.pop(&number)
        {
            gone.push(self.forget(number, expired));
            removed += 1;
        }
        self.removed.expired += removed as u64;
        removed
    }

    /// The live record of a job, which counts as used.
    pub(crate) fn get(&mut self, job_id: &Text, now: Timestamp) -> Option<Arc<Record>> {
        let number = self.numbers.get(job_id)?;
        let stored = self.by_use.get(number)?;
        (!stored.record.is_expired(now)).then(|| Arc::clone(&stored.record))
    }

    /// The live record's status; the record counts as used.
    pub(crate) fn status(&mut self, job_id: &Text, now: Timestamp) -> Option<Status> {
        let number = self.numbers.get(job_id)?;
        let stored = self.by_use.get(number)?;
        (!stored.record.is_expired(now)).then_some(stored.record.status)
    }

    /// Removes a job's record, expired or not.
    pub(crate) fn delete(&mut self, job_id: &Text) -> Option<Arc<Record>> {
        let number = *self.numbers.get(job_id)?;
        let stored = self.by_use.pop(&number)?;
        Some(self.forget(number, stored))
    }

    fn forget(&mut self, number: u64, stored: Stored) -> Arc<Record> {
        self.numbers.remove(&stored.record.job_id);
        self.index.remove(number, &stored.record);
        self.bytes -= stored.bytes;
        stored.record
    }

    /// Looks at up to `most_looked_at` records from the newest to the oldest, and returns up to
    /// `limit` live ones that pass. Being listed is not being used.
    pub(crate) fn scan(
        &self,
        filter: &Filter,
        after: Option<Place>,
        limit: usize,
        most_looked_at: usize,
        now: Timestamp,
    ) -> Stretch {
        let mut records = Vec::new();
        let mut last = None;
        for (looked_at, place) in self.index.newest_first(filter, after).enumerate() {
            if records.len() == limit || looked_at == most_looked_at {
                return Stretch {
                    records,
                    next: last,
                };
            }
            last = Some(place);
            if let Some(stored) = self.by_use.peek(&place.number)
                && !stored.record.is_expired(now)
                && filter.matches(&stored.record)
            {
                records.push(Arc::clone(&stored.record));
            }
        }
        Stretch {
            records,
            next: None,
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            records: self.by_use.len() as u64,
            bytes: self.bytes,
            by_status: self.index.by_status(),
            removed: self.removed,
        }
    }

    pub(crate) const fn removed(&self) -> Removed {
        self.removed
    }
}

#[cfg(test)]
mod tests {
    use warren_plugin_api::{Payload, Write};

    use super::*;
    use crate::config::MemoryConfig;

    fn records(config: serde_json::Value) -> Records {
        Records::new(
            serde_json::from_value::<MemoryConfig>(config)
                .unwrap()
                .limits()
                .unwrap(),
        )
    }

    fn put(records: &mut Records, record: Record) -> usize {
        let incoming = Incoming::new(Write::from(record), &records.limits).unwrap();
        let mut gone = Vec::new();
        assert!(records.put(incoming, Timestamp::now(), &mut gone));
        gone.len()
    }

    fn record(job_id: &str) -> Record {
        Record {
            job_id: job_id.into(),
            ..Record::default()
        }
    }

    fn has(records: &Records, job_id: &str) -> bool {
        records.numbers.contains_key(job_id)
    }

    /// Everything that is derived from the records agrees with them.
    fn check(records: &Records) {
        let count = records.by_use.len() as u64;
        assert_eq!(records.numbers.len() as u64, count);
        assert_eq!(records.index.by_status().values().sum::<u64>(), count);
        assert_eq!(
            records.index.newest_first(&Filter::default(), None).count() as u64,
            count
        );
        assert_eq!(
            records
                .by_use
                .iter()
                .map(|(_, stored)| stored.bytes)
                .sum::<u64>(),
            records.bytes
        );
    }

    #[test]
    fn the_least_recently_used_record_goes() {
        let mut records = records(serde_json::json!({"max_records": 3}));
        for job_id in ["a", "b", "c"] {
            put(&mut records, record(job_id));
        }
        let now = Timestamp::now();
        assert!(records.get(&"a".into(), now).is_some());
        assert!(records.status(&"b".into(), now).is_some());
        assert_eq!(put(&mut records, record("d")), 1);
        assert!(
            has(&records, "a") && has(&records, "b") && !has(&records, "c") && has(&records, "d")
        );
        assert_eq!(
            records.removed(),
            Removed {
                evicted: 1,
                expired: 0
            }
        );
        check(&records);
    }

    #[test]
    fn an_expired_record_goes_before_a_live_one() {
        let mut records = records(serde_json::json!({"max_records": 2}));
        put(&mut records, record("old"));
        put(
            &mut records,
            Record {
                expires_at: Some(Timestamp::MIN),
                ..record("expired")
            },
        );
        put(&mut records, record("new"));
        assert!(has(&records, "old") && !has(&records, "expired"));
        assert_eq!(
            records.removed(),
            Removed {
                evicted: 0,
                expired: 1
            }
        );
        check(&records);
    }

    #[test]
    fn records_go_until_the_bytes_fit() {
        let mut records = records(serde_json::json!({"max_bytes": 65536}));
        for number in 0..10 {
            put(&mut records, record(&number.to_string()));
        }
        let large = Record {
            result: Payload::from(vec![0; 32_000]),
            ..record("large")
        };
        put(&mut records, large.clone());
        put(
            &mut records,
            Record {
                job_id: "larger".into(),
                ..large
            },
        );
        assert!(has(&records, "larger"));
        assert!(records.bytes <= 65536);
        check(&records);
    }

    #[test]
    fn what_is_replaced_expired_or_deleted_leaves_nothing_behind() {
        let mut records = records(serde_json::json!({}));
        put(
            &mut records,
            Record {
                expires_at: Some(Timestamp::MAX),
                ..record("a")
            },
        );
        let newer = Record {
            enqueued_at: Some(Timestamp::now()),
            expires_at: Some(Timestamp::MIN),
            attempt: 2,
            ..record("a")
        };
        put(&mut records, newer);
        put(&mut records, record("b"));
        check(&records);
        assert_eq!(
            records.remove_expired(Timestamp::now(), 10, &mut Vec::new()),
            1
        );
        assert!(records.delete(&"b".into()).is_some());
        assert!(records.delete(&"b".into()).is_none());
        check(&records);
        assert_eq!((records.bytes, records.by_use.len()), (0, 0));
    }

    #[test]
    fn a_scan_says_where_it_stopped_looking() {
        let mut records = records(serde_json::json!({}));
        for job_id in ["a", "b", "c"] {
            put(&mut records, record(job_id));
        }
        let filter = Filter {
            queue: Some("none".into()),
            ..Filter::default()
        };
        let stretch = records.scan(&filter, None, 10, 2, Timestamp::now());
        assert!(stretch.records.is_empty());
        let rest = records.scan(&filter, stretch.next, 10, 2, Timestamp::now());
        assert_eq!(rest.next, None);
    }
}
