//! From lapin's errors to ours.

use lapin::{
    Error, ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
};

use crate::broker::{BrokerError, QueueName};

/// What the broker or the network did to the connection or to a channel.
pub(super) fn on_connection(error: &Error) -> BrokerError {
    let reason = reason(error);
    match protocol_kind(error) {
        // "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            BrokerError::AccessRefused { reason }
        }
        // "NOT_ALLOWED - vhost x not found": a wrong address, not a wrong moment.
        Some(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)) => {
            BrokerError::AccessRefused { reason }
        }
        _ => BrokerError::Unavailable { reason },
    }
}

/// What the broker says about a queue.
pub(super) fn on_queue(error: &Error, queue: &QueueName) -> BrokerError {
    let name = queue.to_string();
    match protocol_kind(error) {
        // "NOT_FOUND - no queue 'q' in vhost '/'"
        Some(AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)) => {
            BrokerError::NoSuchQueue { queue: name }
        }
        // "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/'"
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) => {
            BrokerError::QueueMismatch {
                queue: name,
                reason: reason(error),
            }
        }
        _ => on_connection(error),
    }
}

fn protocol_kind(error: &Error) -> Option<&AMQPErrorKind> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.kind()),
        _ => None,
    }
}

/// The broker's own words where there are any: they carry no password.
fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::MissingHeartbeatError => "no sign of life from the broker".to_owned(),
        ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(..) => {
            "the connection was lost".to_owned()
        }
        _ => error.to_string(),
    }
}
