//! Telling waiting clients, over the broker, what the store does not tell them itself.

use warren_plugin_api::Text;

use crate::{broker::Broker, store::Store};

/// Whoever writes the end of a job, or deletes its record, says so here afterwards.
#[derive(Debug, Clone)]
pub(crate) struct Announcer {
    store: Store,
    broker: Option<Broker>,
}

impl Announcer {
    /// Without a broker nothing is said: waiting clients find out by themselves, later.
    pub(crate) const fn new(store: Store, broker: Option<Broker>) -> Self {
        Self { store, broker }
    }

    /// Whether the end of a job has to be said: not where the store does so.
    pub(crate) fn announces_ends(&self) -> bool {
        self.broker.is_some() && !self.store.capabilities().push
    }

    /// These jobs have ended, and the store says so when it is asked. Never waits.
    pub(crate) fn ended(&self, job_ids: Vec<Text>) {
        if let Some(broker) = &self.broker
            && !job_ids.is_empty()
            && self.announces_ends()
        {
            broker.announce_ended(job_ids);
        }
    }

    /// The records of these jobs are gone: no store announces that. Never waits.
    pub(crate) fn deleted(&self, job_ids: Vec<Text>) {
        if let Some(broker) = &self.broker
            && !job_ids.is_empty()
        {
            broker.announce_deleted(job_ids);
        }
    }
}
