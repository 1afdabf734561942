//! What a store may ask of the host that loaded it.

#[cfg(feature = "host")]
use crate::abi::callback::SharedHost;
use std::{fmt, sync::Arc};

use abi_stable::{sabi_trait::TD_Opaque, std_types::RBox};
use serde::{Deserialize, Serialize};

use crate::{
    Record, Status, Text,
    abi::{
        callback::{AbiHost_TO, AbiSink_TO, HostObject, LogFn, SharedSink, SinkFns, SinkObject},
        record::status_to_abi,
    },
};

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For someone who follows single calls.
    Trace,
    /// For someone who looks for a fault.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is wrong and the store copes.
    Warn,
    /// Something is wrong and an operator must act.
    Error,
}

impl LogLevel {
    pub(crate) const fn to_abi(self) -> u8 {
        match self {
            Self::Trace => 0,
            Self::Debug => 1,
            Self::Info => 2,
            Self::Warn => 3,
            Self::Error => 4,
        }
    }

    pub(crate) const fn from_abi(level: u8) -> Self {
        match level {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            _ => Self::Error,
        }
    }
}

/// The host as a store sees it. Cheap to clone; may be kept for the life of the store.
#[derive(Clone)]
pub struct HostContext {
    host: Arc<HostObject>,
}

impl HostContext {
    /// A context that hands log lines to `log(level, target, message)`.
    pub fn new(log: impl Fn(LogLevel, &str, &str) + Send + Sync + 'static) -> Self {
        Self {
            host: Arc::new(AbiHost_TO::from_ptr(RBox::new(LogFn(log)), TD_Opaque)),
        }
    }

    pub(crate) fn from_object(host: HostObject) -> Self {
        Self {
            host: Arc::new(host),
        }
    }

    #[cfg(feature = "host")]
    pub(crate) fn to_object(&self) -> HostObject {
        AbiHost_TO::from_ptr(RBox::new(SharedHost(Arc::clone(&self.host))), TD_Opaque)
    }

    /// A context that discards everything: for tests of a store alone.
    pub fn silent() -> Self {
        Self::new(|_, _, _| {})
    }

    /// Writes a line to the host's log. `target` says which part of the store speaks.
    pub fn log(&self, level: LogLevel, target: &str, message: &str) {
        self.host.log(level.to_abi(), target.into(), message.into());
    }

    /// Logs that something is wrong and the store copes.
    pub fn warn(&self, message: impl fmt::Display) {
        self.log(LogLevel::Warn, "", &message.to_string());
    }

    /// Logs something worth knowing.
    pub fn info(&self, message: impl fmt::Display) {
        self.log(LogLevel::Info, "", &message.to_string());
    }

    /// Logs something for whoever looks for a fault.
    pub fn debug(&self, message: impl fmt::Display) {
        self.log(LogLevel::Debug, "", &message.to_string());
    }
}

impl fmt::Debug for HostContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostContext")
    }
}

/// A job has ended, says the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The job that ended.
    pub job_id: Text,
    /// How it ended: a terminal status.
    pub status: Status,
    /// Its record, as a read would return it, where the store sends it along.
    pub record: Option<Box<Record>>,
}

/// Takes a store's announcements of ended jobs to the host.
#[derive(Clone)]
pub struct CompletionSink {
    sink: Arc<SinkObject>,
}

impl CompletionSink {
    /// A sink that calls `ready` once announcements flow and `completed` for each of them.
    pub fn new(
        ready: impl Fn() + Send + Sync + 'static,
        completed: impl Fn(Completion) + Send + Sync + 'static,
    ) -> Self {
        Self::with_records(ready, |_| false, completed)
    }

    /// As [`new`](Self::new), with the records of those jobs that `wants_record` names by their
    /// ids, where the store has them at hand.
    pub fn with_records(
        ready: impl Fn() + Send + Sync + 'static,
        wants_record: impl Fn(&str) -> bool + Send + Sync + 'static,
        completed: impl Fn(Completion) + Send + Sync + 'static,
    ) -> Self {
        let fns = SinkFns {
            ready,
            wants_record,
            completed,
        };
        let sink = AbiSink_TO::from_ptr(RBox::new(fns), TD_Opaque);
        Self {
            sink: Arc::new(sink),
        }
    }

    pub(crate) fn from_object(sink: SinkObject) -> Self {
        Self {
            sink: Arc::new(sink),
        }
    }

    pub(crate) fn to_object(&self) -> SinkObject {
        AbiSink_TO::from_ptr(RBox::new(SharedSink(Arc::clone(&self.sink))), TD_Opaque)
    }

    /// Tells the host that every completion from now on will be announced.
    pub fn ready(&self) {
        self.sink.ready();
    }

    /// Announces that a job ended. Does not block.
    pub fn completed(&self, job_id: Text, status: Status) {
        self.sink.completed(job_id, status_to_abi(status));
    }

    /// Whether somebody waits for this job who would read its record next. A store that has the
    /// record at hand answers with [`completed_with`](Self::completed_with). Does not block.
    pub fn wants_record(&self, job_id: &str) -> bool {
        self.sink.wants_record(job_id.into())
    }

    /// Announces that a job ended, and sends the record that a read would return now. Does not
    /// block.
    pub fn completed_with(&self, record: Record) {
        self.sink.completed_with(record.into());
    }
}

impl fmt::Debug for CompletionSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompletionSink")
    }
}
