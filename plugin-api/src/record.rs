//! What is stored about a job, and how it is written and listed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Payload, Status, Text, Timestamp, Version};

/// Everything that is kept about one job.
///
/// The index fields are typed, so that a store can filter by them. The payloads (`args`,
/// `kwargs`, `result`, `progress`) are opaque bytes, JSON by convention, that a store keeps as
/// they are: any byte string must come back unchanged.
///
/// It implements serde's traits, for stores that keep a record as one value in a format of their
/// choice; a field that is missing there is at its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The job's id: 1 to 1,024 bytes of any text.
    pub job_id: Text,
    /// Where the job stands.
    pub status: Status,
    /// 1-based count of runs; on the wire `job_try`, in Python's records `retry_count + 1`.
    pub attempt: u32,
    /// The queue the job was sent to.
    pub queue: Text,
    /// The name of the function to run.
    pub function: Text,
    /// The worker that wrote this record; empty while none has taken the job.
    pub worker: Text,
    /// When a client accepted the job. The time by which [`Filter`] and scans order records.
    pub enqueued_at: Option<Timestamp>,
    /// When the current attempt started.
    pub started_at: Option<Timestamp>,
    /// When the current attempt ended.
    pub finished_at: Option<Timestamp>,
    /// When this version of the record was made.
    pub updated_at: Option<Timestamp>,
    /// When the running worker last said that it is alive.
    pub heartbeat_at: Option<Timestamp>,
    /// When the record is to disappear; `None` keeps it until it is deleted.
    pub expires_at: Option<Timestamp>,
    /// How long the current attempt ran, in whole microseconds.
    pub duration: Option<Duration>,
    /// Why the job failed, was aborted or is being retried: `Type: message`.
    pub error: Option<Text>,
    /// Positional arguments, a JSON array.
    pub args: Payload,
    /// Named arguments, a JSON object.
    pub kwargs: Payload,
    /// What the job returned, any JSON value; empty while there is none.
    pub result: Payload,
    /// The latest progress that a running job reported; empty when it reported none.
    pub progress: Payload,
    /// Further named values, kept and returned as they are, in order. Room for later versions
    /// of Warren to add a field without a new contract.
    pub extra: Vec<(Text, Payload)>,
}

impl Record {
    /// The position of this record in the life of its job.
    pub const fn version(&self) -> Version {
        Version {
            attempt: self.attempt,
            status: self.status,
        }
    }

    /// What a later write is compared with: see [`Write::may_replace`].
    pub const fn version_and_expiry(&self) -> (Version, Option<Timestamp>) {
        (self.version(), self.expires_at)
    }

    /// Whether the record has expired at `now`. An expired record is as good as absent:
    /// it is never returned, and any write may take its place.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Bytes of all payloads, texts and errors together: what a store's size limit counts.
    pub fn size_bytes(&self) -> usize {
        let extra: usize = self
            .extra
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.job_id.len()
            + self.queue.len()
            + self.function.len()
            + self.worker.len()
            + self.error.as_ref().map_or(0, |error| error.len())
            + self.args.len()
            + self.kwargs.len()
            + self.result.len()
            + self.progress.len()
            + extra
    }
}

/// When a write takes effect. In every mode the check and the write are one atomic step, and a
/// record that has expired counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// If there is no record, or [`Version::replaces`] says that the new one is later.
    #[default]
    IfNewer,
    /// Only if there is no record: how a client claims a unique job id.
    IfAbsent,
    /// Always: how an operator's import or a client's explicit "replace" writes.
    Always,
}

impl WriteMode {
    /// [`Write::may_replace`], for a store that has taken the write apart: whether a record of
    /// version `new` takes effect.
    pub fn may_replace(
        self,
        new: Version,
        stored: Option<(Version, Option<Timestamp>)>,
        now: Timestamp,
    ) -> bool {
        let Some((version, expires_at)) = stored else {
            return true;
        };
        if expires_at.is_some_and(|expires_at| expires_at <= now) {
            return true;
        }
        match self {
            Self::IfNewer => new.replaces(version),
            Self::IfAbsent => false,
            Self::Always => true,
        }
    }
}

/// One record to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The whole new record.
    pub record: Record,
    /// When the write takes effect.
    pub mode: WriteMode,
}

impl Write {
    /// Whether this write takes effect at `now` over what is `stored`: the version and the expiry
    /// of the record that is there, expired or not, or `None`.
    ///
    /// The whole rule in one place, for stores that decide in their own process. A store that
    /// decides in its backend (SQL, a script) must come to the same answer.
    pub fn may_replace(
        &self,
        stored: Option<(Version, Option<Timestamp>)>,
        now: Timestamp,
    ) -> bool {
        self.mode.may_replace(self.record.version(), stored, now)
    }
}

impl From<Record> for Write {
    /// A write under [`WriteMode::IfNewer`].
    fn from(record: Record) -> Self {
        Self {
            record,
            mode: WriteMode::IfNewer,
        }
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The record is stored as given.
    Written,
    /// The stored record stays: it is later (or, under [`WriteMode::IfAbsent`], exists).
    Stale,
}

/// Which records a scan returns. An empty list or `None` does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Any of these statuses.
    pub statuses: Vec<Status>,
    /// This queue.
    pub queue: Option<Text>,
    /// This function.
    pub function: Option<Text>,
    /// Accepted at or after this time.
    pub enqueued_from: Option<Timestamp>,
    /// Accepted before this time.
    pub enqueued_before: Option<Timestamp>,
    /// Leave `args`, `kwargs`, `result`, `progress` and `extra` empty: for listings.
    pub without_payloads: bool,
}

impl Filter {
    /// Whether `record` passes. A record without `enqueued_at` passes no time limit.
    pub fn matches(&self, record: &Record) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&record.status))
            && self
                .queue
                .as_ref()
                .is_none_or(|queue| *queue == record.queue)
            && self
                .function
                .as_ref()
                .is_none_or(|function| *function == record.function)
            && self
                .enqueued_from
                .is_none_or(|from| record.enqueued_at.is_some_and(|time| time >= from))
            && self
                .enqueued_before
                .is_none_or(|before| record.enqueued_at.is_some_and(|time| time < before))
    }

    /// Empties what `without_payloads` asks to leave out.
    pub fn trim(&self, record: &mut Record) {
        if self.without_payloads {
            record.args = Payload::empty();
            record.kwargs = Payload::empty();
            record.result = Payload::empty();
            record.progress = Payload::empty();
            record.extra = Vec::new();
        }
    }
}

/// Where a scan goes on. Made by a store and understood by it alone; plain text, so that a
/// command line can print it and take it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// One page of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The matching records of this page. May be fewer than asked for, even none, before the end.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}
