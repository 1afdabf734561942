//! What all handles of one store have in common.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use tokio::{runtime::Handle, task::AbortHandle, time::MissedTickBehavior};
use warren_plugin_api::{HostContext, Record, StoreError, StoreResult, Timestamp};

use crate::{
    announce::Subscribers,
    config::{Limits, MemoryConfig},
    records::{Records, Removed},
};

/// Expired records that are removed in one go, while other callers wait.
const REMOVED_AT_ONCE: usize = 256;

/// One set of records, used by one handle or, under a name, by several.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) subscribers: Subscribers,
    name: Option<String>,
    records: Mutex<Records>,
    handles: Mutex<u64>,
    cleaner: OnceLock<AbortHandle>,
}

/// The named stores of this process that somebody has open.
static NAMED: LazyLock<Mutex<HashMap<String, Weak<Shared>>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The records that `config` names, for one more handle; new ones where there are none yet.
    pub(crate) fn join(config: MemoryConfig, host: HostContext) -> StoreResult<Arc<Self>> {
        let limits = config.limits()?;
        let Some(name) = config.name else {
            return Self::start(limits, None, host);
        };
        let mut named = lock(&NAMED);
        if let Some(shared) = named.get(&name).and_then(Weak::upgrade) {
            if shared.limits != limits {
                return Err(StoreError::invalid_config(format!(
                    "the memory store {name:?} is open already with other options: {:?}, not {limits:?}",
                    shared.limits
                )));
            }
            *lock(&shared.handles) += 1;
            return Ok(shared);
        }
        let shared = Self::start(limits, Some(name.clone()), host)?;
        named.insert(name, Arc::downgrade(&shared));
        Ok(shared)
    }

    fn start(limits: Limits, name: Option<String>, host: HostContext) -> StoreResult<Arc<Self>> {
        let runtime = Handle::try_current()
            .map_err(|_| StoreError::internal("the memory store was opened outside of tokio"))?;
        let shared = Arc::new(Self {
            records: Mutex::new(Records::new(limits.clone())),
            limits,
            subscribers: Subscribers::default(),
            name,
            handles: Mutex::new(1),
            cleaner: OnceLock::new(),
        });
        let cleaner = runtime.spawn(clean_regularly(Arc::downgrade(&shared), host));
        let _ = shared.cleaner.set(cleaner.abort_handle());
        Ok(shared)
    }

    /// Takes one handle away. With the last one the records go.
    pub(crate) fn leave(&self) {
        let mut named = self.name.as_ref().map(|name| (lock(&NAMED), name));
        let mut handles = lock(&self.handles);
        *handles = handles.saturating_sub(1);
        if *handles > 0 {
            return;
        }
        if let Some((named, name)) = &mut named {
            named.remove(*name);
        }
        drop((handles, named));
        if let Some(cleaner) = self.cleaner.get() {
            cleaner.abort();
        }
        let records = std::mem::replace(&mut *self.records(), Records::new(self.limits.clone()));
        drop(records);
    }

    pub(crate) fn records(&self) -> MutexGuard<'_, Records> {
        lock(&self.records)
    }

    /// Removes up to `limit` records that have expired by `now`, letting other callers in between.
    pub(crate) async fn remove_expired(&self, now: Timestamp, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit {
            let at_once = REMOVED_AT_ONCE.min(limit - removed);
            let mut gone: Vec<Arc<Record>> = Vec::new();
            let count = self.records().remove_expired(now, at_once, &mut gone);
            drop(gone);
            removed += count;
            if count < at_once {
                break;
            }
            tokio::task::yield_now().await;
        }
        removed
    }
}

/// Frees the memory of expired records until the store is gone, and tells the log when records
/// had to go for want of room.
async fn clean_regularly(store: Weak<Shared>, host: HostContext) {
    let Some(interval) = store.upgrade().map(|shared| shared.limits.cleanup_interval) else {
        return;
    };
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Removed::default();
    loop {
        ticks.tick().await;
        let Some(shared) = store.upgrade() else {
            return;
        };
        shared.remove_expired(Timestamp::now(), usize::MAX).await;
        let removed = shared.records().removed();
        if removed.evicted > told.evicted {
            host.warn(format_args!(
                "the memory store is full: {} records went before their time since the last \
                 warning; raise max_records or max_bytes, or shorten the results' TTL",
                removed.evicted - told.evicted
            ));
            told = removed;
        }
    }
}
