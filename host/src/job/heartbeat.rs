//! Signs of life of a running job: its worker writes the job's record anew, again and again.

use std::time::Duration;

use warren_plugin_api::{Record, Status, Timestamp};

/// How often a worker shows that it still runs a job.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// A worker that was silent for this long, three heartbeats, is gone, or cannot reach the store.
pub const GONE_AFTER: Duration = Duration::from_secs(30);

/// For how long nothing has been heard of the worker that runs the job of `record`; `None` when no
/// worker runs it. As exact as the clocks of the two machines agree.
pub fn worker_silence(record: &Record, now: Timestamp) -> Option<Duration> {
    if record.status != Status::InProgress || record.worker.is_empty() {
        return None;
    }
    let heard_at = record.heartbeat_at.or(record.started_at)?;
    Some(now.saturating_duration_since(heard_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_worker_that_runs_the_job_can_be_silent() {
        let running = Record {
            status: Status::InProgress,
            worker: "w".into(),
            started_at: Some(Timestamp::from_unix_us(0)),
            heartbeat_at: Some(Timestamp::from_unix_us(2_000_000)),
            ..Record::default()
        };
        let now = Timestamp::from_unix_us(42_000_000);
        let silence = |record: &Record| worker_silence(record, now);
        assert_eq!(silence(&running), Some(Duration::from_secs(40)));
        let ahead = Record {
            heartbeat_at: Some(Timestamp::MAX),
            ..running.clone()
        };
        assert_eq!(silence(&ahead), Some(Duration::ZERO));
        let given_back = Record {
            worker: "".into(),
            ..running.clone()
        };
        let ended = Record {
            status: Status::Completed,
            ..running
        };
        assert_eq!((silence(&given_back), silence(&ended)), (None, None));
    }
}
