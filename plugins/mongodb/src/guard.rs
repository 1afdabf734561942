//! Which stored document a write may replace, as a condition that the server checks in the step
//! in which it writes: `Write::may_replace` in MongoDB's words.
//!
//! The condition is a range of one field beside the key, which every server answers by the key
//! alone. So what has expired is not part of the first try: it is found out when that is refused.

use mongodb::bson::{Document, doc};
use warren_plugin_api::{Status, Timestamp, Version, Write, WriteMode};

use crate::document::{EXPIRES_AT, ID, STATUS, VERSION};

/// What a write is to take the place of, where something is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// An earlier version, or whatever is there (`Always`).
    Earlier,
    /// A record that has expired, of any version.
    Expired,
}

/// Matches the document of the job where the write may take its place.
pub(crate) fn condition(write: &Write, over: Over, now: Timestamp) -> Document {
    let mut condition = doc! { ID: write.record.job_id.as_str() };
    match (write.mode, over) {
        (WriteMode::Always, _) => {}
        (WriteMode::IfAbsent, _) | (_, Over::Expired) => {
            condition.insert(EXPIRES_AT, doc! { "$lte": now.unix_us() });
        }
        (WriteMode::IfNewer, Over::Earlier) => earlier(write.record.version(), &mut condition),
    }
    condition
}

fn earlier(version: Version, condition: &mut Document) {
    // The first ending of an attempt stays, what has not ended may be refreshed.
    let bound = if version.status.is_terminal() {
        "$lt"
    } else {
        "$lte"
    };
    condition.insert(VERSION, doc! { bound: version_number(version) });
    // An ended job is never queued again, whatever the attempt.
    if version.status == Status::Queued {
        let open: Vec<&str> = Status::ALL
            .into_iter()
            .filter(|status| !status.is_terminal())
            .map(|status| status.as_str())
            .collect();
        condition.insert(STATUS, doc! { "$in": open });
    }
}

/// A version as one number that grows as the job comes on: the attempt, and in its last two bits
/// the rank of the status.
pub(crate) fn version_number(version: Version) -> i64 {
    i64::from(version.attempt) << 2 | i64::from(version.status.rank())
}

/// Matches what has not expired; also what has a broken expiry, so that it can be deleted.
pub(crate) fn live(now: Timestamp) -> Document {
    doc! { EXPIRES_AT: { "$not": { "$lte": now.unix_us() } } }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::Bson;
    use warren_plugin_api::Record;

    use super::*;

    /// What the server is to make of a condition over an earlier version.
    fn matches(condition: &Document, stored: Version) -> bool {
        let number = version_number(stored);
        let range = condition.get_document(VERSION).unwrap();
        let is_in_range = match range.get_i64("$lt") {
            Ok(bound) => number < bound,
            Err(_) => number <= range.get_i64("$lte").unwrap(),
        };
        let word = Bson::from(stored.status.as_str());
        let is_open = match condition.get_document(STATUS) {
            Ok(open) => open.get_array("$in").unwrap().contains(&word),
            Err(_) => true,
        };
        is_in_range && is_open
    }

    #[test]
    fn the_condition_says_what_the_contract_says() {
        let now = Timestamp::from_unix_us(5);
        for status in Status::ALL {
            for attempt in [0, 1, 2, 3, u32::MAX - 1, u32::MAX] {
                let record = Record {
                    status,
                    attempt,
                    ..Record::default()
                };
                let write = Write {
                    record,
                    mode: WriteMode::IfNewer,
                };
                let condition = condition(&write, Over::Earlier, now);
                for stored_status in Status::ALL {
                    for stored_attempt in [0, 1, 2, 3, u32::MAX - 1, u32::MAX] {
                        let stored = Version {
                            attempt: stored_attempt,
                            status: stored_status,
                        };
                        assert_eq!(
                            matches(&condition, stored),
                            write.may_replace(Some((stored, None)), now),
                            "{status} {attempt} over {stored:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_has_expired_is_matched_in_every_mode() {
        let now = Timestamp::from_unix_us(5);
        let expired = doc! { ID: "", EXPIRES_AT: { "$lte": 5_i64 } };
        let of = |mode, over| {
            let record = Record::default();
            condition(&Write { record, mode }, over, now)
        };
        assert_eq!(of(WriteMode::IfNewer, Over::Expired), expired);
        assert_eq!(of(WriteMode::IfAbsent, Over::Expired), expired);
        assert_eq!(of(WriteMode::IfAbsent, Over::Earlier), expired);
        assert_eq!(of(WriteMode::Always, Over::Expired), doc! { ID: "" });
    }
}
