//! The store's options.

use std::{fmt, num::NonZeroU64, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_plugin_api::{StoreError, StoreResult};

use crate::address::Address;

/// MongoDB takes 16 MiB for a document, and for the command that it travels in.
const MOST_RECORD_BYTES: u64 = 16 * 1024 * 1024 - 64 * 1024;
const DEFAULT_RECORD_BYTES: u64 = 15 * 1024 * 1024;
const MOST_CONNECTIONS: u32 = 256;
/// A namespace, `database.collection`, has at most 120 bytes on every server that is supported.
const MOST_DATABASE_BYTES: usize = 63;
const MOST_PREFIX_BYTES: usize = 44;

/// Options of the MongoDB store. Every one may be left out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MongodbConfig {
    /// The servers: `mongodb://user:password@host:27017/?replicaSet=rs0&tls=true`, several hosts
    /// separated by commas, or `mongodb+srv://host`. Default: `mongodb://localhost`.
    pub mongodb_url: String,

    /// The database that holds the records. Default: the one that the URL names, else `warren`.
    #[schemars(length(min = 1, max = 63))]
    pub database: Option<String>,

    /// What the name of the collection begins with. Programs share their results by having the
    /// same database and prefix. Default: `warren_`.
    #[schemars(length(max = 44))]
    pub collection_prefix: String,

    /// The most connections that are held open to each server, made as they are needed; 1 to 256.
    /// Default: 10.
    #[schemars(range(min = 1, max = 256))]
    pub connections: u32,

    /// How long connecting, and finding a server that takes the call, may take, such as `4s`.
    /// Default: `4s`, since the host gives a call 5 s.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,

    /// How long the server may work on one command, and may wait for the members of its replica
    /// set. Default: `4s`, since the host gives a call 5 s.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub operation_timeout: Duration,

    /// The largest record that is taken, in bytes; at most 16711680, since MongoDB limits a
    /// document to 16 MiB. Default: 15728640 (15 MiB).
    #[schemars(range(min = 1, max = 16_711_680))]
    pub max_record_bytes: NonZeroU64,

    /// Whether clients may listen for ended jobs, by a change stream. It takes a replica set or a
    /// sharded cluster; on a single server clients ask again and again. Default: true.
    pub push: bool,

    /// A PEM file with the certificates that may have signed the server's.
    /// Default: the certificate authorities that Mozilla trusts.
    pub tls_ca_file: Option<PathBuf>,

    /// A PEM file with this client's certificate and its private key, where the server asks for
    /// one.
    pub tls_cert_key_file: Option<PathBuf>,

    /// Takes any certificate of the server, which protects against nobody who can redirect the
    /// connection. Shown as a warning wherever health is shown. Default: false.
    pub tls_insecure: bool,
}

impl Default for MongodbConfig {
    fn default() -> Self {
        Self {
            mongodb_url: "mongodb://localhost".into(),
            database: None,
            collection_prefix: "warren_".into(),
            connections: 10,
            connect_timeout: Duration::from_secs(4),
            operation_timeout: Duration::from_secs(4),
            max_record_bytes: const { NonZeroU64::new(DEFAULT_RECORD_BYTES).unwrap() },
            push: true,
            tls_ca_file: None,
            tls_cert_key_file: None,
            tls_insecure: false,
        }
    }
}

impl MongodbConfig {
    /// Checks every option, reads the URL and looks into the TLS files.
    pub(crate) fn checked(&self) -> StoreResult<Address> {
        let wrong = |text: String| Err(StoreError::invalid_config(text));
        if !(1..=MOST_CONNECTIONS).contains(&self.connections) {
            return wrong(format!(
                "connections is {}, expected 1 to {MOST_CONNECTIONS}",
                self.connections
            ));
        }
        for (name, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("operation_timeout", self.operation_timeout),
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
                "max_record_bytes is {}, expected at most {MOST_RECORD_BYTES}: MongoDB takes no \
                 document of more than 16 MiB",
                self.max_record_bytes
            ));
        }
        check_prefix(&self.collection_prefix)?;
        let address = Address::new(self)?;
        check_database(&address.database)?;
        Ok(address)
    }

    /// The name of the collection.
    pub(crate) fn collection(&self) -> String {
        format!("{}results", self.collection_prefix)
    }
}

fn check_prefix(prefix: &str) -> StoreResult<()> {
    let wrong = |why: &str| {
        Err(StoreError::invalid_config(format!(
            "collection_prefix {why}"
        )))
    };
    if prefix.len() > MOST_PREFIX_BYTES {
        return wrong(&format!(
            "has {} bytes, expected at most {MOST_PREFIX_BYTES}",
            prefix.len()
        ));
    }
    if prefix.contains(['\0', '$']) {
        return wrong("has a NUL or a $, which no name of a collection may have");
    }
    if prefix.starts_with("system.") || prefix.starts_with('.') {
        return wrong("begins with system. or a dot, which are MongoDB's own names");
    }
    Ok(())
}

/// What MongoDB refuses on every platform, found before a server is asked.
fn check_database(name: &str) -> StoreResult<()> {
    if !(1..=MOST_DATABASE_BYTES).contains(&name.len()) {
        return Err(StoreError::invalid_config(format!(
            "database has {} bytes, expected 1 to {MOST_DATABASE_BYTES}",
            name.len()
        )));
    }
    if name.contains([
        '\0', '/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?',
    ]) {
        return Err(StoreError::invalid_config(format!(
            "database is {name:?}, expected a name without spaces and any of / \\ . \" $ * < > : | ?"
        )));
    }
    if ["admin", "config", "local"].contains(&name) {
        return Err(StoreError::invalid_config(format!(
            "database is {name}, which is MongoDB's own: choose another"
        )));
    }
    Ok(())
}

impl fmt::Debug for MongodbConfig {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = Address::new(self).map_or_else(|_| "…".to_owned(), |found| found.to_string());
        f.debug_struct("MongodbConfig")
            .field("mongodb_url", &server)
            .field("database", &self.database)
            .field("collection_prefix", &self.collection_prefix)
            .field("connections", &self.connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("max_record_bytes", &self.max_record_bytes)
            .field("push", &self.push)
            .field("tls_ca_file", &self.tls_ca_file)
            .field("tls_cert_key_file", &self.tls_cert_key_file)
            .field("tls_insecure", &self.tls_insecure)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(config: serde_json::Value) -> Result<String, String> {
        serde_json::from_value::<MongodbConfig>(config)
            .map_err(|error| error.to_string())?
            .checked()
            .map(|address| address.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn everything_may_be_left_out() {
        assert_eq!(checked(json!({})).unwrap(), "localhost:27017/warren");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (config, named) in [
            (json!({"database": ""}), "database has 0 bytes"),
            (json!({"database": "x".repeat(64)}), "database has 64 bytes"),
            (json!({"database": "a.b"}), "database is \"a.b\""),
            (json!({"database": "admin"}), "database is admin"),
            (
                json!({"mongodb_url": "mongodb://h/local"}),
                "database is local",
            ),
            (
                json!({"collection_prefix": "x".repeat(45)}),
                "collection_prefix has 45 bytes",
            ),
            (
                json!({"collection_prefix": "a\u{0}b"}),
                "collection_prefix has a NUL",
            ),
            (
                json!({"collection_prefix": "system."}),
                "collection_prefix begins with system.",
            ),
            (json!({"connections": 0}), "connections is 0"),
            (json!({"connections": 257}), "connections is 257"),
            (json!({"connect_timeout": "0s"}), "connect_timeout is 0s"),
            (
                json!({"operation_timeout": "soon"}),
                "\"soon\" is no duration",
            ),
            (
                json!({"max_record_bytes": 16_711_681}),
                "max_record_bytes is 16711681",
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
            "mongodb://user:s3cret@localhost/db",
            "mongodb://user:s3cret@localhost:none/db",
            "mongodb://user:p@s3cret@localhost/db",
            "mongodb://user:p/s3cret@localhost/db",
            "mongodb://user:s3cret%@localhost/db",
            "mongodb://user:s3cret@localhost/db?w=0",
            "mongodb://user:s3cret@localhost/db?whatever=1",
            "mongodb://user:s3cret",
            "mongo://user:s3cret@localhost",
        ] {
            let config = MongodbConfig {
                mongodb_url: url.into(),
                ..MongodbConfig::default()
            };
            let shown = format!("{config:?} {:?}", config.checked().err());
            assert!(!shown.contains("s3cret"), "{url}: {shown}");
        }
    }
}
