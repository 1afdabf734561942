//! Who waits for which job.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, broadcast, futures::Notified, watch};
use warren_plugin_api::{Completion, Record, Text};

use crate::broker::Interest;

/// Words that a stream of completions may be behind before it misses some.
const STREAM_BACKLOG: usize = 4_096;

/// What a stream of completions is told.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// These jobs may have ended.
    Jobs(Arc<[Text]>),
    /// Words from before this may have been missed.
    Up,
}

/// Everybody who waits. One job costs one entry, however many wait for it. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct Table {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// What the broker is asked for.
    interest: watch::Sender<Interest>,
    /// Somebody has come who waits for a job.
    newcomer: Notify,
    /// Somebody has come who sees all jobs.
    new_stream: Notify,
    streams: broadcast::Sender<Word>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Text, Entry>,
    streams: usize,
    /// A stream does not know yet since when it is told of everything.
    has_new_stream: bool,
    /// Everything that was asked for since the last sweep.
    recent: Interest,
    /// The store announces what ends: the broker is asked for deletions only.
    by_store: bool,
    is_attended: bool,
}

#[derive(Debug)]
struct Entry {
    changed: Arc<Notify>,
    waiters: usize,
    /// The record that came with the latest word.
    told: Option<Box<Record>>,
}

impl Default for Table {
    fn default() -> Self {
        let inner = Inner {
            state: Mutex::default(),
            interest: watch::Sender::new(Interest::NONE),
            newcomer: Notify::new(),
            new_stream: Notify::new(),
            streams: broadcast::Sender::new(STREAM_BACKLOG),
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

impl Table {
    /// Takes a place among those who wait for `job_id`.
    pub(super) fn join(&self, job_id: Text) -> Place {
        let mut state = self.inner.lock();
        self.inner.ask_for(&mut state, Interest::in_job(&job_id));
        let entry = state
            .entries
            .entry(job_id.clone())
            .or_insert_with(|| Entry {
                changed: Arc::default(),
                waiters: 0,
                told: None,
            });
        entry.waiters += 1;
        let changed = Arc::clone(&entry.changed);
        drop(state);
        self.inner.newcomer.notify_one();
        Place {
            inner: Arc::clone(&self.inner),
            job_id,
            changed,
        }
    }

    /// Takes a place from which all jobs are seen.
    pub(super) fn join_stream(&self) -> StreamPlace {
        let words = self.inner.streams.subscribe();
        let mut state = self.inner.lock();
        self.inner.ask_for(&mut state, Interest::ALL_JOBS);
        state.streams += 1;
        state.has_new_stream = true;
        drop(state);
        self.inner.new_stream.notify_one();
        StreamPlace {
            inner: Arc::clone(&self.inner),
            words,
        }
    }

    /// Wakes those who wait for these jobs.
    pub(super) fn wake(&self, job_ids: Vec<Text>) {
        let mut state = self.inner.lock();
        for job_id in &job_ids {
            state.wake(job_id, None);
        }
        self.inner.tell_streams(state, job_ids);
    }

    /// Wakes those who wait for a job that has ended, with its record where that came along.
    pub(super) fn wake_with(&self, ended: Completion) {
        let mut state = self.inner.lock();
        state.wake(&ended.job_id, ended.record);
        self.inner.tell_streams(state, [ended.job_id]);
    }

    /// Whether somebody waits for this job.
    pub(super) fn is_waited_for(&self, job_id: &str) -> bool {
        self.inner.lock().entries.contains_key(job_id)
    }

    /// Tells streams that words may have been missed before this.
    pub(super) fn tell_streams_up(&self) {
        self.inner.lock().has_new_stream = false;
        // There may be none.
        let _ = self.inner.streams.send(Word::Up);
    }

    /// As [`tell_streams_up`](Self::tell_streams_up), if a stream has not been told so yet.
    pub(super) fn tell_new_streams_up(&self) {
        if self.inner.lock().has_new_stream {
            self.tell_streams_up();
        }
    }

    /// Waits until somebody has come who waits for a job. Cancel safe.
    pub(super) async fn newcomer(&self) {
        self.inner.newcomer.notified().await;
    }

    /// Waits until somebody has come who sees all jobs. Cancel safe.
    pub(super) async fn new_stream(&self) {
        self.inner.new_stream.notified().await;
    }

    /// The jobs of these partitions that are waited for.
    pub(super) fn job_ids(&self, among: Interest) -> Vec<Text> {
        let state = self.inner.lock();
        let concerned = |job_id: &&Text| among.covers(Interest::in_job(job_id));
        state.entries.keys().filter(concerned).cloned().collect()
    }

    /// `true` for the one who is to attend to those who wait, until [`sweep`](Self::sweep) says
    /// that nobody does.
    pub(super) fn becomes_attended(&self) -> bool {
        !std::mem::replace(&mut self.inner.lock().is_attended, true)
    }

    /// Nobody attends any more, though somebody may be waiting.
    pub(super) fn deserted(&self) {
        self.inner.lock().is_attended = false;
    }

    /// The broker is asked for this, from now on.
    pub(super) fn interest(&self) -> watch::Receiver<Interest> {
        self.inner.interest.subscribe()
    }

    /// Whether the store announces what ends, so that the broker need not.
    pub(super) fn set_by_store(&self, by_store: bool) {
        let mut state = self.inner.lock();
        state.by_store = by_store;
        self.inner.refresh(&mut state);
    }

    /// Asks for no more than what was waited for since the last sweep. `false` when that is
    /// nothing: then nobody attends any more.
    pub(super) fn sweep(&self) -> bool {
        let mut state = self.inner.lock();
        self.inner.refresh(&mut state);
        let is_idle = state.entries.is_empty() && state.streams == 0 && state.recent.is_empty();
        state.recent = Interest::NONE;
        state.is_attended = !is_idle;
        !is_idle
    }
}

impl State {
    fn wake(&mut self, job_id: &str, record: Option<Box<Record>>) {
        if let Some(entry) = self.entries.get_mut(job_id) {
            entry.told = record;
            entry.changed.notify_waiters();
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells streams, if there are any, that these jobs may have ended.
    fn tell_streams(&self, state: MutexGuard<'_, State>, job_ids: impl Into<Arc<[Text]>>) {
        let has_streams = state.streams > 0;
        drop(state);
        if has_streams {
            // The last one may have gone meanwhile.
            let _ = self.streams.send(Word::Jobs(job_ids.into()));
        }
    }

    fn ask_for(&self, state: &mut State, interest: Interest) {
        state.recent = state.recent.and(interest);
        let interest = if state.by_store {
            Interest::DELETIONS
        } else {
            interest
        };
        self.interest.send_if_modified(|asked| {
            let is_new = !asked.covers(interest);
            *asked = asked.and(interest);
            is_new
        });
    }

    /// Asks for exactly what is or was lately wanted.
    fn refresh(&self, state: &mut State) {
        let mut wanted = state.recent;
        if state.streams > 0 {
            wanted = Interest::ALL_JOBS;
        }
        for job_id in state.entries.keys() {
            if wanted == Interest::ALL_JOBS {
                break;
            }
            wanted = wanted.and(Interest::in_job(job_id));
        }
        if state.by_store && !wanted.is_empty() {
            wanted = Interest::DELETIONS;
        }
        self.interest.send_if_modified(|asked| {
            let changes = *asked != wanted;
            *asked = wanted;
            changes
        });
    }
}

/// One who waits for a job; leaves when dropped.
#[derive(Debug)]
pub(super) struct Place {
    inner: Arc<Inner>,
    job_id: Text,
    changed: Arc<Notify>,
}

impl Place {
    /// Something became of the job. What happens before this is polled, or enabled, is not seen.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The record that came with the latest word about the job.
    pub(super) fn told(&self) -> Option<Record> {
        let state = self.inner.lock();
        state.entries.get(&self.job_id)?.told.as_deref().cloned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        let is_last = state.entries.get_mut(&self.job_id).is_some_and(|entry| {
            entry.waiters -= 1;
            entry.waiters == 0
        });
        if is_last {
            state.entries.remove(&self.job_id);
            // Ten thousand waiters that have gone leave nothing behind.
            if state.entries.is_empty() {
                state.entries.shrink_to_fit();
            }
        }
    }
}

/// One who sees every job that ends; leaves when dropped.
#[derive(Debug)]
pub(super) struct StreamPlace {
    inner: Arc<Inner>,
    pub(super) words: broadcast::Receiver<Word>,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.inner.lock().streams -= 1;
    }
}
