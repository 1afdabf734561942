//! Who is told that a job has ended.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use warren_plugin_api::{CompletionSink, Status, Text};

/// The sinks of all running subscriptions.
#[derive(Default)]
pub(crate) struct Subscribers {
    sinks: Mutex<Arc<Vec<Subscriber>>>,
    /// Whether there are some: what each write would else take the lock for.
    any: AtomicBool,
}

#[derive(Clone)]
struct Subscriber {
    number: u64,
    sink: CompletionSink,
}

/// Ends its subscription when dropped.
pub(crate) struct Subscription<'a> {
    subscribers: &'a Subscribers,
    number: u64,
}

impl Subscribers {
    pub(crate) fn add(&self, sink: CompletionSink) -> Subscription<'_> {
        let mut number = 0;
        self.change(|subscribers| {
            number = subscribers.last().map_or(0, |last| last.number + 1);
            subscribers.push(Subscriber { number, sink });
        });
        Subscription {
            subscribers: self,
            number,
        }
    }

    /// Tells everybody. Runs the sinks without a lock: they are the host's code.
    pub(crate) fn announce(&self, job_id: &Text, status: Status) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        for subscriber in self.snapshot().iter() {
            subscriber.sink.completed(job_id.clone(), status);
        }
    }

    fn snapshot(&self) -> Arc<Vec<Subscriber>> {
        Arc::clone(&self.sinks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Subscriber>)) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut sinks));
        self.any.store(!sinks.is_empty(), Ordering::Release);
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        self.subscribers.change(|subscribers| {
            subscribers.retain(|subscriber| subscriber.number != self.number);
        });
    }
}
