//! Which server, and how to log in: from the URL and the TLS options.

use std::{fmt, fs, path::Path, time::Duration};

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    TlsCertificates, io::tcp::TcpSettings, io::tcp::socket2::TcpKeepalive,
};
use url::Url;
use warren_plugin_api::{StoreError, StoreResult};

use crate::config::RedisConfig;

/// When the kernel asks a silent peer whether it is still there, and how often.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
/// How long sent bytes may go unconfirmed before the connection counts as lost.
const UNCONFIRMED_FOR: Duration = Duration::from_secs(30);

/// A server that could be connected to. Shown without secrets.
#[derive(Clone)]
pub(crate) struct Address {
    client: Client,
    shown: String,
    insecure: bool,
}

impl Address {
    /// Reads the URL and the TLS files.
    ///
    /// # Errors
    /// `invalid_config`; nothing of the URL but its scheme and option names is repeated.
    pub(crate) fn new(config: &RedisConfig) -> StoreResult<Self> {
        let url = Url::parse(&config.redis_url).map_err(|error| {
            invalid(format!(
                "redis_url is no URL ({error}): expected redis://host:6379/0, rediss://… or \
                 unix:///path/to/socket"
            ))
        })?;
        let unix = match url.scheme() {
            "redis" | "rediss" | "valkey" | "valkeys" => false,
            "unix" | "redis+unix" | "valkey+unix" => true,
            other => {
                return Err(invalid(format!(
                    "redis_url begins with {other}://, expected redis://, rediss:// or unix://"
                )));
            }
        };
        check_query(&url, unix)?;
        let insecure = config.tls_insecure || url.fragment() == Some("insecure");
        let protocol = protocol_of(&url);
        let info = url
            .into_connection_info()
            .map_err(|error| invalid(format!("redis_url: {}", plain(&error))))?;
        let info = with_settings(info, protocol, insecure)?;
        let shown = format!("{}/{}", info.addr(), info.redis_settings().db());
        Ok(Self {
            client: client(info, config)?,
            shown,
            insecure,
        })
    }

    /// A client for commands.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// A client that speaks the older protocol.
    pub(crate) fn resp2_client(&self) -> StoreResult<Client> {
        let info = self.client.get_connection_info().clone();
        let settings = info.redis_settings().clone();
        Client::open(info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP2)))
            .map_err(|error| invalid(error.to_string()))
    }

    pub(crate) fn db(&self) -> i64 {
        self.client.get_connection_info().redis_settings().db()
    }

    /// The password, to keep it out of what a server sends back.
    pub(crate) fn password(&self) -> Option<&str> {
        self.client
            .get_connection_info()
            .redis_settings()
            .password()
    }

    /// Whether any certificate of the server is taken.
    pub(crate) const fn is_insecure(&self) -> bool {
        self.insecure
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The driver ignores what it does not know; a misspelt option would be lost.
fn check_query(url: &Url, unix: bool) -> StoreResult<()> {
    let known: &[&str] = if unix {
        &["db", "user", "pass", "protocol"]
    } else {
        &["protocol"]
    };
    for (name, value) in url.query_pairs() {
        if !known.contains(&name.as_ref()) {
            // What does not look like a name may be part of a password with a `?` in it.
            let is_name = name.len() <= 32
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            return Err(invalid(format!(
                "redis_url has the unknown option {}, expected {}; in a password write ? as %3F",
                if is_name { &name } else { "…" },
                known.join(", ")
            )));
        }
        if name == "protocol" && !matches!(&*value, "2" | "resp2" | "3" | "resp3") {
            return Err(invalid(
                "redis_url has an unknown protocol, expected resp2 or resp3".to_owned(),
            ));
        }
    }
    Ok(())
}

/// RESP3 unless the URL asks for another: with it the server's end of a connection is noticed
/// at once, and not by the next call.
fn protocol_of(url: &Url) -> Option<ProtocolVersion> {
    url.query_pairs()
        .all(|(name, _)| name != "protocol")
        .then_some(ProtocolVersion::RESP3)
}

fn with_settings(
    info: ConnectionInfo,
    protocol: Option<ProtocolVersion>,
    insecure: bool,
) -> StoreResult<ConnectionInfo> {
    let mut settings = info
        .redis_settings()
        .clone()
        .set_lib_name("warren-store-redis", env!("CARGO_PKG_VERSION"));
    if settings.db() < 0 {
        return Err(invalid(format!(
            "redis_url names database {}, expected 0 or more",
            settings.db()
        )));
    }
    if let Some(protocol) = protocol {
        settings = settings.set_protocol(protocol);
    }
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(
        TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_INTERVAL),
    );
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let tcp = tcp.set_user_timeout(UNCONFIRMED_FOR);
    let addr = match info.addr().clone() {
        ConnectionAddr::TcpTls {
            host,
            port,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure,
            tls_params,
        },
        _ if insecure => {
            return Err(invalid(
                "tls_insecure is set but redis_url is not rediss://".to_owned(),
            ));
        }
        other => other,
    };
    Ok(info
        .set_addr(addr)
        .set_redis_settings(settings)
        .set_tcp_settings(tcp))
}

fn client(info: ConnectionInfo, config: &RedisConfig) -> StoreResult<Client> {
    // The provider must be named where several are linked in; a second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client_tls = match (&config.tls_cert_file, &config.tls_key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: read("tls_cert_file", cert)?,
            client_key: read("tls_key_file", key)?,
        }),
        (None, None) => None,
        _ => {
            return Err(invalid(
                "tls_cert_file and tls_key_file belong together: set both or none".to_owned(),
            ));
        }
    };
    let root_cert = config
        .tls_ca_file
        .as_ref()
        .map(|file| read("tls_ca_file", file))
        .transpose()?;
    if client_tls.is_none() && root_cert.is_none() {
        return Client::open(info).map_err(|error| invalid(format!("redis_url: {error}")));
    }
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Err(invalid(
            "TLS files are given but redis_url is not rediss://".to_owned(),
        ));
    }
    let certificates = TlsCertificates {
        client_tls,
        root_cert,
    };
    Client::build_with_tls(info, certificates)
        .map_err(|error| invalid(format!("the TLS files cannot be used: {error}")))
}

/// The driver's sentence without its kind.
fn plain(error: &redis::RedisError) -> String {
    error.to_string().replace(" - InvalidClientConfig", "")
}

fn read(option: &str, file: &Path) -> StoreResult<Vec<u8>> {
    fs::read(file)
        .map_err(|error| invalid(format!("{option}: cannot read {}: {error}", file.display())))
}

fn invalid(message: String) -> StoreError {
    StoreError::invalid_config(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> StoreResult<Address> {
        Address::new(&RedisConfig {
            redis_url: url.into(),
            ..RedisConfig::default()
        })
    }

    #[test]
    fn every_kind_of_url_is_read() {
        for (url, shown) in [
            ("redis://localhost", "localhost:6379/0"),
            ("redis://:p%40ss@[::1]:7000/3?protocol=resp2", "::1:7000/3"),
            ("valkey://u:p@host", "host:6379/0"),
            ("rediss://u:p@host:6380/1", "host:6380/1"),
            ("rediss://host#insecure", "host:6379/0"),
            (
                "unix:///run/redis.sock?db=2&user=u&pass=p",
                "/run/redis.sock/2",
            ),
            ("redis+unix:///run/redis.sock", "/run/redis.sock/0"),
        ] {
            assert_eq!(address(url).unwrap().to_string(), shown, "{url}");
        }
    }

    #[test]
    fn a_wrong_url_is_explained_without_its_password() {
        for (url, named) in [
            ("localhost:6379", "begins with localhost"),
            ("amqp://u:s3cret@localhost", "begins with amqp://"),
            ("redis://u:s3cret@", "no URL"),
            ("redis://u:s3cret@host:port", "no URL"),
            ("redis://u:s3cret@host/zero", "database"),
            ("redis://u:s3cret@host/-1", "database -1"),
            (
                "redis://u:s3cret@host/0?timeout=1",
                "unknown option timeout",
            ),
            ("redis://u:s3cret@host/0?protocol=s3cret", "rotocol"),
            (
                "unix:///s?pass=s3cret&database=1",
                "unknown option database",
            ),
            ("rediss://u:s3cret@host#s3cret", "insecure"),
            ("redis://u:6?s3cret@host/0", "unknown option …"),
            ("redis://u:s3cret@host#insecure", "not rediss"),
        ] {
            let error = address(url).unwrap_err().to_string();
            assert!(error.contains(named), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{url}: {error}");
            assert!(error.starts_with("invalid_config"), "{url}: {error}");
        }
    }

    #[test]
    fn tls_files_are_read_when_opening() {
        let config = RedisConfig {
            redis_url: "rediss://localhost".into(),
            tls_ca_file: Some("/nonexistent/ca.pem".into()),
            ..RedisConfig::default()
        };
        let error = Address::new(&config).unwrap_err().to_string();
        assert!(error.contains("tls_ca_file: cannot read"), "{error}");
        let config = RedisConfig {
            tls_cert_file: Some("/nonexistent/cert.pem".into()),
            ..RedisConfig::default()
        };
        let error = Address::new(&config).unwrap_err().to_string();
        assert!(error.contains("belong together"), "{error}");
    }
}
