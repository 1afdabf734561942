//! Whether the broker can be used.

use serde::Serialize;

/// The state of a connection to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Not connected; trying.
    Connecting,
    /// In use.
    Connected,
    /// Connected, but the broker takes no messages: it is short of memory or disk.
    Blocked,
    /// Ended by this program.
    Closed,
}
