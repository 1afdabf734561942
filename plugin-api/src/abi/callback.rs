//! Calls from a plugin into the host: log lines and completions.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use abi_stable::{
    sabi_trait,
    std_types::{RBox, RStr},
};

use crate::{
    Completion, LogLevel, Record, Text,
    abi::record::{AbiRecord, status_from_abi},
};

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

    /// Whether the job's record is wanted with the word that it ended. Since contract 1.1.
    fn wants_record(&self, job_id: RStr<'_>) -> bool {
        let _ = job_id;
        false
    }

    /// A job ended, with this record. Since contract 1.1.
    fn completed_with(&self, record: AbiRecord) {
        let (job_id, status) = record.id_and_status();
        self.completed(job_id, status);
    }
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
pub(crate) struct SinkFns<R, W, C> {
    pub(crate) ready: R,
    pub(crate) wants_record: W,
    pub(crate) completed: C,
}

impl<R, W, C> AbiSink for SinkFns<R, W, C>
where
    R: Fn() + Send + Sync + 'static,
    W: Fn(&str) -> bool + Send + Sync + 'static,
    C: Fn(Completion) + Send + Sync + 'static,
{
    fn ready(&self) {
        let _ = catch_unwind(AssertUnwindSafe(|| (self.ready)()));
    }

    fn completed(&self, job_id: Text, status: u8) {
        let Ok(status) = status_from_abi(status) else {
            return;
        };
        let completion = Completion {
            job_id,
            status,
            record: None,
        };
        let _ = catch_unwind(AssertUnwindSafe(|| (self.completed)(completion)));
    }

    fn wants_record(&self, job_id: RStr<'_>) -> bool {
        let call = || (self.wants_record)(job_id.as_str());
        catch_unwind(AssertUnwindSafe(call)).unwrap_or(false)
    }

    fn completed_with(&self, record: AbiRecord) {
        let Ok(record) = Record::try_from(record) else {
            return;
        };
        let completion = Completion {
            job_id: record.job_id.clone(),
            status: record.status,
            record: Some(Box::new(record)),
        };
        let _ = catch_unwind(AssertUnwindSafe(|| (self.completed)(completion)));
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

    fn wants_record(&self, job_id: RStr<'_>) -> bool {
        self.0.wants_record(job_id)
    }

    fn completed_with(&self, record: AbiRecord) {
        self.0.completed_with(record);
    }
}
