//! Connections that only read, each with a thread of its own.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, OptionalExtension};
use tokio::sync::{mpsc, oneshot};
use warren_plugin_api::{HostContext, Record, Status, StoreResult, Text, Timestamp};

use crate::{
    config::Settings,
    connection::{Role, Slot},
    error::{During, is_unreadable, keeps_connection, store_error},
    row::{self, FIELDS, PAYLOADS},
    threads::{Threads, closed, died},
};

/// Calls that may wait for a connection; more wait to be taken.
const QUEUE: usize = 1024;

type Job = Box<dyn FnOnce(&mut Slot) + Send>;

/// The way to the threads.
#[derive(Clone)]
pub(crate) struct Reader {
    jobs: mpsc::Sender<Job>,
}

impl Reader {
    /// Starts the threads. They open the file with their first job.
    pub(crate) fn start(
        settings: &Arc<Settings>,
        host: &HostContext,
        threads: &Threads,
    ) -> StoreResult<Self> {
        let (jobs, receiver) = mpsc::channel::<Job>(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..settings.read_connections {
            let receiver = Arc::clone(&receiver);
            let mut slot = Slot::new(Arc::clone(settings), Role::Reader, host.clone());
            threads.spawn("warren-sqlite-r", move || {
                while let Some(job) = next(&receiver) {
                    job(&mut slot);
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// Runs `work` on one of the threads, in a transaction: all that it reads is of one moment.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Settings) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |slot| {
            if !reply.is_closed() {
                let _ = reply.send(run(slot, work));
            }
        });
        self.jobs.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| died())?
    }
}

/// One thread waits in the channel, the others for their turn to.
fn next(receiver: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    receiver
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .blocking_recv()
}

fn run<T>(
    slot: &mut Slot,
    work: impl FnOnce(&Connection, &Settings) -> rusqlite::Result<T>,
) -> StoreResult<T> {
    let settings = Arc::clone(&slot.settings);
    let connection = slot.connection()?;
    let in_transaction = |connection: &mut Connection| {
        let transaction = connection.transaction()?;
        let answer = work(&transaction, &settings)?;
        transaction.finish()?;
        Ok(answer)
    };
    in_transaction(connection).map_err(|error| {
        if !keeps_connection(&error) && !is_unreadable(&error) {
            slot.discard();
        }
        store_error(&error, &settings.path, During::Reading)
    })
}

/// Reads records by their ids, each with an answer of its own.
pub(crate) fn get_many(
    connection: &Connection,
    settings: &Settings,
    job_ids: &[Text],
) -> rusqlite::Result<Vec<StoreResult<Option<Record>>>> {
    let sql = format!("SELECT {FIELDS}, {PAYLOADS} FROM records WHERE {LIVE}");
    each(connection, settings, &sql, job_ids, |row| {
        row::read(row, true)
    })
}

/// Reads statuses by their ids, each with an answer of its own.
pub(crate) fn status_many(
    connection: &Connection,
    settings: &Settings,
    job_ids: &[Text],
) -> rusqlite::Result<Vec<StoreResult<Option<Status>>>> {
    let sql = format!("SELECT status FROM records WHERE {LIVE}");
    each(connection, settings, &sql, job_ids, |row| {
        row::status(row, 0)
    })
}

const LIVE: &str = "job_id = ?1 AND (expires_at IS NULL OR expires_at > ?2)";

fn each<T>(
    connection: &Connection,
    settings: &Settings,
    sql: &str,
    job_ids: &[Text],
    read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<StoreResult<Option<T>>>> {
    let mut statement = connection.prepare_cached(sql)?;
    let now = Timestamp::now().unix_us();
    job_ids
        .iter()
        .map(|job_id| {
            let found = statement
                .query_row((job_id.as_str(), now), &read)
                .optional();
            match found {
                Err(error) if is_of_one_item(&error) => {
                    Ok(Err(store_error(&error, &settings.path, During::Reading)))
                }
                found => found.map(Ok),
            }
        })
        .collect()
}

/// Whether other records may be readable all the same.
fn is_of_one_item(error: &rusqlite::Error) -> bool {
    is_unreadable(error) || error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
}
