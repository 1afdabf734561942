//! Driving a call one poll at a time, to cancel it at every await.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use crate::expect::{Checked, Failure};

/// The most polls that a call is followed for.
const MOST_POLLS: usize = 200;
/// How long a pending call is waited for before it is polled again without having asked for it.
const PATIENCE: Duration = Duration::from_millis(250);

/// Polls `call` up to `polls` times, each time when it asks for it, and drops it then.
/// Its answer, if it came to that.
pub(crate) async fn poll_times<F: Future>(call: F, polls: usize) -> Option<F::Output> {
    let mut call = pin!(call);
    for poll in 0..polls {
        let mut polled = false;
        let next = poll_fn(|context| {
            if polled {
                // Woken: the caller polls again.
                return Poll::Ready(None);
            }
            polled = true;
            match call.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if poll + 1 == polls => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        if let Ok(Some(output)) = tokio::time::timeout(PATIENCE, next).await {
            return Some(output);
        }
    }
    None
}

/// Runs `attempt(n)` for n = 0, 1, … until it says that its call had ended by then.
pub(crate) async fn at_every_await<F: Future<Output = Checked<bool>>>(
    mut attempt: impl FnMut(usize) -> F,
) -> Checked {
    for polls in 0..MOST_POLLS {
        if attempt(polls).await? {
            return Ok(());
        }
    }
    Err(Failure::Broken(format!(
        "expected an answer within {MOST_POLLS} polls, found a call that goes on"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn two_awaits() -> &'static str {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        "done"
    }

    #[tokio::test]
    async fn a_call_is_polled_as_often_as_asked() {
        for (polls, expected) in [(0, None), (1, None), (2, None), (3, Some("done"))] {
            assert_eq!(poll_times(two_awaits(), polls).await, expected, "{polls}");
        }
    }

    #[tokio::test]
    async fn every_await_is_reached() {
        let mut reached = Vec::new();
        let result = at_every_await(|polls| {
            reached.push(polls);
            async move { Ok(poll_times(two_awaits(), polls).await.is_some()) }
        });
        assert!(result.await.is_ok());
        assert_eq!(reached, [0, 1, 2, 3]);
    }
}
