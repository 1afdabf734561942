//! Which of a folder's spools belongs to this process.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::SpoolError;

/// More workers than one machine runs.
const MOST_SLOTS: u32 = 1_000;
const LOCK: &str = "lock";
/// Longer than it takes to see whether a folder is in use.
const LOOK: Duration = Duration::from_millis(20);

/// A sub-folder that no other process uses as long as this lives.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) folder: PathBuf,
    _lock: File,
}

impl Slot {
    /// The first sub-folder, by number, that no living process has: one that a dead worker left
    /// behind is taken over with what is in it.
    pub(super) fn claim(spool: &Path) -> Result<Self, SpoolError> {
        for number in 0..MOST_SLOTS {
            if let Some(slot) = Self::try_claim(spool.join(number.to_string()))? {
                return Ok(slot);
            }
        }
        Err(SpoolError::Crowded {
            path: spool.to_owned(),
            workers: MOST_SLOTS,
        })
    }

    /// Claims every sub-folder that exists and that no living process has.
    pub(super) fn claim_abandoned(spool: &Path) -> Result<Vec<Self>, SpoolError> {
        let claimed: Result<Vec<_>, _> = Self::folders(spool).map(Self::try_claim).collect();
        Ok(claimed?.into_iter().flatten().collect())
    }

    /// Every sub-folder that exists.
    pub(super) fn folders(spool: &Path) -> impl Iterator<Item = PathBuf> {
        (0..MOST_SLOTS)
            .map(|number| spool.join(number.to_string()))
            .take_while(|folder| folder.is_dir())
    }

    /// Whether a living process has this sub-folder.
    pub(super) fn is_claimed(folder: &Path) -> bool {
        File::open(folder.join(LOCK))
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn try_claim(folder: PathBuf) -> Result<Option<Self>, SpoolError> {
        make_folder(&folder).map_err(SpoolError::folder(&folder, "make it"))?;
        let path = folder.join(LOCK);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(SpoolError::folder(&path, "open it"))?;
        let mut locked = lock.try_lock();
        if matches!(locked, Err(TryLockError::WouldBlock)) {
            // Whoever only looks whether it is in use holds it for a moment.
            std::thread::sleep(LOOK);
            locked = lock.try_lock();
        }
        match locked {
            Ok(()) => Ok(Some(Self {
                folder,
                _lock: lock,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(SpoolError::folder(path, "lock it")(error)),
        }
    }
}

/// Makes a folder and those above it, for this user alone, so that they survive a loss of power.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut above = Some(folder);
    while let Some(path) = above.filter(|path| !path.as_os_str().is_empty() && !path.exists()) {
        missing.push(path);
        above = path.parent();
    }
    for path in missing.into_iter().rev() {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(path) {
            // Another worker was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}
