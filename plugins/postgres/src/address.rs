//! Which server and database, and how to log in: from the URL and the TLS options.

use std::{error::Error, fmt, time::Duration};

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use warren_plugin_api::{StoreError, StoreResult};

use crate::{config::PostgresConfig, tls};

/// When the kernel asks a silent peer whether it is still there, and how often.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long sent bytes may go unconfirmed before the connection counts as lost.
const UNCONFIRMED_FOR: Duration = Duration::from_secs(30);

/// A database that could be connected to. Shown without secrets.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
    shown: String,
    trust: Trust,
}

/// What is known of who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// TLS with a certificate that is checked, or a server on this machine.
    Certain,
    /// Plain, or with TLS where the server has it, over a network.
    Unchecked,
    /// `tls_insecure`
    Insecure,
}

impl Address {
    /// Reads the URL and the TLS files.
    ///
    /// # Errors
    /// `invalid_config`; nothing of the URL but option names is repeated.
    pub(crate) fn new(options: &PostgresConfig) -> StoreResult<Self> {
        let url = &options.postgres_url;
        if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
            return Err(StoreError::invalid_config(
                "postgres_url does not begin with postgresql://, expected \
                 postgresql://user:password@host:5432/database",
            ));
        }
        let mode = TlsMode::new(sslmode(url), options)?;
        let mut config: Config = driver_url(url)
            .parse()
            .map_err(|error| invalid_url(&error))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        // Then the password has an @ that is not written %40, and part of it would be shown.
        if config.get_hosts().iter().any(
            |host| matches!(host, Host::Tcp(name) if name.contains(['@', ':']) && !is_ipv6(name)),
        ) {
            return Err(StoreError::invalid_config(
                "postgres_url has a host with @ or : in it; in a password write @ as %40",
            ));
        }
        if config.get_application_name().is_none() {
            config.application_name("warren");
        }
        // The driver's limit is for each host: one that is away must leave time for the others.
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
        let each = u32::try_from(hosts.max(1)).unwrap_or(u32::MAX);
        config
            .ssl_mode(mode.ssl_mode)
            .connect_timeout(options.connect_timeout / each)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_AFTER)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .tcp_user_timeout(UNCONFIRMED_FOR);
        let trust = if options.tls_insecure {
            Trust::Insecure
        } else if mode.verified || is_local(&config) {
            Trust::Certain
        } else {
            Trust::Unchecked
        };
        Ok(Self {
            shown: shown(&config),
            tls: tls::connector(options, mode.verified)?,
            config,
            trust,
        })
    }

    pub(crate) const fn trust(&self) -> Trust {
        self.trust
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

struct TlsMode {
    ssl_mode: SslMode,
    verified: bool,
}

impl TlsMode {
    fn new(sslmode: Option<&str>, options: &PostgresConfig) -> StoreResult<Self> {
        let invalid = |text: String| Err(StoreError::invalid_config(text));
        let has_files = options.tls_ca_file.is_some() || options.tls_cert_file.is_some();
        let (ssl_mode, verified) = match sslmode {
            Some(weak @ ("disable" | "prefer")) if has_files || options.tls_insecure => {
                return invalid(format!(
                    "postgres_url has sslmode={weak} beside tls_ options, expected sslmode=require"
                ));
            }
            Some("disable") => (SslMode::Disable, false),
            // Whoever can redirect the connection can also say that there is no TLS.
            Some("prefer") => (SslMode::Prefer, false),
            Some("require" | "verify-ca" | "verify-full") => (SslMode::Require, true),
            Some(_) => {
                return invalid(
                    "postgres_url has an unknown sslmode, expected disable, prefer, require or \
                     verify-full"
                        .to_owned(),
                );
            }
            None if has_files || options.tls_insecure => (SslMode::Require, true),
            None => (SslMode::Prefer, false),
        };
        Ok(Self {
            ssl_mode,
            verified: verified && !options.tls_insecure,
        })
    }
}

/// What follows the `?`. A password may have one too, and ends at the first `@`.
fn query(url: &str) -> Option<&str> {
    let rest = url.split_once('@').map_or(url, |(_, rest)| rest);
    rest.split_once('?').map(|(_, query)| query)
}

fn sslmode(url: &str) -> Option<&str> {
    query(url)?
        .split('&')
        .find_map(|pair| pair.strip_prefix("sslmode="))
}

/// The driver knows fewer words for it, and does not check anything by itself.
fn driver_url(url: &str) -> String {
    let Some(query) = query(url) else {
        return url.to_owned();
    };
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.starts_with("sslmode=") && !pair.is_empty())
        .collect();
    let head = &url[..url.len() - query.len() - 1];
    if kept.is_empty() {
        return head.to_owned();
    }
    format!("{head}?{}", kept.join("&"))
}

fn invalid_url(error: &tokio_postgres::Error) -> StoreError {
    let why = error.source().map(ToString::to_string).unwrap_or_default();
    // What does not look like a name may be part of a password with a `?` in it.
    let why = match why.strip_prefix("unknown option `") {
        Some(name)
            if !name
                .trim_end_matches('`')
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_') =>
        {
            "unknown option `…`, in a password write @ as %40".to_owned()
        }
        _ => why,
    };
    StoreError::invalid_config(format!(
        "postgres_url: {why}; expected postgresql://user:password@host:5432/database"
    ))
}

fn is_ipv6(host: &str) -> bool {
    host.parse::<std::net::Ipv6Addr>().is_ok()
}

fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }) && config.get_hostaddrs().iter().all(|ip| ip.is_loopback())
}

fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let mut hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    if hosts.is_empty() {
        hosts.extend(config.get_hostaddrs().iter().map(ToString::to_string));
    }
    match config.get_dbname() {
        Some(database) => format!("{}/{database}", hosts.join(",")),
        None => hosts.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> StoreResult<Address> {
        Address::new(&PostgresConfig {
            postgres_url: url.into(),
            ..PostgresConfig::default()
        })
    }

    #[test]
    fn each_host_has_its_part_of_the_time_to_connect() {
        for (url, seconds) in [
            ("postgresql://a/x", 4),
            ("postgresql://a,b/x", 2),
            ("postgresql:///x", 4),
        ] {
            let config = address(url).unwrap().config;
            let limit = Duration::from_secs(seconds);
            assert_eq!(config.get_connect_timeout(), Some(&limit), "{url}");
        }
    }

    #[test]
    fn a_url_says_where_and_how() {
        for (url, shown, mode, trust) in [
            (
                "postgresql://u:p%40ss@db.example/x",
                "db.example:5432/x",
                SslMode::Prefer,
                Trust::Unchecked,
            ),
            (
                "postgres://db.example:1/x?sslmode=verify-full&application_name=a",
                "db.example:1/x",
                SslMode::Require,
                Trust::Certain,
            ),
            (
                "postgresql://a:1,b:2/x?target_session_attrs=read-write&sslmode=disable",
                "a:1,b:2/x",
                SslMode::Disable,
                Trust::Unchecked,
            ),
            (
                "postgresql:///x?host=/run/postgresql",
                "/run/postgresql:5432/x",
                SslMode::Prefer,
                Trust::Certain,
            ),
            (
                "postgresql://[::1]:7/x",
                "::1:7/x",
                SslMode::Prefer,
                Trust::Certain,
            ),
        ] {
            let address = address(url).unwrap();
            assert_eq!(address.to_string(), shown, "{url}");
            assert_eq!(address.config.get_ssl_mode(), mode, "{url}");
            assert_eq!(address.trust(), trust, "{url}");
        }
    }

    #[test]
    fn what_a_url_must_not_say_is_named() {
        for (url, named) in [
            ("mysql://h/x", "does not begin with postgresql://"),
            ("postgresql://h/x?sslmode=allow", "unknown sslmode"),
            (
                "postgresql://h/x?sslrootcert=y",
                "unknown option `sslrootcert`",
            ),
            ("postgresql://h:port/x", "invalid value for option `port`"),
            ("postgresql://u:a@b@h/x", "write @ as %40"),
        ] {
            let error = address(url).err().unwrap().to_string();
            assert!(error.contains(named), "{url}: {error}");
        }
    }
}
