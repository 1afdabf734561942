//! The plugin's own tokio runtime.
//!
//! A plugin carries its own copy of tokio, to which the host's runtime is invisible. Entering a
//! runtime of the plugin's own for each poll lets the host's thread run the store's code while a
//! thread of the plugin waits for its sockets and timers: no spawn and no thread hop per call.

#[cfg(feature = "tokio")]
mod own {
    use std::sync::OnceLock;

    use tokio::runtime::{Builder, EnterGuard, Runtime};

    use crate::{StoreError, StoreResult};

    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();

    fn runtime() -> Option<&'static Runtime> {
        RUNTIME
            .get_or_init(|| {
                Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name("warren-store")
                    .enable_all()
                    .build()
                    .ok()
            })
            .as_ref()
    }

    pub(crate) fn start() -> StoreResult<()> {
        runtime().map(drop).ok_or_else(|| {
            StoreError::unavailable("the store could not start its threads: out of resources")
        })
    }

    pub(crate) fn enter() -> Option<EnterGuard<'static>> {
        runtime().map(Runtime::enter)
    }
}

#[cfg(not(feature = "tokio"))]
mod own {
    use crate::StoreResult;

    pub(crate) const fn start() -> StoreResult<()> {
        Ok(())
    }

    /// Stands where a plugin with a runtime holds its guard.
    pub(crate) struct NothingEntered;

    pub(crate) const fn enter() -> NothingEntered {
        NothingEntered
    }
}

pub(crate) use own::{enter, start};
