//! Removing records. S3's DELETE has no precondition that every service keeps, so a record is
//! first overwritten, under a precondition, by a mark that nobody writes over for a while.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use warren_plugin_api::{BatchResult, StoreError, StoreResult, Text, Timestamp};

use crate::{
    bucket::{Expected, PutAnswer},
    keys,
    object::{self, FORMAT, Listed, Removal, Stored},
    shared::{Shared, SharedStore, distinct, to_the_end},
};

/// How long writers leave an object alone that is marked, by the clock: longer than whoever
/// marked it takes to delete it, so that clocks may differ by what is between.
pub(crate) const MARK_HOLDS_FOR: Duration = Duration::from_secs(60);
/// After this the mark stays, for a later cleanup: nothing is sent any more.
const DELETES_WITHIN: Duration = Duration::from_secs(30);
/// What is marked before it is deleted, in one request where the service has that.
const AT_ONCE: usize = 250;
const MOST_ROUNDS: usize = 20;

/// A record that is to go, as it was found.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) job: String,
    pub(crate) etag: String,
    pub(crate) listed: Option<Listed>,
}

impl Candidate {
    /// Whether the entry of this name goes with the record.
    pub(crate) fn names_expiry(&self, name: &str) -> bool {
        let listed = self.listed.as_ref();
        listed.is_some_and(|listed| {
            let time = listed.expiry;
            time.is_some_and(|time| listed.expiry_name(&self.job, time) == name)
        })
    }
}

impl Shared {
    /// Removes what is still as it was found, and says which.
    ///
    /// # Errors
    /// For single ones; nothing is known of those.
    pub(crate) async fn remove(&self, candidates: &[Candidate]) -> Vec<StoreResult<bool>> {
        let mut answers = Vec::with_capacity(candidates.len());
        for candidates in candidates.chunks(AT_ONCE) {
            if self.config.single_writer {
                answers.extend(self.remove_alone(candidates).await);
            } else {
                answers.extend(self.remove_marked(candidates).await);
            }
        }
        answers
    }

    async fn remove_marked(&self, candidates: &[Candidate]) -> Vec<StoreResult<bool>> {
        let started = Instant::now();
        let answers: Vec<StoreResult<bool>> = stream::iter(candidates.to_vec())
            .map(|candidate| self.mark(candidate))
            .buffered(self.at_once())
            .collect()
            .await;
        let marked = candidates.iter().zip(&answers);
        let marked = marked.filter(|(_, answer)| **answer == Ok(true));
        let keys: Vec<String> = marked
            .flat_map(|(candidate, _)| self.keys_of(candidate))
            .collect();
        if keys.is_empty() {
            return answers;
        }
        let left = DELETES_WITHIN.saturating_sub(started.elapsed());
        let deleted = tokio::time::timeout(left, self.bucket.delete(keys)).await;
        // They count as removed by now, whatever becomes of the marks.
        if let Some(why) = match deleted {
            Ok(deleted) => deleted.err().map(|error| error.to_string()),
            Err(_elapsed) => Some("it took too long".to_owned()),
        } {
            let host = &self.host;
            host.debug(format_args!("marks of removed records stay: {why}"));
        }
        answers
    }

    /// The record goes first: without it the entries lead nowhere, and are found.
    fn keys_of(&self, candidate: &Candidate) -> Vec<String> {
        let mut keys = vec![self.keys.record(&candidate.job)];
        if let Some(listed) = &candidate.listed {
            keys.extend(listed.keys(&self.keys, &candidate.job));
        }
        keys
    }

    async fn mark(&self, candidate: Candidate) -> StoreResult<bool> {
        let write = keys::random();
        let bytes = object::encode_removal(Removal {
            warren: FORMAT,
            since: Timestamp::now(),
            listed: candidate.listed,
            write: write.clone(),
        })?;
        let key = self.keys.record(&candidate.job);
        let expected = Expected::Object(candidate.etag);
        match self.bucket.put_if(&key, bytes, &expected, None).await? {
            PutAnswer::Done => Ok(true),
            // Or it was done, and the answer lost.
            PutAnswer::Refused => match self.stored(&candidate.job).await? {
                Stored::Removing { removal, .. } => Ok(removal.write == write),
                _ => Ok(false),
            },
        }
    }

    async fn remove_alone(&self, candidates: &[Candidate]) -> Vec<StoreResult<bool>> {
        stream::iter(candidates.to_vec())
            .map(|candidate| async move {
                let _alone = self.one_at_a_time(&candidate.job).await;
                let etag = match self.stored(&candidate.job).await? {
                    Stored::Absent => return Ok(false),
                    Stored::Record { etag, .. }
                    | Stored::Removing { etag, .. }
                    | Stored::Unreadable { etag, .. } => etag,
                };
                if etag != candidate.etag {
                    return Ok(false);
                }
                self.bucket.delete(self.keys_of(&candidate)).await?;
                Ok(true)
            })
            .buffered(self.at_once())
            .collect()
            .await
    }

    /// What there is to remove of a job, and whether it is a live record.
    async fn find(&self, job: String) -> StoreResult<Option<(Candidate, bool)>> {
        let now = Timestamp::now();
        Ok(match self.stored(&job).await? {
            Stored::Absent | Stored::Removing { .. } => None,
            Stored::Record { head, etag } => {
                let is_live = !head.is_expired(now);
                let listed = Some(head.listed);
                Some((Candidate { job, etag, listed }, is_live))
            }
            // It may have been live.
            Stored::Unreadable { etag, .. } => {
                let listed = None;
                Some((Candidate { job, etag, listed }, true))
            }
        })
    }

    /// Removes jobs whatever others write meanwhile; says which had a live record.
    async fn delete_each(&self, jobs: &[String]) -> Vec<StoreResult<bool>> {
        let mut answers: Vec<StoreResult<bool>> = vec![
            Err(StoreError::conflict(
                "others wrote this job's record all the time"
            ));
            jobs.len()
        ];
        let mut open: Vec<usize> = (0..jobs.len()).collect();
        for _ in 0..MOST_ROUNDS {
            let found: Vec<(usize, StoreResult<_>)> = stream::iter(open.clone())
                .map(|place| async move {
                    let job = jobs.get(place).cloned().unwrap_or_default();
                    (place, self.find(job).await)
                })
                .buffered(self.at_once())
                .collect()
                .await;
            let (mut places, mut candidates) = (Vec::new(), Vec::new());
            let mut answer = |place: usize, said: StoreResult<bool>| {
                if let Some(answer) = answers.get_mut(place) {
                    *answer = said;
                }
            };
            for (place, found) in found {
                match found {
                    Ok(Some((candidate, is_live))) => {
                        places.push((place, is_live));
                        candidates.push(candidate);
                    }
                    Ok(None) => answer(place, Ok(false)),
                    Err(error) => answer(place, Err(error)),
                }
            }
            open.clear();
            let removed = self.remove(&candidates).await;
            for ((place, is_live), removed) in places.into_iter().zip(removed) {
                match removed {
                    Ok(true) => answer(place, Ok(is_live)),
                    Ok(false) => open.push(place),
                    Err(error) => answer(place, Err(error)),
                }
            }
            if open.is_empty() {
                break;
            }
        }
        answers
    }
}

pub(crate) async fn delete_many(store: &SharedStore, job_ids: &[Text]) -> BatchResult<bool> {
    let (jobs, places) = distinct(job_ids);
    let mut answers = Vec::with_capacity(jobs.len());
    for jobs in jobs.chunks(AT_ONCE) {
        let (store, jobs) = (SharedStore::clone(store), jobs.to_vec());
        let deleted = to_the_end(async move {
            store.make_ready().await?;
            Ok(store.delete_each(&jobs).await)
        });
        answers.extend(deleted.await?);
    }
    // Of one that is there twice, the first finds it.
    let mut seen = vec![false; answers.len()];
    let mut answer = |place: usize| {
        let was_seen = std::mem::replace(seen.get_mut(place)?, true);
        let answer: &StoreResult<bool> = answers.get(place)?;
        Some(match answer {
            Ok(_) if was_seen => Ok(false),
            answer => answer.clone(),
        })
    };
    Ok(places.into_iter().filter_map(&mut answer).collect())
}
