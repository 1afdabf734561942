//! How much memory a record keeps occupied, and how to make it less.

use std::{mem::size_of, sync::Arc};

use warren_plugin_api::{Payload, Record, StoreError, StoreResult, Text, Write, WriteMode};

use crate::config::Limits;

/// What a record takes besides its own bytes: the struct itself, the second copy of its id in the
/// id table, nodes of the tables and indexes, and the allocator's rounding. An estimate.
const BOOKKEEPING_BYTES: usize = size_of::<Record>() + 320;
const EXTRA_ENTRY_BYTES: usize = size_of::<(Text, Payload)>() + 32;

/// A write that fits, with what its record will take: all that can be made ready before other
/// callers have to wait for it.
pub(crate) struct Incoming {
    pub(crate) record: Arc<Record>,
    pub(crate) mode: WriteMode,
    /// The record's id once more, for the table of ids.
    pub(crate) job_id: Text,
    pub(crate) bytes: u64,
}

impl Incoming {
    /// Makes a write ready to be kept.
    ///
    /// # Errors
    /// `too_large`
    pub(crate) fn new(mut write: Write, limits: &Limits) -> StoreResult<Self> {
        let size = write.record.size_bytes() as u64;
        if size > limits.max_record_bytes {
            return Err(too_large(
                "has",
                size,
                "max_record_bytes",
                limits.max_record_bytes,
            ));
        }
        release_large_bodies(&mut write.record);
        if footprint(&write.record) > limits.max_bytes {
            release_all_bodies(&mut write.record);
        }
        let bytes = footprint(&write.record);
        if bytes > limits.max_bytes {
            // Only many entries of `extra` get here: each takes room whatever its size.
            return Err(too_large(
                "would take",
                bytes,
                "max_bytes",
                limits.max_bytes,
            ));
        }
        let Write { record, mode } = write;
        Ok(Self {
            job_id: record.job_id.clone(),
            record: Arc::new(record),
            mode,
            bytes,
        })
    }

    /// The record, if the job has ended with it.
    pub(crate) fn ended(&self) -> Option<Arc<Record>> {
        let has_ended = self.record.status.is_terminal();
        has_ended.then(|| Arc::clone(&self.record))
    }
}

fn too_large(verb: &str, bytes: u64, option: &str, limit: u64) -> StoreError {
    StoreError::too_large(format!(
        "the record {verb} {bytes} bytes and the memory store takes {limit}: raise {option}"
    ))
}

/// Bytes that the record keeps allocated, counting a whole allocation for each slice of it.
fn footprint(record: &Record) -> u64 {
    let texts = 2 * record.job_id.len()
        + record.queue.len()
        + record.function.len()
        + record.worker.len()
        + record.error.as_ref().map_or(0, |error| error.len());
    let payloads = record.args.retained_bytes()
        + record.kwargs.retained_bytes()
        + record.result.retained_bytes()
        + record.progress.retained_bytes();
    let extra: usize = record
        .extra
        .iter()
        .map(|(name, value)| EXTRA_ENTRY_BYTES + name.len() + value.retained_bytes())
        .sum();
    (BOOKKEEPING_BYTES + texts + payloads + extra) as u64
}

/// Copies every payload that is a slice of an allocation more than twice its size.
///
/// A worker hands in slices of the message body. Keeping one of them keeps the whole body, so a
/// short argument of a long message is copied, while a body that is nearly all arguments is
/// shared as it is.
fn release_large_bodies(record: &mut Record) {
    copy_where(record, |payload| {
        payload.retained_bytes() > 2 * payload.len()
    });
}

/// Copies every payload that keeps more allocated than it needs.
fn release_all_bodies(record: &mut Record) {
    copy_where(record, |payload| payload.retained_bytes() > payload.len());
}

fn copy_where(record: &mut Record, wasteful: impl Fn(&Payload) -> bool) {
    let extra = record.extra.iter_mut().map(|(_, value)| value);
    [
        &mut record.args,
        &mut record.kwargs,
        &mut record.result,
        &mut record.progress,
    ]
    .into_iter()
    .chain(extra)
    .filter(|payload| wasteful(payload))
    .for_each(|payload| *payload = Payload::from(payload.as_slice()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_args(args: Payload) -> Record {
        Record {
            args,
            ..Record::default()
        }
    }

    #[test]
    fn a_small_slice_lets_its_body_go() {
        let body = Payload::from(vec![b'x'; 1_000]);
        let mut record = with_args(body.slice(10..30));
        let before = footprint(&record);
        release_large_bodies(&mut record);
        assert_eq!(record.args, body.slice(10..30));
        assert_eq!(before - footprint(&record), 980);
    }

    #[test]
    fn a_slice_that_is_most_of_its_body_is_shared() {
        let body = Payload::from(vec![b'x'; 1_000]);
        let mut record = with_args(body.slice(100..900));
        release_large_bodies(&mut record);
        assert_eq!(record.args.as_ptr(), body[100..].as_ptr());
        release_all_bodies(&mut record);
        assert_eq!(record.args.retained_bytes(), 800);
    }

    #[test]
    fn empty_payloads_and_many_extras_are_counted() {
        let plain = footprint(&Record::default());
        let mut record = Record {
            extra: vec![(Text::new(), Payload::empty()); 10],
            ..Record::default()
        };
        release_all_bodies(&mut record);
        assert!(footprint(&record) >= plain + 10 * EXTRA_ENTRY_BYTES as u64);
    }
}
