//! Secrets are never shown: passwords within URLs, and values whose key says that they are one.

use toml::Value;
use url::Url;

const HIDDEN: &str = "***";

/// The URL without its password; text that is not a URL as it is.
pub fn redact_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        return text.to_owned();
    };
    if url.password().is_none() {
        return text.to_owned();
    }
    // Only a URL without a host refuses a password, and then it has none.
    let _ = url.set_password(Some(HIDDEN));
    url.to_string()
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

#[cfg(test)]
mod tests {
    use super::*;

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
