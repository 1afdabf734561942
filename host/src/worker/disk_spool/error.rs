//! Why a spool on disk cannot be used.

use std::{io, path::PathBuf};

/// Why a spool on disk cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The folder cannot be made, read or written.
    #[error("spool folder {}: cannot {what}: {error}", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's words.
        error: io::Error,
    },
    /// Too many processes have a spool in the folder.
    #[error("spool folder {}: {workers} workers have their spools in it already", path.display())]
    Crowded {
        /// The folder.
        path: PathBuf,
        /// How many.
        workers: u32,
    },
}

impl SpoolError {
    pub(super) fn folder(
        path: impl Into<PathBuf>,
        what: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Folder { path, what, error }
    }
}
