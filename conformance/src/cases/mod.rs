//! The cases, one file per group of rules.

mod batches;
mod cancellation;
mod capabilities;
mod cleanup;
mod concurrency;
mod configuration;
mod delete;
mod errors;
mod expiry;
mod guarded_writes;
mod health;
mod identity;
mod lifecycle;
mod limits;
mod push;
mod round_trip;
mod scan;
mod scan_changes;
mod stats;

use crate::case::Case;

pub(crate) const GROUPS: &[&[Case]] = &[
    identity::CASES,
    round_trip::CASES,
    guarded_writes::CASES,
    expiry::CASES,
    batches::CASES,
    scan::CASES,
    scan_changes::CASES,
    cleanup::CASES,
    delete::CASES,
    stats::CASES,
    health::CASES,
    push::CASES,
    limits::CASES,
    errors::CASES,
    configuration::CASES,
    capabilities::CASES,
    concurrency::CASES,
    cancellation::CASES,
    lifecycle::CASES,
];
