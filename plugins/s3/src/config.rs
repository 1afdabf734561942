//! The store's options.

use std::{fmt, num::NonZeroU64, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_plugin_api::{StoreError, StoreResult};

use crate::{address::Address, keys::Keys};

/// A record travels in one request and is in memory as a whole, as JSON.
const MOST_RECORD_BYTES: u64 = 256 * 1024 * 1024;
const MOST_REQUESTS: u16 = 1_024;
const MOST_LIFECYCLE_DAYS: u16 = 3_650;
/// So that the longest key stays far below S3's 1,024 bytes.
const MOST_PREFIX_BYTES: usize = 512;

/// Options of the S3 store. `bucket` must be set, or `AWS_BUCKET`; the others may be left out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// The bucket that holds the records; it must be there. Default: the environment's `AWS_BUCKET`.
    pub bucket: Option<String>,

    /// What every key begins with, such as `my_app` or `prod/jobs`. Programs share their results by
    /// having the same bucket and prefix. Letters, digits, `-`, `_`, `.` and `/`. Default: `warren`.
    #[schemars(length(max = 512))]
    pub prefix: String,

    /// Where the service is, such as `https://minio.example:9000`, without the bucket.
    /// Default: the environment's `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, or else AWS.
    pub endpoint: Option<String>,

    /// The region that requests are signed for. Default: the environment's `AWS_REGION` or
    /// `AWS_DEFAULT_REGION`, or else `us-east-1`.
    pub region: Option<String>,

    /// Where the bucket stands in an address: `path` for `https://host/bucket/key`, `virtual_host`
    /// for `https://bucket.host/key`. Default: `path` with an endpoint, `virtual_host` on AWS.
    pub addressing: Option<Addressing>,

    /// Takes an endpoint with `http://`: nothing is encrypted on the way. Default: false.
    pub allow_http: bool,

    /// The access key's id. Default: the usual chain, see the store's documentation.
    pub access_key_id: Option<String>,

    /// The secret that belongs to `access_key_id`.
    pub secret_access_key: Option<String>,

    /// The session token, where the access key is a temporary one.
    pub session_token: Option<String>,

    /// The profile of the shared credentials file (`~/.aws/credentials` or
    /// `AWS_SHARED_CREDENTIALS_FILE`) whose access key is used.
    pub profile: Option<String>,

    /// The most requests that are under way at once; 1 to 1024. Default: 32.
    #[schemars(range(min = 1, max = 1024))]
    pub concurrent_requests: u16,

    /// How long connecting may take, such as `2s`. Default: `2s`.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,

    /// How long one request may take, the body included. Default: `4s`, so that it ends before the
    /// host's deadline of 5 s for a call.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub request_timeout: Duration,

    /// How long a request that the service could not serve is sent again. Default: `4s`.
    #[serde(with = "warren_plugin_api::duration_text")]
    #[schemars(with = "String")]
    pub retry_for: Duration,

    /// The largest record that is taken, in bytes; at most 268435456 (256 MiB).
    /// Default: 16777216 (16 MiB).
    #[schemars(range(min = 1, max = 268_435_456))]
    pub max_record_bytes: NonZeroU64,

    /// For a service that ignores `If-None-Match` and `If-Match`, and only where ONE process writes:
    /// late writes are then refused by that process alone, and those of other processes overwrite.
    /// Default: false, and such a service is refused.
    pub single_writer: bool,

    /// Unset it where the service has no `DeleteObjects`: objects are then deleted one by one.
    /// Default: true.
    pub bulk_delete: bool,

    /// Tags objects that expire within this many days, so that a lifecycle rule of the bucket can
    /// remove them; `warren results stats` then shows the rule. Needs the right to tag.
    /// Default: nothing is tagged.
    #[schemars(range(min = 1, max = 3650))]
    pub lifecycle_days: Option<u16>,

    /// How many records `stats` counts by their status, at one request each. With more than that
    /// there are no counts. Default: 10000.
    pub count_up_to: u32,

    /// A PEM file with the certificates that may have signed the service's.
    /// Default: the certificate authorities that Mozilla trusts.
    pub tls_ca_file: Option<PathBuf>,
}

/// Where the bucket stands in an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    VirtualHost,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            bucket: None,
            prefix: "warren".into(),
            endpoint: None,
            region: None,
            addressing: None,
            allow_http: false,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            profile: None,
            concurrent_requests: 32,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(4),
            retry_for: Duration::from_secs(4),
            max_record_bytes: const { NonZeroU64::new(16 * 1024 * 1024).unwrap() },
            single_writer: false,
            bulk_delete: true,
            lifecycle_days: None,
            count_up_to: 10_000,
            tls_ca_file: None,
        }
    }
}

impl S3Config {
    /// Checks every option.
    pub(crate) fn checked(&self) -> StoreResult<(Address, Keys)> {
        let wrong = |text: String| Err(StoreError::invalid_config(text));
        if !(1..=MOST_REQUESTS).contains(&self.concurrent_requests) {
            return wrong(format!(
                "concurrent_requests is {}, expected 1 to {MOST_REQUESTS}",
                self.concurrent_requests
            ));
        }
        for (name, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
        ] {
            if timeout < Duration::from_millis(1) || timeout > Duration::from_secs(3_600) {
                return wrong(format!(
                    "{name} is {}, expected a time from 1ms to 1h, such as 2s",
                    humantime::format_duration(timeout)
                ));
            }
        }
        if self.retry_for > Duration::from_secs(300) {
            return wrong(format!(
                "retry_for is {}, expected at most 5m",
                humantime::format_duration(self.retry_for)
            ));
        }
        if self.max_record_bytes.get() > MOST_RECORD_BYTES {
            return wrong(format!(
                "max_record_bytes is {}, expected at most {MOST_RECORD_BYTES}",
                self.max_record_bytes
            ));
        }
        if let Some(days) = self.lifecycle_days
            && !(1..=MOST_LIFECYCLE_DAYS).contains(&days)
        {
            return wrong(format!(
                "lifecycle_days is {days}, expected 1 to {MOST_LIFECYCLE_DAYS}"
            ));
        }
        check_prefix(&self.prefix)?;
        Ok((Address::new(self)?, Keys::new(&self.prefix)))
    }
}

/// Every service takes these, and none folds or escapes them.
fn check_prefix(prefix: &str) -> StoreResult<()> {
    let wrong = |found: String| {
        Err(StoreError::invalid_config(format!(
            "prefix {found}, expected letters, digits, -, _, . and single slashes, such as my_app"
        )))
    };
    if prefix.len() > MOST_PREFIX_BYTES {
        return wrong(format!(
            "has {} bytes, at most {MOST_PREFIX_BYTES} fit",
            prefix.len()
        ));
    }
    if let Some(found) = prefix
        .chars()
        .find(|&found| !(found.is_ascii_alphanumeric() || "-_./".contains(found)))
    {
        return wrong(format!("has {found:?} in it"));
    }
    let is_sound = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !prefix.is_empty() && !prefix.split('/').all(is_sound) {
        return wrong("has an empty part, or one that is . or ..".to_owned());
    }
    Ok(())
}

impl fmt::Debug for S3Config {
    /// Without what gives access.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |value: &Option<String>| value.as_ref().map(|_| "…");
        f.debug_struct("S3Config")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("region", &self.region)
            .field("addressing", &self.addressing)
            .field("access_key_id", &hidden(&self.access_key_id))
            .field("secret_access_key", &hidden(&self.secret_access_key))
            .field("session_token", &hidden(&self.session_token))
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(mut config: serde_json::Value) -> Result<String, String> {
        if config.get("bucket").is_none() {
            config["bucket"] = "jobs".into();
        }
        serde_json::from_value::<S3Config>(config)
            .map_err(|error| error.to_string())?
            .checked()
            .map(|(address, _)| address.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (config, named) in [
            (json!({"bucket": "a b"}), "bucket \"a b\""),
            (json!({"bucket": ""}), "bucket \"\""),
            (json!({"prefix": "/a"}), "prefix has an empty part"),
            (json!({"prefix": "a//b"}), "prefix has an empty part"),
            (json!({"prefix": "a/"}), "prefix has an empty part"),
            (json!({"prefix": "a/../b"}), "prefix has an empty part"),
            (json!({"prefix": "a b"}), "prefix has ' ' in it"),
            (json!({"prefix": "é"}), "prefix has 'é' in it"),
            (json!({"prefix": "x".repeat(513)}), "prefix has 513 bytes"),
            (
                json!({"concurrent_requests": 0}),
                "concurrent_requests is 0",
            ),
            (json!({"connect_timeout": "0s"}), "connect_timeout is 0s"),
            (
                json!({"request_timeout": "soon"}),
                "\"soon\" is no duration",
            ),
            (json!({"retry_for": "1h"}), "retry_for is 1h"),
            (json!({"lifecycle_days": 0}), "lifecycle_days is 0"),
            (
                json!({"max_record_bytes": 268_435_457}),
                "max_record_bytes is 268435457",
            ),
            (json!({"endpoint": "minio:9000"}), "endpoint"),
            (json!({"endpoint": "ftp://minio"}), "endpoint"),
            (json!({"endpoint": "http://minio:9000"}), "allow_http"),
            (json!({"endpoint": "https://a:b@minio"}), "access_key_id"),
            (json!({"endpoint": "https://minio/?x=1"}), "endpoint"),
            (json!({"access_key_id": "a"}), "secret_access_key"),
            (json!({"addressing": "dns"}), "unknown variant `dns`"),
            (json!({"url": ""}), "unknown field `url`"),
        ] {
            let error = checked(config.clone()).unwrap_err();
            assert!(error.contains(named), "{config}: {error}");
        }
    }

    #[test]
    fn a_bucket_is_enough() {
        assert!(checked(json!({})).unwrap().contains("jobs/warren"));
        assert!(checked(json!({"prefix": ""})).unwrap().ends_with("jobs"));
    }

    #[test]
    fn what_gives_access_is_not_shown() {
        let config = S3Config {
            bucket: Some("jobs".into()),
            endpoint: Some("https://user:s3cret@minio".into()),
            access_key_id: Some("s3cret".into()),
            secret_access_key: Some("s3cret".into()),
            session_token: Some("s3cret".into()),
            ..S3Config::default()
        };
        let shown = format!("{config:?} {:?}", config.checked().err());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
