//! What became of each plugin file.

use std::{
    io,
    path::{Path, PathBuf},
};

use warren_plugin_api::loader::{LoadError, PluginFile};

use crate::store::{RegisterError, StoreType};

/// What became of the files in the plugin folders.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// The folders that were searched, in order.
    pub searched: Vec<PathBuf>,
    /// Named folders that could not be read.
    pub unreadable_folders: Vec<(PathBuf, io::Error)>,
    /// Every file that was loaded or refused, in order.
    pub files: Vec<FileReport>,
}

impl LoadReport {
    /// The files that were refused, each with its reason.
    pub fn refused(&self) -> impl Iterator<Item = (&Path, &RefusedPlugin)> {
        self.files.iter().filter_map(|file| match &file.state {
            FileState::Refused(refused) => Some((file.path.as_path(), refused)),
            FileState::Loaded(_) => None,
        })
    }
}

/// What became of one file.
#[derive(Debug)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// Loaded, or why not.
    pub state: FileState,
}

/// Loaded, or why not.
#[derive(Debug)]
pub enum FileState {
    /// Its store type is registered.
    Loaded(StoreType),
    /// It is not used.
    Refused(RefusedPlugin),
}

/// Why a file is not used.
#[derive(Debug)]
pub struct RefusedPlugin {
    /// What the file says of itself, where that could be read.
    pub described: Option<PluginFile>,
    /// The reason.
    pub error: RefusedBecause,
}

/// The reason why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBecause {
    /// The file itself.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Another plugin has its name.
    #[error(transparent)]
    Register(#[from] RegisterError),
}
