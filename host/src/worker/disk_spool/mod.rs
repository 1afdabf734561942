//! A spool on disk: what it has taken survives the process and a loss of power.
//!
//! A folder holds a sub-folder for each worker, numbered and locked, so that two workers can share
//! the folder and a worker that starts takes over what a dead one left. In it are segments,
//! appended to and synced once for each batch, and deleted when the store has taken all they hold.

mod error;
mod frame;
mod log;
mod slot;
mod survey;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures_util::future::BoxFuture;
use warren_plugin_api::Write;

use super::{Spool, Spooled, Window};
pub use error::SpoolError;
use log::Log;
use slot::Slot;
pub use survey::Survey;

/// A spool on disk. Cheap to clone; clones are one spool.
#[derive(Debug, Clone)]
pub struct DiskSpool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Mutex<Log>,
    // What the log says, for those who must not wait while it syncs.
    waiting: AtomicUsize,
    bytes: AtomicU64,
}

impl DiskSpool {
    /// Opens a spool of this process's own in `folder`, which keeps at most `max_bytes` bytes.
    /// What workers that are gone left there is taken over. Blocks while it reads.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(folder: &Path, max_bytes: u64) -> Result<Self, SpoolError> {
        let mut log = Log::open(Slot::claim(folder)?, max_bytes)?;
        for abandoned in Slot::claim_abandoned(folder)? {
            let path = abandoned.folder.clone();
            let moved = log
                .take_over(Log::open(abandoned, 0)?)
                .map_err(SpoolError::folder(&path, "take it over"))?;
            if moved > 0 {
                tracing::info!(from = %path.display(), moved, "took over what a dead worker left");
            }
        }
        Ok(Self::from_log(log))
    }

    /// What is in `folder`, spools of living workers included. Changes nothing.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn survey(folder: &Path) -> Result<Vec<Survey>, SpoolError> {
        Slot::folders(folder).map(Survey::of).collect()
    }

    /// Opens every spool in `folder` that no living worker has.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open_abandoned(folder: &Path) -> Result<Vec<Self>, SpoolError> {
        Slot::claim_abandoned(folder)?
            .into_iter()
            .map(|slot| Ok(Self::from_log(Log::open(slot, 0)?)))
            .collect()
    }

    fn from_log(log: Log) -> Self {
        Self {
            shared: Arc::new(Shared {
                waiting: AtomicUsize::new(log.len()),
                bytes: AtomicU64::new(log.bytes()),
                log: Mutex::new(log),
            }),
        }
    }

    /// This process's sub-folder.
    pub fn folder(&self) -> PathBuf {
        self.shared.log().folder().to_owned()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Runs `work` where it may block.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Log) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, io::Result<T>> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            let mut log = shared.log();
            let done = work(&mut log);
            shared.waiting.store(log.len(), Ordering::Release);
            shared.bytes.store(log.bytes(), Ordering::Relaxed);
            done
        });
        Box::pin(async move { done.await.map_err(io::Error::other)? })
    }

    fn failed(&self, what: &str, error: &io::Error) {
        tracing::error!(folder = %self.folder().display(), %error, "the spool cannot {what}");
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool for DiskSpool {
    fn keep(&self, writes: Vec<Write>) -> BoxFuture<'_, usize> {
        let kept = self.run(move |log| log.append(&writes));
        Box::pin(async move {
            kept.await.unwrap_or_else(|error| {
                self.failed("keep records", &error);
                0
            })
        })
    }

    fn oldest(&self, window: Window) -> BoxFuture<'_, io::Result<Vec<Spooled>>> {
        self.run(move |log| log.oldest(&window))
    }

    fn forget(&self, keys: Vec<u64>) -> BoxFuture<'_, ()> {
        let forgotten = self.run(move |log| {
            log.forget(&keys);
            Ok(())
        });
        Box::pin(async move {
            if let Err(error) = forgotten.await {
                self.failed("forget records", &error);
            }
        })
    }

    fn len(&self) -> usize {
        self.shared.waiting.load(Ordering::Acquire)
    }

    fn size_bytes(&self) -> u64 {
        self.bytes()
    }

    fn is_durable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use warren_plugin_api::{Payload, Record, Text, Timestamp};

    use super::*;

    const PLENTY: u64 = 1 << 30;

    fn all() -> Window {
        Window {
            records: 100,
            bytes: usize::MAX,
            ..Window::default()
        }
    }

    fn write(id: &str) -> Write {
        Write::from(Record {
            job_id: Text::from(id),
            result: Payload::from(vec![b'x'; 100]),
            ..Record::default()
        })
    }

    fn writes(ids: &[&str]) -> Vec<Write> {
        ids.iter().map(|id| write(id)).collect()
    }

    async fn ids(spool: &DiskSpool) -> Vec<String> {
        let oldest = spool.oldest(all()).await.unwrap();
        oldest
            .into_iter()
            .map(|spooled| spooled.write.record.job_id.into())
            .collect()
    }

    fn segments(spool: &DiskSpool) -> Vec<PathBuf> {
        let files = fs::read_dir(spool.folder()).unwrap();
        let mut files: Vec<_> = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|it| it == "segment"))
            .collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn what_it_took_is_there_in_order_after_the_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        assert_eq!(spool.keep(writes(&["a", "b"])).await, 2);
        assert_eq!(spool.keep(writes(&["c"])).await, 1);
        drop(spool);
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        assert_eq!(spool.len(), 3);
        assert_eq!(ids(&spool).await, ["a", "b", "c"]);
        assert_eq!(spool.keep(writes(&["d"])).await, 1);
        assert_eq!(ids(&spool).await, ["a", "b", "c", "d"]);
    }

    #[tokio::test]
    async fn what_is_forgotten_leaves_nothing_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        spool.keep(writes(&["a", "b"])).await;
        let keys: Vec<u64> = spool
            .oldest(all())
            .await
            .unwrap()
            .iter()
            .map(|it| it.key)
            .collect();
        spool.forget(vec![keys[0]]).await;
        assert_eq!(ids(&spool).await, ["b"]);
        spool.forget(vec![keys[1]]).await;
        assert!(spool.is_empty());
        assert_eq!((spool.bytes(), segments(&spool).len()), (0, 0));
        spool.keep(writes(&["c"])).await;
        assert_eq!(ids(&spool).await, ["c"]);
    }

    #[tokio::test]
    async fn a_torn_last_record_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        spool.keep(writes(&["a"])).await;
        let whole = spool.bytes();
        spool.keep(writes(&["torn"])).await;
        let file = segments(&spool).remove(0);
        drop(spool);
        let file = File::options().write(true).open(file).unwrap();
        file.set_len(whole + 30).unwrap();
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        assert_eq!(ids(&spool).await, ["a"]);
        // What comes later goes elsewhere, and is found again.
        spool.keep(writes(&["b"])).await;
        drop(spool);
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        assert_eq!(ids(&spool).await, ["a", "b"]);
        drop(spool);
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        assert_eq!(ids(&spool).await, ["a", "b"]);
        let is_alarm = |name: &std::ffi::OsStr| name.to_string_lossy().contains("damaged");
        let mut files = fs::read_dir(spool.folder()).unwrap();
        assert!(!files.any(|file| is_alarm(&file.unwrap().file_name())));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_understood_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        spool.keep(writes(&["a"])).await;
        let own = spool.folder();
        drop(spool);
        // The checksum is right, the content is not a write.
        let mut frame = vec![1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0xc1];
        let checksum = crc32fast::hash(&frame[8..]);
        frame[4..8].copy_from_slice(&checksum.to_le_bytes());
        fs::write(own.join("00000000000000000009.segment"), frame).unwrap();
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        assert_eq!(ids(&spool).await, ["a"]);
        assert!(own.join("00000000000000000009.unreadable").exists());
    }

    #[tokio::test]
    async fn a_file_that_was_deleted_costs_only_what_was_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        spool.keep(writes(&["lost"])).await;
        fs::remove_file(&segments(&spool)[0]).unwrap();
        assert_eq!(spool.keep(writes(&["kept"])).await, 1);
        assert_eq!(ids(&spool).await, ["kept"]);
        assert_eq!(spool.len(), 1);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let spool = DiskSpool::open(&folder.path().join("a/b"), PLENTY).unwrap();
        spool.keep(writes(&["a"])).await;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path().join("a")), 0o700);
        assert_eq!(mode(&segments(&spool)[0]), 0o600);
    }

    #[tokio::test]
    async fn two_workers_share_a_folder_and_a_dead_one_s_records_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let first = DiskSpool::open(folder.path(), PLENTY).unwrap();
        let second = DiskSpool::open(folder.path(), PLENTY).unwrap();
        first.keep(writes(&["first"])).await;
        second.keep(writes(&["second"])).await;
        assert_ne!(first.folder(), second.folder());
        drop(first);
        let third = DiskSpool::open(folder.path(), PLENTY).unwrap();
        assert_eq!(ids(&third).await, ["first"]);
        assert!(DiskSpool::open_abandoned(folder.path()).unwrap().is_empty());
        drop((second, third));
        // Whoever comes next has both.
        let fourth = DiskSpool::open(folder.path(), PLENTY).unwrap();
        assert_eq!(ids(&fourth).await, ["first", "second"]);
        drop(fourth);
        let abandoned = DiskSpool::open_abandoned(folder.path()).unwrap();
        assert_eq!(abandoned.iter().map(Spool::len).sum::<usize>(), 2);
    }

    #[tokio::test]
    async fn a_survey_sees_a_living_worker_s_records_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        spool.keep(writes(&["a", "b"])).await;
        let survey = DiskSpool::survey(folder.path()).unwrap();
        assert_eq!(survey.len(), 1);
        assert!(survey[0].in_use);
        assert_eq!(survey[0].records, 2);
        let mut seen = Vec::new();
        let bytes = survey[0].for_each(|write| {
            seen.push(write.record.job_id.to_string());
            std::ops::ControlFlow::Continue(())
        });
        assert_eq!(bytes.unwrap(), survey[0].bytes);
        assert_eq!(seen, ["a", "b"]);
        assert_eq!(ids(&spool).await, ["a", "b"]);
        drop(spool);
        assert!(!DiskSpool::survey(folder.path()).unwrap()[0].in_use);
    }

    #[tokio::test]
    async fn it_takes_no_more_than_its_size_and_has_room_again_later() {
        let folder = tempfile::tempdir().unwrap();
        let spool = DiskSpool::open(folder.path(), 700).unwrap();
        let taken = spool.keep(writes(&["a", "b", "c", "d", "e", "f"])).await;
        assert!((1..6).contains(&taken), "{taken}");
        assert_eq!(spool.keep(writes(&["g"])).await, 0);
        let keys = spool
            .oldest(all())
            .await
            .unwrap()
            .iter()
            .map(|it| it.key)
            .collect();
        spool.forget(keys).await;
        assert_eq!(spool.keep(writes(&["g"])).await, 1);
    }

    #[tokio::test]
    async fn expired_records_are_not_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let spool = DiskSpool::open(folder.path(), PLENTY).unwrap();
        let mut expired = write("old");
        expired.record.expires_at = Some(Timestamp::from_unix_us(1));
        spool.keep(vec![expired, write("new")]).await;
        assert_eq!(ids(&spool).await, ["new"]);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DiskSpool::open(&file.path().join("spool"), PLENTY).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&file.path().display().to_string()),
            "{error}"
        );
    }
}
