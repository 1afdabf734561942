//! What handles of one configuration share within a process.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use once_cell::sync::Lazy;
use sha2::{Digest, Sha256};

type Table = HashMap<[u8; 32], Weak<dyn Any + Send + Sync>>;

static TABLE: Lazy<Mutex<Table>> = Lazy::new(Mutex::default);

/// The value that all handles of this configuration have in common, for as long as there is one.
pub(super) fn of_configuration<T, C>(kind: &str, config: &C) -> Arc<T>
where
    T: Default + Send + Sync + 'static,
    C: serde::Serialize,
{
    // A configuration that cannot be written down shares with nobody.
    let Ok(text) = serde_json::to_vec(&(kind, config)) else {
        return Arc::default();
    };
    // A digest, since configurations hold secrets.
    let key: [u8; 32] = Sha256::digest(&text).into();
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    table.retain(|_, shared| shared.strong_count() > 0);
    let there = table.get(&key).and_then(Weak::upgrade);
    if let Some(shared) = there.and_then(|shared| shared.downcast::<T>().ok()) {
        return shared;
    }
    let shared = Arc::<T>::default();
    let kept: Weak<T> = Arc::downgrade(&shared);
    table.insert(key, kept);
    shared
}
