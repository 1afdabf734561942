//! Which types of store there are: from the name in a configuration to a constructor.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures_util::future::BoxFuture;
use once_cell::sync::Lazy;
use serde_json::Value;
use warren_plugin_api::{
    CONTRACT_MAJOR, CONTRACT_MINOR, Capabilities, HostContext, Manifest, ResultStore, StoreResult,
    loader::{LoadedPlugin, OpenFuture, config_schema_of, open_linked},
};

use super::{ConfigProblem, compose, config_check::problems, open::Opened};

/// Where a type of store comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Registered by the program that embeds Warren.
    Program,
    /// Loaded from this file.
    Plugin(PathBuf),
    /// Made of other stores, and part of Warren.
    Combinator,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("this program"),
            Self::Plugin(path) => write!(f, "{}", path.display()),
            Self::Combinator => f.write_str("Warren itself"),
        }
    }
}

pub(super) type Opening = BoxFuture<'static, StoreResult<Opened>>;
type Constructor = Arc<dyn Fn(&Value, &HostContext) -> Opening + Send + Sync>;
/// What else is wrong with a configuration that fits the schema.
type ConfigCheck = Arc<dyn Fn(&Value) -> Vec<ConfigProblem> + Send + Sync>;

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
    config_check: Option<ConfigCheck>,
}

impl StoreType {
    /// The type of a loaded plugin.
    pub fn from_plugin(plugin: LoadedPlugin) -> Self {
        Self {
            manifest: plugin.manifest().clone(),
            origin: Origin::Plugin(plugin.file().path.clone()),
            contract: plugin.file().contract,
            constructor: Arc::new(move |config, host| single(plugin.open(config, host))),
            config_check: None,
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
            constructor: Arc::new(|config, host| single(open_linked::<S>(config, host))),
            config_check: None,
        }
    }

    /// A type of store that is made of other stores, which `constructor` opens and
    /// `config_check` knows.
    pub(super) fn combinator(
        manifest: Manifest,
        constructor: impl Fn(&Value) -> Opening + Send + Sync + 'static,
        config_check: impl Fn(&Value) -> Vec<ConfigProblem> + Send + Sync + 'static,
    ) -> Self {
        Self {
            manifest,
            origin: Origin::Combinator,
            contract: (CONTRACT_MAJOR, CONTRACT_MINOR),
            constructor: Arc::new(move |config, _host| constructor(config)),
            config_check: Some(Arc::new(config_check)),
        }
    }

    /// Everything that is wrong with `config` by this store's schema, and by those of the stores
    /// that it is made of.
    pub fn config_problems(&self, config: &Value) -> Vec<ConfigProblem> {
        let found = problems(&self.manifest.config_schema, config);
        match &self.config_check {
            Some(check) if found.is_empty() => check(config),
            _ => found,
        }
    }

    /// The most that a store of this type can do.
    pub const fn capabilities(&self) -> &Capabilities {
        &self.manifest.capabilities
    }

    pub(super) fn construct(&self, config: &Value, host: &HostContext) -> Opening {
        (self.constructor)(config, host)
    }
}

/// The opening of a store that is made of no others.
fn single(opening: OpenFuture) -> Opening {
    Box::pin(async move { opening.await.map(Opened::from) })
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

static GLOBAL: Lazy<StoreRegistry> = Lazy::new(StoreRegistry::with_combinators);

/// A registry that does not keep its types: for the types within it.
#[derive(Debug, Clone)]
pub(super) struct WeakRegistry(Weak<Mutex<BTreeMap<String, StoreType>>>);

impl WeakRegistry {
    /// The registry; an empty one when it is gone.
    pub(super) fn upgrade(&self) -> StoreRegistry {
        StoreRegistry {
            types: self.0.upgrade().unwrap_or_default(),
        }
    }
}

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

    /// A registry with the stores that are made of other stores: `tiered`, `fanout`, `failover`.
    /// Their members are types of this registry.
    pub fn with_combinators() -> Self {
        let this = Self::new();
        let registry = WeakRegistry(Arc::downgrade(&this.types));
        for store_type in compose::store_types(&registry) {
            this.lock()
                .insert(store_type.manifest.name.clone(), store_type);
        }
        this
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
