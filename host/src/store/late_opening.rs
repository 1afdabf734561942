//! A store whose backend was away when it was to be opened: it is opened by the first call that
//! finds the backend there.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};
use warren_plugin_api::{ErrorClass, StoreError, StoreObject, StoreResult};

use super::{OpenError, StoreType};

/// The wait between two tries to open a store: from the first, doubled up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct LateOpening {
    store_type: StoreType,
    config: Value,
    object: OnceLock<StoreObject>,
    /// Held by the call that tries to open it.
    trying: AsyncMutex<()>,
    last: Mutex<LastTry>,
}

#[derive(Debug)]
struct LastTry {
    error: StoreError,
    next_at: Instant,
    wait: Duration,
}

impl LateOpening {
    pub(super) fn new(store_type: StoreType, config: Value, error: StoreError) -> Self {
        Self {
            store_type,
            config,
            object: OnceLock::new(),
            trying: AsyncMutex::new(()),
            last: Mutex::new(LastTry {
                error,
                next_at: Instant::now() + FIRST_WAIT,
                wait: FIRST_WAIT,
            }),
        }
    }

    pub(super) fn store_type(&self) -> &StoreType {
        &self.store_type
    }

    pub(super) fn opened(&self) -> Option<&StoreObject> {
        self.object.get()
    }

    /// The store, opened now if need be. Between two tries, the error of the last one at once.
    pub(super) async fn object(&self, deadline: Duration) -> StoreResult<&StoreObject> {
        if let Some(object) = self.object.get() {
            return Ok(object);
        }
        let _trying = self.trying.lock().await;
        if let Some(object) = self.object.get() {
            return Ok(object);
        }
        self.too_early()?;
        match self.store_type.open_within(deadline, &self.config).await {
            Ok(object) => {
                tracing::info!(
                    store = self.store_type.manifest.name,
                    "the result store is open"
                );
                Ok(self.object.get_or_init(|| object))
            }
            Err(error) => Err(self.failed(unavailable(error))),
        }
    }

    fn too_early(&self) -> StoreResult<()> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() < last.next_at {
            return Err(last.error.clone());
        }
        Ok(())
    }

    fn failed(&self, error: StoreError) -> StoreError {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.wait = (last.wait * 2).min(LONGEST_WAIT);
        last.next_at = Instant::now() + last.wait;
        last.error = error.clone();
        error
    }
}

/// The store's own class, but never one that says that no later try can succeed.
fn unavailable(error: OpenError) -> StoreError {
    match error {
        OpenError::Constructor { error, .. } if error.class().may_pass() => error,
        other => StoreError::new(ErrorClass::Unavailable, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use serde_json::json;
    use warren_plugin_api::{
        Capabilities, Health, HostContext, Record, ResultStore, Text, Write, WriteOutcome,
    };

    use super::*;
    use crate::store::{Store, StorePolicy};

    static TRIES: AtomicU32 = AtomicU32::new(0);

    /// Its backend is there from the third try on.
    struct SlowToCome;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Config {
        class: Option<String>,
    }

    impl ResultStore for SlowToCome {
        type Config = Config;
        const CAPABILITIES: Capabilities = Capabilities {
            scan: true,
            ..Capabilities::NONE
        };

        async fn open(config: Config, _host: HostContext) -> StoreResult<Self> {
            if config.class.is_some() {
                return Err(StoreError::invalid_config("wrong password"));
            }
            match TRIES.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => Err(StoreError::unavailable("refused")),
                _ => Ok(Self),
            }
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities::NONE
        }

        async fn put(&self, _write: Write) -> StoreResult<WriteOutcome> {
            Ok(WriteOutcome::Written)
        }

        async fn get(&self, _job_id: Text) -> StoreResult<Option<Record>> {
            Ok(None)
        }

        async fn delete(&self, _job_id: Text) -> StoreResult<bool> {
            Ok(false)
        }

        async fn health_check(&self) -> StoreResult<Health> {
            Ok(Health::default())
        }
    }

    async fn open(config: Value) -> Result<Store, OpenError> {
        let store_type = StoreType::from_program::<SlowToCome>("slow");
        Store::open_now_or_later(store_type, config, StorePolicy::default()).await
    }

    #[tokio::test]
    async fn a_store_whose_backend_is_away_opens_when_it_is_there() {
        let store = open(json!({})).await.unwrap();
        assert!(store.capabilities().scan);
        let error = store.get("a".into()).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unavailable);
        assert!(error.message().contains("refused"), "{error}");
        let opened = async {
            while store.get("a".into()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), opened)
            .await
            .unwrap();
        assert_eq!(TRIES.load(Ordering::SeqCst), 3);
        assert!(!store.capabilities().scan);
    }

    #[tokio::test]
    async fn what_an_operator_must_change_is_no_reason_to_wait() {
        let error = open(json!({ "class": "invalid_config" }))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("wrong password"), "{error}");
    }
}
