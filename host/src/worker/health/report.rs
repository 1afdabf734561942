//! How a worker is, in a shape for people and programs.

use serde::Serialize;

use crate::{
    broker::ConnectionState,
    store::{BreakerState, StoreReport},
    worker::{
        WhenFull, WorkerReport,
        live::{Live, Phase, is_up},
    },
};

/// How a worker is.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// In one word.
    pub status: HealthStatus,
    /// Whether it goes on: one that does not is to be started again.
    pub live: bool,
    /// Whether it takes jobs.
    pub ready: bool,
    /// The worker's id, as records name it.
    pub worker: String,
    /// The version of Warren.
    pub version: &'static str,
    /// When it was set up, in RFC 3339.
    pub started_at: String,
    /// For how long it has been there.
    pub uptime_seconds: f64,
    /// The broker.
    pub broker: BrokerHealth,
    /// The jobs.
    pub jobs: JobsHealth,
    /// The result store.
    pub store: StoreReport,
    /// The spool.
    pub spool: SpoolHealth,
    /// What it has done so far.
    pub counts: WorkerReport,
}

/// How a worker is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// It takes jobs and stores their results.
    Ok,
    /// It takes jobs, but something is wrong: their results are spooled, or part of the store is
    /// away, or the broker takes no messages.
    Degraded,
    /// It takes no jobs now.
    NotReady,
    /// It has ended.
    Ended,
}

/// The connection to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BrokerHealth {
    /// Whether it can be used.
    pub state: ConnectionState,
    /// How often it was lost.
    pub connection_losses: u64,
}

/// Whether jobs are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JobsHealth {
    /// Whether they are. One that runs as many as it may still counts as taking them.
    pub taken: bool,
    /// Why they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_taken_because: Option<NotTaking>,
    /// How many run.
    pub running: u64,
    /// How many may run at once.
    pub concurrency: u64,
    /// The queues they come from.
    pub queues: Vec<String>,
}

/// Why a worker takes no jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotTaking {
    /// It has not begun yet.
    Starting,
    /// It lets its last jobs finish.
    Stopping,
    /// It has ended.
    Ended,
    /// The connection to the broker is lost, or was closed.
    BrokerAway,
    /// The store is down and the spool takes no more.
    SpoolFull,
}

/// Where results wait for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SpoolHealth {
    /// How many wait.
    pub records: u64,
    /// The bytes that they occupy.
    pub bytes: u64,
    /// Whether they survive the process.
    pub durable: bool,
    /// Results for which there is no room: their messages are unanswered.
    pub no_room_for: u64,
}

impl HealthReport {
    pub(super) fn of(live: &Live) -> Self {
        let counts = live.stats.report();
        let store = live.store.report();
        let broker = BrokerHealth {
            state: *live.broker.borrow(),
            connection_losses: live.connection_losses.get(),
        };
        let spool = SpoolHealth {
            records: live.spool.len() as u64,
            bytes: live.spool.size_bytes(),
            durable: live.spool.is_durable(),
            no_room_for: counts.results_waiting,
        };
        let not_taken_because = why_not(live, broker.state, spool);
        let is_troubled = any_open(&store)
            || spool.records > 0
            || broker.state == ConnectionState::Blocked
            || spool.no_room_for > 0;
        let status = match not_taken_because {
            Some(NotTaking::Ended) => HealthStatus::Ended,
            Some(_) => HealthStatus::NotReady,
            None if is_troubled => HealthStatus::Degraded,
            None => HealthStatus::Ok,
        };
        Self {
            status,
            live: status != HealthStatus::Ended,
            ready: not_taken_because.is_none(),
            worker: live.worker.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            started_at: live.started_at.to_string(),
            uptime_seconds: live.began.elapsed().as_secs_f64(),
            broker,
            jobs: JobsHealth {
                taken: not_taken_because.is_none(),
                not_taken_because,
                running: counts.running,
                concurrency: live.concurrency as u64,
                queues: live.queues.clone(),
            },
            store,
            spool,
            counts,
        }
    }
}

fn why_not(live: &Live, broker: ConnectionState, spool: SpoolHealth) -> Option<NotTaking> {
    match live.phase() {
        Phase::Starting => Some(NotTaking::Starting),
        Phase::Stopping => Some(NotTaking::Stopping),
        Phase::Ended => Some(NotTaking::Ended),
        Phase::Running if !is_up(broker) => Some(NotTaking::BrokerAway),
        Phase::Running if spool.no_room_for > 0 && live.when_full == WhenFull::Stop => {
            Some(NotTaking::SpoolFull)
        }
        Phase::Running => None,
    }
}

/// Whether the store, or one that it is made of, is not used or not open.
fn any_open(store: &StoreReport) -> bool {
    let breaker = store.breaker.as_ref();
    let is_closed = breaker.is_none_or(|breaker| breaker.state == BreakerState::Closed);
    !is_closed || !store.is_open || store.members.iter().any(any_open)
}
