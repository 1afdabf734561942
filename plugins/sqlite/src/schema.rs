//! The tables, and how a file of an earlier version gets them.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};
use warren_plugin_api::{StoreError, StoreResult};

use crate::error::{During, store_error};

/// Marks the file as a result store: `WRNr`.
const APPLICATION_ID: i32 = 0x5752_4e72;

/// What leads from each version to the next. A released step never changes; a change of the
/// tables is one more step.
const STEPS: &[&str] = &[FIRST];

/// Payloads stand last: what only looks at the other columns does not read their pages.
/// `number` is what indexes hold for a row, and does not change when the row does.
/// `endings` are the latest changes to an ended status, several to a row; rows are numbered
/// without a gap, so that a subscriber knows whether it missed one.
const FIRST: &str = "
CREATE TABLE records (
    number       INTEGER PRIMARY KEY,
    job_id       TEXT NOT NULL UNIQUE,
    status       TEXT NOT NULL,
    attempt      INTEGER NOT NULL,
    queue        TEXT NOT NULL,
    function     TEXT NOT NULL,
    worker       TEXT NOT NULL,
    enqueued_at  INTEGER,
    started_at   INTEGER,
    finished_at  INTEGER,
    updated_at   INTEGER,
    heartbeat_at INTEGER,
    expires_at   INTEGER,
    duration_us  INTEGER,
    error        TEXT,
    args         BLOB,
    kwargs       BLOB,
    result       BLOB,
    progress     BLOB,
    extra        BLOB
) STRICT;
CREATE INDEX by_time ON records (enqueued_at);
CREATE INDEX by_status ON records (status, enqueued_at);
CREATE INDEX by_queue ON records (queue, status, enqueued_at);
CREATE INDEX by_function ON records (function, status, enqueued_at);
CREATE INDEX by_expiry ON records (expires_at, status) WHERE expires_at IS NOT NULL;
CREATE TABLE endings (
    number INTEGER PRIMARY KEY,
    jobs   BLOB NOT NULL
) STRICT;
";

/// The schema that this store writes.
pub(crate) const VERSION: usize = STEPS.len();

/// Makes the tables, or brings those of an earlier version up to date. Of many processes at once
/// one does it and the others find it done.
pub(crate) fn prepare(connection: &mut Connection, path: &Path) -> StoreResult<()> {
    let failed = |error: rusqlite::Error| store_error(&error, path, During::Opening);
    if version(connection, path)? == VERSION {
        return Ok(());
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    // Again, now that nobody else can change it.
    let found = version(&transaction, path)?;
    for step in STEPS.iter().skip(found) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .and_then(|()| transaction.pragma_update(None, "user_version", VERSION as i64))
        .and_then(|()| transaction.commit())
        .map_err(failed)
}

/// The version of the file's schema; 0 for an empty file.
///
/// # Errors
/// `invalid_config`: the file is no store, or one of a later version.
pub(crate) fn version(connection: &Connection, path: &Path) -> StoreResult<usize> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let read = || {
        let objects = "SELECT count(*) FROM sqlite_schema";
        let objects: i64 = connection.query_row(objects, [], |row| row.get(0))?;
        Ok((pragma("application_id")?, pragma("user_version")?, objects))
    };
    let (application_id, version, objects) =
        read().map_err(|error: rusqlite::Error| store_error(&error, path, During::Opening))?;
    if (application_id, version, objects) == (0, 0, 0) {
        return Ok(0);
    }
    let refused = |found: String| {
        Err(StoreError::invalid_config(format!(
            "{} {found}",
            path.display()
        )))
    };
    if application_id != APPLICATION_ID {
        return refused("is a database of another program: choose another path".to_owned());
    }
    match usize::try_from(version) {
        Ok(version) if (1..=VERSION).contains(&version) => Ok(version),
        _ => refused(format!(
            "has schema {version}, expected at most {VERSION}: a later version of Warren made it, \
             use that one or choose another path"
        )),
    }
}
