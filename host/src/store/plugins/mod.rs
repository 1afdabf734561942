//! Finding plugin files and loading them, with a report of each.

mod discover;
mod report;

use std::{
    collections::{BTreeSet, HashSet},
    io,
    path::PathBuf,
    sync::mpsc,
    time::Duration,
};

use warren_plugin_api::loader::{LoadError, LoadedPlugin, PluginFile, inspect, load};

pub use discover::{PluginFolder, default_folders, plugin_files};
pub use report::{FileReport, FileState, LoadReport, RefusedBecause, RefusedPlugin};

use super::{StoreRegistry, StoreType};

/// How long a plugin file may take to load. Its initialisers run meanwhile.
const LOAD_DEADLINE: Duration = Duration::from_secs(10);

/// Loads every plugin of `folders` into `registry`, in the folders' order and by file name within
/// each. A file that is refused is reported and does not keep the others from loading.
///
/// Blocks while files are read and loaded.
pub fn load_folders(registry: &StoreRegistry, folders: &[PluginFolder]) -> LoadReport {
    Found::in_folders(folders).load(registry, |_| true)
}

/// As [`load_folders`], but of the plugins that are called something else than one of `names`
/// nothing is run, and they take no memory. Where one of `names` is nowhere, all are loaded, so that
/// it can be said what there is.
pub fn load_named(
    registry: &StoreRegistry,
    folders: &[PluginFolder],
    names: &BTreeSet<String>,
) -> LoadReport {
    let found = Found::in_folders(folders);
    let is_there = |name: &String| found.has(name) || registry.find(name).is_some();
    if names.iter().all(is_there) {
        found.load(registry, |file| names.contains(&file.name))
    } else {
        found.load(registry, |_| true)
    }
}

/// What the folders hold, looked at and not loaded.
#[derive(Default)]
struct Found {
    searched: Vec<PathBuf>,
    unreadable_folders: Vec<(PathBuf, io::Error)>,
    files: Vec<(PathBuf, Result<PluginFile, LoadError>)>,
}

impl Found {
    fn in_folders(folders: &[PluginFolder]) -> Self {
        let mut found = Self::default();
        let mut seen = HashSet::new();
        for folder in folders {
            found.searched.push(folder.path.clone());
            match plugin_files(folder) {
                Ok(files) => {
                    for path in files {
                        // Another folder or a link may lead to the same file.
                        let was_seen = path.canonicalize().is_ok_and(|file| !seen.insert(file));
                        if !was_seen {
                            let looked_at = inspect(&path);
                            found.files.push((path, looked_at));
                        }
                    }
                }
                Err(error) => found.unreadable_folders.push((folder.path.clone(), error)),
            }
        }
        found
    }

    fn has(&self, name: &str) -> bool {
        let mut described = self.files.iter().filter_map(|(_, file)| file.as_ref().ok());
        described.any(|file| file.name == name)
    }

    fn load(self, registry: &StoreRegistry, is_wanted: impl Fn(&PluginFile) -> bool) -> LoadReport {
        let wanted = self
            .files
            .into_iter()
            .filter(|(_, file)| file.as_ref().map_or(true, &is_wanted));
        let files = wanted.map(|(path, file)| {
            let state = match file {
                Ok(file) => load_file(registry, file),
                Err(error) => FileState::Refused(RefusedPlugin {
                    described: None,
                    error: error.into(),
                }),
            };
            FileReport { path, state }
        });
        LoadReport {
            files: files.collect(),
            searched: self.searched,
            unreadable_folders: self.unreadable_folders,
        }
    }
}

fn load_file(registry: &StoreRegistry, file: PluginFile) -> FileState {
    let described = Some(file.clone());
    let refused = |error| FileState::Refused(RefusedPlugin { described, error });
    // Its code must not run when its name is taken anyway.
    if let Some(first) = registry.find(&file.name) {
        if first.origin == super::Origin::Plugin(file.path.clone()) {
            return FileState::Loaded(first);
        }
        return refused(
            super::RegisterError::NameTaken {
                name: file.name,
                first: first.origin,
                second: super::Origin::Plugin(file.path),
            }
            .into(),
        );
    }
    match load_within_deadline(file) {
        Ok(plugin) => {
            let store_type = StoreType::from_plugin(plugin);
            match registry.register(store_type.clone()) {
                Ok(()) => FileState::Loaded(store_type),
                Err(error) => refused(error.into()),
            }
        }
        Err(error) => refused(error.into()),
    }
}

/// Loads and describes one file without registering it.
///
/// # Errors
/// The first reason why it cannot be used.
pub fn load_one(path: &std::path::Path) -> Result<StoreType, LoadError> {
    load_within_deadline(inspect(path)?).map(StoreType::from_plugin)
}

fn load_within_deadline(file: PluginFile) -> Result<LoadedPlugin, LoadError> {
    let path = file.path.clone();
    let failed = |reason: String| LoadError::FailedToLoad {
        file: path.clone(),
        reason,
    };
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("warren-load-plugin".to_owned())
        .spawn(move || {
            // Nobody waits any more when the deadline has passed.
            let _ = sender.send(load(file));
        })
        .map_err(|error| failed(format!("no thread to load it: {error}")))?;
    match receiver.recv_timeout(LOAD_DEADLINE) {
        Ok(loaded) => loaded,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(failed(format!(
            "it did not finish loading within {LOAD_DEADLINE:?}"
        ))),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(failed("it ended the thread that loaded it".to_owned()))
        }
    }
}
