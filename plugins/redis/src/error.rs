//! What Redis and the driver report, as a class and a sentence.

use std::{error::Error, io, sync::Arc};

use redis::{ErrorKind, RedisError, ServerErrorKind};
use warren_plugin_api::{ErrorClass, StoreError};

use crate::address::Address;

/// What an error says about the connection that it came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It works; the call was refused.
    Keep,
    /// It is lost, or leads to the wrong place: connect anew.
    Discard,
}

/// Turns the driver's error into the contract's.
pub(crate) fn store_error(error: &RedisError, address: &Address) -> StoreError {
    let (class, advice) = classify(error);
    let mut text = match (error.code(), error.detail()) {
        // The server's own words.
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    // An old server repeats the arguments of a command that it does not know, AUTH's too.
    if let Some(password) = address.password().filter(|password| !password.is_empty()) {
        text = text.replace(password, "…");
    }
    if let Some((first, _)) = text.split_once(['\r', '\n']) {
        text.truncate(first.len());
    }
    if !advice.is_empty() {
        // Some of the server's sentences end with a full stop.
        text.truncate(text.trim_end_matches('.').len());
        text.push_str(": ");
        text.push_str(advice);
    }
    StoreError::new(class, format!("Redis at {address}: {text}"))
}

/// What to do with the connection that gave `error`.
pub(crate) fn fate(error: &RedisError) -> Fate {
    match error.kind() {
        // A time-out leaves answers outstanding, perhaps for ever.
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => Fate::Discard,
        // After a failover the name leads to another server, which this connection never will.
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => Fate::Discard,
        _ if error.code() == Some("NOAUTH") => Fate::Discard,
        _ => Fate::Keep,
    }
}

fn classify(error: &RedisError) -> (ErrorClass, &'static str) {
    use ErrorClass::{Internal, InvalidConfig, Unavailable};
    match error.kind() {
        ErrorKind::Io => io_class(error),
        // Bytes that are no answer in Redis's protocol.
        ErrorKind::Parse => (
            Unavailable,
            "what answers there does not speak Redis's protocol, or a proxy garbles it",
        ),
        ErrorKind::AuthenticationFailed => (InvalidConfig, LOG_IN),
        ErrorKind::InvalidClientConfig => (InvalidConfig, ""),
        // The TLS library's objections to a certificate or a name.
        ErrorKind::Client => (InvalidConfig, ""),
        ErrorKind::RESP3NotSupported => (InvalidConfig, "add ?protocol=resp2 to redis_url"),
        ErrorKind::Server(kind) => server_class(kind, error.detail().unwrap_or_default()),
        ErrorKind::Extension => code_class(error.code().unwrap_or_default()),
        _ => (Internal, ""),
    }
}

const LOG_IN: &str = "check user and password in redis_url";
const PERMISSIONS: &str = "give the user the commands, keys and channels that the README lists";
const NO_CLUSTER: &str = "Redis Cluster is not supported, use a server with cluster-enabled no";

fn server_class(kind: ServerErrorKind, detail: &str) -> (ErrorClass, &'static str) {
    use ErrorClass::{CorruptData, Internal, InvalidConfig, Unavailable};
    match kind {
        // "LOADING Redis is loading the dataset in memory"
        ServerErrorKind::BusyLoading
        // "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
        | ServerErrorKind::MasterDown
        // "TRYAGAIN Multiple keys request during rehashing of slot"
        | ServerErrorKind::TryAgain => (Unavailable, ""),
        // "READONLY You can't write against a read only replica."
        ServerErrorKind::ReadOnly => (
            Unavailable,
            "redis_url leads to a replica, or a failover is under way",
        ),
        // "CLUSTERDOWN Hash slot not served"
        ServerErrorKind::ClusterDown => (Unavailable, NO_CLUSTER),
        // "MOVED 3999 127.0.0.1:6381"
        ServerErrorKind::Moved
        // "ASK 3999 127.0.0.1:6381"
        | ServerErrorKind::Ask
        // "CROSSSLOT Keys in request don't hash to the same slot"
        | ServerErrorKind::CrossSlot => (InvalidConfig, NO_CLUSTER),
        // "NOPERM this user has no permissions to run the 'evalsha' command"
        ServerErrorKind::NoPerm => (InvalidConfig, PERMISSIONS),
        // "NOSCRIPT No matching script. Please use EVAL.", again after loading it
        ServerErrorKind::NoScript => (Unavailable, "the server forgets its scripts"),
        ServerErrorKind::ResponseError => generic_class(detail),
        ServerErrorKind::ExecAbort | ServerErrorKind::NotBusy | ServerErrorKind::NoSub => {
            (Internal, "")
        }
        _ if detail.is_empty() => (Internal, ""),
        _ => (CorruptData, ""),
    }
}

/// Errors whose code is just `ERR`: only the sentence tells them apart.
fn generic_class(detail: &str) -> (ErrorClass, &'static str) {
    use ErrorClass::{Internal, InvalidConfig, Unavailable};
    // "ERR max number of clients reached"
    if detail.contains("max number of clients") {
        (Unavailable, "raise maxclients of the server")
    // The driver drops the code when SELECT fails while connecting: "LOADING Redis is loading the
    // dataset in memory", "NOAUTH Authentication required."
    } else if detail.contains("is loading") {
        (Unavailable, "")
    } else if detail.contains("Authentication required") {
        (InvalidConfig, LOG_IN)
    // "ERR DB index is out of range", "ERR invalid DB index"
    } else if detail.contains("DB index") {
        (InvalidConfig, "check the database in redis_url")
    // "ERR AUTH <password> called without any password configured for the default user"
    } else if detail.contains("without any password configured") {
        (InvalidConfig, LOG_IN)
    // "ERR The user executing the script can't run this command or subcommand"
    } else if detail.contains("user executing the script can't") {
        (InvalidConfig, PERMISSIONS)
    // "ERR unknown command 'EVALSHA', with args beginning with: …"
    } else if detail.contains("unknown command") {
        (
            InvalidConfig,
            "the server is too old or the command renamed: Redis 6.2 or later is needed",
        )
    } else {
        (Internal, "")
    }
}

/// Codes that the driver does not name.
fn code_class(code: &str) -> (ErrorClass, &'static str) {
    use ErrorClass::{CorruptData, Internal, InvalidConfig, Unavailable};
    match code {
        // "OOM command not allowed when used memory > 'maxmemory'."
        "OOM" => (Unavailable, "its memory is full, raise maxmemory or shorten the results' ttl"),
        // "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist
        // to disk."
        "MISCONF" => (Unavailable, "its disk refuses to be written"),
        // "NOREPLICAS Not enough good replicas to write."
        "NOREPLICAS"
        // "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
        | "BUSY"
        // "UNKILLABLE Sorry the script already executed write commands against the dataset."
        | "UNKILLABLE"
        // "UNBLOCKED force unblock from blocking operation, instance state changed"
        | "UNBLOCKED" => (Unavailable, ""),
        // "DENIED Redis is running in protected mode because protected mode is enabled"
        "DENIED"
        // "NOAUTH Authentication required."
        | "NOAUTH"
        // "WRONGPASS invalid username-password pair or user is disabled."
        | "WRONGPASS" => (InvalidConfig, LOG_IN),
        // "NOPROTO unsupported protocol version"
        "NOPROTO" => (InvalidConfig, "add ?protocol=resp2 to redis_url"),
        // "WRONGTYPE Operation against a key holding the wrong kind of value"
        "WRONGTYPE" => (CorruptData, "another program uses this key, choose another key_prefix"),
        _ => (Internal, ""),
    }
}

fn io_class(error: &RedisError) -> (ErrorClass, &'static str) {
    // The driver hands out its shared pointer as the source, not what it points to.
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>())
        .and_then(|source| source.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        // What the TLS library objects to: "invalid peer certificate: UnknownIssuer",
        // "received fatal alert: CertificateRequired", "received corrupt message".
        Some(io::ErrorKind::InvalidData) => (
            ErrorClass::InvalidConfig,
            "check rediss:// and the tls_ options against the server's",
        ),
        Some(io::ErrorKind::PermissionDenied) => (
            ErrorClass::InvalidConfig,
            "this program may not open the socket",
        ),
        Some(io::ErrorKind::TimedOut) => (
            ErrorClass::Unavailable,
            "look why the server is slow or away, or raise response_timeout and the host's deadline",
        ),
        _ => (ErrorClass::Unavailable, ""),
    }
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;
    use crate::config::RedisConfig;

    fn address() -> Address {
        Address::new(&RedisConfig {
            redis_url: "redis://user:s3cret@host".into(),
            ..RedisConfig::default()
        })
        .unwrap()
    }

    fn from_server(line: &str) -> RedisError {
        parse_redis_value(format!("-{line}\r\n").as_bytes())
            .unwrap()
            .extract_error()
            .unwrap_err()
    }

    #[test]
    fn the_servers_sentences_have_their_classes() {
        use ErrorClass::{CorruptData, InvalidConfig, Unavailable};
        for (line, class) in [
            (
                "LOADING Redis is loading the dataset in memory",
                Unavailable,
            ),
            ("MASTERDOWN Link with MASTER is down", Unavailable),
            (
                "READONLY You can't write against a read only replica.",
                Unavailable,
            ),
            ("CLUSTERDOWN Hash slot not served", Unavailable),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Unavailable,
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Unavailable,
            ),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable),
            ("BUSY Redis is busy running a script.", Unavailable),
            ("ERR max number of clients reached", Unavailable),
            ("MOVED 3999 127.0.0.1:6381", InvalidConfig),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                InvalidConfig,
            ),
            ("NOAUTH Authentication required.", InvalidConfig),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                InvalidConfig,
            ),
            ("NOPERM this user has no permissions", InvalidConfig),
            ("DENIED Redis is running in protected mode", InvalidConfig),
            ("ERR DB index is out of range", InvalidConfig),
            ("ERR unknown command 'EVALSHA'", InvalidConfig),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                CorruptData,
            ),
            ("WHATEVER it is", ErrorClass::Internal),
        ] {
            let error = store_error(&from_server(line), &address());
            assert_eq!(error.class(), class, "{line}");
            assert!(
                error.message().starts_with("Redis at host:6379/0: "),
                "{error}"
            );
            assert!(!error.message().contains(".:"), "{error}");
        }
    }

    #[test]
    fn io_errors_have_their_classes() {
        for (kind, class) in [
            (io::ErrorKind::ConnectionRefused, ErrorClass::Unavailable),
            (io::ErrorKind::TimedOut, ErrorClass::Unavailable),
            (io::ErrorKind::NotFound, ErrorClass::Unavailable),
            (io::ErrorKind::InvalidData, ErrorClass::InvalidConfig),
            (io::ErrorKind::PermissionDenied, ErrorClass::InvalidConfig),
        ] {
            let error = RedisError::from(io::Error::new(kind, "x"));
            assert_eq!(classify(&error).0, class, "{kind:?}");
            assert_eq!(fate(&error), Fate::Discard);
        }
    }

    #[test]
    fn a_password_that_the_server_repeats_is_hidden() {
        let error = from_server("ERR unknown command `HELLO2`, with args: `user` `s3cret`");
        let shown = store_error(&error, &address()).to_string();
        assert!(
            shown.contains("unknown command") && !shown.contains("s3cret"),
            "{shown}"
        );
    }

    #[test]
    fn only_what_leads_astray_is_discarded() {
        assert_eq!(fate(&from_server("READONLY x")), Fate::Discard);
        assert_eq!(fate(&from_server("NOAUTH x")), Fate::Discard);
        assert_eq!(fate(&from_server("OOM x")), Fate::Keep);
        assert_eq!(fate(&from_server("LOADING x")), Fate::Keep);
    }
}
