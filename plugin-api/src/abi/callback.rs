//! Calls from a plugin into the host: log lines and completions.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use abi_stable::{
    sabi_trait,
    std_types::{RBox, RStr},
};

use crate::{Completion, LogLevel, Text, abi::record::status_from_abi};

/// The host as it crosses the boundary.
pub(crate) type HostObject = AbiHost_TO<RBox<()>>;
/// The receiver of completions as it crosses the boundary.
pub(crate) type SinkObject = AbiSink_TO<RBox<()>>;

#[sabi_trait]
pub(crate) trait AbiHost: Send + Sync + 'static {
    /// One log line.
    #[sabi(last_prefix_field)]
    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>);
}

#[sabi_trait]
pub(crate) trait AbiSink: Send + Sync + 'static {
    /// Announcements flow from now on.
    fn ready(&self);

    /// A job ended.
    #[sabi(last_prefix_field)]
    fn completed(&self, job_id: Text, status: u8);
}

/// The host's side of [`AbiHost`]: a panic in the host's logger must not unwind into a plugin.
pub(crate) struct LogFn<F>(pub(crate) F);

impl<F: Fn(LogLevel, &str, &str) + Send + Sync + 'static> AbiHost for LogFn<F> {
    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>) {
        let call = || (self.0)(LogLevel::from_abi(level), target.as_str(), message.as_str());
        let _ = catch_unwind(AssertUnwindSafe(call));
    }
}

/// The host's side of [`AbiSink`].
pub(crate) struct SinkFns<R, C> {
    pub(crate) ready: R,
    pub(crate) completed: C,
}

impl<R, C> AbiSink for SinkFns<R, C>
where
    R: Fn() + Send + Sync + 'static,
    C: Fn(Completion) + Send + Sync + 'static,
{
    fn ready(&self) {
        let _ = catch_unwind(AssertUnwindSafe(|| (self.ready)()));
    }

    fn completed(&self, job_id: Text, status: u8) {
        let Ok(status) = status_from_abi(status) else {
            return;
        };
        let call = || (self.completed)(Completion { job_id, status });
        let _ = catch_unwind(AssertUnwindSafe(call));
    }
}

/// Passes a shared host on by value, as a call over the boundary needs it.
#[cfg(feature = "host")]
pub(crate) struct SharedHost(pub(crate) Arc<HostObject>);

#[cfg(feature = "host")]
impl AbiHost for SharedHost {
    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>) {
        self.0.log(level, target, message);
    }
}

/// Passes a shared sink on by value.
pub(crate) struct SharedSink(pub(crate) Arc<SinkObject>);

impl AbiSink for SharedSink {
    fn ready(&self) {
        self.0.ready();
    }

    fn completed(&self, job_id: Text, status: u8) {
        self.0.completed(job_id, status);
    }
}
