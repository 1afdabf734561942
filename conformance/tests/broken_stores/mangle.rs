//! Defects that change what is stored.

use std::{collections::BTreeMap, time::Duration};

use warren_plugin_api::{Payload, Record, Text, Timestamp};

use crate::defect::Defect;

/// The key under which a record is kept.
pub fn mangled_id(defect: Option<Defect>, id: &Text) -> Text {
    match defect {
        Some(Defect::IgnoresCase) => id.to_lowercase().into(),
        Some(Defect::TrimsIds) => id.trim().into(),
        Some(Defect::CutsIds) => id.chars().take(255).collect::<String>().into(),
        _ => id.clone(),
    }
}

/// The record as it is kept.
pub fn mangled(defect: Option<Defect>, mut record: Record) -> Record {
    let Some(defect) = defect else {
        return record;
    };
    let result = &record.result;
    match defect {
        Defect::LosesHeartbeat => record.heartbeat_at = None,
        Defect::InventsWorker if record.worker.is_empty() => record.worker = "pending".into(),
        Defect::DecodesPayloads => {
            record.result = String::from_utf8_lossy(result).into_owned().into();
        }
        Defect::TrimsPayloads => record.result = Payload::from(result.trim_ascii()),
        Defect::NullIsNothing if result.as_slice() == b"null" => record.result = Payload::empty(),
        Defect::DropsNul => record.function = record.function.replace('\0', "").into(),
        Defect::EmptyErrorIsNone => record.error = record.error.filter(|error| !error.is_empty()),
        Defect::CutsTimes => {
            record.enqueued_at = record
                .enqueued_at
                .map(|time| Timestamp::from_unix_us(time.unix_us() / 1_000 * 1_000));
        }
        Defect::FloatDurations => {
            record.duration = record
                .duration
                .map(|duration| Duration::from_micros((duration.as_secs_f64() * 1e6) as u64));
        }
        Defect::SignedAttempts => record.attempt = record.attempt.min(i32::MAX as u32),
        Defect::SortsExtra => record.extra.sort_by(|(a, _), (b, _)| a.cmp(b)),
        Defect::LosesExtra => record.extra.clear(),
        Defect::ExtraIsAMap => {
            let mut last: BTreeMap<Text, usize> = BTreeMap::new();
            for (index, (name, _)) in record.extra.iter().enumerate() {
                last.insert(name.clone(), index);
            }
            let mut index = 0;
            record.extra.retain(|(name, _)| {
                index += 1;
                last.get(name) == Some(&(index - 1))
            });
        }
        Defect::CutsLargeRecords => record.result = result.slice(0..result.len().min(65_536)),
        _ => {}
    }
    record
}
