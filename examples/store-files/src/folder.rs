//! The folder of records: everything that touches a file.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use warren_plugin_api::{
    Cursor, ErrorClass, Filter, Page, Record, Stats, StoreError, StoreResult, Timestamp, Write,
    WriteOutcome,
};

const RECORD: &str = ".json";
const LOCK: &str = "lock";

pub(crate) struct Folder {
    path: PathBuf,
}

/// The name of a job's file. An id may be any text of up to 1 KB; a file name may not.
pub(crate) fn file_name(job_id: &str) -> String {
    format!("{:x}{RECORD}", Sha256::digest(job_id))
}

impl Folder {
    pub(crate) fn open(path: PathBuf) -> StoreResult<Self> {
        fs::create_dir_all(&path).map_err(|error| {
            StoreError::invalid_config(format!("path: cannot make {}: {error}", path.display()))
        })?;
        Ok(Self { path })
    }

    pub(crate) fn put(&self, write: &Write) -> StoreResult<WriteOutcome> {
        let file = self.path.join(file_name(&write.record.job_id));
        let _lock = self.lock()?;
        let stored = match read(&file) {
            // What cannot be read any more must not stand in the way of what can.
            Err(error) if error.class() == ErrorClass::CorruptData => None,
            stored => stored?,
        };
        let stored = stored.as_ref().map(Record::version_and_expiry);
        if !write.may_replace(stored, Timestamp::now()) {
            return Ok(WriteOutcome::Stale);
        }
        self.replace(&file, &write.record)?;
        Ok(WriteOutcome::Written)
    }

    /// All or nothing, also when the power fails: a new file, synced, takes the old one's name.
    fn replace(&self, file: &Path, record: &Record) -> StoreResult<()> {
        let json = serde_json::to_vec(record)
            .map_err(|error| StoreError::internal(format!("cannot encode a record: {error}")))?;
        let write = || -> io::Result<()> {
            let mut new = tempfile::NamedTempFile::new_in(&self.path)?;
            new.write_all(&json)?;
            new.as_file().sync_data()?;
            new.persist(file)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| failed("write", file, &error))
    }

    pub(crate) fn get(&self, job_id: &str) -> StoreResult<Option<Record>> {
        let record = read(&self.path.join(file_name(job_id)))?;
        Ok(record.filter(|record| !record.is_expired(Timestamp::now())))
    }

    pub(crate) fn delete(&self, job_id: &str) -> StoreResult<bool> {
        let file = self.path.join(file_name(job_id));
        let _lock = self.lock()?;
        let was_live = match read(&file) {
            Err(error) if error.class() == ErrorClass::CorruptData => true,
            stored => stored?.is_some_and(|record| !record.is_expired(Timestamp::now())),
        };
        remove(&file)?;
        Ok(was_live)
    }

    /// In the order of file names, which no write changes: the cursor is the last name seen.
    pub(crate) fn scan(
        &self,
        filter: &Filter,
        cursor: Option<&Cursor>,
        limit: u32,
    ) -> StoreResult<Page> {
        if cursor.is_some_and(|Cursor(name)| name.len() != 69 || !name.ends_with(RECORD)) {
            return Err(StoreError::invalid_config(
                "the cursor was not made by the file store: start the scan without one",
            ));
        }
        let now = Timestamp::now();
        let mut page = Page::default();
        for name in self.names()? {
            if cursor.is_some_and(|Cursor(last)| name <= *last) {
                continue;
            }
            // A file that has gone since the folder was read, or is damaged, is no record.
            let Ok(Some(mut record)) = read(&self.path.join(&name)) else {
                continue;
            };
            if record.is_expired(now) || !filter.matches(&record) {
                continue;
            }
            filter.trim(&mut record);
            page.records.push(record);
            if page.records.len() >= limit as usize {
                page.next = Some(Cursor(name));
                break;
            }
        }
        Ok(page)
    }

    pub(crate) fn remove_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        let mut removed = 0;
        for name in self.names()? {
            if removed == u64::from(limit) {
                break;
            }
            let file = self.path.join(name);
            let _lock = self.lock()?;
            if let Ok(Some(record)) = read(&file)
                && record.is_expired(now)
            {
                remove(&file)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    pub(crate) fn stats(&self) -> StoreResult<Stats> {
        let (now, mut by_status, mut bytes) = (Timestamp::now(), BTreeMap::new(), 0);
        for name in self.names()? {
            let file = self.path.join(name);
            if let Ok(Some(record)) = read(&file)
                && !record.is_expired(now)
            {
                *by_status.entry(record.status).or_default() += 1;
                bytes += fs::metadata(&file).map_or(0, |metadata| metadata.len());
            }
        }
        Ok(Stats {
            records: Some(by_status.values().sum()),
            by_status,
            bytes: Some(bytes),
            ..Stats::default()
        })
    }

    /// Whether the store could write now, and where.
    pub(crate) fn check(&self) -> StoreResult<String> {
        drop(self.lock()?);
        Ok(format!("files in {}", self.path.display()))
    }

    /// Names of all record files, sorted.
    fn names(&self) -> StoreResult<Vec<String>> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                names.extend(entry?.file_name().into_string().ok());
            }
            Ok(names)
        };
        let mut names = list().map_err(|error| failed("list", &self.path, &error))?;
        names.retain(|name| name.ends_with(RECORD));
        names.sort();
        Ok(names)
    }

    /// Keeps other threads and other processes from writing until it is dropped.
    fn lock(&self) -> StoreResult<File> {
        let path = self.path.join(LOCK);
        let lock = || -> io::Result<File> {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|error| failed("lock", &path, &error))
    }
}

fn read(file: &Path) -> StoreResult<Option<Record>> {
    let json = match fs::read(file) {
        Ok(json) => json,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", file, &error)),
    };
    serde_json::from_slice(&json).map(Some).map_err(|error| {
        StoreError::corrupt_data(format!("{} is not a record: {error}", file.display()))
    })
}

fn remove(file: &Path) -> StoreResult<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", file, &error)),
        _ => Ok(()),
    }
}

/// Which class an error has decides what the host does: see `ErrorClass`.
fn failed(what: &str, path: &Path, error: &io::Error) -> StoreError {
    let class = match error.kind() {
        // Somebody must change something; trying again later is right all the same.
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => ErrorClass::InvalidConfig,
        ErrorKind::FileTooLarge => ErrorClass::TooLarge,
        // A full disk, a folder that is gone, a network file system that is away.
        _ => ErrorClass::Unavailable,
    };
    StoreError::new(class, format!("cannot {what} {}: {error}", path.display()))
}
