//! What a plugin file exports, and how it comes to export it.
//!
//! Two symbols. `WARREN_STORE_PLUGIN_INFO` is plain bytes without a single pointer, so that a
//! host can read it from the file before running any of the file's code.
//! `WARREN_STORE_PLUGIN_ENTRY` is abi_stable's header, which carries the layout of every type in
//! the contract and the constructor of [`StoreModule`].

use abi_stable::{
    library::{__call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult},
    prefix_type::PrefixTypeTrait,
    std_types::RString,
};
use async_ffi::{FfiFuture, FutureExt};
use serde::{Deserialize, Serialize};

use super::{
    adapter::{into_object, to_json},
    callback::HostObject,
    log_forward,
    panic_guard::{GuardedCall, catch},
    record::AbiResult,
    runtime,
    store::{AbiStoreObject, StoreModule, StoreModuleRef},
};
use crate::{Capabilities, HostContext, ResultStore, StoreError};

/// The contract's major version: a plugin of another major version is refused.
pub const CONTRACT_MAJOR: u32 = number(env!("CARGO_PKG_VERSION_MAJOR"));
/// The contract's minor version: a plugin of a later minor version is refused, an older one works.
pub const CONTRACT_MINOR: u32 = number(env!("CARGO_PKG_VERSION_MINOR"));

const fn number(digits: &str) -> u32 {
    let digits = digits.as_bytes();
    let (mut value, mut at) = (0, 0);
    while at < digits.len() {
        value = value * 10 + (digits[at] - b'0') as u32;
        at += 1;
    }
    value
}

/// A plugin as [`export_store!`](crate::export_store) describes it. Not implemented by hand.
pub trait ExportedStore {
    /// The store.
    type Store: ResultStore;
    /// The name by which a configuration selects it.
    const NAME: &'static str;
    /// The plugin's version.
    const VERSION: &'static str;
    /// One line for people.
    const DESCRIPTION: &'static str;
}

/// What a plugin says of itself once its file is loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The name by which a configuration selects the store.
    pub name: String,
    /// The plugin's version.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// The most that the store can do; what it can do in fact it says once opened.
    pub capabilities: Capabilities,
    /// JSON Schema of the store's configuration.
    pub config_schema: serde_json::Value,
}

/// Facts about a plugin that can be read from its file without running it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PluginInfo {
    pub(crate) magic: [u8; 16],
    pub(crate) contract_major: u32,
    pub(crate) contract_minor: u32,
    pub(crate) panic_aborts: u32,
    pub(crate) reserved: u32,
    pub(crate) name: [u8; 64],
    pub(crate) version: [u8; 32],
}

impl PluginInfo {
    pub(crate) const MAGIC: [u8; 16] = *b"WARREN-STORE\r\n\x1a\n";

    /// Describes `P` in the build that compiles it.
    ///
    /// # Panics
    /// At compile time, when the name or the version is too long.
    #[must_use]
    pub const fn of<P: ExportedStore>() -> Self {
        Self {
            magic: Self::MAGIC,
            contract_major: CONTRACT_MAJOR,
            contract_minor: CONTRACT_MINOR,
            panic_aborts: if cfg!(panic = "abort") { 1 } else { 0 },
            reserved: 0,
            name: padded(P::NAME),
            version: padded(P::VERSION),
        }
    }

    /// Reads the fields one by one from a file's bytes, in this machine's byte order.
    #[cfg(feature = "host")]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<16>()?;
        let (numbers, rest) = rest.split_first_chunk::<16>()?;
        let (name, rest) = rest.split_first_chunk::<64>()?;
        let (version, _) = rest.split_first_chunk::<32>()?;
        let number = |index: usize| {
            let bytes = numbers.get(index * 4..index * 4 + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        Some(Self {
            magic: *magic,
            contract_major: number(0)?,
            contract_minor: number(1)?,
            panic_aborts: number(2)?,
            reserved: number(3)?,
            name: *name,
            version: *version,
        })
    }
}

const fn padded<const N: usize>(text: &str) -> [u8; N] {
    let bytes = text.as_bytes();
    assert!(
        !bytes.is_empty() && bytes.len() < N,
        "a store's name or version is too long or empty"
    );
    let mut padded = [0; N];
    let mut at = 0;
    while at < bytes.len() {
        padded[at] = bytes[at];
        at += 1;
    }
    padded
}

/// The header of `P`, for the exported static.
#[must_use]
pub const fn header<P: ExportedStore>() -> LibHeader {
    // SAFETY: `constructor` returns a `StoreModuleRef` erased by abi_stable's own loader, which
    // is what a header for `StoreModuleRef` requires.
    unsafe { LibHeader::from_constructor::<StoreModuleRef>(constructor::<P>, CheckTypeLayout::Yes) }
}

extern "C" fn constructor<P: ExportedStore>() -> RootModuleResult {
    __call_root_module_loader(module::<P>)
}

fn module<P: ExportedStore>() -> StoreModuleRef {
    StoreModule {
        manifest: manifest::<P>,
        open: open::<P>,
    }
    .leak_into_prefix()
}

extern "C" fn manifest<P: ExportedStore>() -> AbiResult<RString> {
    catch("describing itself", || {
        to_json(&Manifest {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            description: P::DESCRIPTION.to_owned(),
            capabilities: P::Store::CAPABILITIES,
            config_schema: config_schema::<P::Store>(),
        })
    })
    .map_err(Into::into)
    .into()
}

/// JSON Schema of a store's configuration.
pub(crate) fn config_schema<S: ResultStore>() -> serde_json::Value {
    schemars::schema_for!(S::Config).to_value()
}

extern "C" fn open<P: ExportedStore>(
    config_json: RString,
    host: HostObject,
) -> FfiFuture<AbiResult<AbiStoreObject>> {
    let host = HostContext::from_object(host);
    log_forward::forward_to(&host);
    runtime::is_a_plugins();
    construct::<P::Store>(config_json, host).into_ffi()
}

/// Reads the configuration and runs the constructor.
pub(crate) fn construct<S: ResultStore>(
    config_json: RString,
    host: HostContext,
) -> impl Future<Output = AbiResult<AbiStoreObject>> + Send {
    let opening = async move {
        runtime::start()?;
        let config = read_config::<S>(&config_json)?;
        S::open(config, host).await.map(into_object)
    };
    GuardedCall::new("its constructor", async move {
        opening.await.map_err(Into::into).into()
    })
}

/// Reads a store's configuration.
fn read_config<S: ResultStore>(config_json: &str) -> Result<S::Config, StoreError> {
    serde_json::from_str(config_json)
        .map_err(|error| StoreError::invalid_config(without_position(&error)))
}

/// The JSON is made by the host from another format: its line and column mean nothing to anybody.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(position) => text[..position].to_owned(),
        None => text,
    }
}

/// Makes this crate a Warren store plugin.
///
/// ```ignore
/// warren_plugin_api::export_store!(MyStore, name = "my-store");
/// ```
///
/// The crate must be built as a `cdylib`. The name is what a configuration says to select the
/// store; version and description are those of the crate's manifest.
#[macro_export]
macro_rules! export_store {
    ($store:ty, name = $name:literal $(,)?) => {
        const _: () = {
            struct Exported;

            impl $crate::export::ExportedStore for Exported {
                type Store = $store;
                const NAME: &'static str = $name;
                const VERSION: &'static str = ::core::env!("CARGO_PKG_VERSION");
                const DESCRIPTION: &'static str = ::core::env!("CARGO_PKG_DESCRIPTION");
            }

            #[unsafe(no_mangle)]
            static WARREN_STORE_PLUGIN_INFO: $crate::export::PluginInfo =
                $crate::export::PluginInfo::of::<Exported>();

            #[unsafe(no_mangle)]
            static WARREN_STORE_PLUGIN_ENTRY: $crate::export::PluginEntry =
                $crate::export::header::<Exported>();
        };
    };
}
