//! Where outcomes wait while the result store does not take them.
//!
//! A job's message is answered once its record is in the store, or in the spool. The one here
//! keeps records in this process's memory: a store that comes back gets them, a process that dies
//! meanwhile takes them with it. [`DiskSpool`](super::DiskSpool) keeps them on disk.

use std::{
    collections::{BTreeMap, HashSet},
    fmt, io,
    sync::{Arc, Mutex},
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use warren_plugin_api::{Timestamp, Write};

/// Keeps writes until the store takes them.
pub trait Spool: Send + Sync + fmt::Debug + 'static {
    /// Takes `writes` over, as safely as this spool can. Returns how many of them, from the first
    /// on, it has taken; the rest is lost.
    fn keep(&self, writes: Vec<Write>) -> BoxFuture<'_, usize>;

    /// The oldest writes within `window`. They stay until they are forgotten.
    ///
    /// # Errors
    /// They cannot be read now.
    fn oldest(&self, window: Window) -> BoxFuture<'_, io::Result<Vec<Spooled>>>;

    /// Forgets writes that the store has taken.
    fn forget(&self, keys: Vec<u64>) -> BoxFuture<'_, ()>;

    /// How many writes wait.
    fn len(&self) -> usize;

    /// How many bytes they occupy.
    fn size_bytes(&self) -> u64;

    /// Whether what it has taken survives this process.
    fn is_durable(&self) -> bool {
        false
    }

    /// Whether none waits.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How much of a spool is looked at.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// At most so many writes.
    pub records: usize,
    /// No more writes once they have so many bytes; the first one comes whatever its size.
    pub bytes: usize,
    /// Not these keys.
    pub except: HashSet<u64>,
}

/// What a worker does when the store is down and the spool takes no more: it is full, or so is
/// its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Keep results and their messages until there is room again. With as many messages
    /// unanswered as its prefetch allows, the worker gets no more jobs: nothing is lost.
    #[default]
    Stop,
    /// Go on without results: jobs run and are acknowledged, their results are lost and counted.
    Drop,
}

/// A worker's spool, and what to do when it is full.
#[derive(Debug, Clone)]
pub(super) struct Spooling {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) when_full: WhenFull,
}

impl Default for Spooling {
    fn default() -> Self {
        Self {
            spool: Arc::new(MemorySpool::default()),
            when_full: WhenFull::default(),
        }
    }
}

/// A write that waits.
#[derive(Debug, Clone)]
pub struct Spooled {
    /// What the spool knows it by; rises with age.
    pub key: u64,
    /// The write.
    pub write: Write,
}

/// A spool in memory, limited in records and bytes.
#[derive(Debug)]
pub struct MemorySpool {
    max_records: usize,
    max_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    next_key: u64,
    bytes: usize,
    writes: BTreeMap<u64, Write>,
}

impl MemorySpool {
    /// A spool that keeps at most `max_records` records of together `max_bytes` bytes.
    pub fn new(max_records: usize, max_bytes: usize) -> Self {
        Self {
            max_records,
            max_bytes,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // No code that holds the lock can leave the queue half changed.
        self.kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for MemorySpool {
    /// 100,000 records, 256 MiB.
    fn default() -> Self {
        Self::new(100_000, 256 * 1024 * 1024)
    }
}

impl Spool for MemorySpool {
    fn keep(&self, writes: Vec<Write>) -> BoxFuture<'_, usize> {
        let mut kept = self.kept();
        let mut taken = 0;
        for write in writes {
            let bytes = footprint(&write);
            if kept.writes.len() >= self.max_records || kept.bytes + bytes > self.max_bytes {
                kept.drop_expired(Timestamp::now());
                if kept.writes.len() >= self.max_records || kept.bytes + bytes > self.max_bytes {
                    break;
                }
            }
            let key = kept.next_key;
            kept.next_key += 1;
            kept.bytes += bytes;
            kept.writes.insert(key, write);
            taken += 1;
        }
        Box::pin(std::future::ready(taken))
    }

    fn oldest(&self, window: Window) -> BoxFuture<'_, io::Result<Vec<Spooled>>> {
        let mut kept = self.kept();
        kept.drop_expired(Timestamp::now());
        let mut bytes = 0;
        let oldest = kept
            .writes
            .iter()
            .filter(|(key, _)| !window.except.contains(key))
            .take(window.records)
            .take_while(|(_, write)| {
                let fits = bytes == 0 || bytes < window.bytes;
                bytes += write.record.size_bytes().max(1);
                fits
            })
            .map(|(key, write)| Spooled {
                key: *key,
                write: write.clone(),
            })
            .collect();
        Box::pin(std::future::ready(Ok(oldest)))
    }

    fn forget(&self, keys: Vec<u64>) -> BoxFuture<'_, ()> {
        let mut kept = self.kept();
        for key in keys {
            if let Some(write) = kept.writes.remove(&key) {
                kept.bytes -= footprint(&write);
            }
        }
        Box::pin(std::future::ready(()))
    }

    fn len(&self) -> usize {
        self.kept().writes.len()
    }

    fn size_bytes(&self) -> u64 {
        self.kept().bytes as u64
    }
}

impl Kept {
    fn drop_expired(&mut self, now: Timestamp) {
        let Self { writes, bytes, .. } = self;
        writes.retain(|_, write| {
            let stays = !write.record.is_expired(now);
            if !stays {
                *bytes -= footprint(write);
            }
            stays
        });
    }
}

/// Bytes that a kept write occupies: its arguments hold on to the whole message.
fn footprint(write: &Write) -> usize {
    let record = &write.record;
    record.size_bytes() + record.args.retained_bytes() + size_of::<Spooled>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_plugin_api::{Record, Text};

    fn write(id: &str, expires_at: Option<Timestamp>) -> Write {
        Write::from(Record {
            job_id: Text::from(id),
            expires_at,
            ..Record::default()
        })
    }

    fn window(records: usize) -> Window {
        Window {
            records,
            bytes: usize::MAX,
            ..Window::default()
        }
    }

    #[tokio::test]
    async fn a_window_has_its_size_and_leaves_out_what_it_is_told_to() {
        let spool = MemorySpool::default();
        spool
            .keep(vec![
                write("aa", None),
                write("bb", None),
                write("cc", None),
            ])
            .await;
        let small = Window {
            bytes: 3,
            ..window(10)
        };
        assert_eq!(spool.oldest(small).await.unwrap().len(), 2);
        let first = spool.oldest(window(1)).await.unwrap()[0].key;
        let others = Window {
            except: [first].into(),
            ..window(1)
        };
        let found = spool.oldest(others).await.unwrap();
        assert_eq!(found[0].write.record.job_id, "bb");
    }

    async fn ids(spool: &MemorySpool) -> Vec<String> {
        let oldest = spool.oldest(window(10)).await.unwrap();
        oldest
            .into_iter()
            .map(|spooled| spooled.write.record.job_id.into())
            .collect()
    }

    #[tokio::test]
    async fn gives_back_the_oldest_first_until_they_are_forgotten() {
        let spool = MemorySpool::default();
        assert_eq!(
            spool
                .keep(vec![write("a", None), write("b", None), write("c", None)])
                .await,
            3
        );
        assert_eq!(ids(&spool).await, ["a", "b", "c"]);
        let first = spool.oldest(window(1)).await.unwrap();
        spool.forget(vec![first[0].key]).await;
        assert_eq!(ids(&spool).await, ["b", "c"]);
    }

    #[tokio::test]
    async fn takes_no_more_than_its_limits() {
        let spool = MemorySpool::new(2, usize::MAX);
        assert_eq!(
            spool
                .keep(vec![write("a", None), write("b", None), write("c", None)])
                .await,
            2
        );
        assert_eq!(spool.len(), 2);
        assert_eq!(
            MemorySpool::new(9, 10).keep(vec![write("a", None)]).await,
            0
        );
    }

    #[tokio::test]
    async fn an_expired_record_makes_room() {
        let spool = MemorySpool::new(1, usize::MAX);
        let past = Timestamp::from_unix_us(1);
        assert_eq!(spool.keep(vec![write("old", Some(past))]).await, 1);
        assert_eq!(spool.keep(vec![write("new", None)]).await, 1);
        assert_eq!(ids(&spool).await, ["new"]);
    }
}
