//! What is in a spool, seen from outside.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use warren_plugin_api::Write;

use super::{
    SpoolError,
    frame::{self, Next},
    log::segments,
    slot::Slot,
};

/// What one worker's spool holds.
#[derive(Debug)]
pub struct Survey {
    /// Its folder.
    pub folder: PathBuf,
    /// Whether a living worker has it.
    pub in_use: bool,
    /// What it holds, oldest first. Some of it the store may have taken already: space is given
    /// back by whole files.
    pub writes: Vec<Write>,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Survey {
    pub(super) fn of(folder: PathBuf) -> Result<Self, SpoolError> {
        let mut survey = Self {
            in_use: Slot::is_claimed(&folder),
            writes: Vec::new(),
            bytes: 0,
            folder,
        };
        let segments =
            segments(&survey.folder).map_err(SpoolError::folder(&survey.folder, "read it"))?;
        for path in segments {
            match survey.read(&path) {
                // Its worker has deleted it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                read => read.map_err(SpoolError::folder(&path, "read it"))?,
            }
        }
        Ok(survey)
    }

    fn read(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        self.bytes += file.metadata()?.len();
        let mut reader = BufReader::new(file);
        while let Next::Frame(frame) = frame::read(&mut reader)? {
            self.writes.push(frame.write);
        }
        Ok(())
    }
}
