//! What is in a spool, seen from outside.

use std::{
    fs::File,
    io::{self, BufReader},
    ops::ControlFlow,
    path::PathBuf,
};

use warren_plugin_api::Write;

use super::{
    SpoolError,
    frame::{self, Next},
    log::segments,
    slot::Slot,
};

/// What one worker's spool holds. Some of it the store may have taken already: space is given
/// back by whole files.
#[derive(Debug)]
pub struct Survey {
    /// Its folder.
    pub folder: PathBuf,
    /// Whether a living worker has it.
    pub in_use: bool,
    /// How many records it holds.
    pub records: usize,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Survey {
    pub(super) fn of(folder: PathBuf) -> Result<Self, SpoolError> {
        let mut survey = Self {
            in_use: Slot::is_claimed(&folder),
            records: 0,
            bytes: 0,
            folder,
        };
        let mut records = 0;
        survey.bytes = survey.for_each(|_| {
            records += 1;
            ControlFlow::Continue(())
        })?;
        survey.records = records;
        Ok(survey)
    }

    /// Shows what it holds now, oldest first and one at a time, until `visit` has seen enough;
    /// returns how many bytes the files have that were opened.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(Write) -> ControlFlow<()>,
    ) -> Result<u64, SpoolError> {
        let segments =
            segments(&self.folder).map_err(SpoolError::folder(&self.folder, "read it"))?;
        let mut bytes = 0;
        for path in segments {
            let file = match File::open(&path) {
                // Its worker has deleted it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(SpoolError::folder(&path, "read it"))?,
            };
            let metadata = file.metadata();
            bytes += metadata
                .map_err(SpoolError::folder(&path, "read it"))?
                .len();
            let mut reader = BufReader::new(file);
            loop {
                let next = frame::read(&mut reader);
                let Next::Frame(frame) = next.map_err(SpoolError::folder(&path, "read it"))? else {
                    break;
                };
                if visit(frame.write).is_break() {
                    return Ok(bytes);
                }
            }
        }
        Ok(bytes)
    }
}
