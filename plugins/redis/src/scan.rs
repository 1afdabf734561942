//! Listing records, newest first, by way of the index.

use std::time::{Duration, Instant};

use redis::Value;
use warren_plugin_api::{
    Cursor, Filter, HostContext, Page, Record, Status, StoreResult, Timestamp,
};

use crate::{
    cursor,
    decode::decode,
    keys::{Member, sortable},
    read::Reader,
    script::{Scripts, unexpected},
    write::index_of,
};

/// Index entries that one step looks at.
const ENTRIES_AT_ONCE: usize = 500;
/// Records that one command reads.
const RECORDS_AT_ONCE: usize = 100;
/// How long one call looks before it returns what it has found.
const LOOKS_FOR: Duration = Duration::from_secs(1);

/// What a scan takes.
pub(crate) struct Scanner<'a> {
    pub(crate) reader: Reader<'a>,
    pub(crate) scripts: &'a Scripts,
    pub(crate) host: &'a HostContext,
}

/// One call's progress.
struct Progress<'f> {
    filter: &'f Filter,
    limit: usize,
    found: Vec<Record>,
    /// Entries that led nowhere.
    missing: Vec<Vec<u8>>,
}

/// The part of the index that a scan still has to look at, as `ZREVRANGEBYLEX` takes it.
struct Range {
    max: Vec<u8>,
    min: Vec<u8>,
}

impl Range {
    fn new(filter: &Filter, cursor: Option<&Cursor>) -> StoreResult<Self> {
        let max = match (cursor, filter.enqueued_before) {
            (Some(cursor), _) => exclusive(&cursor::member(cursor)?),
            (None, Some(before)) => exclusive(&sortable(Some(before))),
            (None, None) => b"+".to_vec(),
        };
        let min = match filter.enqueued_from {
            Some(from) => [b"[".as_slice(), &sortable(Some(from))].concat(),
            // A record without a time passes no limit; they sort before the digit.
            None if filter.enqueued_before.is_some() => b"[0".to_vec(),
            None => b"-".to_vec(),
        };
        Ok(Self { max, min })
    }
}

fn exclusive(place: &[u8]) -> Vec<u8> {
    [b"(".as_slice(), place].concat()
}

impl Scanner<'_> {
    pub(crate) async fn scan(
        &self,
        filter: &Filter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> StoreResult<Page> {
        let mut range = Range::new(filter, cursor)?;
        let mut progress = Progress {
            filter,
            limit,
            found: Vec::new(),
            missing: Vec::new(),
        };
        let started = Instant::now();
        let next = loop {
            let members = self
                .entries(&range, ENTRIES_AT_ONCE.min(limit.max(100)))
                .await?;
            let Some(last) = members.last() else {
                break None;
            };
            let looked_at = self.look_at(&members, &mut progress).await?;
            let last = looked_at.unwrap_or(last);
            range.max = exclusive(last);
            if progress.found.len() >= limit || started.elapsed() > LOOKS_FOR {
                break Some(cursor::after(last));
            }
        };
        self.tidy(&progress.missing).await;
        Ok(Page {
            records: progress.found,
            next,
        })
    }

    /// The next members of the index, newest first.
    pub(crate) async fn entries_after(
        &self,
        after: Option<&[u8]>,
        count: usize,
    ) -> StoreResult<Vec<Vec<u8>>> {
        let range = Range {
            max: after.map_or_else(|| b"+".to_vec(), exclusive),
            min: b"-".to_vec(),
        };
        self.entries(&range, count).await
    }

    async fn entries(&self, range: &Range, count: usize) -> StoreResult<Vec<Vec<u8>>> {
        let mut command = redis::cmd("ZREVRANGEBYLEX");
        command
            .arg(self.reader.keys.scan_index())
            .arg(&range.max)
            .arg(&range.min)
            .arg("LIMIT")
            .arg(0)
            .arg(count);
        let answer = self.reader.connections.command(&command).await?;
        let Value::Array(members) = answer else {
            return Err(unexpected(&answer));
        };
        members
            .into_iter()
            .map(|member| match member {
                Value::BulkString(member) => Ok(member),
                other => Err(unexpected(&other)),
            })
            .collect()
    }

    /// Reads the records that the members lead to, until there are enough. Returns the last
    /// member that was looked at, where it did not come to all.
    async fn look_at<'m>(
        &self,
        members: &'m [Vec<u8>],
        progress: &mut Progress<'_>,
    ) -> StoreResult<Option<&'m Vec<u8>>> {
        let candidates = self.candidates(members, progress.filter).await?;
        for portion in candidates.chunks(RECORDS_AT_ONCE) {
            let keys = portion
                .iter()
                .map(|(_, member)| self.reader.keys.result(member.job_id));
            let answers = self.reader.mget(keys).await?;
            let now = Timestamp::now();
            for (answer, (place, member)) in answers.into_iter().zip(portion) {
                self.take(answer, place, member, now, progress);
                if progress.found.len() >= progress.limit {
                    return Ok(Some(place));
                }
            }
        }
        Ok(None)
    }

    /// Those members that may pass: by their queue, and by the word under the status key.
    async fn candidates<'m>(
        &self,
        members: &'m [Vec<u8>],
        filter: &Filter,
    ) -> StoreResult<Vec<(&'m Vec<u8>, Member<'m>)>> {
        let mut candidates: Vec<_> = members
            .iter()
            .filter_map(|place| Some((place, Member::parse(place)?)))
            .filter(|(_, member)| {
                filter
                    .queue
                    .as_ref()
                    .is_none_or(|queue| queue.as_bytes() == member.queue)
            })
            .collect();
        if !filter.statuses.is_empty() && !candidates.is_empty() {
            let keys = candidates
                .iter()
                .map(|(_, member)| self.reader.keys.status(member.job_id));
            let words = self.reader.mget(keys).await?;
            let passes = |word: &Value| match word {
                Value::BulkString(word) => filter
                    .statuses
                    .iter()
                    .any(|status| status.as_str().as_bytes() == word),
                // Whether the record is there is found out below.
                _ => true,
            };
            let mut passing = words.iter().map(passes);
            candidates.retain(|_| passing.next().unwrap_or(true));
        }
        Ok(candidates)
    }

    fn take(
        &self,
        answer: Value,
        place: &[u8],
        member: &Member<'_>,
        now: Timestamp,
        progress: &mut Progress<'_>,
    ) {
        let Value::BulkString(json) = answer else {
            progress.missing.push(place.to_vec());
            return;
        };
        let is_ours = crate::decode::decode_head(&json).is_some();
        let mut record = match decode(json) {
            Ok(record) => record,
            Err(error) => {
                self.host
                    .warn(format_args!("job {:?}: {}", member.job_id, error.message()));
                return;
            }
        };
        // A record that was written again with another time or queue has another entry, too. One
        // that Python wrote over ours has none of its own.
        if is_ours && index_of(&record) != member.index {
            progress.missing.push(place.to_vec());
            return;
        }
        if !record.is_expired(now) && progress.filter.matches(&record) {
            progress.filter.trim(&mut record);
            progress.found.push(record);
        }
    }

    /// The statuses of those records that the members lead to, by the word under the status key.
    pub(crate) async fn statuses(&self, members: &[Vec<u8>]) -> StoreResult<Vec<Status>> {
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let job_ids = members
            .iter()
            .map(|member| Member::parse(member).map_or("", |member| member.job_id));
        let keys: Vec<_> = job_ids
            .map(|job_id| self.reader.keys.status(job_id))
            .collect();
        let words = self.reader.mget(keys.into_iter()).await?;
        Ok(words
            .iter()
            .filter_map(|word| match word {
                Value::BulkString(word) => std::str::from_utf8(word).ok()?.parse().ok(),
                _ => None,
            })
            .collect())
    }

    /// Takes entries that lead nowhere out of the indexes. What fails here, a later scan repeats.
    async fn tidy(&self, missing: &[Vec<u8>]) {
        for missing in missing.chunks(ENTRIES_AT_ONCE) {
            let tidied = async {
                let lane = self.reader.connections.lane().await?;
                let tidy = &self.scripts.tidy;
                let no_keys = std::iter::empty::<&str>();
                let mut call = tidy.call(self.reader.keys, no_keys, Timestamp::now());
                for member in missing {
                    call.arg(member);
                }
                tidy.run(&lane, &call).await
            };
            if let Err(error) = tidied.await {
                self.host.debug(format_args!("tidying up: {error}"));
                return;
            }
        }
    }
}
