//! The store's options.

use std::{fmt, num::NonZeroU64, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_plugin_api::{StoreError, StoreResult};

use crate::{address::Address, names::Names};

/// PostgreSQL takes 1 GiB for a message; a record travels in one.
const MOST_RECORD_BYTES: u64 = 256 * 1024 * 1024;
const MOST_CONNECTIONS: u16 = 256;

/// Options of the PostgreSQL store. Every one may be left out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresConfig {
    /// The server and the database: `postgresql://user:password@host:5432/database`, with
    /// `?sslmode=require` for TLS; several hosts may stand there, separated by commas.
    /// Default: `postgresql://localhost`, with the user that the process runs as.
    pub postgres_url: String,

    /// The schema that holds the tables; made when it is not there. Any name. Default: `public`.
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,

    /// What the names of the tables begin with. Programs share their results by having the same
    /// schema and prefix. Default: `warren_`.
    #[schemars(length(max = 44))]
    pub table_prefix: String,

    /// The most connections that are held open, made as they are needed; 1 to 256. Default: 4.
    #[schemars(range(min = 1, max = 256))]
    pub connections: u16,

    /// How long connecting may take, such as `4s`. Default: `4s`, since the host gives a call 5 s.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,

    /// How long the server may work on one statement before it is cancelled. Default: `4s`, since
    /// the host gives a call 5 s.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub statement_timeout: Duration,

    /// The largest record that is taken, in bytes; at most 268435456 (256 MiB).
    /// Default: 67108864 (64 MiB).
    #[schemars(range(min = 1, max = 268_435_456))]
    pub max_record_bytes: NonZeroU64,

    /// Whether ended jobs are announced, by `NOTIFY`; else clients are told over the broker.
    /// Every program of one schema and prefix must have the same. Default: true.
    pub push: bool,

    /// Set it when a pooler that shares connections between transactions stands before the server,
    /// such as PgBouncer with `pool_mode = transaction`: no prepared statements, no session
    /// settings, and no listening for ended jobs. Default: false.
    pub transaction_pooling: bool,

    /// A PEM file with the certificates that may have signed the server's.
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

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            postgres_url: "postgresql://localhost".into(),
            schema: "public".into(),
            table_prefix: "warren_".into(),
            connections: 4,
            connect_timeout: Duration::from_secs(4),
            statement_timeout: Duration::from_secs(4),
            max_record_bytes: const { NonZeroU64::new(64 * 1024 * 1024).unwrap() },
            push: true,
            transaction_pooling: false,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_insecure: false,
        }
    }
}

impl PostgresConfig {
    /// Checks every option, reads the URL and the TLS files.
    pub(crate) fn checked(&self) -> StoreResult<(Address, Names)> {
        let wrong = |text: String| Err(StoreError::invalid_config(text));
        if !(1..=MOST_CONNECTIONS).contains(&self.connections) {
            return wrong(format!(
                "connections is {}, expected 1 to {MOST_CONNECTIONS}",
                self.connections
            ));
        }
        for (name, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("statement_timeout", self.statement_timeout),
        ] {
            if timeout < Duration::from_millis(1) || timeout > Duration::from_secs(86_400) {
                return wrong(format!(
                    "{name} is {}, expected a time from 1ms to 1day, such as 5s",
                    humantime::format_duration(timeout)
                ));
            }
        }
        if self.max_record_bytes.get() > MOST_RECORD_BYTES {
            return wrong(format!(
                "max_record_bytes is {}, expected at most {MOST_RECORD_BYTES}: PostgreSQL takes \
                 no message of more than 1 GiB",
                self.max_record_bytes
            ));
        }
        let names = Names::new(&self.schema, &self.table_prefix)?;
        Ok((Address::new(self)?, names))
    }
}

impl fmt::Debug for PostgresConfig {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = Address::new(self).map_or_else(|_| "…".to_owned(), |found| found.to_string());
        f.debug_struct("PostgresConfig")
            .field("postgres_url", &server)
            .field("schema", &self.schema)
            .field("table_prefix", &self.table_prefix)
            .field("connections", &self.connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("max_record_bytes", &self.max_record_bytes)
            .field("push", &self.push)
            .field("transaction_pooling", &self.transaction_pooling)
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
        serde_json::from_value::<PostgresConfig>(config)
            .map_err(|error| error.to_string())?
            .checked()
            .map(|(address, _)| address.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn everything_may_be_left_out() {
        assert_eq!(checked(json!({})).unwrap(), "localhost:5432");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (config, named) in [
            (json!({"schema": ""}), "schema has 0 bytes"),
            (json!({"schema": "x".repeat(64)}), "schema has 64 bytes"),
            (
                json!({"table_prefix": "x".repeat(45)}),
                "table_prefix has 45 bytes",
            ),
            (json!({"table_prefix": "a\u{0}b"}), "table_prefix has a NUL"),
            (json!({"connections": 0}), "connections is 0"),
            (json!({"connections": 257}), "connections is 257"),
            (json!({"connect_timeout": "0s"}), "connect_timeout is 0s"),
            (
                json!({"statement_timeout": "soon"}),
                "\"soon\" is no duration",
            ),
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
            "postgresql://user:s3cret@localhost/db",
            "postgresql://localhost/db?user=me&password=s3cret",
            "postgresql://user:s3cret@localhost:none/db",
            "postgresql://user:p@s3cret@localhost/db",
        ] {
            let config = PostgresConfig {
                postgres_url: url.into(),
                ..PostgresConfig::default()
            };
            let shown = format!("{config:?} {:?}", config.checked().err());
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
