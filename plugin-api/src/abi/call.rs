//! One call over the boundary: answered at once where the store can, or later.
//!
//! A store in memory has its answer when it is asked. Such an answer is written where the caller
//! wants it, by the one function that was called; only a call that has to wait becomes a future
//! that crosses.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use abi_stable::std_types::ROption;
use async_ffi::{BorrowingFfiFuture, ContextExt, FfiContext, FutureExt};

use super::{
    panic_guard::{GuardedCall, panicked},
    record::AbiResult,
    runtime,
};
use crate::{StoreError, StoreResult};

/// Where a call's answer goes; given empty.
pub(crate) type AbiAnswer<T> = ROption<AbiResult<T>>;

/// A call that was not answered at once; it has been polled.
pub(crate) type AbiPending<'a, T> = ROption<BorrowingFfiFuture<'a, AbiResult<T>>>;

/// The plugin's side: begins a call and polls it once, inside the plugin's runtime. A panic
/// becomes an error. `convert` makes the store's answer one that can cross.
pub(crate) fn begin<'a, F, T, A>(
    what: &'static str,
    context: &mut FfiContext<'_>,
    answer: &mut AbiAnswer<A>,
    begin: impl FnOnce() -> StoreResult<F>,
    convert: impl FnOnce(StoreResult<T>) -> AbiResult<A> + Send + 'a,
) -> AbiPending<'a, A>
where
    F: Future<Output = StoreResult<T>> + Send + 'a,
{
    let _entered = runtime::enter();
    let begun = catch_unwind(AssertUnwindSafe(|| {
        let mut call = match begin() {
            Ok(call) => Box::pin(call),
            Err(error) => {
                *answer = ROption::RSome(AbiResult::RErr(error.into()));
                return None;
            }
        };
        match context.with_context(|context| call.as_mut().poll(context)) {
            Poll::Ready(output) => {
                // Its drop may panic, and then there is no answer.
                drop(call);
                *answer = ROption::RSome(convert(output));
                None
            }
            Poll::Pending => Some((call, convert)),
        }
    }));
    match begun {
        Ok(None) => ROption::RNone,
        Ok(Some((call, convert))) => {
            let waiting = async move { convert(call.await) };
            ROption::RSome(GuardedCall::new(what, waiting).into_ffi())
        }
        Err(panic) => {
            *answer = ROption::RSome(AbiResult::RErr(panicked(what, panic).into()));
            ROption::RNone
        }
    }
}

/// The host's side: a call as a future. `begin` is the call over the boundary; `read` makes its
/// answer the host's.
pub(crate) enum Call<'a, T, B, R> {
    New(B, R),
    Pending(BorrowingFfiFuture<'a, AbiResult<T>>, R),
    Ended,
}

impl<'a, T, U, B, R> Call<'a, T, B, R>
where
    B: FnOnce(&mut FfiContext<'_>, &mut AbiAnswer<T>) -> AbiPending<'a, T>,
    R: FnOnce(AbiResult<T>) -> StoreResult<U>,
{
    pub(crate) const fn new(begin: B, read: R) -> Self {
        Self::New(begin, read)
    }
}

/// Nothing in it is pinned: a future that crosses has its own place in the plugin's memory.
impl<T, B, R> Unpin for Call<'_, T, B, R> {}

impl<'a, T, U, B, R> Future for Call<'a, T, B, R>
where
    B: FnOnce(&mut FfiContext<'_>, &mut AbiAnswer<T>) -> AbiPending<'a, T>,
    R: FnOnce(AbiResult<T>) -> StoreResult<U>,
{
    type Output = StoreResult<U>;

    // An answer may hold a record: inlined, it is read where it lies.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut *self, Self::Ended) {
            Self::New(begin, read) => {
                let mut answer = ROption::RNone;
                let pending = context.with_ffi_context(|context| begin(context, &mut answer));
                if let ROption::RSome(answer) = answer {
                    return Poll::Ready(read(answer));
                }
                let ROption::RSome(pending) = pending else {
                    return Poll::Ready(Err(StoreError::internal(
                        "the plugin neither answered a call nor said that it will",
                    )));
                };
                *self = Self::Pending(pending, read);
                Poll::Pending
            }
            Self::Pending(mut pending, read) => match Pin::new(&mut pending).poll(context) {
                Poll::Ready(answer) => Poll::Ready(read(answer)),
                Poll::Pending => {
                    *self = Self::Pending(pending, read);
                    Poll::Pending
                }
            },
            Self::Ended => Poll::Ready(Err(StoreError::internal(
                "a finished call was polled again",
            ))),
        }
    }
}
