//! One change of a job at a time, where several stores have to follow each other.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use tokio::sync::{Mutex, OwnedMutexGuard};
use warren_plugin_api::Text;

const STRIPES: usize = 1024;

/// Locks by job. Several jobs may share one, which costs nothing but a wait.
pub(super) struct JobLocks {
    stripes: Vec<Arc<Mutex<()>>>,
}

/// Held while jobs are changed.
pub(super) struct HeldLocks {
    _guards: Vec<OwnedMutexGuard<()>>,
}

impl Default for JobLocks {
    fn default() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Arc::default()).collect(),
        }
    }
}

impl JobLocks {
    /// Waits for the locks of all these jobs.
    pub(super) async fn lock<'a>(&self, job_ids: impl Iterator<Item = &'a Text>) -> HeldLocks {
        // In one order everywhere, so that no two callers wait for each other.
        let stripes: BTreeSet<usize> = job_ids.map(|job_id| slot_of(job_id, STRIPES)).collect();
        let mut guards = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            if let Some(lock) = self.stripes.get(stripe) {
                guards.push(Arc::clone(lock).lock_owned().await);
            }
        }
        HeldLocks { _guards: guards }
    }
}

/// The same for every handle in the process.
pub(super) fn slot_of(job_id: &str, slots: usize) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(job_id);
    usize::try_from(hash % slots as u64).unwrap_or_default()
}
