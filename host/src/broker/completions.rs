//! Word of jobs that have ended or whose records were deleted, for clients that wait for them.
//!
//! A word is a hint and nothing more: "look at this job". Who hears it reads the result store, so
//! that one that is lost, late, repeated, forged or meant for another store does no harm.
//!
//! Jobs are spread over [`PARTITIONS`] by their ids. Who waits asks for the partitions of its jobs
//! only; one message may bring many jobs, each word being routed by every partition in it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use warren_plugin_api::Text;

/// Fixed for ever: everybody on a broker must agree on it.
const PARTITIONS: u32 = 64;
/// The most jobs of one message.
const MAX_JOBS: usize = 64;
/// The most bytes of ids in one message, but for a single id.
const MAX_ID_BYTES: usize = 64 * 1024;
/// What is longer is none of ours.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The most events that may wait until a client looks at them.
pub(super) const BACKLOG: usize = 256;
/// The most jobs that may wait for a broker that is away: the next ones are left out.
pub(super) const MAX_PENDING: usize = 16_384;

/// What somebody wants to hear of: a set of jobs, coarser than single ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest(u128);

impl Interest {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Every job that ends or is deleted.
    pub const ALL_JOBS: Self = Self((1 << PARTITIONS) - 1);
    /// Deleted records alone, of all jobs.
    pub const DELETIONS: Self = Self(1 << PARTITIONS);

    /// This job, and others of its partition.
    pub fn in_job(job_id: &str) -> Self {
        Self(1 << (crc32fast::hash(job_id.as_bytes()) % PARTITIONS))
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it is nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in this one.
    pub const fn covers(self, other: Self) -> bool {
        other.without(self).is_empty()
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The routing keys that stand for it.
    pub(super) fn routing_keys(self) -> impl Iterator<Item = Cow<'static, str>> {
        (0..=PARTITIONS)
            .filter(move |bit| self.0 & (1 << bit) != 0)
            .map(|bit| match bit {
                PARTITIONS => Cow::Borrowed("deleted"),
                partition => Cow::Owned(partition.to_string()),
            })
    }
}

/// One job that somebody may be waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) job_id: Text,
    /// Who is to hear of it.
    pub(super) concerns: Interest,
}

impl Word {
    pub(super) fn ended(job_id: Text) -> Self {
        let concerns = Interest::in_job(&job_id);
        Self { job_id, concerns }
    }

    pub(super) fn deleted(job_id: Text) -> Self {
        let concerns = Interest::in_job(&job_id).and(Interest::DELETIONS);
        Self { job_id, concerns }
    }
}

/// What a client hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announced {
    /// Word of these jobs comes through from here on. What was said before may have been missed.
    Up(Interest),
    /// From here on words are missed, until [`Up`](Self::Up).
    Down,
    /// These jobs have ended, or their records were deleted; also others that nobody asked for.
    Jobs(Vec<Text>),
}

/// Receives what is said of jobs. Dropping it ends the subscription.
#[derive(Debug)]
pub struct CompletionReceiver {
    pub(super) receiver: mpsc::Receiver<Announced>,
}

impl CompletionReceiver {
    /// The next one; `None` once the broker was closed, or whoever says what is wanted is gone.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Announced> {
        self.receiver.recv().await
    }
}

/// A message to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) concerns: Interest,
    pub(super) body: Vec<u8>,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    jobs: Vec<&'a Text>,
}

#[derive(Debug, Deserialize)]
struct ReadBody {
    jobs: Vec<Text>,
}

/// As few messages as can be. Jobs of a partition stay together, so that a client which waits for
/// few jobs hears little of others.
pub(super) fn messages(mut words: Vec<Word>) -> Vec<Message> {
    words.sort_by_key(|word| word.concerns.0);
    let mut messages = Vec::new();
    let mut words = words.as_slice();
    while !words.is_empty() {
        let mut bytes = 0;
        let fitting = words
            .iter()
            .take(MAX_JOBS)
            .take_while(|word| {
                bytes += word.job_id.len();
                bytes <= MAX_ID_BYTES
            })
            .count();
        let (these, others) = words.split_at(fitting.max(1));
        words = others;
        let body = Body {
            jobs: these.iter().map(|word| &word.job_id).collect(),
        };
        messages.push(Message {
            concerns: these
                .iter()
                .fold(Interest::NONE, |all, word| all.and(word.concerns)),
            // A list of texts, which JSON can hold.
            body: serde_json::to_vec(&body).unwrap_or_default(),
        });
    }
    messages
}

/// The jobs of a message; `None` for what is none, or comes from a later version.
pub(super) fn jobs(body: &[u8]) -> Option<Vec<Text>> {
    if body.len() > MAX_BODY_BYTES {
        return None;
    }
    let read: ReadBody = serde_json::from_slice(body).ok()?;
    Some(read.jobs)
}

/// Waits until something is wanted; `false` when nobody is there any more to want it.
pub(super) async fn is_wanted(interest: &mut watch::Receiver<Interest>) -> bool {
    interest
        .wait_for(|interest| !interest.is_empty())
        .await
        .is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn partitions_are_the_same_in_every_version() {
        let keys = |job_id| {
            Interest::in_job(job_id)
                .routing_keys()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!((keys("order-17"), keys("")), ("20".into(), "0".into()));
        assert_eq!(Interest::ALL_JOBS.routing_keys().count(), 64);
        assert_eq!(
            Interest::DELETIONS.routing_keys().collect::<Vec<_>>(),
            ["deleted"]
        );
        assert!(Interest::ALL_JOBS.covers(Interest::in_job("any")));
    }

    #[test]
    fn a_deletion_concerns_whoever_waits_for_the_job_or_for_deletions() {
        let word = Word::deleted("a".into());
        assert!(word.concerns.meets(Interest::in_job("a")));
        assert!(word.concerns.meets(Interest::DELETIONS));
        assert!(!Word::ended("a".into()).concerns.meets(Interest::DELETIONS));
    }

    #[test]
    fn what_is_no_message_is_none() {
        let huge = format!("{{\"jobs\": [\"{}\"]}}", "x".repeat(MAX_BODY_BYTES));
        let deep = "[".repeat(100_000);
        for body in [
            "",
            "{}",
            "[]",
            "{\"jobs\": 5}",
            "{\"jobs\": [5]}",
            &huge,
            &deep,
        ] {
            assert_eq!(jobs(body.as_bytes()), None);
        }
        assert_eq!(jobs(b"\xff\xfe"), None);
        assert_eq!(jobs(b"{\"jobs\": [], \"later\": 1}"), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn every_job_is_in_one_message_that_reaches_it(
            ids in prop::collection::btree_set(".{0,40}", 0..300),
            long in prop::collection::btree_set("[a-z]{1024}", 0..3),
        ) {
            let ids: BTreeSet<String> = ids.into_iter().chain(long).collect();
            let words = ids.iter().map(|id| Word::ended(id.as_str().into())).collect();
            let messages = messages(words);
            prop_assert!(messages.len() <= ids.len().div_ceil(MAX_JOBS));
            let mut found = BTreeSet::new();
            for message in &messages {
                prop_assert!(message.body.len() <= MAX_BODY_BYTES);
                for job_id in jobs(&message.body).unwrap() {
                    prop_assert!(message.concerns.covers(Interest::in_job(&job_id)));
                    prop_assert!(found.insert(job_id.to_string()));
                }
            }
            prop_assert_eq!(found, ids);
        }
    }
}
