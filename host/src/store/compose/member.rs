//! A store within a composition.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use warren_plugin_api::{BatchResult, Capabilities, ErrorClass, Health, StoreError, StoreResult};

use super::nested;
use crate::{
    duration_text,
    store::{
        Breaker, BreakerPolicy, OpenError, Store, StorePolicy, StoreRegistry, report::MemberHandle,
    },
};

/// The longest that one call of a single store may take: two of them fit into the host's deadline.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long opening a single store may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// A single failure may be anything; after the second in a row a member is left alone.
const BREAKER: BreakerPolicy = BreakerPolicy {
    tolerated: 1,
    longest_rest: Duration::from_secs(5),
};

/// One store of a composition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberConfig {
    /// The store's type: the name that a plugin registers, or another composition.
    #[serde(rename = "type")]
    pub(super) store_type: String,
    /// The longest that one call of this store may take, such as `2s`. Default: `2s` for each
    /// store in it.
    #[serde(default, with = "duration_text::optional")]
    #[schemars(with = "Option<String>")]
    pub(super) deadline: Option<Duration>,
    /// How many calls of this store may be under way at once. Default: 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_concurrent_calls: Option<NonZeroU32>,
    /// The store's own configuration.
    #[serde(default)]
    pub(super) config: Map<String, Value>,
}

/// An opened member, whose errors say which one it is. After two failures in a row it is left
/// alone for a while, so that not every call waits for its deadline; then one call tries it.
#[derive(Debug)]
pub(super) struct Member {
    label: String,
    role: String,
    store: Store,
    breaker: Arc<Breaker>,
}

impl Member {
    /// Opens a member; one whose backend is away is opened later.
    ///
    /// # Errors
    /// What an operator must change.
    pub(super) async fn open_now_or_later(
        registry: &StoreRegistry,
        role: &str,
        config: &MemberConfig,
    ) -> StoreResult<Self> {
        let label = format!("{role} ({})", config.store_type);
        let policy = StorePolicy {
            deadline: config.deadline(),
            max_concurrent_calls: config
                .max_concurrent_calls
                .unwrap_or(StorePolicy::DEFAULT_MAX_CONCURRENT_CALLS),
        };
        let opened = async {
            let store_type = registry.choose(&config.store_type, &[])?;
            let table = Value::Object(config.config.clone());
            let deadline = OPEN_DEADLINE * nested::stores_in(config);
            Store::open_within_or_later(store_type, table, policy, deadline).await
        };
        match opened.await {
            Ok(store) => Ok(Self {
                label,
                role: role.to_owned(),
                store,
                breaker: Arc::new(Breaker::new(BREAKER)),
            }),
            Err(error) => Err(labelled(&label, class_of(&error), &error.to_string())),
        }
    }

    /// As [`open_now_or_later`](Self::open_now_or_later), but a backend that is away is an error.
    ///
    /// # Errors
    /// `unavailable` too.
    pub(super) async fn open_now(
        registry: &StoreRegistry,
        role: &str,
        config: &MemberConfig,
    ) -> StoreResult<Self> {
        let this = Self::open_now_or_later(registry, role, config).await?;
        if this.store.is_open() {
            return Ok(this);
        }
        // Being asked, it says what it could not be opened for.
        match this.health().await {
            Err(error) => Err(StoreError::unavailable(error.message())),
            Ok(_) => Ok(this),
        }
    }

    /// Its part in the composition, and its type: `front (memory)`.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    pub(super) const fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// What others may know of it.
    pub(super) fn handle(&self) -> MemberHandle {
        MemberHandle {
            part: self.role.clone(),
            store: self.store.clone(),
            breaker: Arc::clone(&self.breaker),
        }
    }

    pub(super) fn capabilities(&self) -> &Capabilities {
        self.store.capabilities()
    }

    /// Makes a call of this store, unless it is being left alone.
    pub(super) async fn call<T>(
        &self,
        call: impl Future<Output = StoreResult<T>>,
    ) -> StoreResult<T> {
        match self.breaker.refusal_unless_trial() {
            Some(refusal) => Err(refusal),
            None => self.noted(call.await),
        }
    }

    /// As [`call`](Self::call), for many items: one that is `unavailable` counts as a failure.
    pub(super) async fn call_many<T>(
        &self,
        call: impl Future<Output = BatchResult<T>>,
    ) -> BatchResult<T> {
        let mut answers = self.call(call).await?;
        for answer in &mut answers {
            if let Err(error) = answer {
                *error = self.labelled(error);
                if error.class() == ErrorClass::Unavailable {
                    self.failed(error);
                }
            }
        }
        Ok(answers)
    }

    /// As [`call_many`](Self::call_many), where one item that is `unavailable` fails the call.
    pub(super) async fn call_for_all<T>(
        &self,
        call: impl Future<Output = BatchResult<T>>,
    ) -> BatchResult<T> {
        all_available(self.call_many(call).await?)
    }

    /// Asks for its health, also while it is being left alone.
    pub(super) async fn health(&self) -> StoreResult<Health> {
        self.noted(self.store.health_check().await)
    }

    /// The error with the member's name in it.
    pub(super) fn labelled(&self, error: &StoreError) -> StoreError {
        labelled(&self.label, error.class(), error.message())
    }

    fn noted<T>(&self, answer: StoreResult<T>) -> StoreResult<T> {
        match answer {
            Ok(answer) => {
                if self.breaker.succeeded().is_some() {
                    tracing::info!(member = self.label, "a member store works again");
                }
                Ok(answer)
            }
            Err(error) => {
                let error = self.labelled(&error);
                if error.class() == ErrorClass::Unavailable {
                    self.failed(&error);
                }
                Err(error)
            }
        }
    }

    fn failed(&self, error: &StoreError) {
        if self.breaker.failed(error) {
            tracing::warn!(member = self.label, %error, "a member store is away");
        }
    }
}

impl MemberConfig {
    fn deadline(&self) -> Duration {
        self.deadline
            .unwrap_or_else(|| DEADLINE * nested::stores_in(self))
    }
}

/// The first error of an item that could not be asked about, if there is one.
pub(super) fn all_available<T>(answers: Vec<StoreResult<T>>) -> BatchResult<T> {
    let failed = answers
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .find(|error| error.class() == ErrorClass::Unavailable);
    match failed {
        Some(error) => Err(error.clone()),
        None => Ok(answers),
    }
}

fn labelled(label: &str, class: ErrorClass, text: &str) -> StoreError {
    StoreError::new(class, format!("{label}: {text}"))
}

fn class_of(error: &OpenError) -> ErrorClass {
    match error {
        OpenError::Constructor { error, .. } => error.class(),
        OpenError::ConstructorHangs { .. } => ErrorClass::Unavailable,
        OpenError::UnknownType { .. } | OpenError::InvalidConfig { .. } => {
            ErrorClass::InvalidConfig
        }
    }
}
