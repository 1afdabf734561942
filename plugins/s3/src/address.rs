//! Which service, bucket and region.

use std::fmt;

use url::Url;
use warren_plugin_api::{StoreError, StoreResult};

use crate::config::{Addressing, S3Config};

/// A bucket that could be reached. Shown without secrets.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) bucket: String,
    pub(crate) region: String,
    /// With the bucket in it where it is a part of the host's name; `None` for AWS.
    pub(crate) endpoint: Option<String>,
    pub(crate) is_virtual_host: bool,
    /// Whether requests go unencrypted, and beyond this machine.
    pub(crate) is_open_to_view: bool,
    shown: String,
}

impl Address {
    /// Reads what the options and the environment say.
    ///
    /// # Errors
    /// `invalid_config`; nothing that could be a password is repeated.
    pub(crate) fn new(config: &S3Config) -> StoreResult<Self> {
        Self::with(config, |name| std::env::var(name).ok())
    }

    fn with(config: &S3Config, environment: impl Fn(&str) -> Option<String>) -> StoreResult<Self> {
        let first = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| environment(name));
            values.find(|value| !value.is_empty())
        };
        let bucket = config.bucket.clone().or_else(|| first(&["AWS_BUCKET"]));
        let bucket = bucket.ok_or_else(|| {
            StoreError::invalid_config("bucket is not set, expected the name of a bucket")
        })?;
        check_bucket(&bucket)?;
        if config.access_key_id.is_some() != config.secret_access_key.is_some() {
            return Err(StoreError::invalid_config(
                "access_key_id and secret_access_key belong together: set both or none",
            ));
        }
        let region = config
            .region
            .clone()
            .or_else(|| first(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
            .unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = config
            .endpoint
            .clone()
            .or_else(|| first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]))
            .map(|endpoint| parse_endpoint(&endpoint, config.allow_http))
            .transpose()?;
        let addressing = config.addressing.unwrap_or(match endpoint {
            Some(_) => Addressing::Path,
            // A certificate for *.s3.… covers no name with a dot in it.
            None if bucket.contains('.') => Addressing::Path,
            None => Addressing::VirtualHost,
        });
        let is_virtual_host = addressing == Addressing::VirtualHost;
        let is_open_to_view = endpoint
            .as_ref()
            .is_some_and(|url| url.scheme() == "http" && !is_local(url));
        let mut shown = match &endpoint {
            Some(url) => without_slash(url),
            None => format!("AWS {region}"),
        };
        shown = format!("{shown}, bucket {bucket}");
        if !config.prefix.is_empty() {
            shown = format!("{shown}/{}", config.prefix);
        }
        let endpoint = endpoint
            .map(|url| match is_virtual_host {
                true => with_bucket(url, &bucket),
                false => Ok(without_slash(&url)),
            })
            .transpose()?;
        Ok(Self {
            bucket,
            region,
            endpoint,
            is_virtual_host,
            is_open_to_view,
            shown,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn check_bucket(bucket: &str) -> StoreResult<()> {
    let is_sound = |found: char| found.is_ascii_alphanumeric() || "-_.".contains(found);
    if bucket.is_empty() || bucket.len() > 255 || !bucket.chars().all(is_sound) {
        return Err(StoreError::invalid_config(format!(
            "bucket {bucket:?} is no name of a bucket, expected one such as my-jobs"
        )));
    }
    Ok(())
}

fn parse_endpoint(endpoint: &str, allow_http: bool) -> StoreResult<Url> {
    let wrong = |why: &str| {
        Err(StoreError::invalid_config(format!(
            "endpoint {why}, expected one such as https://minio.example:9000"
        )))
    };
    let Ok(url) = Url::parse(endpoint) else {
        return wrong("is no URL");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return wrong("does not begin with https:// and a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has credentials in it, which belong into access_key_id");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("has a ? or # in it");
    }
    if url.scheme() == "http" && !allow_http {
        return wrong("begins with http://, which allow_http = true permits");
    }
    Ok(url)
}

fn without_slash(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn with_bucket(mut url: Url, bucket: &str) -> StoreResult<String> {
    let named = match url.host() {
        Some(url::Host::Domain(host)) => {
            let host = format!("{bucket}.{host}");
            url.set_host(Some(&host)).is_ok()
        }
        _ => false,
    };
    if !named {
        return Err(StoreError::invalid_config(
            "addressing is virtual_host and the endpoint's host no name that a bucket can stand \
             before, expected addressing = \"path\"",
        ));
    }
    Ok(without_slash(&url))
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(host)) => host == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(config: serde_json::Value, environment: &[(&str, &str)]) -> Address {
        let config = serde_json::from_value(config).unwrap();
        let find = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Address::with(&config, find).unwrap()
    }

    #[test]
    fn the_bucket_stands_where_it_should() {
        for (config, endpoint, is_virtual_host) in [
            (serde_json::json!({"bucket": "b"}), None, true),
            (serde_json::json!({"bucket": "b.c"}), None, false),
            (
                serde_json::json!({"bucket": "b", "addressing": "path"}),
                None,
                false,
            ),
            (
                serde_json::json!({"bucket": "b", "endpoint": "https://m:9000/"}),
                Some("https://m:9000"),
                false,
            ),
            (
                serde_json::json!({
                    "bucket": "b",
                    "endpoint": "https://m.example:9000",
                    "addressing": "virtual_host",
                }),
                Some("https://b.m.example:9000"),
                true,
            ),
        ] {
            let address = address(config.clone(), &[]);
            assert_eq!(address.endpoint.as_deref(), endpoint, "{config}");
            assert_eq!(address.is_virtual_host, is_virtual_host, "{config}");
        }
    }

    #[test]
    fn options_come_before_the_environment() {
        let environment = [
            ("AWS_BUCKET", "theirs"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ENDPOINT_URL", "https://m"),
        ];
        let found = address(serde_json::json!({}), &environment);
        assert_eq!(found.to_string(), "https://m, bucket theirs/warren");
        assert_eq!(found.region, "eu-west-1");
        let options = serde_json::json!({"bucket": "ours", "region": "x", "endpoint": "https://n"});
        let found = address(options, &environment);
        assert_eq!(found.to_string(), "https://n, bucket ours/warren");
        assert_eq!(found.region, "x");
    }

    #[test]
    fn what_goes_unencrypted_over_a_network_is_known() {
        for (endpoint, is_open_to_view) in [
            ("http://minio:9000", true),
            ("http://127.0.0.1:9000", false),
            ("http://localhost", false),
            ("https://minio", false),
        ] {
            let config = serde_json::json!({
                "bucket": "b", "endpoint": endpoint, "allow_http": true,
            });
            assert_eq!(address(config, &[]).is_open_to_view, is_open_to_view);
        }
    }
}
