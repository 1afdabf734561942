//! What there is to say about a store and its calls.

use std::sync::Arc;

use serde::Serialize;

use super::{BreakerReport, Store, breaker::Breaker};

/// What became of a store's calls, in this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoreReport {
    /// The store's type.
    #[serde(rename = "type")]
    pub store_type: String,
    /// Its part in the store that is made of it, such as `primary`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Whether it could be opened yet.
    #[serde(rename = "open")]
    pub is_open: bool,
    /// Whether it is used; `None` where nobody decides about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerReport>,
    /// Calls that were made.
    pub calls: u64,
    /// Calls that gave no answer within the deadline.
    pub calls_timed_out: u64,
    /// Calls whose turn did not come within the deadline, because too many were under way.
    pub calls_busy: u64,
    /// Calls that are under way.
    pub calls_in_flight: u64,
    /// How many may be under way.
    pub max_concurrent_calls: u32,
    /// The stores that it is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<StoreReport>,
}

/// A store within another, as seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct MemberHandle {
    /// Its part in the whole.
    pub(crate) part: String,
    pub(crate) store: Store,
    pub(crate) breaker: Arc<Breaker>,
}

impl MemberHandle {
    pub(crate) fn report(&self) -> StoreReport {
        StoreReport {
            part: Some(self.part.clone()),
            breaker: Some(self.breaker.report()),
            ..self.store.report()
        }
    }
}
