//! The stable ABI. Everything that knows abi_stable's objects, and every `unsafe` block, is here.
//!
//! One call travels like this: [`StoreObject`](crate::StoreObject) turns its arguments into the
//! types of [`record`] and calls a method of [`store::AbiStore`] through a vtable, which answers
//! at once or with a future to poll ([`call`]); on the other side [`adapter::StoreAdapter`] turns
//! them back and calls the author's [`ResultStore`](crate::ResultStore). A store that is linked
//! statically takes the same way, so that there is one behaviour to know and to test.

#![allow(
    unsafe_code,
    reason = "this is the boundary; each block carries its SAFETY reason"
)]
#![allow(
    non_local_definitions,
    reason = "abi_stable's sabi_trait expands to such impls"
)]

pub(crate) mod adapter;
pub(crate) mod call;
pub(crate) mod callback;
pub(crate) mod entry;
#[cfg(feature = "host")]
pub(crate) mod inspect;
#[cfg(feature = "host")]
pub(crate) mod load;
#[cfg(feature = "host")]
pub(crate) mod load_error;
pub(crate) mod log_forward;
pub(crate) mod panic_guard;
pub(crate) mod record;
pub(crate) mod runtime;
pub(crate) mod store;
