//! In which order records are listed and expire, and how many have which status.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use warren_plugin_api::{Filter, Record, Status, Timestamp};

use crate::cursor::Place;

/// Kept in step with the records by [`Records`](crate::records::Records), under the same lock.
#[derive(Default)]
pub(crate) struct Index {
    places: BTreeSet<Place>,
    expiries: BTreeSet<(Timestamp, u64)>,
    by_status: [u64; Status::ALL.len()],
}

impl Index {
    pub(crate) fn insert(&mut self, number: u64, record: &Record) {
        self.places.insert(place(number, record));
        if let Some(expires_at) = record.expires_at {
            self.expiries.insert((expires_at, number));
        }
        self.by_status[record.status as usize] += 1;
    }

    pub(crate) fn remove(&mut self, number: u64, record: &Record) {
        self.places.remove(&place(number, record));
        if let Some(expires_at) = record.expires_at {
            self.expiries.remove(&(expires_at, number));
        }
        self.by_status[record.status as usize] -= 1;
    }

    /// `remove` and `insert`, without touching what stays the same: most writes of a job change
    /// neither its place nor its expiry.
    pub(crate) fn replace(&mut self, number: u64, old: &Record, new: &Record) {
        if old.enqueued_at != new.enqueued_at {
            self.places.remove(&place(number, old));
            self.places.insert(place(number, new));
        }
        if old.expires_at != new.expires_at {
            if let Some(expires_at) = old.expires_at {
                self.expiries.remove(&(expires_at, number));
            }
            if let Some(expires_at) = new.expires_at {
                self.expiries.insert((expires_at, number));
            }
        }
        self.by_status[old.status as usize] -= 1;
        self.by_status[new.status as usize] += 1;
    }

    /// The record that expired first, if one has by `now`.
    pub(crate) fn first_expired(&self, now: Timestamp) -> Option<u64> {
        self.expiries
            .first()
            .filter(|(expires_at, _)| *expires_at <= now)
            .map(|(_, number)| *number)
    }

    pub(crate) fn by_status(&self) -> BTreeMap<Status, u64> {
        Status::ALL
            .into_iter()
            .map(|status| (status, self.by_status[status as usize]))
            .collect()
    }

    /// Places from the newest to the oldest that lie before `after` and within the filter's times.
    pub(crate) fn newest_first(
        &self,
        filter: &Filter,
        after: Option<Place>,
    ) -> impl Iterator<Item = Place> + '_ {
        let until = match (after, filter.enqueued_before.map(Place::before)) {
            (Some(after), Some(before)) => Some(after.min(before)),
            (after, before) => after.or(before),
        };
        // A record without a time passes no time limit, and sorts before those that have one.
        let from = filter
            .enqueued_from
            .or_else(|| filter.enqueued_before.map(|_| Timestamp::MIN))
            .map(Place::before);
        let crossed = matches!((from, until), (Some(from), Some(until)) if from >= until);
        let range = (
            from.map_or(Bound::Unbounded, Bound::Included),
            until.map_or(Bound::Unbounded, Bound::Excluded),
        );
        (!crossed)
            .then(|| self.places.range(range).rev().copied())
            .into_iter()
            .flatten()
    }
}

fn place(number: u64, record: &Record) -> Place {
    Place {
        enqueued_at: record.enqueued_at,
        number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(enqueued_at: Option<i64>) -> Record {
        Record {
            enqueued_at: enqueued_at.map(Timestamp::from_unix_us),
            ..Record::default()
        }
    }

    fn numbers(
        index: &Index,
        from: Option<i64>,
        before: Option<i64>,
        after: Option<Place>,
    ) -> Vec<u64> {
        let filter = Filter {
            enqueued_from: from.map(Timestamp::from_unix_us),
            enqueued_before: before.map(Timestamp::from_unix_us),
            ..Filter::default()
        };
        index
            .newest_first(&filter, after)
            .map(|place| place.number)
            .collect()
    }

    #[test]
    fn times_narrow_the_range_and_ties_go_by_number() {
        let mut index = Index::default();
        for (number, time) in [
            (1, None),
            (2, Some(10)),
            (3, Some(20)),
            (4, Some(20)),
            (5, Some(i64::MIN)),
        ] {
            index.insert(number, &record(time));
        }
        assert_eq!(numbers(&index, None, None, None), [4, 3, 2, 5, 1]);
        assert_eq!(numbers(&index, Some(10), None, None), [4, 3, 2]);
        assert_eq!(numbers(&index, None, Some(20), None), [2, 5]);
        assert_eq!(numbers(&index, Some(20), Some(10), None), Vec::<u64>::new());
        let after = Place {
            enqueued_at: Some(Timestamp::from_unix_us(20)),
            number: 4,
        };
        assert_eq!(numbers(&index, None, None, Some(after)), [3, 2, 5, 1]);
    }

    #[test]
    fn nothing_is_left_of_a_removed_record() {
        let mut index = Index::default();
        let old = Record {
            expires_at: Some(Timestamp::MAX),
            ..record(Some(1))
        };
        let new = Record {
            status: Status::Failed,
            ..record(None)
        };
        index.insert(7, &old);
        index.replace(7, &old, &new);
        assert_eq!(index.first_expired(Timestamp::MAX), None);
        assert_eq!(index.by_status()[&Status::Failed], 1);
        index.remove(7, &new);
        assert!(index.places.is_empty() && index.expiries.is_empty());
        assert!(index.by_status().values().all(|count| *count == 0));
    }
}
