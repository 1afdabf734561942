//! The queues that this client has made sure of already.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::broker::QueueName;

/// Shared by the clones of a client.
#[derive(Debug, Clone, Default)]
pub(super) struct DeclaredQueues {
    names: Arc<Mutex<HashSet<QueueName>>>,
}

impl DeclaredQueues {
    pub(super) fn contains(&self, queue: &QueueName) -> bool {
        self.lock().contains(queue)
    }

    pub(super) fn insert(&self, queue: QueueName) {
        self.lock().insert(queue);
    }

    /// A message to it failed: it may have been deleted.
    pub(super) fn remove(&self, queue: &QueueName) {
        self.lock().remove(queue);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<QueueName>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
