//! How a worker is: for people and probes as a report, for Prometheus as metrics, and for both
//! over HTTP.

mod metrics;
mod report;
mod server;

use std::sync::Arc;

pub use report::{BrokerHealth, HealthReport, HealthStatus, JobsHealth, NotTaking, SpoolHealth};
pub use server::{HealthError, HealthServer};

use super::live::Live;

/// How a worker is, at any time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerHealth {
    live: Arc<Live>,
}

impl WorkerHealth {
    pub(super) const fn of(live: Arc<Live>) -> Self {
        Self { live }
    }

    /// How it is now.
    pub fn report(&self) -> HealthReport {
        HealthReport::of(&self.live)
    }

    /// Its figures in Prometheus' text format, version 0.0.4. How long calls of the store take is
    /// among them from the first call of this on.
    pub fn metrics(&self) -> String {
        self.live.store.measure();
        metrics::encode(&self.live)
    }
}
