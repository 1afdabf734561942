//! Which nodes, and how to log in.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Url, header::HeaderValue};
use warren_plugin_api::{StoreError, StoreResult};

use crate::config::ElasticsearchConfig;

/// The nodes of a cluster and this client's credentials. Shown without them.
#[derive(Clone)]
pub(crate) struct Address {
    /// Each begins a URL: it ends without a slash.
    pub(crate) nodes: Vec<String>,
    pub(crate) authorization: Option<HeaderValue>,
    /// What must not appear in an error, whoever repeats it.
    secrets: Vec<String>,
    is_trusted: bool,
}

impl Address {
    /// # Errors
    /// `invalid_config`; nothing of a URL but its scheme is repeated.
    pub(crate) fn new(config: &ElasticsearchConfig) -> StoreResult<Self> {
        if config.elasticsearch_urls.is_empty() {
            return Err(invalid(
                "elasticsearch_urls is empty, expected at least one, such as http://localhost:9200",
            ));
        }
        let urls = config
            .elasticsearch_urls
            .iter()
            .map(|text| node(text))
            .collect::<StoreResult<Vec<Url>>>()?;
        let (authorization, secrets) = credentials(config)?;
        Ok(Self {
            is_trusted: urls.iter().all(is_trusted),
            nodes: urls
                .iter()
                .map(|url| url.as_str().trim_end_matches('/').to_owned())
                .collect(),
            authorization,
            secrets,
        })
    }

    /// Whether nobody on the way can read or change what is sent: TLS, or this machine.
    pub(crate) const fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// The text without a secret, should a server or a proxy have repeated one.
    pub(crate) fn without_secrets(&self, mut text: String) -> String {
        for secret in self.secrets.iter().filter(|secret| !secret.is_empty()) {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "…");
            }
        }
        text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.nodes.join(", "))
    }
}

fn invalid(text: impl Into<String>) -> StoreError {
    StoreError::invalid_config(text)
}

fn node(text: &str) -> StoreResult<Url> {
    let url = Url::parse(text).map_err(|error| {
        invalid(format!(
            "an entry of elasticsearch_urls is no URL ({error}), expected one such as \
             https://host:9200"
        ))
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(format!(
            "an entry of elasticsearch_urls begins with {}://, expected http:// or https://",
            url.scheme()
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(
            "an entry of elasticsearch_urls has a user in it: set username and password instead",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(
            "an entry of elasticsearch_urls has a query or a fragment, expected \
             https://host:9200 or https://host/path",
        ));
    }
    Ok(url)
}

fn is_trusted(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    url.scheme() == "https"
        || host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// The header, and every form in which it or a part of it is secret.
fn credentials(config: &ElasticsearchConfig) -> StoreResult<(Option<HeaderValue>, Vec<String>)> {
    let (name, text, secrets) = match (&config.username, &config.password, &config.api_key) {
        (None, None, None) => return Ok((None, Vec::new())),
        (None, None, Some(key)) => ("api_key", format!("ApiKey {key}"), vec![key.clone()]),
        (Some(user), Some(password), None) => {
            if user.contains(':') {
                return Err(invalid(
                    "username has a colon, which basic authentication cannot say",
                ));
            }
            let encoded = STANDARD.encode(format!("{user}:{password}"));
            let text = format!("Basic {encoded}");
            ("password", text, vec![encoded, password.clone()])
        }
        (_, _, Some(_)) => {
            return Err(invalid(
                "api_key and username or password are set: expected either",
            ));
        }
        _ => {
            return Err(invalid(
                "username and password belong together: set both or none",
            ));
        }
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        invalid(format!(
            "{name} has a character that no HTTP header may have"
        ))
    })?;
    value.set_sensitive(true);
    Ok((Some(value), secrets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(urls: &[&str]) -> Address {
        Address::new(&ElasticsearchConfig {
            elasticsearch_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            username: Some("me".into()),
            password: Some("p:ä".into()),
            ..ElasticsearchConfig::default()
        })
        .unwrap()
    }

    #[test]
    fn a_node_may_lie_behind_a_path() {
        let address = address(&["https://a:9200", "http://b/es/"]);
        assert_eq!(address.nodes, ["https://a:9200", "http://b/es"]);
    }

    #[test]
    fn only_tls_and_this_machine_are_trusted() {
        for (urls, trusted) in [
            (&["https://a", "http://127.0.0.1:1"][..], true),
            (&["http://[::1]:9200", "http://localhost"], true),
            (&["https://a", "http://10.0.0.1"], false),
            (&["http://a"], false),
        ] {
            assert_eq!(address(urls).is_trusted(), trusted, "{urls:?}");
        }
    }

    #[test]
    fn a_user_logs_in_as_rfc_7617_says() {
        let address = address(&["https://a"]);
        let header = address.authorization.clone().unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic bWU6cDrDpA==");
        assert!(header.is_sensitive());
        let said = "denied: Basic bWU6cDrDpA== is p:ä".to_owned();
        assert_eq!(address.without_secrets(said), "denied: Basic … is …");
    }
}
