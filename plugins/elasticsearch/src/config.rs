//! The store's options.

use std::{fmt, num::NonZeroU64, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_plugin_api::{StoreError, StoreResult};

use crate::{address::Address, index::check_name};

/// In base64 it is below the 50 MB that OpenSearch takes for one string.
const MOST_RECORD_BYTES: u64 = 32 * 1024 * 1024;

/// When what was written can be found by a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Refresh {
    /// Who scans or counts asks for a refresh before it.
    #[default]
    OnRead,
    /// A write is acknowledged after the next refresh.
    OnWrite,
    /// After the index's own refresh interval: what was just written may be missing.
    Interval,
}

/// Options of the Elasticsearch store. Every one may be left out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ElasticsearchConfig {
    /// The nodes of the cluster, such as `["https://es1:9200", "https://es2:9200"]`; where one is
    /// away the next is asked. A path is kept. Default: `["http://localhost:9200"]`.
    #[schemars(length(min = 1))]
    pub elasticsearch_urls: Vec<String>,

    /// The user, with `password`. Default: none.
    pub username: Option<String>,

    /// The password of `username`.
    pub password: Option<String>,

    /// An API key of Elasticsearch, in the encoded form, instead of a user. Default: none.
    pub api_key: Option<String>,

    /// The alias through which records are written and read; the index behind it is this name with
    /// `-v1`, both made when they are not there. Programs share their results by having the same.
    /// Default: `warren-results`.
    #[schemars(length(min = 1, max = 200))]
    pub index: String,

    /// Primary shards of an index that is made. Default: the cluster's own.
    #[schemars(range(min = 1, max = 1024))]
    pub shards: Option<u16>,

    /// Replicas of each shard of an index that is made. Default: the cluster's own.
    pub replicas: Option<u16>,

    /// When scans and figures show what was written: `on_read`, before each of them; `on_write`,
    /// before a write is acknowledged; `interval`, some time after it. Default: `on_read`.
    pub refresh: Refresh,

    /// Whether payloads that are text can be searched for, the first 32 KiB of each. Default: false.
    pub index_payloads: bool,

    /// How long connecting to a node may take, such as `3s`. Default: `3s`.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,

    /// How long a request may take, over all nodes that are tried. Default: `4s`, since the host
    /// gives a call 5 s.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub request_timeout: Duration,

    /// The largest record that is taken, in bytes; at most 33554432 (32 MiB). A record travels as
    /// base64, a third larger. Default: 16777216 (16 MiB).
    #[schemars(range(min = 1, max = 33_554_432))]
    pub max_record_bytes: NonZeroU64,

    /// A PEM file with the certificates that may have signed the server's.
    /// Default: the certificate authorities that Mozilla trusts.
    pub tls_ca_file: Option<PathBuf>,

    /// A PEM file with this client's certificate, where the server asks for one.
    pub tls_cert_file: Option<PathBuf>,

    /// A PEM file with the private key of `tls_cert_file`.
    pub tls_key_file: Option<PathBuf>,
}

impl Default for ElasticsearchConfig {
    fn default() -> Self {
        Self {
            elasticsearch_urls: vec!["http://localhost:9200".into()],
            username: None,
            password: None,
            api_key: None,
            index: "warren-results".into(),
            shards: None,
            replicas: None,
            refresh: Refresh::OnRead,
            index_payloads: false,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(4),
            max_record_bytes: const { NonZeroU64::new(16 * 1024 * 1024).unwrap() },
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
        }
    }
}

impl ElasticsearchConfig {
    /// Checks every option and reads the addresses; the TLS files are read by the client.
    pub(crate) fn checked(&self) -> StoreResult<Address> {
        let wrong = |text: String| Err(StoreError::invalid_config(text));
        for (name, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
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
                "max_record_bytes is {}, expected at most {MOST_RECORD_BYTES}: OpenSearch takes no \
                 string of more than 50 MB",
                self.max_record_bytes
            ));
        }
        if self
            .shards
            .is_some_and(|shards| !(1..=1024).contains(&shards))
        {
            return wrong("shards is out of range, expected 1 to 1024".to_owned());
        }
        check_name(&self.index)?;
        Address::new(self)
    }
}

impl fmt::Debug for ElasticsearchConfig {
    /// Without passwords and keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = Address::new(self).map_or_else(|_| "…".to_owned(), |found| found.to_string());
        f.debug_struct("ElasticsearchConfig")
            .field("elasticsearch_urls", &nodes)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("index", &self.index)
            .field("shards", &self.shards)
            .field("replicas", &self.replicas)
            .field("refresh", &self.refresh)
            .field("index_payloads", &self.index_payloads)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("max_record_bytes", &self.max_record_bytes)
            .field("tls_ca_file", &self.tls_ca_file)
            .field("tls_cert_file", &self.tls_cert_file)
            .field("tls_key_file", &self.tls_key_file)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(config: serde_json::Value) -> Result<String, String> {
        serde_json::from_value::<ElasticsearchConfig>(config)
            .map_err(|error| error.to_string())?
            .checked()
            .map(|address| address.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn everything_may_be_left_out() {
        assert_eq!(checked(json!({})).unwrap(), "http://localhost:9200");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (config, named) in [
            (
                json!({"elasticsearch_urls": []}),
                "elasticsearch_urls is empty",
            ),
            (json!({"elasticsearch_urls": ["localhost"]}), "is no URL"),
            (
                json!({"elasticsearch_urls": ["ftp://a"]}),
                "begins with ftp://",
            ),
            (
                json!({"elasticsearch_urls": ["http://a/?x=1"]}),
                "has a query",
            ),
            (
                json!({"elasticsearch_urls": ["http://a:b@c"]}),
                "set username and password",
            ),
            (json!({"username": "me"}), "belong together"),
            (json!({"password": "p"}), "belong together"),
            (
                json!({"username": "m", "password": "p", "api_key": "k"}),
                "api_key",
            ),
            (
                json!({"username": "m:e", "password": "p"}),
                "username has a colon",
            ),
            (json!({"api_key": "a\nb"}), "api_key has a character"),
            (json!({"index": ""}), "index"),
            (json!({"index": "Results"}), "index"),
            (json!({"index": "_all"}), "index"),
            (json!({"index": "a,b"}), "index"),
            (json!({"index": "a*"}), "index"),
            (json!({"index": "x".repeat(201)}), "index"),
            (json!({"shards": 0}), "shards"),
            (json!({"connect_timeout": "0s"}), "connect_timeout is 0s"),
            (
                json!({"request_timeout": "soon"}),
                "\"soon\" is no duration",
            ),
            (json!({"refresh": "never"}), "unknown variant `never`"),
            (
                json!({"max_record_bytes": 33_554_433}),
                "max_record_bytes is 33554433",
            ),
            (json!({"url": ""}), "unknown field `url`"),
        ] {
            let error = checked(config.clone()).unwrap_err();
            assert!(error.contains(named), "{config}: {error}");
        }
    }

    #[test]
    fn passwords_and_keys_are_not_shown() {
        for config in [
            json!({"username": "me", "password": "s3cret"}),
            json!({"api_key": "s3cret"}),
            json!({"api_key": "s3cret", "username": "me"}),
            json!({"elasticsearch_urls": ["http://me:s3cret@h"]}),
            json!({"elasticsearch_urls": ["http://me:s3cret@h:port"]}),
            json!({"elasticsearch_urls": ["https://h/?key=s3cret"]}),
        ] {
            let config: ElasticsearchConfig = serde_json::from_value(config).unwrap();
            let shown = format!("{config:?} {:?}", config.checked().err());
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
