//! Durations in a configuration as people write them: `500ms`, `30s`, `1h 30m`.
//!
//! ```
//! use std::time::Duration;
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Config {
//!     /// How long to wait.
//!     #[serde(with = "warren_plugin_api::duration_text")]
//!     #[schemars(with = "String")]
//!     patience: Duration,
//! }
//!
//! let config: Config = serde_json::from_str(r#"{"patience": "1m 30s"}"#)?;
//! assert_eq!(config.patience, Duration::from_secs(90));
//! # Ok::<_, serde_json::Error>(())
//! ```

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes a duration as text.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration from text.
///
/// # Errors
/// Text that is no duration; the error shows it, and how one is written.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format_args!(
            "{text:?} is no duration: {error}; write one as 500ms, 30s or 1m 30s"
        ))
    })
}
