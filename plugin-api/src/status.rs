//! The six statuses of a job, and which write may replace which record.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a job stands. The six words are those of rabbitmq-arq, which reads them back.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted by a client, not yet started. Written before the message is published.
    #[default]
    Queued,
    /// A worker is running it.
    InProgress,
    /// An attempt failed and another one will follow.
    Retrying,
    /// It ran and returned a value.
    Completed,
    /// It will not run again: an error, a time-out, an unknown function, an unreadable message.
    Failed,
    /// It was cancelled, or expired before it ran.
    Aborted,
}

impl Status {
    /// All statuses, in the order in which a job passes through them.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::InProgress,
        Self::Retrying,
        Self::Completed,
        Self::Failed,
        Self::Aborted,
    ];

    /// The word that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }

    /// Whether the job has ended: `completed`, `failed` or `aborted`.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Aborted)
    }

    /// How far a job has come within one attempt: 0 `queued`, 1 `in_progress`, 2 `retrying`,
    /// 3 ended. Stores that keep the guard as data (a column, a script argument) use this number.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::InProgress => 1,
            Self::Retrying => 2,
            Self::Completed | Self::Failed | Self::Aborted => 3,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is not one of the six statuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown status {found:?}: expected queued, in_progress, retrying, completed, failed or aborted"
)]
pub struct UnknownStatus {
    /// The word that was found.
    pub found: String,
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| UnknownStatus {
                found: word.chars().take(64).collect(),
            })
    }
}

/// The position of a record in the life of its job: what a store compares to refuse stale writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// 1-based count of runs.
    pub attempt: u32,
    /// Status within that attempt.
    pub status: Status,
}

impl Version {
    /// Whether a write of this version may replace a live record of version `stored`
    /// under [`WriteMode::IfNewer`](crate::WriteMode::IfNewer).
    ///
    /// In words: a later attempt replaces an earlier one; within one attempt the status only
    /// advances, except that a status that has not ended may be refreshed; an ended job is never
    /// `queued` again, whatever the attempt; and the first ending of an attempt stays.
    pub const fn replaces(self, stored: Self) -> bool {
        if matches!(self.status, Status::Queued) && stored.status.is_terminal() {
            return false;
        }
        if self.attempt != stored.attempt {
            return self.attempt > stored.attempt;
        }
        let (new, old) = (self.status.rank(), stored.status.rank());
        new > old || (new == old && !self.status.is_terminal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn version(attempt: u32, status: Status) -> Version {
        Version { attempt, status }
    }

    #[test]
    fn words_round_trip() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("done".parse::<Status>().is_err());
    }

    #[test]
    fn an_ended_attempt_is_never_replaced_by_the_same_or_an_older_attempt() {
        for ended in Status::ALL
            .into_iter()
            .filter(|status| status.is_terminal())
        {
            for status in Status::ALL {
                assert!(!version(2, status).replaces(version(2, ended)));
                assert!(!version(1, status).replaces(version(2, ended)));
            }
        }
    }

    #[test]
    fn queued_never_replaces_an_ended_job() {
        assert!(!version(9, Status::Queued).replaces(version(1, Status::Failed)));
        assert!(version(9, Status::InProgress).replaces(version(1, Status::Failed)));
    }

    #[test]
    fn a_running_job_may_be_refreshed() {
        assert!(version(1, Status::InProgress).replaces(version(1, Status::InProgress)));
        assert!(!version(1, Status::InProgress).replaces(version(1, Status::Retrying)));
    }
}
