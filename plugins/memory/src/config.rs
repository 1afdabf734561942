//! The store's options.

use std::{num::NonZeroU64, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_plugin_api::{StoreError, StoreResult};

/// The least that `max_bytes` may be: room for a few dozen small records.
const LEAST_BYTES: u64 = 64 * 1024;
/// The largest record that is taken when `max_record_bytes` is not given.
const USUAL_RECORD_BYTES: u64 = 16 * 1024 * 1024;

/// Options of the memory store. Every one may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// The most records to keep. When one more arrives, the one that was not read or written for
    /// the longest time goes. Default: 100000.
    pub max_records: NonZeroU64,

    /// The most memory that records may take, in bytes, bookkeeping included; at least 65536.
    /// Beyond it the least recently used records go. Default: 268435456 (256 MiB).
    #[schemars(range(min = 65536))]
    pub max_bytes: u64,

    /// The largest record that is taken, in bytes; at most half of `max_bytes`.
    /// Default: 16777216 (16 MiB), or half of `max_bytes` where that is less.
    pub max_record_bytes: Option<NonZeroU64>,

    /// How often expired records are removed, such as `10s`, `1m 30s` or `500ms`. They are never
    /// returned in any case; this only frees their memory. Default: `30s`.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub cleanup_interval: Duration,

    /// Stores opened with the same name in one process share their records; they must have the
    /// same options. Without a name a store has records of its own. Default: none.
    pub name: Option<String>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            max_records: const { NonZeroU64::new(100_000).unwrap() },
            max_bytes: 256 * 1024 * 1024,
            max_record_bytes: None,
            cleanup_interval: Duration::from_secs(30),
            name: None,
        }
    }
}

/// What the configuration comes to, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) max_records: u64,
    pub(crate) max_bytes: u64,
    pub(crate) max_record_bytes: u64,
    pub(crate) cleanup_interval: Duration,
}

impl MemoryConfig {
    /// Checks the options against each other.
    pub(crate) fn limits(&self) -> StoreResult<Limits> {
        if self.max_bytes < LEAST_BYTES {
            return Err(StoreError::invalid_config(format!(
                "max_bytes is {}, expected at least {LEAST_BYTES}",
                self.max_bytes
            )));
        }
        let most = self.max_bytes / 2;
        let max_record_bytes = self
            .max_record_bytes
            .map_or(most.min(USUAL_RECORD_BYTES), u64::from);
        if max_record_bytes > most {
            return Err(StoreError::invalid_config(format!(
                "max_record_bytes is {max_record_bytes}, expected at most {most}, half of max_bytes"
            )));
        }
        if self.cleanup_interval.is_zero() {
            return Err(StoreError::invalid_config(
                "cleanup_interval is zero, expected a time such as 30s",
            ));
        }
        Ok(Limits {
            max_records: self.max_records.get(),
            max_bytes: self.max_bytes,
            max_record_bytes,
            cleanup_interval: self.cleanup_interval,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits(config: serde_json::Value) -> Result<Limits, String> {
        serde_json::from_value::<MemoryConfig>(config)
            .map_err(|error| error.to_string())?
            .limits()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn everything_may_be_left_out() {
        let limits = limits(json!({})).unwrap();
        assert_eq!(limits, MemoryConfig::default().limits().unwrap());
        assert_eq!(limits.max_record_bytes, USUAL_RECORD_BYTES);
    }

    #[test]
    fn the_record_limit_follows_a_small_store() {
        let limits = limits(json!({"max_bytes": 65536})).unwrap();
        assert_eq!(limits.max_record_bytes, 32768);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (config, named) in [
            (json!({"max_records": 0}), "nonzero"),
            (json!({"max_bytes": 100}), "max_bytes is 100"),
            (
                json!({"max_bytes": 65536, "max_record_bytes": 40000}),
                "max_record_bytes is 40000",
            ),
            (
                json!({"cleanup_interval": "0s"}),
                "cleanup_interval is zero",
            ),
            (
                json!({"cleanup_interval": "soon"}),
                "\"soon\" is no duration",
            ),
            (json!({"max_record": 1}), "unknown field `max_record`"),
        ] {
            let error = limits(config.clone()).unwrap_err();
            assert!(error.contains(named), "{config}: {error}");
        }
    }
}
