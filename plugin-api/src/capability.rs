//! What a store can do, as it says itself.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::Status;

/// What a store can do and where its limits are.
///
/// The host asks for what a store has. Calling what it lacks gives
/// [`ErrorClass::Unsupported`](crate::ErrorClass::Unsupported).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Records outlive the process that wrote them, and can be read by others.
    pub durable: bool,
    /// It needs no server: it opens without configuration, by itself, wherever Warren runs.
    pub embedded: bool,
    /// The backend removes expired records by itself; `cleanup_expired` then only tidies up.
    pub native_expiry: bool,
    /// `subscribe` announces completions.
    pub push: bool,
    /// `scan` works; if not, it answers `unsupported`.
    pub scan: bool,
    /// The order in which `scan` returns records, by `enqueued_at`.
    pub scan_order: ScanOrder,
    /// `stats` works; if not, it answers `unsupported`.
    pub stats: bool,
    /// The largest record that is taken, in bytes of [`Record::size_bytes`](crate::Record::size_bytes);
    /// `None` when only the backend's memory or disk limits it. A larger one is `too_large`.
    pub max_record_bytes: Option<u64>,
}

impl Capabilities {
    /// A volatile store with nothing optional.
    pub const NONE: Self = Self {
        durable: false,
        embedded: false,
        native_expiry: false,
        push: false,
        scan: false,
        scan_order: ScanOrder::Unordered,
        stats: false,
        max_record_bytes: None,
    };
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::NONE
    }
}

/// The order of a scan's records, by the time a client accepted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanOrder {
    /// No order is promised.
    #[default]
    Unordered,
    /// The most recently accepted first.
    NewestFirst,
    /// The earliest accepted first.
    OldestFirst,
}

impl fmt::Display for ScanOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unordered => "unordered",
            Self::NewestFirst => "newest first",
            Self::OldestFirst => "oldest first",
        })
    }
}

/// How a store is, when it answers at all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// What answered, for people: `Redis 7.0.15 at localhost:6379/0`. No secrets.
    pub detail: String,
    /// Something that works but needs an operator's eye, such as a nearly full disk.
    pub warnings: Vec<String>,
}

/// What a store holds. A number that is dear to find out may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Live records.
    pub records: Option<u64>,
    /// Live records per status. When present they add up to `records`.
    pub by_status: BTreeMap<Status, u64>,
    /// Bytes that the records occupy, as the backend counts them.
    pub bytes: Option<u64>,
    /// Further figures of the backend's own, by name.
    pub details: BTreeMap<String, serde_json::Value>,
}
