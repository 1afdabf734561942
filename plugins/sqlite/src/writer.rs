//! The thread that changes the file: what waits while one transaction is on its way to the disk
//! makes up the next.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use warren_plugin_api::{HostContext, StoreError, StoreResult};

use crate::{
    config::Settings,
    connection::{Role, Slot},
    error::{During, is_full, keeps_connection, store_error},
    subscribe::Bell,
    threads::{Threads, closed, died},
    write::{Change, Done, make},
};

/// The most that one transaction changes: other processes wait for it, and what it adds to the
/// log is at most this at once.
const CHANGES_AT_ONCE: usize = 1024;
const BYTES_AT_ONCE: usize = 8 * 1024 * 1024;
/// Calls that may wait for the thread; more wait to be taken.
const QUEUE: usize = 1024;

type Answers = Vec<StoreResult<Done>>;

/// A call's changes.
struct Request {
    changes: Vec<Change>,
    reply: oneshot::Sender<Answers>,
}

/// The way to the thread.
#[derive(Clone)]
pub(crate) struct Writer {
    requests: mpsc::Sender<Request>,
}

impl Writer {
    /// Starts the thread and waits until it has opened the file.
    pub(crate) async fn start(
        settings: Arc<Settings>,
        host: HostContext,
        threads: &Threads,
        bell: Arc<Bell>,
    ) -> StoreResult<Self> {
        let (requests, mut receiver) = mpsc::channel(QUEUE);
        let (opened, opening) = oneshot::channel();
        let mut opened = Some(opened);
        let mut slot = Slot::new(settings, Role::Writer, host);
        threads.spawn("warren-sqlite-w", move || {
            if let Some(opened) = opened.take() {
                let result = slot.connection().map(drop);
                let failed = result.is_err();
                if opened.send(result).is_err() || failed {
                    return;
                }
            }
            serve(&mut slot, &mut receiver, &bell);
        })?;
        opening.await.map_err(|_| died())??;
        Ok(Self { requests })
    }

    /// Has the changes made, in their order; answers when they are on the disk.
    pub(crate) async fn make(&self, changes: Vec<Change>) -> StoreResult<Answers> {
        let (reply, answers) = oneshot::channel();
        let request = Request { changes, reply };
        self.requests.send(request).await.map_err(|_| closed())?;
        answers.await.map_err(|_| died())
    }
}

/// Until the store and all calls have let go of their [`Writer`]s.
fn serve(slot: &mut Slot, receiver: &mut mpsc::Receiver<Request>, bell: &Bell) {
    while let Some(first) = receiver.blocking_recv() {
        let mut changes = first.changes.len();
        let mut group = vec![first];
        while changes < CHANGES_AT_ONCE
            && let Ok(request) = receiver.try_recv()
        {
            changes += request.changes.len();
            group.push(request);
        }
        // Nobody waits for these any more, and they have not begun.
        group.retain(|request| !request.reply.is_closed());
        answer(slot, bell, group);
    }
}

fn answer(slot: &mut Slot, bell: &Bell, group: Vec<Request>) {
    let changes: Vec<&Change> = group.iter().flat_map(|request| &request.changes).collect();
    let mut making = Making {
        slot,
        bell,
        no_room_for: usize::MAX,
        answers: Vec::with_capacity(changes.len()),
    };
    for part in parts(&changes) {
        making.make(part);
    }
    let mut answers = making.answers.into_iter();
    for request in group {
        let answer = answers.by_ref().take(request.changes.len()).collect();
        let _ = request.reply.send(answer);
    }
}

/// Cuts the changes into transactions.
fn parts<'a, 'b>(changes: &'a [&'b Change]) -> impl Iterator<Item = &'a [&'b Change]> {
    let mut bytes = 0;
    let mut count = 0;
    changes.chunk_by(move |_, next| {
        bytes += next.bytes();
        count += 1;
        let goes_on = count < CHANGES_AT_ONCE && bytes < BYTES_AT_ONCE;
        if !goes_on {
            (bytes, count) = (0, 0);
        }
        goes_on
    })
}

struct Making<'a> {
    slot: &'a mut Slot,
    bell: &'a Bell,
    /// The size of the smallest change that the disk had no room for.
    no_room_for: usize,
    answers: Answers,
}

impl Making<'_> {
    /// One transaction, or several when the disk has no room for it: a large record must not keep
    /// small ones out.
    fn make(&mut self, changes: &[&Change]) {
        let settings = Arc::clone(&self.slot.settings);
        let made = self
            .slot
            .connection()
            .map(|connection| make(connection, &settings, changes.iter().copied()));
        let error = match made {
            Ok(Ok(made)) => {
                self.answers.extend(made.answers);
                if made.endings {
                    self.bell.ring();
                }
                return;
            }
            Ok(Err(error)) => error,
            Err(error) => return self.refuse(changes, &error),
        };
        if !keeps_connection(&error) {
            self.slot.discard();
        }
        if is_full(&error) {
            if let [only] = changes {
                self.no_room_for = only.bytes().min(self.no_room_for);
            }
            let some_may_fit = |change: &&Change| change.bytes() < self.no_room_for;
            if changes.len() > 1 && changes.iter().any(some_may_fit) {
                let (first, second) = changes.split_at(changes.len() / 2);
                self.make(first);
                return self.make(second);
            }
        }
        let error = store_error(&error, &settings.path, During::Writing);
        self.refuse(changes, &error);
    }

    fn refuse(&mut self, changes: &[&Change], error: &StoreError) {
        let refused = changes.iter().map(|_| Err(error.clone()));
        self.answers.extend(refused);
    }
}

/// An answer of another kind than the change has: a defect.
pub(crate) fn mixed_up() -> StoreError {
    StoreError::internal("the SQLite store's answer is not one to what was asked")
}
