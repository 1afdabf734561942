//! The store's options.

use std::{
    num::{NonZeroU16, NonZeroU64},
    path::{Path, PathBuf},
    time::Duration,
};

use directories::ProjectDirs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_plugin_api::{StoreError, StoreResult};

/// SQLite takes 1,000,000,000 bytes for a row; a record's numbers and names come on top.
const MOST_RECORD_BYTES: u64 = 512 * 1024 * 1024;
const MOST_CONNECTIONS: u16 = 64;
/// SQLite counts milliseconds in 31 bits.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Options of the SQLite store. Every one may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteConfig {
    /// The database file; made when it is missing, and its folder too. On a local disk: SQLite's
    /// locks do not work on network file systems. Default: `$STATE_DIRECTORY/results.db`, else
    /// `~/.local/state/warren/results.db`.
    pub path: Option<PathBuf>,

    /// What an acknowledged write survives. `full`: everything, also a power cut. `normal`: the
    /// end of the process; a power cut may take the last writes, never older ones. Default: `full`.
    pub synchronous: Synchronous,

    /// How long a call waits for another process that holds the file's lock, such as `4s`. Keep it
    /// below the host's deadline for a call. Default: `4s`.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub busy_timeout: Duration,

    /// The largest record that is taken, in bytes; at most 536870912 (512 MiB).
    /// Default: 67108864 (64 MiB).
    #[schemars(range(min = 1, max = 536_870_912))]
    pub max_record_bytes: NonZeroU64,

    /// Connections for reading, each with a thread of its own; 1 to 64. Default: 2.
    #[schemars(range(min = 1, max = 64))]
    pub read_connections: NonZeroU16,
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Synchronous {
    /// Everything, also a power cut.
    #[default]
    Full,
    /// The end of the process; a power cut may take the last writes.
    Normal,
}

impl Synchronous {
    /// SQLite's word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            path: None,
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(4),
            max_record_bytes: const { NonZeroU64::new(64 * 1024 * 1024).unwrap() },
            read_connections: const { NonZeroU16::new(2).unwrap() },
        }
    }
}

/// What the configuration comes to, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) path: PathBuf,
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) max_record_bytes: u64,
    pub(crate) read_connections: u16,
}

impl SqliteConfig {
    /// Checks the options.
    pub(crate) fn settings(&self) -> StoreResult<Settings> {
        let max_record_bytes = self.max_record_bytes.get();
        if max_record_bytes > MOST_RECORD_BYTES {
            return Err(StoreError::invalid_config(format!(
                "max_record_bytes is {max_record_bytes}, expected at most {MOST_RECORD_BYTES}"
            )));
        }
        let read_connections = self.read_connections.get();
        if read_connections > MOST_CONNECTIONS {
            return Err(StoreError::invalid_config(format!(
                "read_connections is {read_connections}, expected at most {MOST_CONNECTIONS}"
            )));
        }
        if self.busy_timeout > LONGEST_TIMEOUT {
            return Err(StoreError::invalid_config(format!(
                "busy_timeout is {}, expected at most a day",
                humantime::format_duration(self.busy_timeout)
            )));
        }
        Ok(Settings {
            path: self.absolute_path()?,
            synchronous: self.synchronous,
            busy_timeout: self.busy_timeout,
            max_record_bytes,
            read_connections,
        })
    }

    fn absolute_path(&self) -> StoreResult<PathBuf> {
        let path = match &self.path {
            Some(path) => path.clone(),
            None => usual_path()?,
        };
        if path.as_os_str().is_empty() || path == Path::new(":memory:") {
            return Err(StoreError::invalid_config(format!(
                "path is {:?}, expected a file: the store \"memory\" keeps results without one",
                path.display().to_string()
            )));
        }
        std::path::absolute(&path).map_err(|error| {
            StoreError::invalid_config(format!("path is {}: {error}", path.display()))
        })
    }
}

fn usual_path() -> StoreResult<PathBuf> {
    const FILE: &str = "results.db";
    // What systemd's StateDirectory= gives a service.
    if let Some(folder) = std::env::var_os("STATE_DIRECTORY").filter(|it| !it.is_empty()) {
        return Ok(PathBuf::from(folder).join(FILE));
    }
    let folders = ProjectDirs::from("", "", "warren").ok_or_else(|| {
        StoreError::invalid_config("there is no home folder to keep results in: set path")
    })?;
    let state = folders.state_dir().unwrap_or_else(|| folders.data_dir());
    Ok(state.join(FILE))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(config: serde_json::Value) -> Result<Settings, String> {
        serde_json::from_value::<SqliteConfig>(config)
            .map_err(|error| error.to_string())?
            .settings()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn everything_may_be_left_out() {
        let settings = settings(json!({})).unwrap();
        assert!(settings.path.is_absolute());
        assert!(settings.path.ends_with("results.db"), "{settings:?}");
        assert_eq!(settings.synchronous, Synchronous::Full);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (config, named) in [
            (json!({"path": ""}), "path is \"\""),
            (json!({"path": ":memory:"}), "the store \"memory\""),
            (json!({"synchronous": "off"}), "`off`"),
            (json!({"busy_timeout": "soon"}), "\"soon\" is no duration"),
            (json!({"busy_timeout": "9days"}), "busy_timeout is 9days"),
            (
                json!({"max_record_bytes": 536_870_913}),
                "max_record_bytes is 536870913",
            ),
            (json!({"read_connections": 0}), "nonzero"),
            (json!({"read_connections": 65}), "read_connections is 65"),
            (json!({"pat": "x"}), "unknown field `pat`"),
        ] {
            let error = settings(config.clone()).unwrap_err();
            assert!(error.contains(named), "{config}: {error}");
        }
    }
}
