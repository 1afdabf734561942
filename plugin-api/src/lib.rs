//! The contract between Warren and the stores that keep its jobs' results.
//!
//! A store's author implements [`ResultStore`] for one type and names it in [`export_store!`];
//! built as a `cdylib`, that crate is a plugin which any Warren host loads from a folder:
//!
//! ```
//! use std::{collections::HashMap, sync::Mutex};
//! use warren_plugin_api::{
//!     Capabilities, Health, HostContext, Record, ResultStore, StoreResult, Text, Timestamp,
//!     Write, WriteMode, WriteOutcome,
//! };
//!
//! /// Keeps records in a map.
//! struct MapStore(Mutex<HashMap<Text, Record>>);
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct MapConfig {}
//!
//! impl ResultStore for MapStore {
//!     type Config = MapConfig;
//!     const CAPABILITIES: Capabilities = Capabilities::NONE;
//!
//!     async fn open(_config: MapConfig, _host: HostContext) -> StoreResult<Self> {
//!         Ok(Self(Mutex::default()))
//!     }
//!
//!     async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
//!         let mut records = self.0.lock().unwrap();
//!         let stored = records.get(&write.record.job_id);
//!         if !write.may_replace(stored.map(Record::version_and_expiry), Timestamp::now()) {
//!             return Ok(WriteOutcome::Stale);
//!         }
//!         records.insert(write.record.job_id.clone(), write.record);
//!         Ok(WriteOutcome::Written)
//!     }
//!
//!     async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
//!         let records = self.0.lock().unwrap();
//!         Ok(records.get(&job_id).filter(|record| !record.is_expired(Timestamp::now())).cloned())
//!     }
//!
//!     async fn delete(&self, job_id: Text) -> StoreResult<bool> {
//!         let removed = self.0.lock().unwrap().remove(&job_id);
//!         Ok(removed.is_some_and(|record| !record.is_expired(Timestamp::now())))
//!     }
//!
//!     async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
//!         let mut records = self.0.lock().unwrap();
//!         let expired = records.extract_if(|_, record| record.is_expired(now));
//!         Ok(expired.take(limit as usize).count() as u64)
//!     }
//!
//!     async fn health_check(&self) -> StoreResult<Health> {
//!         Ok(Health { detail: "a map".into(), ..Health::default() })
//!     }
//! }
//!
//! warren_plugin_api::export_store!(MapStore, name = "map");
//! ```
//!
//! - [`Record`] is what is stored, [`Write`] how it is written, [`Version`] what refuses a stale
//!   write.
//! - Everything a store cannot do it says in its [`Capabilities`]; every error has an
//!   [`ErrorClass`], by which the host decides.
//! - [`StoreObject`] is an opened store as the host holds it, and as tests should call it.
//! - Feature `tokio` gives a plugin a tokio runtime of its own, entered on every call into the
//!   store, so that sockets, timers and `tokio::spawn` just work. Feature `host` is for programs
//!   that load plugins.

mod abi;
mod capability;
pub mod duration_text;
mod error;
mod host_context;
mod object;
mod record;
mod status;
mod store;
mod time;
mod value;

pub use abi::entry::{CONTRACT_MAJOR, CONTRACT_MINOR, Manifest};
pub use capability::{Capabilities, Health, ScanOrder, Stats};
pub use error::{ErrorClass, StoreError};
pub use host_context::{Completion, CompletionSink, HostContext, LogLevel};
pub use object::StoreObject;
pub use record::{Cursor, Filter, Page, Record, Write, WriteMode, WriteOutcome};
pub use status::{Status, UnknownStatus, Version};
pub use store::{BatchResult, ResultStore, StoreResult};
pub use time::{Timestamp, TimestampError};
pub use value::{Payload, Text};

#[cfg(feature = "host")]
pub mod loader {
    //! Inspecting and loading plugin files: the host's side.

    pub use crate::abi::{
        inspect::{PluginFile, inspect},
        load::{LoadedPlugin, OpenFuture, config_schema_of, load, open_linked},
        load_error::LoadError,
    };
}

#[doc(hidden)]
pub mod export {
    //! What [`export_store!`](crate::export_store) expands to.

    pub use abi_stable::library::LibHeader as PluginEntry;

    pub use crate::abi::entry::{ExportedStore, PluginInfo, header};
}
