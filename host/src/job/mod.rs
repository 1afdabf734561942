//! A job as it travels: the message, its headers, its id. Pure: no I/O, no runtime.

mod datetime;
mod dead_letter;
mod error_text;
mod headers;
mod heartbeat;
mod id;
mod json;
mod message;
mod message_error;
mod message_fields;
mod replayed_from;
mod retry;

pub use dead_letter::{ErrorCategory, Reason};
pub use error_text::{MAX_ERROR_BYTES, MAX_HEADER_ERROR_BYTES, shorten};
pub use headers::{HeaderRef, JobHeaders, attempt, header};
pub use heartbeat::{GONE_AFTER, HEARTBEAT_INTERVAL, worker_silence};
pub use id::{InvalidJobId, JobId};
pub use message::{JobMessage, MAX_BODY_BYTES};
pub use message_error::{MessageError, UnreadableMessage};
pub use replayed_from::ReplayedFrom;
pub use retry::{RetryOn, RetryPolicy};
