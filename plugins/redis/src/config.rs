//! The store's options.

use std::{fmt, num::NonZeroU64, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_plugin_api::{StoreError, StoreResult};

use crate::address::Address;

/// Redis takes 512 MiB for a value; base64 and escapes make a record longer than its bytes.
const MOST_RECORD_BYTES: u64 = 256 * 1024 * 1024;
const MOST_CONNECTIONS: u16 = 64;
const MOST_PREFIX_BYTES: usize = 256;

/// Options of the Redis store. Every one may be left out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// The server: `redis://user:password@host:6379/0`, `rediss://…` for TLS, or
    /// `unix:///path/to/socket?db=0&user=…&pass=…`. Add `?protocol=resp2` for a proxy that does
    /// not understand RESP3. Default: `redis://localhost:6379/0`.
    pub redis_url: String,

    /// What every key begins with. Programs share their results by having the same prefix.
    /// Default: `rabbitmq_arq`, where rabbitmq-arq keeps its own.
    #[schemars(length(min = 1, max = 256))]
    pub key_prefix: String,

    /// Connections to the server, each shared by many calls at once; 1 to 64. Default: 2.
    #[schemars(range(min = 1, max = 64))]
    pub connections: u16,

    /// How long connecting may take, such as `4s`. Default: `4s`, since the host gives a call 5 s.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,

    /// How long the server may take to answer before its connection is given up. Default: `4s`,
    /// since the host gives a call 5 s.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub response_timeout: Duration,

    /// The largest record that is taken, in bytes; at most 268435456 (256 MiB).
    /// Default: 67108864 (64 MiB).
    #[schemars(range(min = 1, max = 268_435_456))]
    pub max_record_bytes: NonZeroU64,

    /// A PEM file with the certificates that may have signed the server's; only for `rediss://`.
    /// Default: the certificate authorities that Mozilla trusts.
    pub tls_ca_file: Option<PathBuf>,

    /// A PEM file with this client's certificate, where the server asks for one.
    pub tls_cert_file: Option<PathBuf>,

    /// A PEM file with the private key of `tls_cert_file`.
    pub tls_key_file: Option<PathBuf>,

    /// Takes any certificate of the server, which protects against nobody who can redirect the
    /// connection. Shown as a warning wherever health is shown. Default: false.
    pub tls_insecure: bool,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            redis_url: "redis://localhost:6379/0".into(),
            key_prefix: "rabbitmq_arq".into(),
            connections: 2,
            connect_timeout: Duration::from_secs(4),
            response_timeout: Duration::from_secs(4),
            max_record_bytes: const { NonZeroU64::new(64 * 1024 * 1024).unwrap() },
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_insecure: false,
        }
    }
}

impl RedisConfig {
    /// Checks every option and reads the URL.
    pub(crate) fn address(&self) -> StoreResult<Address> {
        let wrong = |text: String| Err(StoreError::invalid_config(text));
        if self.key_prefix.is_empty() || self.key_prefix.len() > MOST_PREFIX_BYTES {
            return wrong(format!(
                "key_prefix has {} bytes, expected 1 to {MOST_PREFIX_BYTES}",
                self.key_prefix.len()
            ));
        }
        if !(1..=MOST_CONNECTIONS).contains(&self.connections) {
            return wrong(format!(
                "connections is {}, expected 1 to {MOST_CONNECTIONS}",
                self.connections
            ));
        }
        for (name, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
        ] {
            if timeout.is_zero() {
                return wrong(format!("{name} is zero, expected a time such as 5s"));
            }
        }
        if self.max_record_bytes.get() > MOST_RECORD_BYTES {
            return wrong(format!(
                "max_record_bytes is {}, expected at most {MOST_RECORD_BYTES}: Redis takes no \
                 value of more than 512 MiB",
                self.max_record_bytes
            ));
        }
        Address::new(self)
    }
}

impl fmt::Debug for RedisConfig {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = Address::new(self).map_or_else(|_| "…".to_owned(), |found| found.to_string());
        f.debug_struct("RedisConfig")
            .field("redis_url", &server)
            .field("key_prefix", &self.key_prefix)
            .field("connections", &self.connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("max_record_bytes", &self.max_record_bytes)
            .field("tls_ca_file", &self.tls_ca_file)
            .field("tls_cert_file", &self.tls_cert_file)
            .field("tls_key_file", &self.tls_key_file)
            .field("tls_insecure", &self.tls_insecure)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(config: serde_json::Value) -> Result<String, String> {
        serde_json::from_value::<RedisConfig>(config)
            .map_err(|error| error.to_string())?
            .address()
            .map(|address| address.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn everything_may_be_left_out() {
        assert_eq!(checked(json!({})).unwrap(), "localhost:6379/0");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (config, named) in [
            (json!({"key_prefix": ""}), "key_prefix has 0 bytes"),
            (
                json!({"key_prefix": "x".repeat(257)}),
                "key_prefix has 257 bytes",
            ),
            (json!({"connections": 0}), "connections is 0"),
            (json!({"connections": 65}), "connections is 65"),
            (json!({"connect_timeout": "0s"}), "connect_timeout is zero"),
            (
                json!({"response_timeout": "soon"}),
                "\"soon\" is no duration",
            ),
            (json!({"max_record_bytes": 0}), "nonzero"),
            (
                json!({"max_record_bytes": 268_435_457}),
                "max_record_bytes is 268435457",
            ),
            (json!({"url": ""}), "unknown field `url`"),
        ] {
            let error = checked(config.clone()).unwrap_err();
            assert!(error.contains(named), "{config}: {error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for url in [
            "redis://user:s3cret@localhost/0",
            "unix:///tmp/redis.sock?pass=s3cret",
            "redis://user:s3cret@localhost/nonsense",
        ] {
            let config = RedisConfig {
                redis_url: url.into(),
                ..RedisConfig::default()
            };
            let shown = format!("{config:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
