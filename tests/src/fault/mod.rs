//! Breaking things while jobs run, and counting what became of each job.
//!
//! A [`Scenario`] is a name and a function that gets a [`Round`]: servers behind proxies, a
//! configuration, a seeded source of chance. It starts workers and load, breaks something at
//! random moments, mends it, and leaves the counting to [`Round::count`]: every job that was sent
//! must have one result, and that must be what the job itself wrote into the [`Ledger`].

mod check;
mod ledger;
mod load;
mod round;
mod scenario;

pub use check::Counts;
pub use ledger::{Ledger, Run};
pub use load::{Load, Mix};
pub use round::{Round, StoreKind};
pub use scenario::{Repeats, Row, Scenario, Settings, print_table, run_scenario};
