//! Listing, newest first, along the index by time or the one of a queue.
//!
//! An entry is written before its record and removed after it, so it may lead nowhere, or to a
//! record that is listed elsewhere by now: only a record that names the entry's token is listed.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use warren_plugin_api::{Cursor, ErrorClass, Filter, Page, Record, StoreResult, Timestamp};

use crate::{
    bucket::{MOST_KEYS, Name},
    cleanup::is_leftover,
    cursor::{from_cursor, to_cursor},
    keys::{self, Entry},
    remove::Candidate,
    shared::{Shared, Whole},
};

/// How many entries one call looks at, and for how long, where few records pass the filter.
const MOST_ENTRIES: usize = 2_000;
const GOES_ON_FOR: Duration = Duration::from_secs(2);

/// What an entry leads to.
enum Found {
    Record(Box<Record>),
    /// Nothing that is asked for.
    Other,
    /// Somebody began to remove it and never came to the end.
    Marked(Candidate),
    Nothing,
}

/// What a page's entries led to so far.
struct Seen {
    limit: usize,
    records: Vec<Record>,
    entries: usize,
    leftovers: Vec<String>,
    marked: Vec<Candidate>,
    started: Instant,
}

impl Seen {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            records: Vec::new(),
            entries: 0,
            leftovers: Vec::new(),
            marked: Vec::new(),
            started: Instant::now(),
        }
    }

    fn add(&mut self, index: &str, name: &Name, found: Found) {
        self.entries += 1;
        match found {
            Found::Record(record) => self.records.push(*record),
            Found::Marked(candidate) => self.marked.push(candidate),
            Found::Nothing if is_leftover(name.written_at) => {
                self.leftovers.push(format!("{index}{}", name.name));
            }
            Found::Nothing | Found::Other => {}
        }
    }

    fn is_enough(&self) -> bool {
        self.records.len() >= self.limit
            || self.entries >= MOST_ENTRIES
            || self.started.elapsed() > GOES_ON_FOR
    }
}

/// Where a scan goes along, and where it begins and ends.
struct Walk {
    index: String,
    after: Option<String>,
    /// The names from here on are too old.
    end: Option<String>,
}

impl Walk {
    fn new(store: &Shared, filter: &Filter, cursor: Option<&Cursor>) -> StoreResult<Self> {
        let index = match &filter.queue {
            Some(queue) => store.keys.by_queue(&keys::queue(queue)),
            None => store.keys.by_time(),
        };
        let behind = |time: Timestamp| keys::behind(&keys::newest_first(Some(time.unix_us())));
        let after = cursor.map(from_cursor).transpose()?.map(str::to_owned);
        let is_timed = filter.enqueued_from.is_some() || filter.enqueued_before.is_some();
        Ok(Self {
            index,
            // Of two beginnings the later.
            after: after.max(filter.enqueued_before.map(behind)),
            end: match filter.enqueued_from {
                Some(from) => Some(behind(from)),
                // A record without a time passes no limit of time.
                None => is_timed.then(|| keys::newest_first(None)),
            },
        })
    }

    fn is_over(&self, name: &str) -> bool {
        self.end.as_deref().is_some_and(|end| name >= end)
    }
}

impl Shared {
    pub(crate) async fn scan(
        &self,
        filter: &Filter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> StoreResult<Page> {
        let mut walk = Walk::new(self, filter, cursor)?;
        let mut seen = Seen::new(limit);
        let next = loop {
            // Where few of the first pass, others are looked at by whole lists.
            let most = if seen.entries == 0 { limit } else { MOST_KEYS };
            let page = self
                .bucket
                .list(&walk.index, walk.after.as_deref(), most)
                .await?;
            let is_last = !page.is_cut || page.names.iter().any(|name| walk.is_over(&name.name));
            let mut names = page.names;
            names.retain(|name| !walk.is_over(&name.name));
            let Some(end) = names.last().map(|name| name.name.clone()) else {
                break None;
            };
            let stopped_at = self.look_at(names, &walk.index, filter, &mut seen).await?;
            match stopped_at.filter(|name| !(is_last && *name == end)) {
                Some(name) => break Some(to_cursor(&name)),
                None if is_last => break None,
                None => walk.after = Some(end),
            }
        };
        self.sweep(seen.leftovers, &seen.marked).await;
        Ok(Page {
            records: seen.records,
            next,
        })
    }

    /// Reads what the entries lead to, some at once, until the page is full or enough was looked
    /// at; then says which entry was the last.
    async fn look_at(
        &self,
        mut names: Vec<Name>,
        index: &str,
        filter: &Filter,
        seen: &mut Seen,
    ) -> StoreResult<Option<String>> {
        while !names.is_empty() {
            let missing = seen.limit - seen.records.len();
            let at_once = match seen.entries {
                0 => missing,
                _ => missing.max(self.at_once()),
            };
            let rest = names.split_off(at_once.min(names.len()));
            let found: Vec<(Name, StoreResult<Found>)> = stream::iter(names)
                .map(|name| async {
                    let found = self.record_of(&name, filter).await;
                    (name, found)
                })
                .buffered(self.at_once())
                .collect()
                .await;
            names = rest;
            for (name, found) in found {
                seen.add(index, &name, found?);
                if seen.is_enough() {
                    return Ok(Some(name.name));
                }
            }
        }
        Ok(None)
    }

    async fn record_of(&self, name: &Name, filter: &Filter) -> StoreResult<Found> {
        let Some(entry) = Entry::newest_first(&name.name) else {
            return Ok(Found::Other);
        };
        let now = Timestamp::now();
        Ok(match self.whole(&entry.job).await {
            Ok(Whole::Absent) => Found::Nothing,
            Ok(Whole::Record(head, _)) if head.listed.token != entry.token => Found::Nothing,
            Ok(Whole::Record(_, mut record)) => {
                // What has expired is cleanup's.
                if record.is_expired(now) || !filter.matches(&record) {
                    return Ok(Found::Other);
                }
                filter.trim(&mut record);
                Found::Record(record)
            }
            Ok(Whole::Removing { removal, etag }) if removal.is_given_up(now) => {
                Found::Marked(Candidate {
                    job: entry.job,
                    etag,
                    listed: removal.listed,
                })
            }
            Ok(Whole::Removing { .. }) => Found::Other,
            Err(error) if error.class() == ErrorClass::CorruptData => {
                self.host.warn(format_args!("left out of a list: {error}"));
                Found::Other
            }
            Err(error) => return Err(error),
        })
    }

    /// Removes what a crash left; who may not write need not.
    async fn sweep(&self, leftovers: Vec<String>, marked: &[Candidate]) {
        if leftovers.is_empty() && marked.is_empty() || self.ready.get().is_none() {
            return;
        }
        for failed in self
            .remove(marked)
            .await
            .iter()
            .filter_map(|done| done.as_ref().err())
        {
            self.host.debug(format_args!("a mark stays: {failed}"));
        }
        if let Err(error) = self.bucket.delete(leftovers).await {
            let host = &self.host;
            host.debug(format_args!("entries that lead nowhere stay: {error}"));
        }
    }
}
