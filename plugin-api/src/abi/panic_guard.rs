//! Nothing unwinds out of a plugin: a panic becomes an `internal` error.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{record::AbiResult, runtime};
use crate::{StoreError, StoreResult};

/// Runs `call`; a panic becomes an error that says in what it happened.
pub(crate) fn catch<T>(what: &str, call: impl FnOnce() -> StoreResult<T>) -> StoreResult<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(panicked(what, payload)))
}

pub(crate) fn panicked(what: &str, payload: Box<dyn Any + Send>) -> StoreError {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    // A payload whose own drop panics must not unwind either; leaking it is the lesser evil.
    std::mem::forget(payload);
    StoreError::internal(format!("the store panicked in {what}: {text}"))
}

pin_project! {
    /// A call into a store, polled inside the plugin's runtime, whose panics become errors.
    ///
    /// The inner future is dropped as soon as it is ready, so that dropping this one has
    /// nothing left to do.
    pub(crate) struct GuardedCall<F> {
        what: &'static str,
        #[pin]
        inner: Option<F>,
    }

    impl<F> PinnedDrop for GuardedCall<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.inner.is_some() {
                let _entered = runtime::enter();
                let _ = drop_inner(this.what, this.inner);
            }
        }
    }
}

impl<F> GuardedCall<F> {
    pub(crate) const fn new(what: &'static str, inner: F) -> Self {
        Self {
            what,
            inner: Some(inner),
        }
    }
}

impl<F, T> Future for GuardedCall<F>
where
    F: Future<Output = AbiResult<T>>,
{
    type Output = AbiResult<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let _entered = runtime::enter();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            let error = StoreError::internal("a finished call was polled again");
            return Poll::Ready(AbiResult::RErr(error.into()));
        };
        let output = match catch_unwind(AssertUnwindSafe(|| inner.poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => output,
            Err(payload) => AbiResult::RErr(panicked(this.what, payload).into()),
        };
        match drop_inner(this.what, this.inner) {
            Ok(()) => Poll::Ready(output),
            Err(error) => Poll::Ready(AbiResult::RErr(error.into())),
        }
    }
}

/// Drops the inner future in place. Where its drop panics, `Option::None` is still written: the
/// value counts as dropped, and is not dropped again.
fn drop_inner<F>(what: &str, mut inner: Pin<&mut Option<F>>) -> StoreResult<()> {
    catch(what, || {
        inner.set(None);
        Ok(())
    })
}

/// A store whose drop may panic without harm, and happens inside the plugin's runtime.
pub(crate) struct QuietDrop<T>(Option<T>);

impl<T> QuietDrop<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn get(&self) -> StoreResult<&T> {
        self.0
            .as_ref()
            .ok_or_else(|| StoreError::internal("the store was dropped"))
    }
}

impl<T> Drop for QuietDrop<T> {
    fn drop(&mut self) {
        let _entered = runtime::enter();
        let value = self.0.take();
        let _ = catch("drop", move || {
            drop(value);
            Ok(())
        });
    }
}
