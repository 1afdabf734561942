//! A record as it is kept in the front: with a seal, and an end of its own.

use warren_plugin_api::{Payload, Record, Text, Timestamp};

use super::Seal;

/// The last named value of a copy.
const NAME: &str = "warren.tiered";

/// The copy of `record` that ends at `until`, or with the record if that is sooner.
pub(super) fn sealed(mut record: Record, seal: Seal, until: Timestamp) -> Record {
    let own_end = record.expires_at;
    let numbers = [
        seal.fences.to_le_bytes(),
        seal.number.to_le_bytes(),
        u64::from(own_end.is_some()).to_le_bytes(),
        own_end.map_or(0, Timestamp::unix_us).to_le_bytes(),
    ];
    let mark = (Text::from(NAME), Payload::from(numbers.concat()));
    record.extra.push(mark);
    record.expires_at = Some(own_end.map_or(until, |own_end| own_end.min(until)));
    record
}

/// The record as it is in the back, and the seal; `None` for what is no copy.
pub(super) fn open(mut copy: Record) -> Option<(Record, Seal)> {
    let (name, mark) = copy.extra.pop()?;
    let (numbers, rest) = mark.as_chunks::<8>();
    let ([fences, number, has_end, own_end], [], NAME) = (numbers, rest, name.as_str()) else {
        return None;
    };
    let has_end = u64::from_le_bytes(*has_end) != 0;
    let own_end = Timestamp::from_unix_us(i64::from_le_bytes(*own_end));
    copy.expires_at = has_end.then_some(own_end);
    let seal = Seal {
        fences: u64::from_le_bytes(*fences),
        number: u64::from_le_bytes(*number),
    };
    Some((copy, seal))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal {
        fences: u64::MAX,
        number: 7,
    };

    #[test]
    fn a_copy_gives_back_the_record_and_ends_no_later_than_it() {
        let until = Timestamp::from_unix_us(1_000);
        for (own_end, copy_end) in [(None, 1_000), (Some(10), 10), (Some(2_000), 1_000)] {
            let record = Record {
                job_id: "a".into(),
                expires_at: own_end.map(Timestamp::from_unix_us),
                extra: vec![("x".into(), "1".into())],
                ..Record::default()
            };
            let copy = sealed(record.clone(), SEAL, until);
            assert_eq!(copy.expires_at, Some(Timestamp::from_unix_us(copy_end)));
            assert_eq!(open(copy), Some((record, SEAL)));
        }
    }

    #[test]
    fn what_is_no_copy_is_not_believed() {
        assert_eq!(open(Record::default()), None);
        for mark in [&b"short"[..], &[0; 40]] {
            let record = Record {
                extra: vec![(NAME.into(), mark.into())],
                ..Record::default()
            };
            assert_eq!(open(record), None);
        }
    }
}
