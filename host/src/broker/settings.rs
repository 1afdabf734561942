//! How to reach the broker.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use lapin::uri::AMQPUri;
use serde::{Deserialize, Serialize};
use url::Url;

use super::BrokerError;

/// The address of a broker. Shown without its password.
#[derive(Clone, PartialEq)]
pub enum BrokerUrl {
    /// RabbitMQ, by an `amqp://` or `amqps://` URL.
    Amqp(Box<AMQPUri>),
    /// The in-process broker of this name: `memory://name`.
    Memory(String),
}

impl FromStr for BrokerUrl {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let invalid = |reason: String| BrokerError::InvalidUrl { reason };
        let url = Url::parse(text).map_err(|error| {
            invalid(format!(
                "{error}; expected amqp://user:password@host:5672/%2f or memory://"
            ))
        })?;
        match url.scheme() {
            "memory" => Ok(Self::Memory(url.host_str().unwrap_or_default().to_owned())),
            "amqp" | "amqps" => AMQPUri::from_str(text)
                .map(|uri| Self::Amqp(Box::new(uri)))
                .map_err(|_| invalid(format!("not an AMQP address: {}", without_password(&url)))),
            other => Err(invalid(format!(
                "scheme {other:?} is not known; expected amqp, amqps or memory"
            ))),
        }
    }
}

fn without_password(url: &Url) -> String {
    let mut shown = url.clone();
    if shown.password().is_some() {
        // Only URLs without a host refuse this, and then there is no password.
        let _ = shown.set_password(Some("***"));
    }
    shown.to_string()
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amqp(uri) => write!(
                f,
                "{}://{}@{}:{}/{}",
                uri.scheme,
                uri.authority.userinfo.username,
                uri.authority.host,
                uri.authority.port,
                if uri.vhost == "/" { "%2f" } else { &uri.vhost }
            ),
            Self::Memory(name) => write!(f, "memory://{name}"),
        }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The kind of queue that Warren declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueType {
    /// The kind that rabbitmq-arq declares as well.
    #[default]
    Classic,
    /// Replicated, with a count of deliveries. Not together with rabbitmq-arq on one queue.
    Quorum,
}

/// How to reach and use the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerSettings {
    /// Where it is.
    pub url: BrokerUrl,
    /// What the connection is encrypted with, by an `amqps://` URL.
    pub tls: BrokerTls,
    /// The name that the broker's management shows for the connection.
    pub connection_name: String,
    /// The longest that one try to connect may take.
    pub connect_timeout: Duration,
    /// How often both ends show that they are alive; whole seconds, zero for never.
    pub heartbeat: Duration,
    /// The longest that a publish waits for the broker, lost connections included.
    pub publish_timeout: Duration,
    /// What is added to a queue's name to name its dead-letter queue.
    pub dead_letter_suffix: String,
    /// The kind of queue to declare.
    pub queue_type: QueueType,
    /// Declare queues with priorities from 0 to this.
    pub max_priority: Option<u8>,
}

/// Files of an encrypted connection, in PEM. They are read anew at each try to connect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerTls {
    /// Authorities to trust, besides those that browsers trust.
    pub ca_file: Option<PathBuf>,
    /// The certificate to show to a broker that asks for one, with those between it and the
    /// broker's authority.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
}

impl BrokerSettings {
    /// The default settings for the broker at `url`.
    pub fn new(url: BrokerUrl) -> Self {
        Self {
            url,
            tls: BrokerTls::default(),
            connection_name: "warren".to_owned(),
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(30),
            publish_timeout: Duration::from_secs(30),
            dead_letter_suffix: ".dlq".to_owned(),
            queue_type: QueueType::Classic,
            max_priority: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url: BrokerUrl = "amqp://me:s3cret@host:5673/%2f".parse().unwrap();
        assert_eq!(url.to_string(), "amqp://me@host:5673/%2f");
        assert!(!format!("{:?}", BrokerSettings::new(url)).contains("s3cret"));
        for wrong in [
            "amqp://me:s3cret@host:notaport/",
            "http://me:s3cret@host/",
            "s3cret",
        ] {
            let error = wrong.parse::<BrokerUrl>().unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn memory_brokers_have_names() {
        assert_eq!("memory://".parse(), Ok(BrokerUrl::Memory(String::new())));
        assert_eq!(
            "memory://demo".parse(),
            Ok(BrokerUrl::Memory("demo".to_owned()))
        );
    }
}
