//! Which types of store there are: from the name in a configuration to a constructor.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use once_cell::sync::Lazy;
use serde_json::Value;
use warren_plugin_api::{
    CONTRACT_MAJOR, CONTRACT_MINOR, Capabilities, HostContext, Manifest, ResultStore,
    loader::{LoadedPlugin, OpenFuture, config_schema_of, open_linked},
};

/// Where a type of store comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Registered by the program that embeds Warren.
    Program,
    /// Loaded from this file.
    Plugin(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("this program"),
            Self::Plugin(path) => write!(f, "{}", path.display()),
        }
    }
}

type Constructor = Arc<dyn Fn(&Value, &HostContext) -> OpenFuture + Send + Sync>;

/// One type of store: what it says of itself, and its constructor.
#[derive(Clone)]
pub struct StoreType {
    /// Name, version, capabilities, schema of its configuration.
    pub manifest: Manifest,
    /// Where it comes from.
    pub origin: Origin,
    /// Major and minor version of the contract it was built against.
    pub contract: (u32, u32),
    constructor: Constructor,
}

impl StoreType {
    /// The type of a loaded plugin.
    pub fn from_plugin(plugin: LoadedPlugin) -> Self {
        Self {
            manifest: plugin.manifest().clone(),
            origin: Origin::Plugin(plugin.file().path.clone()),
            contract: plugin.file().contract,
            constructor: Arc::new(move |config, host| plugin.open(config, host)),
        }
    }

    /// The type of a store that is linked into this program, under `name`.
    pub fn from_program<S: ResultStore>(name: impl Into<String>) -> Self {
        Self {
            manifest: Manifest {
                name: name.into(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                description: std::any::type_name::<S>().to_owned(),
                capabilities: S::CAPABILITIES,
                config_schema: config_schema_of::<S>(),
            },
            origin: Origin::Program,
            contract: (CONTRACT_MAJOR, CONTRACT_MINOR),
            constructor: Arc::new(open_linked::<S>),
        }
    }

    /// The most that a store of this type can do.
    pub const fn capabilities(&self) -> &Capabilities {
        &self.manifest.capabilities
    }

    pub(super) fn construct(&self, config: &Value, host: &HostContext) -> OpenFuture {
        (self.constructor)(config, host)
    }
}

impl fmt::Debug for StoreType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreType")
            .field("name", &self.manifest.name)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Why a type of store was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The name is taken.
    #[error(
        "{}: another plugin has the name {name:?} already: {}; remove one of them",
        second.to_string(), first.to_string()
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        first: Origin,
        /// Who wanted it.
        second: Origin,
    },
}

/// The types of store that can be opened, by name. Cheap to clone; clones share the types.
#[derive(Debug, Clone, Default)]
pub struct StoreRegistry {
    types: Arc<Mutex<BTreeMap<String, StoreType>>>,
}

static GLOBAL: Lazy<StoreRegistry> = Lazy::new(StoreRegistry::new);

/// Registers a store that is linked into this program, in the registry of the whole process.
///
/// # Errors
/// The name is taken.
pub fn register_store_type<S: ResultStore>(name: &str) -> Result<(), RegisterError> {
    StoreRegistry::global().register(StoreType::from_program::<S>(name))
}

impl StoreRegistry {
    /// A registry without any type.
    pub fn new() -> Self {
        Self::default()
    }

    /// The registry of the whole process, which the command line uses.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// Adds a type of store.
    ///
    /// # Errors
    /// The name is taken; the type that has it stays.
    pub fn register(&self, store_type: StoreType) -> Result<(), RegisterError> {
        let mut types = self.lock();
        let name = store_type.manifest.name.clone();
        if let Some(first) = types.get(&name) {
            return Err(RegisterError::NameTaken {
                name,
                first: first.origin.clone(),
                second: store_type.origin,
            });
        }
        types.insert(name, store_type);
        Ok(())
    }

    /// The type of this name.
    pub fn find(&self, name: &str) -> Option<StoreType> {
        self.lock().get(name).cloned()
    }

    /// All types, by name.
    pub fn types(&self) -> Vec<StoreType> {
        self.lock().values().cloned().collect()
    }

    /// A panic while the lock was held cannot leave the map half changed.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, StoreType>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
