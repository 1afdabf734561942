//! What reaches every worker at once, whichever queues it consumes.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use warren_plugin_api::{Text, Timestamp};

/// Asks whoever has a job to let it go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortRequest {
    /// The job.
    pub job_id: Text,
    /// When it was enqueued: ids can be used again.
    pub enqueued_at: Option<Timestamp>,
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Requests come through from here on. Those sent before may have been missed.
    Up,
    /// From here on requests are missed, until [`Up`](Self::Up).
    Down,
    /// A request.
    Abort(AbortRequest),
}

/// Receives what is sent to every worker. Dropping it ends the subscription.
#[derive(Debug)]
pub struct ControlReceiver {
    pub(super) receiver: mpsc::Receiver<Control>,
}

impl ControlReceiver {
    /// The next one; `None` once the broker was closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Control> {
        self.receiver.recv().await
    }
}

/// How many requests may wait until the worker looks at them.
pub(super) const BACKLOG: usize = 256;

impl AbortRequest {
    pub(super) fn to_body(&self) -> Vec<u8> {
        // Two fields that JSON can hold.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None` for what is none, or comes from a later version.
    pub(super) fn from_body(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_back_and_anything_else_is_none() {
        let request = AbortRequest {
            job_id: "j".into(),
            enqueued_at: Some(Timestamp::from_unix_us(5)),
        };
        assert_eq!(AbortRequest::from_body(&request.to_body()), Some(request));
        for body in [&b""[..], b"{}", b"\xff", b"{\"job_id\":5}"] {
            assert_eq!(AbortRequest::from_body(body), None);
        }
    }
}
