//! What is sent: body, headers, delay.

use std::{collections::BTreeMap, time::Duration};

use warren_plugin_api::Payload;

use super::QueueName;

/// A header's value: the AMQP kinds that Warren reads and writes.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue {
    /// An integer of any AMQP width.
    Int(i64),
    /// A string.
    Text(String),
    /// A boolean.
    Bool(bool),
    /// A double, or a float read as one.
    Float(f64),
    /// Anything else, shown as text; copied to nowhere.
    Other(String),
}

/// Message headers by name.
pub type Headers = BTreeMap<String, HeaderValue>;

/// A message to be sent. Always persistent, always confirmed.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// Where to.
    pub queue: QueueName,
    /// The message.
    pub body: Payload,
    /// Its headers.
    pub headers: Headers,
    /// Deliver no earlier than this from now; zero delivers at once. At most 10 years.
    pub delay: Duration,
    /// 0 to 255; counts only on queues declared with priorities.
    pub priority: u8,
}
