//! Result stores: where they come from, and the guard around every one of them.
//!
//! The host knows no store by name. A type of store is registered, by a plugin file or by the
//! embedding program, and opened by the name that a configuration gives.

mod breaker;
mod calls;
mod compose;
mod config_check;
mod guard;
mod late_opening;
mod open;
pub mod plugins;
mod registry;
mod report;
mod size_limit;

pub(crate) use breaker::{Breaker, BreakerPolicy};
pub use breaker::{BreakerReport, BreakerState, LastError};
pub use config_check::ConfigProblem;
pub use guard::{Store, StorePolicy};
pub use open::OpenError;
pub use registry::{Origin, RegisterError, StoreRegistry, StoreType, register_store_type};
pub use report::StoreReport;
