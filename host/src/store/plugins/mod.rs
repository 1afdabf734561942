//! Finding plugin files and loading them, with a report of each.

mod discover;
mod report;

use std::{sync::mpsc, time::Duration};

use warren_plugin_api::loader::{LoadError, LoadedPlugin, inspect, load};

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
    let mut report = LoadReport::default();
    for folder in folders {
        report.searched.push(folder.path.clone());
        match plugin_files(folder) {
            Ok(files) => {
                for file in files {
                    if !report.contains(&file) {
                        let state = load_file(registry, &file);
                        report.files.push(FileReport { path: file, state });
                    }
                }
            }
            Err(error) => report.unreadable_folders.push((folder.path.clone(), error)),
        }
    }
    report
}

fn load_file(registry: &StoreRegistry, path: &std::path::Path) -> FileState {
    let file = match inspect(path) {
        Ok(file) => file,
        Err(error) => {
            return FileState::Refused(RefusedPlugin {
                described: None,
                error: error.into(),
            });
        }
    };
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

fn load_within_deadline(
    file: warren_plugin_api::loader::PluginFile,
) -> Result<LoadedPlugin, LoadError> {
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
