//! The store as it crosses the boundary: one vtable of plain functions.

#![cfg_attr(
    not(feature = "host"),
    allow(
        dead_code,
        reason = "only a host reads the root module, through methods that abi_stable generates"
    )
)]

use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings, sabi_trait,
    sabi_types::VersionStrings,
    std_types::{RBox, ROption, RString, RVec},
};
use async_ffi::FfiFuture;

use super::{
    callback::{HostObject, SinkObject},
    record::{AbiBatch, AbiRecord, AbiResult, AbiWrite},
};
use crate::{Text, Timestamp};

/// An opened store.
pub(crate) type AbiStoreObject = AbiStore_TO<RBox<()>>;

/// What crosses often is typed; what crosses seldom (filters, capabilities, figures) is JSON,
/// which can grow without a change here.
///
/// A method added in a later minor contract goes after the last prefix field and has a default
/// body, which the host runs when the plugin is older.
#[sabi_trait]
pub(crate) trait AbiStore: Send + Sync + 'static {
    fn capabilities(&self) -> AbiResult<RString>;
    fn put(&self, write: AbiWrite) -> FfiFuture<AbiResult<u8>>;
    fn put_many(&self, writes: RVec<AbiWrite>) -> FfiFuture<AbiBatch<u8>>;
    fn get(&self, job_id: Text) -> FfiFuture<AbiResult<ROption<AbiRecord>>>;
    fn get_many(&self, job_ids: RVec<Text>) -> FfiFuture<AbiBatch<ROption<AbiRecord>>>;
    fn status(&self, job_id: Text) -> FfiFuture<AbiResult<ROption<u8>>>;
    fn status_many(&self, job_ids: RVec<Text>) -> FfiFuture<AbiBatch<ROption<u8>>>;
    fn delete(&self, job_id: Text) -> FfiFuture<AbiResult<bool>>;
    fn delete_many(&self, job_ids: RVec<Text>) -> FfiFuture<AbiBatch<bool>>;
    fn scan(
        &self,
        filter_json: RString,
        cursor: ROption<RString>,
        limit: u32,
    ) -> FfiFuture<AbiResult<AbiPage>>;
    fn cleanup_expired(&self, now: Timestamp, limit: u32) -> FfiFuture<AbiResult<u64>>;
    fn health_check(&self) -> FfiFuture<AbiResult<RString>>;
    fn stats(&self) -> FfiFuture<AbiResult<RString>>;
    #[sabi(last_prefix_field)]
    fn close(&self) -> FfiFuture<AbiResult<()>>;

    /// Since contract 1.1.
    fn subscribe(&self, sink: SinkObject) -> FfiFuture<AbiResult<()>> {
        drop(sink);
        crate::abi::adapter::unsupported_since(1, 1, "announce completions")
    }
}

/// One page of a scan.
#[repr(C)]
#[derive(StableAbi)]
pub(crate) struct AbiPage {
    pub(crate) records: RVec<AbiRecord>,
    pub(crate) next: ROption<RString>,
}

/// What a plugin exports: its description and its constructor.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = StoreModuleRef)))]
#[sabi(missing_field(panic))]
pub(crate) struct StoreModule {
    /// A [`Manifest`](crate::Manifest) as JSON.
    pub(crate) manifest: extern "C" fn() -> AbiResult<RString>,
    /// Opens a store from its configuration as JSON.
    #[sabi(last_prefix_field)]
    pub(crate) open: extern "C" fn(
        config_json: RString,
        host: HostObject,
    ) -> FfiFuture<AbiResult<AbiStoreObject>>,
}

impl RootModule for StoreModuleRef {
    abi_stable::declare_root_module_statics! {StoreModuleRef}
    const BASE_NAME: &'static str = "warren_store";
    const NAME: &'static str = "warren_store";
    /// Checked by abi_stable too; ours is checked first, from the file alone.
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
