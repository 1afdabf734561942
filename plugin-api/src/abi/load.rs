//! Loading a plugin file into this process.

use std::path::PathBuf;

use abi_stable::{
    StableAbi,
    abi_stability::abi_checking::check_layout_compatibility,
    library::{AbiHeaderRef, LibHeader, LibraryError},
};
use libloading::Library;

use super::{
    adapter::from_json,
    entry::{self, Manifest},
    inspect::{ENTRY_SYMBOL, PluginFile},
    load_error::LoadError,
    store::StoreModuleRef,
};
use crate::{HostContext, ResultStore, StoreError, StoreObject, StoreResult};

/// A plugin whose code is in this process, for as long as the process lives.
#[derive(Clone)]
pub struct LoadedPlugin {
    file: PluginFile,
    manifest: Manifest,
    module: StoreModuleRef,
}

/// Opening a store: see [`LoadedPlugin::open`].
pub type OpenFuture = std::pin::Pin<Box<dyn Future<Output = StoreResult<StoreObject>> + Send>>;

/// Loads a plugin that [`inspect`](super::inspect::inspect) has passed. Runs the library's
/// initialisers, which may do anything, even hang: call it where that can be borne.
///
/// # Errors
/// What the system's loader, the layout check or the plugin itself objects to.
pub fn load(file: PluginFile) -> Result<LoadedPlugin, LoadError> {
    let header = entry_header(&file)?;
    check_layout(&file, header)?;
    // SAFETY: `check_layout` has compared every type that can be reached from the root module.
    let module = unsafe { header.init_root_module_with_unchecked_layout::<StoreModuleRef>() };
    let module = module.map_err(|error| refused(&file.path, &error))?;
    let manifest = read_manifest(&file, module)?;
    Ok(LoadedPlugin {
        file,
        manifest,
        module,
    })
}

fn entry_header(file: &PluginFile) -> Result<&'static LibHeader, LoadError> {
    let system = |error: libloading::Error| LoadError::SystemLoader {
        file: file.path.clone(),
        reason: one_line(&error.to_string()),
    };
    // A bare file name would be looked up in the system's library folders.
    let path = std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone());
    // SAFETY: the operator put the file into a plugin folder, which is the decision to run its
    // code; `inspect` has seen that it is a whole library that calls itself a Warren plugin.
    let library = unsafe { Library::new(&path) }.map_err(system)?;
    // SAFETY: `export_store!` makes this symbol a static `LibHeader`, whose first field is the
    // `AbiHeader` that an `AbiHeaderRef` points at.
    let header = unsafe { library.get::<AbiHeaderRef>(ENTRY_SYMBOL) }.map(|symbol| *symbol);
    let header = header.map_err(system)?;
    // Never unloaded: futures, vtables and strings of the plugin may outlive any handle.
    std::mem::forget(library);
    header
        .upgrade()
        .map_err(|error| refused(&file.path, &error))
}

/// Compares the plugin's types with the host's.
///
/// The host is never older than the plugin, so it is the host that may have more fields after
/// the last prefix field: it plays the part that abi_stable calls the implementation. The vtable
/// itself says which methods it has, and the host runs the default of those that are missing.
fn check_layout(file: &PluginFile, header: &LibHeader) -> Result<(), LoadError> {
    let changed = |reason: String| LoadError::ChangedLayout {
        file: file.path.clone(),
        reason,
    };
    let plugin = header
        .layout()
        .ok_or_else(|| changed("it carries no layout".to_owned()))?;
    check_layout_compatibility(plugin, StoreModuleRef::LAYOUT)
        .map_err(|differences| changed(first_difference(&differences.to_string())))
}

fn refused(path: &std::path::Path, error: &LibraryError) -> LoadError {
    let file: PathBuf = path.to_owned();
    match error {
        LibraryError::AbiInstability(_) => LoadError::ChangedLayout {
            file,
            reason: first_difference(&error.to_string()),
        },
        LibraryError::InvalidAbiHeader(_) | LibraryError::InvalidCAbi { .. } => {
            let reason = "another version of abi_stable".to_owned();
            LoadError::ChangedLayout { file, reason }
        }
        LibraryError::IncompatibleVersionNumber { actual_version, .. } => {
            let reason = format!("warren-plugin-api {actual_version}");
            LoadError::ChangedLayout { file, reason }
        }
        LibraryError::RootModule { .. } => {
            let reason = "its initialiser panicked".to_owned();
            LoadError::FailedToLoad { file, reason }
        }
        other => LoadError::FailedToLoad {
            file,
            reason: one_line(&other.to_string()),
        },
    }
}

/// abi_stable explains a difference over many lines: `Error:`, `Expected:` and `Found:`, each
/// with its value on the same or the next line. The first of them is enough to act on.
fn first_difference(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((_, error)) = words.split_once("Error:") else {
        return "a type has changed".to_owned();
    };
    let Some((error, values)) = error.split_once("Expected:") else {
        return error.trim().to_owned();
    };
    let Some((expected, found)) = values.split_once("Found:") else {
        return error.trim().to_owned();
    };
    let found = found.split_whitespace().next().unwrap_or("nothing");
    format!("{}: plugin {}, host {found}", error.trim(), expected.trim())
}

fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match joined.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &joined[..cut]),
        None => joined,
    }
}

fn read_manifest(file: &PluginFile, module: StoreModuleRef) -> Result<Manifest, LoadError> {
    let failed = |error: StoreError| LoadError::FailedToLoad {
        file: file.path.clone(),
        reason: error.to_string(),
    };
    let json = (module.manifest())()
        .into_result()
        .map_err(|error| failed(error.into()))?;
    from_json(&json).map_err(failed)
}

impl LoadedPlugin {
    /// What could be read from the file alone.
    pub const fn file(&self) -> &PluginFile {
        &self.file
    }

    /// What the plugin says of itself.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Runs the store's constructor with its configuration, a JSON object.
    ///
    /// The plugin's code runs while this is called and while the future is polled; it may block
    /// or never end. Dropping the future gives up.
    pub fn open(&self, config: &serde_json::Value, host: &HostContext) -> OpenFuture {
        let future = (self.module.open())(config.to_string().into(), host.to_object());
        Box::pin(async move {
            future
                .await
                .into_result()
                .map(StoreObject::from_abi)
                .map_err(StoreError::from)
        })
    }
}

impl std::fmt::Debug for LoadedPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedPlugin")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// JSON Schema of a statically linked store's configuration.
pub fn config_schema_of<S: ResultStore>() -> serde_json::Value {
    entry::config_schema::<S>()
}

/// Runs the constructor of a statically linked store: as [`LoadedPlugin::open`], panics included.
pub fn open_linked<S: ResultStore>(config: &serde_json::Value, host: &HostContext) -> OpenFuture {
    let config = config.to_string();
    let host = host.clone();
    let opening = entry::construct::<S>(config.into(), host);
    Box::pin(async move {
        opening
            .await
            .into_result()
            .map(StoreObject::from_abi)
            .map_err(StoreError::from)
    })
}
