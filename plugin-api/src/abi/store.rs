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
use async_ffi::{FfiContext, FfiFuture};

use super::{
    call::{AbiAnswer, AbiPending},
    callback::{HostObject, SinkObject},
    record::{AbiBatch, AbiRecord, AbiRecords, AbiResult, AbiStatuses, AbiWrite},
};
use crate::{Text, Timestamp};

/// An opened store.
pub(crate) type AbiStoreObject = AbiStore_TO<RBox<()>>;

/// What crosses often is typed; what crosses seldom (filters, capabilities, figures) is JSON,
/// which can grow without a change here.
///
/// Every call but `capabilities` writes its answer to `answer` when it has one at once, and returns
/// what will have it otherwise.
///
/// A method added in a later minor contract goes after the last prefix field and has a default
/// body, which the host runs when the plugin is older.
#[sabi_trait]
pub(crate) trait AbiStore: Send + Sync + 'static {
    fn capabilities(&self) -> AbiResult<RString>;
    fn put<'a>(
        &'a self,
        write: &mut ROption<AbiWrite>,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<u8>,
    ) -> AbiPending<'a, u8>;
    fn put_many<'a>(
        &'a self,
        writes: RVec<AbiWrite>,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<AbiBatch<u8>>,
    ) -> AbiPending<'a, AbiBatch<u8>>;
    fn get<'a>(
        &'a self,
        job_id: Text,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<ROption<AbiRecord>>,
    ) -> AbiPending<'a, ROption<AbiRecord>>;
    fn get_many<'a>(
        &'a self,
        job_ids: RVec<Text>,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<AbiRecords>,
    ) -> AbiPending<'a, AbiRecords>;
    fn status<'a>(
        &'a self,
        job_id: Text,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<ROption<u8>>,
    ) -> AbiPending<'a, ROption<u8>>;
    fn status_many<'a>(
        &'a self,
        job_ids: RVec<Text>,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<AbiStatuses>,
    ) -> AbiPending<'a, AbiStatuses>;
    fn delete<'a>(
        &'a self,
        job_id: Text,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<bool>,
    ) -> AbiPending<'a, bool>;
    fn delete_many<'a>(
        &'a self,
        job_ids: RVec<Text>,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<AbiBatch<bool>>,
    ) -> AbiPending<'a, AbiBatch<bool>>;
    fn scan<'a>(
        &'a self,
        filter_json: RString,
        cursor: ROption<RString>,
        limit: u32,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<AbiPage>,
    ) -> AbiPending<'a, AbiPage>;
    fn cleanup_expired<'a>(
        &'a self,
        now: Timestamp,
        limit: u32,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<u64>,
    ) -> AbiPending<'a, u64>;
    fn health_check<'a>(
        &'a self,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<RString>,
    ) -> AbiPending<'a, RString>;
    fn stats<'a>(
        &'a self,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<RString>,
    ) -> AbiPending<'a, RString>;
    #[sabi(last_prefix_field)]
    fn close<'a>(
        &'a self,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<()>,
    ) -> AbiPending<'a, ()>;

    /// Since contract 1.1.
    fn subscribe<'a>(
        &'a self,
        sink: SinkObject,
        _context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<()>,
    ) -> AbiPending<'a, ()> {
        drop(sink);
        crate::abi::adapter::unsupported_since(1, 1, "announce completions", answer)
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
