//! The configuration: one TOML file, then the environment, then flags, each over the one before.

mod layers;
mod redact;
mod settings;

pub use layers::{ConfigError, Layers, Loaded, Origin};
pub use redact::{redact_url, redacted};
pub use settings::{
    BrokerConfig, Config, LogConfig, LogFormat, PluginsConfig, ResultStoreConfig, SpoolConfig,
    WorkerConfig,
};
