//! The suite that every Warren result store must pass.
//!
//! It checks the rules of `docs/result-store.md` on an opened store, as the host holds it: one
//! from a plugin file, or one that is linked into the test.
//!
//! ```
//! # use warren_plugin_api::{
//! #     Capabilities, Health, Record, ResultStore, StoreResult, Text, Write, WriteOutcome,
//! # };
//! # struct MyStore(std::sync::Mutex<std::collections::HashMap<Text, Record>>);
//! # impl ResultStore for MyStore {
//! #     type Config = ();
//! #     const CAPABILITIES: Capabilities = Capabilities::NONE;
//! #     async fn open(_: (), _: HostContext) -> StoreResult<Self> { Ok(Self(Default::default())) }
//! #     async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
//! #         let mut records = self.0.lock().unwrap();
//! #         let stored = records.get(&write.record.job_id).map(Record::version_and_expiry);
//! #         if !write.may_replace(stored, warren_plugin_api::Timestamp::now()) {
//! #             return Ok(WriteOutcome::Stale);
//! #         }
//! #         records.insert(write.record.job_id.clone(), write.record);
//! #         Ok(WriteOutcome::Written)
//! #     }
//! #     async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
//! #         let now = warren_plugin_api::Timestamp::now();
//! #         Ok(self.0.lock().unwrap().get(&job_id).filter(|r| !r.is_expired(now)).cloned())
//! #     }
//! #     async fn delete(&self, job_id: Text) -> StoreResult<bool> {
//! #         let now = warren_plugin_api::Timestamp::now();
//! #         Ok(self.0.lock().unwrap().remove(&job_id).is_some_and(|r| !r.is_expired(now)))
//! #     }
//! #     async fn cleanup_expired(
//! #         &self,
//! #         now: warren_plugin_api::Timestamp,
//! #         limit: u32,
//! #     ) -> StoreResult<u64> {
//! #         let mut records = self.0.lock().unwrap();
//! #         let expired = records.extract_if(|_, record| record.is_expired(now));
//! #         Ok(expired.take(limit as usize).count() as u64)
//! #     }
//! #     async fn health_check(&self) -> StoreResult<Health> {
//! #         Ok(Health { detail: "a map".into(), ..Health::default() })
//! #     }
//! # }
//! use warren_conformance::{Scale, Suite};
//! use warren_plugin_api::{HostContext, StoreObject};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! // Opens the same backing data every time: an own prefix, schema or folder for this run.
//! let suite = Suite::new(|| async {
//!     let store = MyStore::open((), HostContext::silent()).await?;
//!     Ok(StoreObject::from_store(store))
//! });
//! suite.scale(Scale::Quick).alone().run().await.assert_passed();
//! # });
//! ```
//!
//! A case that needs what the store does not declare is *not applicable*, and says why; that the
//! store answers `unsupported` there is a case of its own. The store may hold other data: ids and
//! queues are unique for each run, and what a run wrote it deletes.

mod case;
mod cases;
mod context;
mod expect;
mod handle;
mod polling;
mod records;
mod report;
mod rules;
mod schema;
mod suite;
mod verdict;

pub use case::{CaseInfo, cases};
pub use report::{CaseReport, Outcome, Report};
pub use rules::{Rule, rules};
pub use suite::{Scale, Suite};
pub use verdict::{CapabilityReport, RuleReport, Verdict};
