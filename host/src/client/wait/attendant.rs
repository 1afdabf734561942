//! The task that attends to all waiters of a client: it listens for them, and looks at the store
//! now and then for what it may have missed.

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use warren_plugin_api::{CompletionSink, ErrorClass, Status, Text};

use super::{Shared, table::Table};
use crate::{
    broker::{Announced, CompletionReceiver, Interest},
    store::Store,
};

/// Between two looks while nothing is announced: from here, doubled up to the slowest.
const FIRST_POLL: Duration = Duration::from_millis(20);
const SLOWEST_POLL: Duration = Duration::from_secs(1);
/// The wait before the store is subscribed to again.
const RESUBSCRIBE_WAIT: Duration = Duration::from_millis(500);
/// How long it goes on for nobody, and listens for jobs that nobody waits for any more.
const SWEEP: Duration = Duration::from_secs(30);
/// The most jobs of one look at the store.
const BATCH: usize = 512;

/// Sees to it that somebody attends to those who wait.
pub(super) fn attend(shared: &Shared) {
    if shared.table.becomes_attended() {
        let end = shared.end.clone();
        tokio::spawn(Attendant::new(shared).run(end));
    }
}

struct Attendant {
    table: Table,
    store: Store,
    /// `None` where the store announces nothing.
    subscription: Option<StoreSubscription>,
    broker: Option<CompletionReceiver>,
    /// What the broker tells of now.
    heard: Interest,
    safety_read: Duration,
    poll: Duration,
    /// Words about these may have been missed: to be looked at next.
    doubtful: Interest,
    look_at: Instant,
    sweep_at: Instant,
    looking: Option<BoxFuture<'static, ()>>,
    /// Nobody waits any more.
    is_done: bool,
}

impl Drop for Attendant {
    fn drop(&mut self) {
        // Its runtime ends; those of another one may go on waiting.
        if !self.is_done {
            self.table.deserted();
        }
    }
}

struct StoreSubscription {
    is_up: bool,
    changes: UnboundedReceiver<StoreChange>,
}

enum StoreChange {
    Up,
    Lost,
    /// It announces nothing after all.
    Unsupported,
}

impl Attendant {
    fn new(shared: &Shared) -> Self {
        let (table, store) = (shared.table.clone(), shared.store.clone());
        let by_store = store.capabilities().push;
        table.set_by_store(by_store);
        let subscription = by_store.then(|| StoreSubscription {
            is_up: false,
            changes: subscribe(store.clone(), table.clone()),
        });
        let broker = shared.broker.as_ref();
        Self {
            subscription,
            broker: broker.map(|broker| broker.completions(table.interest())),
            table,
            store,
            heard: Interest::NONE,
            safety_read: shared.safety_read,
            poll: FIRST_POLL,
            doubtful: Interest::NONE,
            look_at: Instant::now() + FIRST_POLL,
            sweep_at: Instant::now() + SWEEP,
            looking: None,
            is_done: false,
        }
    }

    async fn run(mut self, end: CancellationToken) {
        loop {
            let (is_looking, is_told) = (self.looking.is_some(), self.is_told());
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                announced = next(&mut self.broker) => self.told(announced),
                change = next_change(&mut self.subscription) => self.subscription_changed(change),
                () = finished(&mut self.looking) => self.looking = None,
                () = self.table.newcomer(), if !is_told => self.look_soon(),
                () = self.table.new_stream(), if is_told => self.table.tell_new_streams_up(),
                () = tokio::time::sleep_until(self.look_at), if !is_looking => self.look(),
                () = tokio::time::sleep_until(self.sweep_at) => {
                    self.sweep_at = Instant::now() + SWEEP;
                    if !self.table.sweep() {
                        self.is_done = true;
                        return;
                    }
                }
            }
        }
    }

    /// Whether the end of every job that is waited for is announced to this client now.
    fn is_told(&self) -> bool {
        match &self.subscription {
            Some(subscription) => subscription.is_up,
            None => self.broker.is_some() && self.heard.covers(*self.table.interest().borrow()),
        }
    }

    fn told(&mut self, announced: Option<Announced>) {
        match announced {
            Some(Announced::Jobs(job_ids)) => self.table.wake(job_ids),
            Some(Announced::Up(interest)) => {
                let gained = interest.without(self.heard);
                self.heard = interest;
                // Nothing gained: it has missed something.
                self.doubt(if gained.is_empty() { interest } else { gained });
                if interest.covers(Interest::ALL_JOBS) {
                    self.table.tell_streams_up();
                }
            }
            Some(Announced::Down) => {
                self.heard = Interest::NONE;
                self.look_soon();
            }
            None => {
                self.broker = None;
                self.look_soon();
            }
        }
    }

    fn subscription_changed(&mut self, change: StoreChange) {
        match (change, &mut self.subscription) {
            (StoreChange::Up, Some(subscription)) => {
                subscription.is_up = true;
                self.doubt(Interest::ALL_JOBS);
                self.table.tell_streams_up();
            }
            (StoreChange::Lost, Some(subscription)) => {
                subscription.is_up = false;
                self.look_soon();
            }
            (StoreChange::Unsupported, _) | (_, None) => {
                self.subscription = None;
                self.table.set_by_store(false);
                self.look_soon();
            }
        }
    }

    /// Announcements flow from here on; what ended before is to be found.
    fn doubt(&mut self, about: Interest) {
        let about = if about.covers(Interest::DELETIONS) {
            Interest::ALL_JOBS
        } else {
            about
        };
        self.doubtful = self.doubtful.and(about);
        self.look_at = Instant::now();
    }

    fn look_soon(&mut self) {
        self.poll = FIRST_POLL;
        self.look_at = self.look_at.min(Instant::now() + FIRST_POLL);
    }

    fn look(&mut self) {
        let among = match std::mem::take(&mut self.doubtful) {
            Interest::NONE => Interest::ALL_JOBS,
            doubtful => doubtful,
        };
        let pause = if self.is_told() {
            self.safety_read
        } else {
            self.poll
        };
        self.poll = (self.poll * 2).min(SLOWEST_POLL);
        self.look_at = Instant::now() + pause;
        let job_ids = self.table.job_ids(among);
        if !job_ids.is_empty() {
            self.looking = Some(look(self.table.clone(), self.store.clone(), job_ids).boxed());
        }
    }
}

/// Wakes those whose job has ended or is not there any more.
async fn look(table: Table, store: Store, job_ids: Vec<Text>) {
    for ids in job_ids.chunks(BATCH) {
        let statuses = match store.status_many(ids.to_vec()).await {
            Ok(statuses) => statuses,
            // The next look comes soon enough.
            Err(error) => {
                tracing::debug!(%error, "cannot see whether jobs have ended");
                return;
            }
        };
        let is_over = |status: &Result<Option<Status>, _>| match status {
            Ok(status) => status.is_none_or(Status::is_terminal),
            // Who waits is to know.
            Err(_) => true,
        };
        let over = ids
            .iter()
            .zip(&statuses)
            .filter(|(_, status)| is_over(status))
            .map(|(job_id, _)| job_id.clone())
            .collect();
        table.wake(over);
    }
}

/// Keeps a subscription to the store up, until the receiver is gone.
fn subscribe(store: Store, table: Table) -> UnboundedReceiver<StoreChange> {
    let (changes, receiver) = unbounded_channel();
    tokio::spawn(keep_subscribed(store, table, changes));
    receiver
}

async fn keep_subscribed(store: Store, table: Table, changes: UnboundedSender<StoreChange>) {
    loop {
        let (up, asked, woken) = (changes.clone(), table.clone(), table.clone());
        let sink = CompletionSink::with_records(
            move || drop(up.send(StoreChange::Up)),
            move |job_id| asked.is_waited_for(job_id),
            move |completion| woken.wake_with(completion),
        );
        let ended = tokio::select! {
            ended = store.subscribe(sink) => ended,
            () = changes.closed() => return,
        };
        let is_unsupported = ended
            .as_ref()
            .is_err_and(|error| error.class() == ErrorClass::Unsupported);
        let change = if is_unsupported {
            StoreChange::Unsupported
        } else {
            StoreChange::Lost
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "announcements of ended jobs have stopped");
        }
        if changes.send(change).is_err() || is_unsupported {
            return;
        }
        tokio::time::sleep(RESUBSCRIBE_WAIT).await;
    }
}

/// Never, when there is none.
async fn next(broker: &mut Option<CompletionReceiver>) -> Option<Announced> {
    match broker {
        Some(broker) => broker.next().await,
        None => std::future::pending().await,
    }
}

async fn next_change(subscription: &mut Option<StoreSubscription>) -> StoreChange {
    match subscription {
        Some(subscription) => subscription
            .changes
            .recv()
            .await
            .unwrap_or(StoreChange::Unsupported),
        None => std::future::pending().await,
    }
}

async fn finished(looking: &mut Option<BoxFuture<'static, ()>>) {
    match looking {
        Some(looking) => looking.await,
        None => std::future::pending().await,
    }
}
