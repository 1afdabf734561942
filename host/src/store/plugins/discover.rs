//! Which files might be plugins.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A folder to look for plugins in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFolder {
    /// The folder.
    pub path: PathBuf,
    /// Whether somebody named it: then it must exist, and every library in it is looked at.
    /// A default folder may be absent, and in it only `libwarren_store_*` is looked at.
    pub named: bool,
}

impl PluginFolder {
    /// A folder that somebody named.
    pub fn named(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            named: true,
        }
    }
}

/// The folders that are searched when nobody names one: `plugins` next to the executable,
/// `../lib/warren/plugins` as packages install them, and the executable's own folder, where a
/// build leaves them.
pub fn default_folders() -> Vec<PluginFolder> {
    let Some(folder) = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned))
    else {
        return Vec::new();
    };
    [
        folder.join("plugins"),
        folder.join("../lib/warren/plugins"),
        folder,
    ]
    .map(|path| PluginFolder { path, named: false })
    .into()
}

/// The files of `folder` that might be plugins, by name.
///
/// # Errors
/// A named folder that is absent or cannot be read.
pub fn plugin_files(folder: &PluginFolder) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(&folder.path) {
        Ok(entries) => entries,
        Err(error) if !folder.named && error.kind() == io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if looks_like_a_plugin(&path, folder.named) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn looks_like_a_plugin(path: &Path, any_library: bool) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let ours = name
        .strip_prefix(std::env::consts::DLL_PREFIX)
        .is_some_and(|stem| stem.starts_with("warren_store_"));
    name.ends_with(std::env::consts::DLL_SUFFIX) && (any_library || ours)
}
