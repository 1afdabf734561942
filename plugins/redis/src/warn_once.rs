//! Warnings about a state that lasts: said once, not at every call.

use std::sync::atomic::{AtomicBool, Ordering};

use warren_plugin_api::HostContext;

/// Says its sentence the first time.
#[derive(Debug, Default)]
pub(crate) struct WarnOnce(AtomicBool);

impl WarnOnce {
    pub(crate) fn warn(&self, host: &HostContext, message: &str) {
        if !self.0.swap(true, Ordering::Relaxed) {
            host.warn(message);
        }
    }

    pub(crate) fn has_warned(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
