//! One connection to the file, and when to make a new one.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use warren_plugin_api::{HostContext, StoreError, StoreResult};

use crate::{
    config::Settings,
    error::{During, file_error, is_busy, store_error},
    schema,
};

/// Statements that a connection keeps prepared: every form of a scan, and a few more.
const STATEMENTS: usize = 64;
/// A log that grew beyond this is cut when SQLite begins it anew.
const LOG_BYTES: i64 = 64 * 1024 * 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The only one of this store that changes the file.
    Writer,
    /// One of several that cannot.
    Reader,
}

/// A connection that is made when it is needed, and anew when it has become useless.
pub(crate) struct Slot {
    pub(crate) settings: Arc<Settings>,
    role: Role,
    host: HostContext,
    open: Option<(Connection, FileId)>,
}

impl Slot {
    pub(crate) const fn new(settings: Arc<Settings>, role: Role, host: HostContext) -> Self {
        Self {
            settings,
            role,
            host,
            open: None,
        }
    }

    /// The connection, to the file that is at the path now: one that was deleted or replaced
    /// would take writes that nobody ever finds.
    pub(crate) fn connection(&mut self) -> StoreResult<&mut Connection> {
        if self.open.is_some() && !self.is_current() {
            self.open = None;
            if self.role == Role::Writer {
                self.host.warn(format_args!(
                    "{} was deleted or replaced while it was in use: opening what is there now",
                    self.settings.path.display()
                ));
            }
        }
        match &mut self.open {
            Some((connection, _)) => Ok(connection),
            empty => Ok(&mut empty.insert(open(&self.settings, self.role)?).0),
        }
    }

    /// Whether there is a connection, and to the file that is at the path now.
    pub(crate) fn is_current(&self) -> bool {
        let Some((_, file)) = &self.open else {
            return false;
        };
        FileId::of(&self.settings.path).is_ok_and(|found| found == *file)
    }

    /// Gives the connection up: the next call makes a new one.
    pub(crate) fn discard(&mut self) {
        self.open = None;
    }
}

/// Which file it is, whatever its name. Found without opening it: closing a file lets go of all
/// locks that this process has on it, SQLite's too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path)?;
        Ok(Self(metadata.dev(), metadata.ino()))
    }

    /// Elsewhere a file in use cannot be deleted.
    #[cfg(not(unix))]
    fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|_| Self(0, 0))
    }
}

fn open(settings: &Settings, role: Role) -> StoreResult<(Connection, FileId)> {
    let path = &settings.path;
    make_file(path)?;
    let failed = |error: rusqlite::Error| store_error(&error, path, During::Opening);
    // Without SQLITE_OPEN_URI: a path is a path, whatever it looks like.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let file = FileId::of(path).map_err(|error| file_error("look at", path, &error))?;
    wait_when_busy(&mut connection, settings.busy_timeout).map_err(failed)?;
    if connection.is_readonly("main").map_err(failed)? {
        let error = io::ErrorKind::PermissionDenied.into();
        return Err(file_error("write to", path, &error));
    }
    // Refuses what is not ours, before anything of it changes.
    if schema::version(&connection, path)? == 0 {
        // Takes effect in an empty file only, and takes the lock in any: pages that are given
        // back can then be cut off.
        connection
            .pragma_update(None, "auto_vacuum", "INCREMENTAL")
            .map_err(failed)?;
    }
    use_a_log(&connection, settings)?;
    schema::prepare(&mut connection, path)?;
    configure(&connection, settings, role).map_err(failed)?;
    Ok((connection, file))
}

/// Makes the file and its folder where they are missing, for their owner alone. SQLite gives the
/// files beside it the same permissions.
fn make_file(path: &Path) -> StoreResult<()> {
    /// Nobody opens the file between making and closing it here: see [`FileId`].
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        Ok(_) => {
            return Err(StoreError::invalid_config(format!(
                "{} is no file: set path to one, such as results.db in that folder",
                path.display()
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file_error("look at", path, &error)),
    }
    if let Some(folder) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(folder)
            .map_err(|error| file_error("make the folder", folder, &error))?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made
            .map(drop)
            .map_err(|error| file_error("make", path, &error)),
    }
}

/// SQLite's own waits grow to a tenth of a second, in which a busy process gets the lock a hundred
/// times and one that waits never.
fn wait_when_busy(connection: &mut Connection, timeout: Duration) -> rusqlite::Result<()> {
    const LONGEST: Duration = Duration::from_millis(5);
    let mut since = Instant::now();
    connection.busy_handler(Some(move |count: i32| {
        if count == 0 {
            since = Instant::now();
        }
        if since.elapsed() >= timeout {
            return false;
        }
        let wait = Duration::from_micros(250).saturating_mul(count.unsigned_abs() + 1);
        thread::sleep(wait.min(LONGEST));
        true
    }))
}

/// Switches to a write-ahead log: readers and the writer do not wait for each other.
fn use_a_log(connection: &Connection, settings: &Settings) -> StoreResult<()> {
    let switch = || {
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
    };
    let began = Instant::now();
    let mode = loop {
        match switch() {
            // SQLite does not wait here when several processes begin with an empty file.
            Err(error) if is_busy(&error) && began.elapsed() < settings.busy_timeout => {
                thread::sleep(Duration::from_millis(2));
            }
            result => break result,
        }
    };
    let mode = mode.map_err(|error| store_error(&error, &settings.path, During::Opening))?;
    if mode != "wal" {
        return Err(StoreError::invalid_config(format!(
            "SQLite cannot keep a write-ahead log beside {}: put the file on a local disk",
            settings.path.display()
        )));
    }
    Ok(())
}

fn configure(connection: &Connection, settings: &Settings, role: Role) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "synchronous", settings.synchronous.as_str())?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // In KiB. A writer touches pages of every index all over the file.
    let cache = match role {
        Role::Writer => -32 * 1024,
        Role::Reader => -8 * 1024,
    };
    connection.pragma_update(None, "cache_size", cache)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))?;
    connection.pragma_update(None, "query_only", role == Role::Reader)
}
