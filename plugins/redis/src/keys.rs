//! The names of everything that is kept in Redis.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use warren_plugin_api::{Text, Timestamp};

/// Keys under one prefix. The first three are those of rabbitmq-arq, the others Warren's own.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    db: i64,
    /// Nobody else's.
    own: String,
    staged: Arc<AtomicU64>,
}

impl Keys {
    pub(crate) fn new(prefix: String, db: i64) -> Self {
        let random = || RandomState::new().hash_one(0);
        Self {
            prefix,
            db,
            own: format!("{:016x}{:016x}", random(), random()),
            staged: Arc::default(),
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The record, as JSON.
    pub(crate) fn result(&self, job_id: &str) -> String {
        self.key(":result:", job_id, "")
    }

    /// The status alone, as a bare word.
    pub(crate) fn status(&self, job_id: &str) -> String {
        self.key(":status:", job_id, "")
    }

    /// The set of a queue's job ids.
    pub(crate) fn queue(&self, queue: &str) -> String {
        self.key(":queue:", queue, ":results")
    }

    /// Sorted set of [`Member`]s, all with one score: ordered by the time of acceptance.
    pub(crate) fn scan_index(&self) -> String {
        self.key(":warren:scan", "", "")
    }

    /// Sorted set of [`Member`]s by the millisecond in which their expiry is to be looked at.
    pub(crate) fn expiry_index(&self) -> String {
        self.key(":warren:expiry", "", "")
    }

    /// A new key, where a large record waits until the script has decided about it.
    pub(crate) fn staged(&self) -> String {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        self.key(":warren:staged:", &self.own, &format!(":{number}"))
    }

    /// The channel on which completions are announced. Channels are common to all databases of a
    /// server, so the number is part of the name.
    pub(crate) fn channel(&self) -> String {
        format!("{}:warren:completed:{}", self.prefix, self.db)
    }

    fn key(&self, kind: &str, name: &str, suffix: &str) -> String {
        [self.prefix.as_str(), kind, name, suffix].concat()
    }
}

/// What stands for a job in the indexes: `<time><length of queue>:<queue><job id>`, where the time
/// is 16 characters that sort as the time of acceptance does. The part before the job id is the
/// index entry that a record carries, so that a script finds its members without a further key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// Everything before the job id.
    pub(crate) index: &'a [u8],
    pub(crate) queue: &'a [u8],
    pub(crate) job_id: &'a str,
}

/// Length of the time at the beginning of a member.
pub(crate) const TIME_LEN: usize = 16;
/// Stands for no time, and sorts before all times.
const NO_TIME: [u8; TIME_LEN] = [b'-'; TIME_LEN];

/// The time as text that sorts as times do.
pub(crate) fn sortable(time: Option<Timestamp>) -> [u8; TIME_LEN] {
    let Some(time) = time else {
        return NO_TIME;
    };
    let mut shifted = time.unix_us().cast_unsigned() ^ (1 << 63);
    let mut text = [0; TIME_LEN];
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(shifted & 0xf) as usize];
        shifted >>= 4;
    }
    text
}

/// The index entry of a record: a member without its job id.
pub(crate) fn index_entry(enqueued_at: Option<Timestamp>, queue: &Text) -> Vec<u8> {
    let length = queue.len().to_string();
    [
        &sortable(enqueued_at),
        length.as_bytes(),
        b":",
        queue.as_bytes(),
    ]
    .concat()
}

impl<'a> Member<'a> {
    /// Takes a member apart; `None` for what no Warren wrote.
    pub(crate) fn parse(member: &'a [u8]) -> Option<Self> {
        let (time, rest) = member.split_at_checked(TIME_LEN)?;
        let is_time = time == NO_TIME
            || time
                .iter()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (length, rest) = rest.split_at_checked(digits)?;
        let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
        let rest = rest.strip_prefix(b":")?;
        let (queue, job_id) = rest.split_at_checked(length)?;
        is_time.then_some(Self {
            index: member.get(..member.len() - job_id.len())?,
            queue,
            job_id: std::str::from_utf8(job_id).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_sort_as_times_do() {
        let times = [
            None,
            Some(Timestamp::MIN),
            Some(Timestamp::from_unix_us(-1)),
            Some(Timestamp::from_unix_us(0)),
            Some(Timestamp::from_unix_us(i64::MAX - 1)),
            Some(Timestamp::MAX),
        ];
        assert!(times.map(sortable).is_sorted());
        assert_eq!(
            times.map(sortable).len(),
            std::collections::BTreeSet::from(times.map(sortable)).len()
        );
    }

    #[test]
    fn a_member_comes_apart_whatever_queue_and_id_are() {
        for (queue, job_id) in [
            ("q", "j"),
            ("", ""),
            ("7:q", "0:j"),
            ("é\0{}*", ":\"\\\n中"),
        ] {
            let index = index_entry(Some(Timestamp::from_unix_us(7)), &queue.into());
            let bytes = [&index, job_id.as_bytes()].concat();
            let member = Member::parse(&bytes).unwrap();
            assert_eq!(member.index, index);
            assert_eq!(member.queue, queue.as_bytes());
            assert_eq!(member.job_id, job_id);
        }
        for other in [
            "",
            "x",
            "----------------",
            "----------------9:q",
            "0123456789abcdefq",
        ] {
            assert_eq!(Member::parse(other.as_bytes()), None, "{other}");
        }
    }
}
