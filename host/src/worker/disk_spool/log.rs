//! The segments of one spool: appended to at the end, read from the front, deleted when empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader, Seek, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use warren_plugin_api::{Timestamp, Write};

use super::{
    SpoolError,
    frame::{self, Next},
    slot::Slot,
};
use crate::worker::spool::{Spooled, Window};

const SEGMENT: &str = "segment";
/// A segment is closed when it has this many bytes: the space of what the store has taken is
/// given back by deleting whole segments.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Log {
    slot: Slot,
    max_bytes: u64,
    segments: BTreeMap<u64, Segment>,
    /// The segment that is appended to.
    active: Option<(u64, File)>,
    entries: BTreeMap<u64, Entry>,
    next_key: u64,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: u64,
    live: usize,
}

/// Where a write that waits is.
#[derive(Debug, Clone, Copy)]
struct Entry {
    segment: u64,
    offset: u64,
    length: u64,
    expires_at: Option<Timestamp>,
}

impl Log {
    /// Opens what is in `slot`; what an earlier process left there waits again.
    pub(super) fn open(slot: Slot, max_bytes: u64) -> Result<Self, SpoolError> {
        let mut log = Self {
            slot,
            max_bytes,
            segments: BTreeMap::new(),
            active: None,
            entries: BTreeMap::new(),
            next_key: 0,
        };
        let folder = log.slot.folder.clone();
        let files = segments(&folder).map_err(SpoolError::folder(&folder, "read it"))?;
        let last = files.last().cloned();
        for path in files {
            let is_last = Some(&path) == last.as_ref();
            log.take_in(&path, is_last)
                .map_err(SpoolError::folder(&path, "read it"))?;
        }
        Ok(log)
    }

    fn take_in(&mut self, path: &Path, is_last: bool) -> io::Result<()> {
        let file = File::options().read(true).write(true).open(path)?;
        let bytes = file.metadata()?.len();
        let mut reader = BufReader::new(&file);
        let number = self.segments.keys().last().map_or(0, |last| last + 1);
        let (mut offset, mut live) = (0, 0);
        loop {
            let frame = match frame::read(&mut reader) {
                Ok(Next::Frame(frame)) => frame,
                Ok(Next::End) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.entries.retain(|_, entry| entry.segment != number);
                    return put_aside(path, &error);
                }
                Err(error) => return Err(error),
            };
            let entry = Entry {
                segment: number,
                offset,
                length: frame.length,
                expires_at: frame.write.record.expires_at,
            };
            self.entries.insert(frame.key, entry);
            self.next_key = self.next_key.max(frame.key + 1);
            offset += frame.length;
            live += 1;
        }
        if offset < bytes && !is_last {
            // No process died while it wrote this one: what is behind was promised.
            let copy = path.with_extension("damaged");
            fs::copy(path, &copy)?;
            tracing::error!(
                file = %path.display(),
                unreadable_bytes = bytes - offset,
                copy = %copy.display(),
                "a spool file is damaged: records behind the damage are not replayed"
            );
        }
        if offset < bytes {
            // So that the next process does not wonder about it again.
            file.set_len(offset)?;
            file.sync_all()?;
        }
        let segment = Segment {
            path: path.to_owned(),
            bytes: offset,
            live,
        };
        self.segments.insert(number, segment);
        self.delete_if_empty(number);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.slot.folder
    }

    /// Moves everything that waits in `other` here, whatever the size.
    ///
    /// # Errors
    /// The disk's; what was not moved stays where it is.
    pub(super) fn take_over(&mut self, mut other: Self) -> io::Result<usize> {
        let window = Window {
            records: 1_000,
            bytes: 8 * 1024 * 1024,
            ..Window::default()
        };
        let mut moved = 0;
        loop {
            let spooled = other.oldest(&window)?;
            if spooled.is_empty() {
                return Ok(moved);
            }
            let (keys, writes): (Vec<u64>, Vec<Write>) =
                spooled.into_iter().map(|it| (it.key, it.write)).unzip();
            self.append_within(&writes, u64::MAX)?;
            other.forget(&keys);
            moved += keys.len();
        }
    }

    /// Appends writes and syncs them to the disk; returns how many, from the first on, are safe.
    ///
    /// # Errors
    /// Nothing was kept.
    pub(super) fn append(&mut self, writes: &[Write]) -> io::Result<usize> {
        let room = self.max_bytes.saturating_sub(self.bytes());
        self.append_within(writes, room)
    }

    fn append_within(&mut self, writes: &[Write], room: u64) -> io::Result<usize> {
        let (mut bytes, mut places) = (Vec::new(), Vec::with_capacity(writes.len()));
        for (key, write) in (self.next_key..).zip(writes) {
            let start = bytes.len();
            frame::encode(key, write, &mut bytes)?;
            if bytes.len() as u64 > room {
                bytes.truncate(start);
                break;
            }
            let length = (bytes.len() - start) as u64;
            places.push((key, start as u64, length, write.record.expires_at));
        }
        if places.is_empty() {
            return Ok(0);
        }
        let (number, start) = self.write(&bytes)?;
        for (key, offset, length, expires_at) in &places {
            let entry = Entry {
                segment: number,
                offset: start + offset,
                length: *length,
                expires_at: *expires_at,
            };
            self.entries.insert(*key, entry);
        }
        self.next_key += places.len() as u64;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.live += places.len();
        }
        Ok(places.len())
    }

    /// Writes `bytes` to the end of the active segment; all or nothing.
    fn write(&mut self, bytes: &[u8]) -> io::Result<(u64, u64)> {
        let number = self.segment_to_append()?;
        let (Some((_, file)), Some(segment)) = (&mut self.active, self.segments.get_mut(&number))
        else {
            return Err(io::Error::other("the active segment is gone"));
        };
        let start = segment.bytes;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Half a frame must not stand in the way of later ones. If even that fails, a new
            // segment is begun.
            let undone = file
                .set_len(start)
                .and_then(|()| file.seek(SeekFrom::Start(start)));
            if undone.is_err() {
                self.active = None;
            }
            return Err(error);
        }
        segment.bytes += bytes.len() as u64;
        Ok((number, start))
    }

    fn segment_to_append(&mut self) -> io::Result<u64> {
        if let Some((number, file)) = &self.active
            && !is_deleted(file)?
            && self
                .segments
                .get(number)
                .is_some_and(|segment| segment.bytes < SEGMENT_BYTES)
        {
            return Ok(*number);
        }
        let number = self.segments.keys().last().map_or(0, |last| last + 1);
        let path = self
            .slot
            .folder
            .join(format!("{:020}.{SEGMENT}", self.next_key));
        let mut options = File::options();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        file.set_len(0)?;
        // The file's name must survive too.
        File::open(&self.slot.folder)?.sync_all()?;
        let segment = Segment {
            path,
            bytes: 0,
            live: 0,
        };
        let closed = self.active.replace((number, file));
        self.segments.insert(number, segment);
        if let Some((closed, _)) = closed {
            self.delete_if_empty(closed);
        }
        Ok(number)
    }

    /// The oldest writes within `window` that have not expired. What cannot be read any more is
    /// dropped, and said so.
    ///
    /// # Errors
    /// The disk's, or the process has too many files open: it may be read later.
    pub(super) fn oldest(&mut self, window: &Window) -> io::Result<Vec<Spooled>> {
        self.forget_expired(Timestamp::now());
        let mut bytes = 0;
        let oldest: Vec<(u64, Entry)> = self
            .entries
            .iter()
            .filter(|(key, _)| !window.except.contains(key))
            .take(window.records)
            .take_while(|(_, entry)| {
                let fits = bytes == 0 || bytes < window.bytes as u64;
                bytes += entry.length;
                fits
            })
            .map(|(key, entry)| (*key, *entry))
            .collect();
        let mut spooled = Vec::with_capacity(oldest.len());
        let mut open = None;
        for (key, entry) in oldest {
            match self.read(entry, &mut open) {
                Ok(Some(write)) => spooled.push(Spooled { key, write }),
                Ok(None) => {
                    let folder = self.slot.folder.display().to_string();
                    tracing::error!(folder, key, "a record in the spool is damaged and lost");
                    self.forget(&[key]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(spooled)
    }

    /// `None` when it is not there any more. `open` keeps the file of the last one at hand.
    fn read(
        &self,
        entry: Entry,
        open: &mut Option<(u64, BufReader<File>)>,
    ) -> io::Result<Option<Write>> {
        let is_open = open
            .as_ref()
            .is_some_and(|(number, _)| *number == entry.segment);
        if !is_open {
            let Some(segment) = self.segments.get(&entry.segment) else {
                return Ok(None);
            };
            match File::open(&segment.path) {
                Ok(file) => *open = Some((entry.segment, BufReader::new(file))),
                // Somebody has deleted it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let Some((_, reader)) = open else {
            return Ok(None);
        };
        reader.seek(SeekFrom::Start(entry.offset))?;
        match frame::read(reader) {
            Ok(Next::Frame(frame)) => Ok(Some(frame.write)),
            Ok(Next::End) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn forget_expired(&mut self, now: Timestamp) {
        let expired: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.expires_at.is_some_and(|at| at <= now))
            .map(|(key, _)| *key)
            .collect();
        self.forget(&expired);
    }

    /// Forgets writes. Only whole segments are deleted, so that a process which dies now offers
    /// some of them to the store again: the store refuses what is stale.
    pub(super) fn forget(&mut self, keys: &[u64]) {
        let mut touched = BTreeSet::new();
        for key in keys {
            if let Some(entry) = self.entries.remove(key)
                && let Some(segment) = self.segments.get_mut(&entry.segment)
            {
                segment.live -= 1;
                touched.insert(entry.segment);
            }
        }
        for number in touched {
            self.delete_if_empty(number);
        }
    }

    fn delete_if_empty(&mut self, number: u64) {
        let Some(segment) = self.segments.get(&number) else {
            return;
        };
        if segment.live > 0 {
            return;
        }
        if let Err(error) = fs::remove_file(&segment.path) {
            tracing::warn!(file = %segment.path.display(), %error, "cannot delete a spool file");
        }
        self.segments.remove(&number);
        if self
            .active
            .as_ref()
            .is_some_and(|(active, _)| *active == number)
        {
            self.active = None;
        }
    }
}

/// The segment files of a spool, oldest first.
pub(super) fn segments(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut segments = BTreeSet::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|it| it == SEGMENT) {
            segments.insert(path);
        }
    }
    Ok(segments)
}

/// Whether somebody has deleted a file that is open: what is written to it then is lost.
fn is_deleted(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    {
        Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(false)
    }
}

/// A file that this version of Warren cannot read must not keep it from working.
fn put_aside(path: &Path, error: &io::Error) -> io::Result<()> {
    let aside = path.with_extension("unreadable");
    fs::rename(path, &aside)?;
    tracing::error!(
        file = %aside.display(), %error,
        "a spool file cannot be understood and is put aside: was it written by a later version?"
    );
    Ok(())
}
