//! Which servers and database, how to log in, and how safe a write is: from the URL and the TLS
//! options.

use std::{fmt, net::IpAddr};

use mongodb::options::{
    Acknowledgment, ConnectionString, HostInfo, ReadPreference, ServerAddress, Tls, WriteConcern,
};
use warren_plugin_api::{StoreError, StoreResult};

use crate::{config::MongodbConfig, tls};

const EXPECTED: &str = "expected mongodb://user:password@host:27017/?replicaSet=rs0";
const DEFAULT_DATABASE: &str = "warren";
const DEFAULT_PORT: u16 = 27017;

/// A deployment that could be connected to. Shown without secrets.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) connection: ConnectionString,
    pub(crate) database: String,
    pub(crate) write_concern: WriteConcern,
    shown: String,
    secrets: Vec<String>,
    trust: Trust,
}

/// What is known of who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// TLS with a certificate that is checked, or a server on this machine.
    Certain,
    /// Without TLS, over a network.
    Unchecked,
    /// `tls_insecure`
    Insecure,
}

impl Address {
    /// Reads the URL, and looks into the TLS files.
    ///
    /// # Errors
    /// `invalid_config`; no user and no password is repeated.
    pub(crate) fn new(options: &MongodbConfig) -> StoreResult<Self> {
        let mut connection = parse(&options.mongodb_url)?;
        refuse_what_breaks_promises(&connection)?;
        connection.tls = tls::options(options, connection.tls.take())?;
        let trust = match &connection.tls {
            Some(Tls::Enabled(tls)) if tls.allow_invalid_certificates == Some(true) => {
                Trust::Insecure
            }
            Some(Tls::Enabled(_)) => Trust::Certain,
            // An SRV record means TLS unless the URL says otherwise.
            None if matches!(connection.host_info, HostInfo::DnsRecord(_)) => Trust::Certain,
            _ if is_local(&connection.host_info) => Trust::Certain,
            _ => Trust::Unchecked,
        };
        let database = options
            .database
            .clone()
            .or_else(|| connection.default_database.clone())
            .unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
        Ok(Self {
            shown: format!("{}/{database}", shown(&connection.host_info)),
            write_concern: write_concern(options, connection.write_concern.clone()),
            secrets: secrets(&options.mongodb_url, &connection),
            database,
            connection,
            trust,
        })
    }

    pub(crate) const fn trust(&self) -> Trust {
        self.trust
    }

    /// Whether an acknowledged write may be lost with one server.
    pub(crate) fn is_weak(&self) -> bool {
        matches!(self.write_concern.w, Some(Acknowledgment::Nodes(1)))
            || self.write_concern.journal == Some(false)
    }

    /// The text without what must not be shown. Nothing is known to repeat it; this makes sure.
    pub(crate) fn without_secrets(&self, mut text: String) -> String {
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "…");
            }
        }
        text
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

/// The driver's complaint is repeated only where the user and password are not part of what it
/// read.
fn parse(url: &str) -> StoreResult<ConnectionString> {
    let invalid = |why: &str| StoreError::invalid_config(format!("mongodb_url {why}, {EXPECTED}"));
    let scheme = ["mongodb://", "mongodb+srv://"]
        .into_iter()
        .find(|scheme| url.starts_with(scheme))
        .ok_or_else(|| invalid("does not begin with mongodb:// or mongodb+srv://"))?;
    let rest = &url[scheme.len()..];
    if let Some((_, after)) = rest.rsplit_once('@') {
        ConnectionString::parse(format!("{scheme}{after}"))
            .map_err(|error| invalid(&format!("cannot be read: {}", complaint(&error))))?;
        return ConnectionString::parse(url).map_err(|_secret| {
            invalid(
                "has a user or password that cannot be read: write : / ? # [ ] @ and % in them as \
                 %3A %2F %3F %23 %5B %5D %40 and %25",
            )
        });
    }
    ConnectionString::parse(url).map_err(|error| {
        // A password without its @ looks like a port.
        if rest
            .split(['/', '?'])
            .next()
            .is_some_and(|hosts| hosts.contains(':'))
        {
            return invalid("cannot be read: look at its hosts, ports and options");
        }
        invalid(&format!("cannot be read: {}", complaint(&error)))
    })
}

fn complaint(error: &mongodb::error::Error) -> String {
    match &*error.kind {
        mongodb::error::ErrorKind::InvalidArgument { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// What every rule of the contract stands on.
fn refuse_what_breaks_promises(connection: &ConnectionString) -> StoreResult<()> {
    let write_concern = connection.write_concern.as_ref();
    if write_concern.and_then(|it| it.w.as_ref()) == Some(&Acknowledgment::Nodes(0)) {
        return Err(StoreError::invalid_config(
            "mongodb_url has w=0, expected w=majority: without an answer nobody knows whether a \
             result was stored",
        ));
    }
    match &connection.read_preference {
        None | Some(ReadPreference::Primary) => Ok(()),
        Some(_) => Err(StoreError::invalid_config(
            "mongodb_url has a readPreference, expected primary: a secondary may not have yet what \
             was acknowledged",
        )),
    }
}

/// What the URL says, over a majority of the replica set, in the time that one command has.
fn write_concern(options: &MongodbConfig, given: Option<WriteConcern>) -> WriteConcern {
    let mut concern = given.unwrap_or_default();
    concern.w.get_or_insert(Acknowledgment::Majority);
    concern.w_timeout.get_or_insert(options.operation_timeout);
    concern
}

/// The password as it stands in the URL and as the server gets it, and what else is a secret.
fn secrets(url: &str, connection: &ConnectionString) -> Vec<String> {
    let mut secrets = Vec::new();
    if let Some(credential) = &connection.credential {
        secrets.extend(credential.password.clone());
    }
    if let Some((_, rest)) = url.split_once("://")
        && let Some((userinfo, _)) = rest.rsplit_once('@')
        && let Some((_, password)) = userinfo.split_once(':')
    {
        secrets.push(password.to_owned());
    }
    secrets.retain(|secret| !secret.is_empty());
    secrets
}

fn is_local(hosts: &HostInfo) -> bool {
    let HostInfo::HostIdentifiers(hosts) = hosts else {
        return false;
    };
    hosts.iter().all(|host| match host {
        ServerAddress::Tcp { host, .. } => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        // A socket of this machine.
        _ => true,
    })
}

fn shown(hosts: &HostInfo) -> String {
    match hosts {
        HostInfo::HostIdentifiers(hosts) => {
            let hosts: Vec<String> = hosts
                .iter()
                .map(|host| match host {
                    ServerAddress::Tcp { host, port } => {
                        format!("{host}:{}", port.unwrap_or(DEFAULT_PORT))
                    }
                    other => other.to_string(),
                })
                .collect();
            hosts.join(",")
        }
        HostInfo::DnsRecord(name) => name.clone(),
        _ => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(url: &str) -> StoreResult<Address> {
        Address::new(&MongodbConfig {
            mongodb_url: url.into(),
            ..MongodbConfig::default()
        })
    }

    #[test]
    fn a_url_says_where_and_how() {
        for (url, shown, trust) in [
            (
                "mongodb://localhost",
                "localhost:27017/warren",
                Trust::Certain,
            ),
            (
                "mongodb://u:p%40ss@db.example/jobs",
                "db.example:27017/jobs",
                Trust::Unchecked,
            ),
            (
                "mongodb://a:1,b:2/?replicaSet=rs0&tls=true",
                "a:1,b:2/warren",
                Trust::Certain,
            ),
            (
                "mongodb://a/?tls=true&tlsInsecure=true",
                "a:27017/warren",
                Trust::Insecure,
            ),
            (
                "mongodb+srv://u:p@cluster.example/jobs",
                "cluster.example/jobs",
                Trust::Certain,
            ),
            (
                "mongodb+srv://cluster.example/?tls=false",
                "cluster.example/warren",
                Trust::Unchecked,
            ),
        ] {
            let address = address(url).unwrap();
            assert_eq!(address.to_string(), shown, "{url}");
            assert_eq!(address.trust(), trust, "{url}");
        }
    }

    #[test]
    fn a_write_is_acknowledged_by_a_majority_unless_the_url_says_otherwise() {
        let concern = address("mongodb://h").unwrap().write_concern;
        assert_eq!(concern.w, Some(Acknowledgment::Majority));
        assert_eq!(concern.w_timeout, Some(Duration::from_secs(4)));
        assert!(
            !address("mongodb://h/?w=majority&journal=true")
                .unwrap()
                .is_weak()
        );
        let weak = address("mongodb://h/?w=1&wtimeoutMS=70").unwrap();
        assert!(weak.is_weak());
        assert_eq!(
            weak.write_concern.w_timeout,
            Some(Duration::from_millis(70))
        );
    }

    #[test]
    fn what_a_url_must_not_say_is_named() {
        for (url, named) in [
            ("mysql://h/x", "does not begin with mongodb://"),
            ("mongodb://", "cannot be read"),
            ("mongodb://h/?w=0", "w=0, expected w=majority"),
            (
                "mongodb://h/?readPreference=secondaryPreferred",
                "readPreference, expected primary",
            ),
            (
                "mongodb://u:pw@h/?replicSet=x",
                "replicset is an invalid option",
            ),
            ("mongodb://u:p w%@h/x", "user or password"),
            ("mongodb://u:pw@h:port/x", "cannot be read"),
        ] {
            let error = address(url).err().unwrap().to_string();
            assert!(error.contains(named), "{url}: {error}");
            assert!(!error.contains("pw"), "{error}");
        }
    }

    #[test]
    fn a_password_is_taken_out_of_every_text() {
        let address = address("mongodb://u:p%40ss@h/x").unwrap();
        let text = address.without_secrets("p@ss and p%40ss".to_owned());
        assert_eq!(text, "… and …");
    }
}
