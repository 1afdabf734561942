//! What the file is and holds.

use std::{collections::BTreeMap, fs, path::Path};

use rusqlite::Connection;
use warren_plugin_api::{Health, Stats, Status, Timestamp};

use crate::{
    config::{Settings, Synchronous},
    schema,
};

/// SQLite begins the log anew at about 4 MB, unless a reader holds it.
const LONG_LOG: u64 = 256 * 1024 * 1024;

/// What answered, and what needs an eye.
pub(crate) fn health(connection: &Connection, settings: &Settings) -> rusqlite::Result<Health> {
    let path = &settings.path;
    let mut warnings = Vec::new();
    let log = log_bytes(path);
    if log > LONG_LOG {
        warnings.push(format!(
            "the log beside {} has {log} bytes: a program keeps a transaction on it open",
            path.display()
        ));
    }
    if settings.synchronous == Synchronous::Normal {
        warnings
            .push("synchronous is normal: a power cut may take the last writes with it".to_owned());
    }
    Ok(Health {
        detail: format!(
            "SQLite {} on {}: {} bytes, schema {}",
            rusqlite::version(),
            path.display(),
            file_bytes(connection)?,
            schema::VERSION,
        ),
        warnings,
    })
}

/// Figures of one moment, from indexes alone.
pub(crate) fn stats(connection: &Connection, settings: &Settings) -> rusqlite::Result<Stats> {
    const ALL: &str = "SELECT status, count(*) FROM records INDEXED BY by_status GROUP BY status";
    const EXPIRED: &str = "SELECT status, count(*) FROM records INDEXED BY by_expiry \
         WHERE expires_at <= ?1 GROUP BY status";
    let now = Timestamp::now().unix_us();
    let all = counts(connection, ALL, &[])?;
    let expired = counts(connection, EXPIRED, &[&now])?;
    let by_status: BTreeMap<Status, u64> = all
        .into_iter()
        .map(|(status, count)| {
            let expired = expired.get(&status).copied().unwrap_or_default();
            (status, count.saturating_sub(expired))
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    let free = pragma(connection, "freelist_count")? * pragma(connection, "page_size")?;
    Ok(Stats {
        records: Some(by_status.values().sum()),
        by_status,
        bytes: Some(file_bytes(connection)?),
        details: [
            ("expired", expired.values().sum()),
            ("free_bytes", free),
            ("log_bytes", log_bytes(&settings.path)),
        ]
        .map(|(name, figure)| (name.to_owned(), figure.into()))
        .into(),
    })
}

/// Rows whose status is none do not count: they are no records.
fn counts(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<BTreeMap<Status, u64>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut counts = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let count: i64 = row.get(1)?;
        if let Ok(status) = row.get_ref(0)?.as_str()?.parse() {
            counts.insert(status, count.unsigned_abs());
        }
    }
    Ok(counts)
}

fn file_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(pragma(connection, "page_count")? * pragma(connection, "page_size")?)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection.pragma_query_value(None, name, |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))
}

fn log_bytes(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).map_or(0, |metadata| metadata.len())
}
