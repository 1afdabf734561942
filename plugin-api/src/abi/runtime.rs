//! The plugin's own tokio runtime.
//!
//! A plugin carries its own copy of tokio, to which the host's runtime is invisible. Entering a
//! runtime of the plugin's own for each poll lets the host's thread run the store's code while a
//! thread of the plugin waits for its sockets and timers: no spawn and no thread hop per call.
//!
//! In a plugin file a thread that has entered once stays so: nothing but the plugin sees its copy
//! of tokio, and to enter and to leave again would be most of the cost of a short call.

#[cfg(feature = "tokio")]
mod own {
    use std::{
        cell::Cell,
        sync::{
            OnceLock,
            atomic::{AtomicBool, Ordering},
        },
    };

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

    /// Whether this copy of tokio is a plugin's own. One that is linked into a program is the
    /// program's too.
    static IS_A_PLUGINS: AtomicBool = AtomicBool::new(false);

    thread_local! {
        static STAYS_ENTERED: Cell<bool> = const { Cell::new(false) };
    }

    /// This code is in a plugin file.
    pub(crate) fn is_a_plugins() {
        IS_A_PLUGINS.store(true, Ordering::Relaxed);
    }

    pub(crate) fn enter() -> Option<EnterGuard<'static>> {
        if STAYS_ENTERED.get() {
            return None;
        }
        let guard = runtime().map(Runtime::enter);
        if IS_A_PLUGINS.load(Ordering::Relaxed) {
            std::mem::forget(guard);
            STAYS_ENTERED.set(true);
            return None;
        }
        guard
    }
}

#[cfg(not(feature = "tokio"))]
mod own {
    use crate::StoreResult;

    pub(crate) const fn start() -> StoreResult<()> {
        Ok(())
    }

    pub(crate) const fn is_a_plugins() {}

    /// Stands where a plugin with a runtime holds its guard.
    pub(crate) struct NothingEntered;

    pub(crate) const fn enter() -> NothingEntered {
        NothingEntered
    }
}

pub(crate) use own::{enter, is_a_plugins, start};
