//! The contract's types as they cross the boundary: the same fields in a fixed layout.
//!
//! Conversions move; only the struct's own bytes are copied, never a payload.

use std::time::Duration;

use abi_stable::{
    StableAbi,
    std_types::{ROption, RResult, RString, RVec, Tuple2},
};

use crate::{
    ErrorClass, Payload, Record, Status, StoreError, Text, Timestamp, Write, WriteMode,
    WriteOutcome,
};

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiRecord {
    job_id: Text,
    queue: Text,
    function: Text,
    worker: Text,
    error: ROption<Text>,
    attempt: u32,
    status: u8,
    enqueued_at: ROption<Timestamp>,
    started_at: ROption<Timestamp>,
    finished_at: ROption<Timestamp>,
    updated_at: ROption<Timestamp>,
    heartbeat_at: ROption<Timestamp>,
    expires_at: ROption<Timestamp>,
    duration_us: ROption<u64>,
    args: Payload,
    kwargs: Payload,
    result: Payload,
    progress: Payload,
    extra: RVec<Tuple2<Text, Payload>>,
}

impl AbiRecord {
    pub(crate) fn id_and_status(self) -> (Text, u8) {
        (self.job_id, self.status)
    }
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiWrite {
    record: AbiRecord,
    mode: u8,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiError {
    class: u8,
    message: RString,
}

/// A result as it crosses the boundary.
pub(crate) type AbiResult<T> = RResult<T, AbiError>;
/// Results per item as they cross the boundary.
pub(crate) type AbiBatch<T> = RVec<AbiResult<T>>;
/// A record for each item, where there is one.
pub(crate) type AbiRecords = AbiBatch<ROption<AbiRecord>>;
/// A status for each item, where there is one.
pub(crate) type AbiStatuses = AbiBatch<ROption<u8>>;

/// A byte outside the range that this side knows: the two sides disagree, or the plugin is broken.
fn unknown_code(what: &str, code: u8) -> StoreError {
    StoreError::internal(format!(
        "the store answered with an unknown {what} ({code})"
    ))
}

pub(crate) const fn status_to_abi(status: Status) -> u8 {
    match status {
        Status::Queued => 0,
        Status::InProgress => 1,
        Status::Retrying => 2,
        Status::Completed => 3,
        Status::Failed => 4,
        Status::Aborted => 5,
    }
}

pub(crate) fn status_from_abi(code: u8) -> Result<Status, StoreError> {
    Status::ALL
        .get(usize::from(code))
        .copied()
        .ok_or_else(|| unknown_code("status", code))
}

pub(crate) const fn outcome_to_abi(outcome: WriteOutcome) -> u8 {
    match outcome {
        WriteOutcome::Written => 0,
        WriteOutcome::Stale => 1,
    }
}

pub(crate) fn outcome_from_abi(code: u8) -> Result<WriteOutcome, StoreError> {
    match code {
        0 => Ok(WriteOutcome::Written),
        1 => Ok(WriteOutcome::Stale),
        _ => Err(unknown_code("write outcome", code)),
    }
}

const fn mode_to_abi(mode: WriteMode) -> u8 {
    match mode {
        WriteMode::IfNewer => 0,
        WriteMode::IfAbsent => 1,
        WriteMode::Always => 2,
    }
}

fn mode_from_abi(code: u8) -> Result<WriteMode, StoreError> {
    match code {
        0 => Ok(WriteMode::IfNewer),
        1 => Ok(WriteMode::IfAbsent),
        2 => Ok(WriteMode::Always),
        _ => Err(unknown_code("write mode", code)),
    }
}

const fn class_to_abi(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Unavailable => 0,
        ErrorClass::Conflict => 1,
        ErrorClass::TooLarge => 2,
        ErrorClass::InvalidConfig => 3,
        ErrorClass::CorruptData => 4,
        ErrorClass::Unsupported => 5,
        ErrorClass::Internal => 6,
    }
}

/// A class that a later contract adds reads as `internal`.
fn class_from_abi(code: u8) -> ErrorClass {
    ErrorClass::ALL
        .get(usize::from(code))
        .copied()
        .unwrap_or(ErrorClass::Internal)
}

impl From<StoreError> for AbiError {
    fn from(error: StoreError) -> Self {
        Self {
            class: class_to_abi(error.class()),
            message: error.message().into(),
        }
    }
}

impl From<AbiError> for StoreError {
    fn from(error: AbiError) -> Self {
        Self::new(class_from_abi(error.class), error.message.into_string())
    }
}

// The conversions of records are inlined: a record is some 500 bytes, and a call of a function for
// it costs copies of the whole.

impl From<Record> for AbiRecord {
    #[inline(always)]
    fn from(record: Record) -> Self {
        Self {
            job_id: record.job_id,
            queue: record.queue,
            function: record.function,
            worker: record.worker,
            error: record.error.into(),
            attempt: record.attempt,
            status: status_to_abi(record.status),
            enqueued_at: record.enqueued_at.into(),
            started_at: record.started_at.into(),
            finished_at: record.finished_at.into(),
            updated_at: record.updated_at.into(),
            heartbeat_at: record.heartbeat_at.into(),
            expires_at: record.expires_at.into(),
            duration_us: record
                .duration
                .map(|duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
                .into(),
            args: record.args,
            kwargs: record.kwargs,
            result: record.result,
            progress: record.progress,
            extra: extra_to_abi(record.extra),
        }
    }
}

#[inline(always)]
fn extra_to_abi(extra: Vec<(Text, Payload)>) -> RVec<Tuple2<Text, Payload>> {
    if extra.is_empty() {
        // Nearly always.
        return RVec::new();
    }
    extra.into_iter().map(Tuple2::from).collect()
}

impl TryFrom<AbiRecord> for Record {
    type Error = StoreError;

    #[inline(always)]
    fn try_from(record: AbiRecord) -> Result<Self, StoreError> {
        Ok(Self {
            job_id: record.job_id,
            status: status_from_abi(record.status)?,
            attempt: record.attempt,
            queue: record.queue,
            function: record.function,
            worker: record.worker,
            enqueued_at: record.enqueued_at.into_option(),
            started_at: record.started_at.into_option(),
            finished_at: record.finished_at.into_option(),
            updated_at: record.updated_at.into_option(),
            heartbeat_at: record.heartbeat_at.into_option(),
            expires_at: record.expires_at.into_option(),
            duration: record.duration_us.into_option().map(Duration::from_micros),
            error: record.error.into_option(),
            args: record.args,
            kwargs: record.kwargs,
            result: record.result,
            progress: record.progress,
            extra: extra_from_abi(record.extra),
        })
    }
}

#[inline(always)]
fn extra_from_abi(extra: RVec<Tuple2<Text, Payload>>) -> Vec<(Text, Payload)> {
    if extra.is_empty() {
        return Vec::new();
    }
    extra.into_iter().map(<(Text, Payload)>::from).collect()
}

impl From<Write> for AbiWrite {
    #[inline(always)]
    fn from(write: Write) -> Self {
        Self {
            mode: mode_to_abi(write.mode),
            record: write.record.into(),
        }
    }
}

impl TryFrom<AbiWrite> for Write {
    type Error = StoreError;

    #[inline(always)]
    fn try_from(write: AbiWrite) -> Result<Self, StoreError> {
        Ok(Self {
            mode: mode_from_abi(write.mode)?,
            record: write.record.try_into()?,
        })
    }
}
