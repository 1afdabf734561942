//! How a command that runs one job says how far it has come: lines of JSON into a named pipe,
//! whose path is in its environment.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, sys::stat::Mode, unistd::mkfifo};
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::net::unix::pipe::Receiver;

use crate::function::JobContext;

/// The environment variable with the path.
pub(super) const VARIABLE: &str = "WARREN_PROGRESS";
/// What is longer than this is no progress.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// What is read at once.
const CHUNK_BYTES: usize = 4 * 1024;

/// The pipe of one run; its file goes with it.
#[derive(Debug)]
pub(super) struct ProgressPipe {
    path: PathBuf,
    pipe: Receiver,
    /// What has come of a line that is not complete.
    line: Vec<u8>,
    _folder: TempDir,
}

impl ProgressPipe {
    pub(super) fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("warren-").tempdir()?;
        let path = folder.path().join("progress");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // Open for writing too: so there always is a reader and a writer, whose opening never
        // waits, and no end in between.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&path)?;
        Ok(Self {
            path,
            pipe: Receiver::from_file_unchecked(file)?,
            line: Vec::new(),
            _folder: folder,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Passes progress on, until it is dropped.
    pub(super) async fn follow(&mut self, context: &JobContext) {
        while self.pipe.readable().await.is_ok() && self.read(context).is_ok() {}
        // A pipe that cannot be read must not end the run.
        std::future::pending().await
    }

    /// Passes on what is there now.
    pub(super) fn read(&mut self, context: &JobContext) -> io::Result<()> {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match self.pipe.try_read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => self.take(&chunk[..count], context),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, chunk: &[u8], context: &JobContext) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() <= MAX_LINE_BYTES {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                report(line.trim_ascii(), context);
            }
        }
    }
}

fn report(line: &[u8], context: &JobContext) {
    if line.is_empty() || line.len() > MAX_LINE_BYTES {
        return;
    }
    let reported = serde_json::from_slice::<&RawValue>(line)
        .map_err(|error| error.to_string())
        .and_then(|json| {
            context
                .set_progress(&json)
                .map_err(|error| error.to_string())
        });
    if let Err(error) = reported {
        tracing::debug!(error, "the command reported progress that is not JSON");
    }
}
