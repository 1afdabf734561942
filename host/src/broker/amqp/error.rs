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

/// What the broker says about the queue of a level of delays.
pub(super) fn on_delay_level(error: &Error, queue: &str) -> BrokerError {
    let reason = reason(error);
    match protocol_kind(error) {
        // "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/'"
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED))
            if reason.contains("inequivalent") =>
        {
            BrokerError::QueueMismatch {
                queue: queue.to_owned(),
                reason,
            }
        }
        // "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost '/' of queue
        // type rabbit_quorum_queue": before 3.10.
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) => {
            BrokerError::DelaysUnsupported { reason }
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
        ErrorKind::IOError(error) => match error.to_string() {
            // What rustls says of an authority that is not known.
            said if said.contains("invalid peer certificate") => format!(
                "{said}: set broker.tls_ca_file to the authority that signed the broker's \
                 certificate"
            ),
            said => said,
        },
        ErrorKind::MissingHeartbeatError => "no sign of life from the broker".to_owned(),
        ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(..) => {
            "the connection was lost".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn refused(text: &str) -> BrokerError {
        let kind = AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED);
        let error = AMQPError::new(kind, text.into());
        on_delay_level(&ErrorKind::ProtocolError(error).into(), "level")
    }

    #[test]
    fn a_broker_before_3_10_is_told_from_a_queue_that_somebody_else_declared() {
        let old = refused(
            "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'level' in vhost '/' of \
             queue type rabbit_quorum_queue",
        );
        assert!(
            matches!(&old, BrokerError::DelaysUnsupported { .. }),
            "{old}"
        );
        assert!(old.to_string().contains("RabbitMQ 3.10"), "{old}");
        let other = refused(
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'level' in vhost '/'",
        );
        assert!(
            matches!(&other, BrokerError::QueueMismatch { queue, .. } if queue == "level"),
            "{other}"
        );
    }
}
