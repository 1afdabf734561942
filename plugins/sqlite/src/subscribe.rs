//! Announcements of ended jobs: this store's writer rings a bell, and SQLite says cheaply whether
//! another process has changed the file.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::mpsc;
use warren_plugin_api::{CompletionSink, HostContext, Status, StoreError, StoreResult, Text};

use crate::{
    config::Settings,
    connection::{Role, Slot},
    error::{During, store_error},
    row,
    threads::{Threads, closed},
};

/// How long another process's endings may wait. Asking takes some microseconds.
const INTERVAL: Duration = Duration::from_millis(25);
/// Rows of endings that are read at once.
const ROWS_AT_ONCE: i64 = 100;
/// Readings that may wait to be passed on.
const QUEUE: usize = 4;

/// Wakes the threads of all subscriptions of one store.
#[derive(Default)]
pub(crate) struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Default)]
struct BellState {
    rings: u64,
    closed: bool,
}

impl Bell {
    /// A job has ended.
    pub(crate) fn ring(&self) {
        self.state().rings += 1;
        self.rung.notify_all();
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.rung.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, BellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns at a ring that was not `heard` yet, or when the interval is over; `false` when the
    /// store is closed.
    fn wait(&self, heard: &mut u64) -> bool {
        let quiet = |state: &mut BellState| state.rings == *heard && !state.closed;
        let (state, _) = self
            .rung
            .wait_timeout_while(self.state(), INTERVAL, quiet)
            .unwrap_or_else(PoisonError::into_inner);
        *heard = state.rings;
        !state.closed
    }
}

/// What the thread of a subscription has to say.
enum News {
    Ready,
    Endings(Jobs),
    Failed(StoreError),
}

/// Tells `sink` until it is dropped, the store is closed or something may have been missed.
pub(crate) async fn listen(
    settings: Arc<Settings>,
    host: HostContext,
    threads: &Threads,
    bell: &Arc<Bell>,
    sink: &CompletionSink,
) -> StoreResult<()> {
    let (sender, mut news) = mpsc::channel(QUEUE);
    let mut watch = Some(Watch {
        slot: Slot::new(settings, Role::Reader, host),
        bell: Arc::clone(bell),
        news: sender,
        last: 0,
    });
    threads.spawn("warren-sqlite-s", move || {
        // Begun once: after a panic something may have been missed.
        if let Some(mut watch) = watch.take()
            && let Err(error) = watch.run()
        {
            let _ = watch.news.blocking_send(News::Failed(error));
        }
    })?;
    while let Some(news) = news.recv().await {
        match news {
            News::Ready => sink.ready(),
            News::Endings(endings) => {
                for (job_id, status) in endings {
                    sink.completed(job_id, status);
                }
            }
            News::Failed(error) => return Err(error),
        }
    }
    Err(closed())
}

struct Watch {
    slot: Slot,
    bell: Arc<Bell>,
    news: mpsc::Sender<News>,
    /// The latest row that was passed on.
    last: i64,
}

impl Watch {
    fn run(&mut self) -> StoreResult<()> {
        self.slot.connection()?;
        let mut heard = self.bell.state().rings;
        let mut seen = self.read(|connection, _| data_version(connection))?;
        self.last = self.read(|connection, _| latest(connection))?;
        let mut open = self.pass_on(News::Ready);
        while open && self.bell.wait(&mut heard) && !self.news.is_closed() {
            let version = self.read(|connection, _| data_version(connection))?;
            if version == seen {
                continue;
            }
            // What comes after this moment changes the version again.
            seen = version;
            open = self.pass_on_endings()?;
        }
        Ok(())
    }

    fn pass_on_endings(&mut self) -> StoreResult<bool> {
        loop {
            let endings = self.read(endings)?;
            let Some((newest, _)) = endings.last() else {
                return Ok(true);
            };
            if *newest != self.last + endings.len() as i64 {
                return Err(missed());
            }
            self.last = *newest;
            let endings = endings.into_iter().flat_map(|(_, jobs)| jobs).collect();
            if !self.pass_on(News::Endings(endings)) {
                return Ok(false);
            }
        }
    }

    /// Whether anybody listens.
    fn pass_on(&self, news: News) -> bool {
        self.news.blocking_send(news).is_ok()
    }

    fn read<T>(
        &mut self,
        read: impl Fn(&Connection, i64) -> rusqlite::Result<T>,
    ) -> StoreResult<T> {
        if !self.slot.is_current() {
            return Err(missed());
        }
        let last = self.last;
        let connection = self.slot.connection()?;
        read(connection, last)
            .map_err(|error| store_error(&error, &self.slot.settings.path, During::Opening))
    }
}

fn missed() -> StoreError {
    StoreError::unavailable("announcements were missed: there were too many, or the file is new")
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}

fn latest(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT coalesce(max(number), 0) FROM endings")?
        .query_row([], |row| row.get(0))
}

/// Jobs that have ended, and how.
type Jobs = Vec<(Text, Status)>;

fn endings(connection: &Connection, last: i64) -> rusqlite::Result<Vec<(i64, Jobs)>> {
    let sql = "SELECT number, jobs FROM endings WHERE number > ?1 ORDER BY number LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((last, ROWS_AT_ONCE), |row| {
        Ok((row.get(0)?, row::packed(row, 1)?))
    })?;
    rows.collect()
}
