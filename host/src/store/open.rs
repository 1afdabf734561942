//! From a name and a configuration to an opened store.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;
use tokio::sync::oneshot;
use warren_plugin_api::{ErrorClass, HostContext, LogLevel, StoreError, StoreObject};

use super::{ConfigProblem, StoreRegistry, StoreType, config_check::nearest, report::MemberHandle};

/// How long a store's constructor may take.
pub(super) const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// Why a store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No store type has this name.
    #[error("{}", unknown_type_text(name, registered, searched, nearest.as_deref()))]
    UnknownType {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        registered: Vec<String>,
        /// The folders that were searched for plugins.
        searched: Vec<PathBuf>,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// The configuration does not fit the store's schema.
    #[error("result_store.config does not fit store {name:?}: {}", list(problems))]
    InvalidConfig {
        /// The store type.
        name: String,
        /// Everything that is wrong.
        problems: Vec<ConfigProblem>,
    },
    /// The constructor failed or panicked.
    #[error("store {name:?} could not be opened: {error}")]
    Constructor {
        /// The store type.
        name: String,
        /// What the store said.
        error: StoreError,
    },
    /// The constructor did not come back.
    #[error(
        "store {name:?} could not be opened: its constructor did not return within {deadline:?}"
    )]
    ConstructorHangs {
        /// The store type.
        name: String,
        /// How long it had.
        deadline: Duration,
    },
}

/// An opened store, with handles of the stores that it is made of.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) object: StoreObject,
    pub(super) members: Vec<MemberHandle>,
}

impl From<StoreObject> for Opened {
    fn from(object: StoreObject) -> Self {
        Self {
            object,
            members: Vec::new(),
        }
    }
}

impl OpenError {
    /// Whether the same store may open later without anybody changing anything: its backend is
    /// away or slow.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::ConstructorHangs { .. } => true,
            Self::Constructor { error, .. } => {
                matches!(
                    error.class(),
                    ErrorClass::Unavailable | ErrorClass::Conflict
                )
            }
            Self::UnknownType { .. } | Self::InvalidConfig { .. } => false,
        }
    }
}

fn list(problems: &[ConfigProblem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

fn unknown_type_text(
    name: &str,
    registered: &[String],
    searched: &[PathBuf],
    nearest: Option<&str>,
) -> String {
    let mut text = format!("unknown result store type {name:?}");
    if let Some(nearest) = nearest {
        text.push_str(&format!("; did you mean {nearest:?}?"));
    }
    if registered.is_empty() {
        text.push_str("; no store type is registered");
    } else {
        text.push_str(&format!("; registered: {}", registered.join(", ")));
    }
    if searched.is_empty() {
        text.push_str("; no plugin folder was searched");
    } else {
        let folders: Vec<_> = searched
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        text.push_str(&format!("; looked for plugins in {}", folders.join(", ")));
    }
    text
}

impl StoreRegistry {
    /// Opens a store of type `name`. `searched` names the plugin folders for the error text.
    ///
    /// The constructor runs on a thread of its own: one that blocks or never returns costs that
    /// thread and not the caller.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        &self,
        name: &str,
        config: &Value,
        searched: &[PathBuf],
    ) -> Result<StoreObject, OpenError> {
        self.choose(name, searched)?.open(config).await
    }

    /// The type of this name. `searched` names the plugin folders for the error text.
    ///
    /// # Errors
    /// [`OpenError::UnknownType`]
    pub fn choose(&self, name: &str, searched: &[PathBuf]) -> Result<StoreType, OpenError> {
        self.find(name)
            .ok_or_else(|| self.unknown_type(name, searched))
    }

    fn unknown_type(&self, name: &str, searched: &[PathBuf]) -> OpenError {
        let registered: Vec<String> = self
            .types()
            .into_iter()
            .map(|store_type| store_type.manifest.name)
            .collect();
        OpenError::UnknownType {
            name: name.to_owned(),
            nearest: nearest(name, registered.iter().map(String::as_str)),
            registered,
            searched: searched.to_vec(),
        }
    }
}

impl StoreType {
    /// Opens a store of this type within 30 seconds, after checking `config` against its schema.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(&self, config: &Value) -> Result<StoreObject, OpenError> {
        self.open_within(OPEN_DEADLINE, config).await
    }

    /// As [`open`](Self::open), with a deadline of the caller's.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_within(
        &self,
        deadline: Duration,
        config: &Value,
    ) -> Result<StoreObject, OpenError> {
        let opened = self.open_whole(deadline, config).await?;
        Ok(opened.object)
    }

    /// As [`open_within`](Self::open_within), with the stores that it is made of.
    pub(super) async fn open_whole(
        &self,
        deadline: Duration,
        config: &Value,
    ) -> Result<Opened, OpenError> {
        let name = self.manifest.name.clone();
        let problems = self.config_problems(config);
        if !problems.is_empty() {
            return Err(OpenError::InvalidConfig { name, problems });
        }
        let constructed = self.construct_on_own_thread(config.clone());
        match tokio::time::timeout(deadline, constructed).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => Err(OpenError::Constructor { name, error }),
            Err(_elapsed) => Err(OpenError::ConstructorHangs { name, deadline }),
        }
    }

    async fn construct_on_own_thread(&self, config: Value) -> Result<Opened, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let store_type = self.clone();
        let host = log_to_tracing(self.manifest.name.clone());
        std::thread::Builder::new()
            .name("warren-open-store".to_owned())
            .spawn(move || {
                let opened = runtime.block_on(store_type.construct(&config, &host));
                // Nobody waits any more when the deadline has passed.
                let _ = sender.send(opened);
            })
            .map_err(|error| StoreError::unavailable(format!("no thread to open it: {error}")))?;
        receiver.await.unwrap_or_else(|_| {
            Err(StoreError::internal(
                "its constructor ended without an answer",
            ))
        })
    }
}

/// Store plugins have no tracing of ours: their lines come through a callback.
fn log_to_tracing(store: String) -> HostContext {
    HostContext::new(move |level, source, message| {
        let source = (!source.is_empty()).then_some(source);
        match level {
            LogLevel::Trace => tracing::trace!(target: "warren::store", store, source, "{message}"),
            LogLevel::Debug => tracing::debug!(target: "warren::store", store, source, "{message}"),
            LogLevel::Info => tracing::info!(target: "warren::store", store, source, "{message}"),
            LogLevel::Warn => tracing::warn!(target: "warren::store", store, source, "{message}"),
            LogLevel::Error => tracing::error!(target: "warren::store", store, source, "{message}"),
        }
    })
}
