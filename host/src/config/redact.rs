//! Secrets are never shown: passwords within URLs, and values whose key says that they are one.

use toml::Value;
use url::Url;

const HIDDEN: &str = "***";

/// The URL without its password and without secrets in its query; text that is not a URL as it is.
pub fn redact_url(text: &str) -> String {
    let mut url = match Url::parse(text) {
        // A password that should have been escaped ends up in the path: `redis://me:/s3cret@host`.
        Ok(url) if !url.path().contains('@') => url,
        _ => return without_user_info(text),
    };
    if url.password().is_some() {
        // Only a URL without a host refuses a password, and then it has none.
        let _ = url.set_password(Some(HIDDEN));
    }
    let has_secrets = url.query_pairs().any(|(key, _)| is_secret_in_url(&key));
    if has_secrets {
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        let shown = pairs.iter().map(|(key, value)| {
            let value = if is_secret_in_url(key) { HIDDEN } else { value };
            (key, value)
        });
        url.query_pairs_mut().clear().extend_pairs(shown);
    }
    if url.password().is_some() || has_secrets {
        url.to_string()
    } else {
        text.to_owned()
    }
}

/// For a URL that is not to be trusted: everything before its last `@` may be a password.
fn without_user_info(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}"),
        None => text.to_owned(),
    }
}

/// The value with every secret hidden.
pub fn redacted(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact_url(text)),
        Value::Array(items) => Value::Array(items.iter().map(redacted).collect()),
        Value::Table(table) => Value::Table(
            table
                .iter()
                .map(|(key, value)| {
                    let shown = match value {
                        Value::String(_) if is_secret(key) => Value::String(HIDDEN.to_owned()),
                        other => redacted(other),
                    };
                    (key.clone(), shown)
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    [
        "password",
        "passwd",
        "secret",
        "token",
        "api_key",
        "access_key",
        "private_key",
        "credential",
    ]
    .iter()
    .any(|word| key.contains(word))
}

fn is_secret_in_url(key: &str) -> bool {
    is_secret(key) || matches!(key.to_lowercase().as_str(), "pass" | "pwd" | "auth" | "key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_query_and_in_a_wrong_url_are_hidden() {
        for (text, shown) in [
            (
                "redis://h/0?password=s3cret&db=1",
                "redis://h/0?password=***&db=1",
            ),
            (
                "unix:///run/redis.sock?pass=s3cret",
                "unix:///run/redis.sock?pass=***",
            ),
            ("amqp://me:s3/cret@host/%2f", "amqp://***@host/%2f"),
            ("redis://me:/s3cret@host/0", "redis://***@host/0"),
            ("redis://h/0?db=1&x=%20", "redis://h/0?db=1&x=%20"),
            ("me@host", "me@host"),
        ] {
            assert_eq!(redact_url(text), shown);
        }
    }

    #[test]
    fn passwords_and_secret_keys_are_hidden() {
        let value: Value = toml::from_str::<toml::Table>(
            r#"
            url = "amqp://me:s3cret@host/%2f"
            plain = "redis://host:6379/0"
            [inner]
            api_key = "s3cret"
            list = ["redis://:s3cret@host/0"]
            "#,
        )
        .unwrap()
        .into();
        let shown = toml::to_string(&redacted(&value)).unwrap();
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(
            shown.contains("redis://host:6379/0") && shown.contains("me:***@"),
            "{shown}"
        );
    }
}
