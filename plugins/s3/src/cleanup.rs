//! Removing what has expired, along the index by expiry.
//!
//! An entry says when to look at a record, not that it has expired: a write that moves the expiry
//! further away leaves the entry where it is, and cleanup moves it on.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use warren_plugin_api::{StoreResult, Timestamp};

use crate::{
    bucket::Name,
    keys::{self, Entry},
    object::{RecordHead, Stored},
    remove::Candidate,
    shared::{Shared, SharedStore, to_the_end},
};

/// How long one call goes on.
const GOES_ON_FOR: Duration = Duration::from_secs(2);
/// What is looked at before anything is removed.
const AT_ONCE: usize = 100;
/// An entry that leads nowhere is older than this, or its record may be about to be written.
const LEFTOVER_AFTER: Duration = Duration::from_secs(3_600);

/// What an entry leads to.
enum Found {
    Expired(Candidate),
    /// Somebody began to remove it and never came to the end.
    Marked(Candidate),
    /// It will expire later, or never.
    Later(RecordHead),
    Nothing,
    /// Left alone: another one's, in use, or no record.
    Skipped,
}

/// Removes up to `limit` records that expired by `now`, the earliest first.
pub(crate) async fn remove_expired(
    store: &SharedStore,
    now: Timestamp,
    limit: usize,
) -> StoreResult<u64> {
    let started = Instant::now();
    let (mut removed, mut after) = (0, None);
    let last = keys::behind(&keys::earliest_first(now.unix_us()));
    let index = store.keys.by_expiry();
    while removed < limit && started.elapsed() < GOES_ON_FOR {
        let most = AT_ONCE.min(limit - removed);
        let page = store.bucket.list(&index, after.as_deref(), most).await?;
        let Some(end) = page.names.last().map(|name| name.name.clone()) else {
            break;
        };
        let is_done = !page.is_cut || end > last;
        let due: Vec<Name> = page
            .names
            .into_iter()
            .filter(|name| name.name < last)
            .collect();
        if !due.is_empty() {
            let store = SharedStore::clone(store);
            let count = to_the_end(async move {
                store.make_ready().await?;
                store.clean(due, now).await
            });
            removed += count.await?;
        }
        if is_done {
            break;
        }
        after = Some(end);
    }
    Ok(u64::try_from(removed).unwrap_or_default())
}

/// Whether nothing can come to be led to by an entry any more.
pub(crate) fn is_leftover(written_at: Timestamp) -> bool {
    Timestamp::now().saturating_duration_since(written_at) > LEFTOVER_AFTER
}

impl Shared {
    async fn clean(&self, due: Vec<Name>, now: Timestamp) -> StoreResult<usize> {
        let found: Vec<(Name, StoreResult<Found>)> = stream::iter(due)
            .map(|name| async {
                let found = self.look(&name, now).await;
                (name, found)
            })
            .buffered(self.at_once())
            .collect()
            .await;
        let (mut expired, mut marked, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for (name, found) in found {
            match found? {
                Found::Expired(candidate) => {
                    // One that was moved on is not known to the record.
                    if !candidate.names_expiry(&name.name) {
                        entries.push(name.name);
                    }
                    expired.push(candidate);
                }
                Found::Marked(candidate) => {
                    marked.push(candidate);
                    entries.push(name.name);
                }
                Found::Later(head) => {
                    if self.move_on(&name, &head).await? {
                        entries.push(name.name);
                    }
                }
                Found::Nothing if is_leftover(name.written_at) => entries.push(name.name),
                Found::Nothing | Found::Skipped => {}
            }
        }
        let mut removed = 0;
        for answer in self.remove(&expired).await {
            removed += usize::from(answer?);
        }
        for answer in self.remove(&marked).await {
            answer?;
        }
        let index = self.keys.by_expiry();
        let entries = entries.into_iter().map(|name| format!("{index}{name}"));
        self.bucket.delete(entries.collect()).await?;
        Ok(removed)
    }

    async fn look(&self, name: &Name, now: Timestamp) -> StoreResult<Found> {
        let Some(entry) = Entry::earliest_first(&name.name) else {
            return Ok(Found::Skipped);
        };
        Ok(match self.stored(&entry.job).await? {
            Stored::Absent => Found::Nothing,
            Stored::Record { head, .. } if head.listed.token != entry.token => Found::Nothing,
            Stored::Record { head, etag } if head.is_expired(now) => Found::Expired(Candidate {
                job: entry.job,
                etag,
                listed: Some(head.listed),
            }),
            Stored::Record { head, .. } => Found::Later(head),
            Stored::Removing { removal, etag } if removal.is_given_up(Timestamp::now()) => {
                Found::Marked(Candidate {
                    job: entry.job,
                    etag,
                    listed: removal.listed,
                })
            }
            Stored::Removing { .. } | Stored::Unreadable { .. } => Found::Skipped,
        })
    }

    /// Writes the entry at which cleanup comes back; says whether the old one can go.
    async fn move_on(&self, name: &Name, head: &RecordHead) -> StoreResult<bool> {
        let Some(entry) = Entry::earliest_first(&name.name) else {
            return Ok(false);
        };
        // A writer relies on entries that are not due yet by its own clock.
        let now = Timestamp::now().unix_us();
        if entry.time.is_none_or(|time| time > now) {
            return Ok(false);
        }
        let Some(time) = head.expires_at else {
            return Ok(true);
        };
        let next = head.listed.expiry_name(&entry.job, time);
        let key = format!("{}{next}", self.keys.by_expiry());
        let days = head.listed.lifecycle_days;
        self.bucket.put(&key, Vec::new(), days).await?;
        Ok(true)
    }
}
