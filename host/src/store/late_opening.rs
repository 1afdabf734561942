//! A store whose backend was away when it was to be opened: it is opened by the first call that
//! finds the backend there.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use warren_plugin_api::{ErrorClass, StoreError, StoreObject, StoreResult};

use super::{
    OpenError, StoreType,
    open::{OPEN_DEADLINE, Opened},
};

/// The wait between two tries to open a store: from the first, doubled up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct LateOpening {
    store_type: StoreType,
    config: Value,
    opened: OnceLock<Opened>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Not tried again before this time.
    Resting {
        error: StoreError,
        until: Instant,
        wait: Duration,
    },
    /// A try is under way; it tells when it has ended.
    Trying(watch::Receiver<bool>),
}

impl LateOpening {
    pub(super) fn new(store_type: StoreType, config: Value, error: StoreError) -> Self {
        Self {
            store_type,
            config,
            opened: OnceLock::new(),
            state: Mutex::new(State::Resting {
                error,
                until: Instant::now() + FIRST_WAIT,
                wait: FIRST_WAIT,
            }),
        }
    }

    pub(super) const fn store_type(&self) -> &StoreType {
        &self.store_type
    }

    pub(super) fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }

    /// The store, opened now if need be. Between two tries, the error of the last one at once.
    ///
    /// # Cancel safety
    /// A caller that waits no longer leaves the try to itself, and to others.
    pub(super) async fn object(self: &Arc<Self>) -> StoreResult<&StoreObject> {
        if let Some(opened) = self.opened.get() {
            return Ok(&opened.object);
        }
        let mut trying = self.try_or_join()?;
        // An end without a word is one too.
        let _ = trying.wait_for(|ended| *ended).await;
        match (self.opened.get(), &*self.state()) {
            (Some(opened), _) => Ok(&opened.object),
            (None, State::Resting { error, .. }) => Err(error.clone()),
            (None, State::Trying(_)) => Err(StoreError::unavailable("the store is being opened")),
        }
    }

    /// The try that is under way, or a new one when its time has come.
    fn try_or_join(self: &Arc<Self>) -> StoreResult<watch::Receiver<bool>> {
        let mut state = self.state();
        let wait = match &*state {
            State::Trying(trying) => return Ok(trying.clone()),
            State::Resting { error, until, .. } if Instant::now() < *until => {
                return Err(error.clone());
            }
            State::Resting { wait, .. } => *wait,
        };
        let (ended, trying) = watch::channel(false);
        *state = State::Trying(trying.clone());
        drop(state);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            this.open(wait).await;
            ended.send_replace(true);
        });
        Ok(trying)
    }

    async fn open(&self, wait: Duration) {
        let store = self.store_type.manifest.name.as_str();
        let error = match self
            .store_type
            .open_whole(OPEN_DEADLINE, &self.config)
            .await
        {
            Ok(opened) => {
                tracing::info!(store, "the result store is open");
                // Nobody else sets it.
                let _ = self.opened.set(opened);
                StoreError::unavailable("the store has just been opened")
            }
            Err(error) if error.may_pass() => unavailable(error),
            Err(error) => {
                tracing::warn!(store, %error, "the result store cannot be opened");
                unavailable(error)
            }
        };
        let wait = (wait * 2).min(LONGEST_WAIT);
        *self.state() = State::Resting {
            error,
            until: Instant::now() + wait,
            wait,
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
