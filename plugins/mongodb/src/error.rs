//! What MongoDB and the driver report, as a class and a sentence.

use std::io;

use mongodb::{
    bson::Document,
    error::{Error, ErrorKind, WriteFailure},
};
use warren_plugin_api::{ErrorClass, StoreError};

use crate::address::Address;

/// "E11000 duplicate key error": somebody's document with that key is there.
pub(crate) const DUPLICATE_KEY: i32 = 11_000;
/// "Unauthorized"
pub(crate) const UNAUTHORIZED: i32 = 13;
/// "NamespaceNotFound": the collection is not there.
pub(crate) const NO_COLLECTION: i32 = 26;
/// "MaxTimeMSExpired"
pub(crate) const TOOK_TOO_LONG: i32 = 50;

/// How much of a server's sentence is repeated.
const MOST_CHARACTERS: usize = 400;

/// Why a command was not answered as hoped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server or the driver says why.
    Driver(Error),
    /// The server did the command but for this item of it, or did not make it safe in time.
    Part(ServerError),
    /// No answer within the time that is allowed.
    Silent,
    /// Already put into words.
    Store(StoreError),
}

/// An error in the answer to a command that was done in part.
#[derive(Debug, Clone)]
pub(crate) struct ServerError {
    pub(crate) code: i32,
    message: String,
}

impl ServerError {
    /// Reads `{code, errmsg}`.
    pub(crate) fn of(error: &Document) -> Self {
        Self {
            code: error.get_i32("code").unwrap_or_default(),
            message: error.get_str("errmsg").unwrap_or_default().to_owned(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<mongodb::bson::error::Error> for Failure {
    fn from(error: mongodb::bson::error::Error) -> Self {
        Self::Driver(error.into())
    }
}

impl Failure {
    /// The server's number for it.
    pub(crate) fn code(&self) -> Option<i32> {
        match self {
            Self::Driver(error) => server_error(error).map(|error| error.code),
            Self::Part(error) => Some(error.code),
            Self::Silent | Self::Store(_) => None,
        }
    }

    /// The contract's error.
    pub(crate) fn to_store_error(&self, address: &Address) -> StoreError {
        let (class, text, advice) = match self {
            Self::Store(error) => return error.clone(),
            Self::Silent => (
                ErrorClass::Unavailable,
                "no answer in time".to_owned(),
                SLOW,
            ),
            Self::Part(error) => described(error),
            Self::Driver(error) => match server_error(error) {
                Some(error) => described(&error),
                None => described_by_driver(error),
            },
        };
        let text = address.without_secrets(text);
        let mut text: String = text.chars().take(MOST_CHARACTERS).collect();
        if !advice.is_empty() {
            text.push_str(": ");
            text.push_str(advice);
        }
        StoreError::new(class, format!("MongoDB at {address}: {text}"))
    }
}

/// What the server said, in whichever wrapping.
fn server_error(error: &Error) -> Option<ServerError> {
    let of = |code, message: &str| {
        Some(ServerError {
            code,
            message: message.to_owned(),
        })
    };
    match &*error.kind {
        ErrorKind::Command(error) => of(error.code, &error.message),
        ErrorKind::Write(WriteFailure::WriteError(error)) => of(error.code, &error.message),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => of(error.code, &error.message),
        _ => None,
    }
}

fn described(error: &ServerError) -> (ErrorClass, String, &'static str) {
    let (class, advice) = classify(error.code);
    let text = format!("error {}: {}", error.code, error.message);
    (class, text, advice)
}

/// The class of what never came to be an answer.
fn described_by_driver(error: &Error) -> (ErrorClass, String, &'static str) {
    use ErrorClass::{Internal, InvalidConfig, Unavailable};
    let text = error.kind.to_string();
    let (class, advice) = match &*error.kind {
        ErrorKind::Authentication { .. } => {
            // A connection that breaks while logging in is refused by nobody.
            match error.get_io() {
                Some(_) => (Unavailable, ""),
                None => (InvalidConfig, LOG_IN),
            }
        }
        ErrorKind::InvalidTlsConfig { .. } => (InvalidConfig, TLS),
        ErrorKind::InvalidArgument { .. } => (Internal, ""),
        ErrorKind::IncompatibleServer { .. } => {
            (InvalidConfig, "the server must be MongoDB 4.4 or later")
        }
        ErrorKind::Io(error) => classify_io(error),
        ErrorKind::ServerSelection { .. } => {
            let (class, advice) = classify_selection(&text);
            return (class, no_server(&text), advice);
        }
        ErrorKind::DnsResolve { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::Shutdown => (Unavailable, ""),
        ErrorKind::InvalidResponse { .. } | ErrorKind::Bson(_) => (
            Unavailable,
            "what answers there does not speak MongoDB's protocol, or a proxy garbles it",
        ),
        ErrorKind::SessionsNotSupported => (InvalidConfig, "the server has no sessions"),
        _ => (Internal, ""),
    };
    (class, text, advice)
}

trait IoCause {
    fn get_io(&self) -> Option<&io::Error>;
}

impl IoCause for Error {
    fn get_io(&self) -> Option<&io::Error> {
        let mut error = Some(self as &(dyn std::error::Error + 'static));
        while let Some(found) = error {
            if let Some(error) = found.downcast_ref::<Self>()
                && let ErrorKind::Io(io) = &*error.kind
            {
                return Some(io);
            }
            error = found.source();
        }
        None
    }
}

fn classify_io(error: &io::Error) -> (ErrorClass, &'static str) {
    // rustls speaks through them: a certificate that is not trusted, an alert of the server's.
    let is_tls = error
        .get_ref()
        .is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some());
    if is_tls {
        return (ErrorClass::InvalidConfig, TLS);
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return (
            ErrorClass::InvalidConfig,
            "this program may not open the socket",
        );
    }
    (ErrorClass::Unavailable, "")
}

/// The driver describes every server at length; the first one's trouble is what matters.
fn no_server(text: &str) -> String {
    let cause = text
        .split_once("Error: ")
        .map(|(_, cause)| cause.split(", labels:").next().unwrap_or(cause));
    match cause {
        Some(cause) => format!(
            "no server that takes the call was found in time: {}",
            cause.trim_start_matches("Kind: ")
        ),
        None => "no server that takes the call was found in time".to_owned(),
    }
}

/// The driver says in words only why it found no server. What TLS objects to will not pass.
fn classify_selection(text: &str) -> (ErrorClass, &'static str) {
    const OF_TLS: [&str; 4] = [
        "invalid peer certificate",
        "received fatal alert",
        "received corrupt message",
        "peer is incompatible",
    ];
    if OF_TLS.iter().any(|of_tls| text.contains(of_tls)) {
        return (ErrorClass::InvalidConfig, TLS);
    }
    (ErrorClass::Unavailable, "")
}

/// What an answer says of a command that was done, and not made as safe as it was to be.
pub(crate) fn write_concern_error(answer: &Document) -> Option<ServerError> {
    answer
        .get_document("writeConcernError")
        .ok()
        .map(ServerError::of)
}

const SLOW: &str = "look why the server is slow or away, or raise operation_timeout and the host's \
     deadline";
const LOG_IN: &str = "check user, password and authSource in mongodb_url";
const TLS: &str = "check tls in mongodb_url and the tls_ options against the server's";
const RIGHTS: &str = "give the user the rights that the README lists";
const OTHERS: &str = "another program has made this collection otherwise, choose another database or \
     collection_prefix";

/// The class of a server's error, and what to do. The names are those of MongoDB's error codes.
fn classify(code: i32) -> (ErrorClass, &'static str) {
    use ErrorClass::{Conflict, CorruptData, Internal, InvalidConfig, TooLarge, Unavailable};
    match code {
        // UserNotFound, AuthenticationFailed, MechanismUnavailable
        11 | 18 | 334 => (InvalidConfig, LOG_IN),
        // Unauthorized
        UNAUTHORIZED => (InvalidConfig, RIGHTS),
        // InvalidNamespace
        73 => (InvalidConfig, "choose another database or collection_prefix"),
        // IndexOptionsConflict, IndexKeySpecsConflict, CannotCreateIndex
        85 | 86 | 67
        // DocumentValidationFailure, CommandNotSupportedOnView
        | 121 | 166 => (InvalidConfig, OTHERS),
        // UnsatisfiableWriteConcern, UnknownReplWriteConcern
        100 | 79 => (
            InvalidConfig,
            "the replica set has not the members that w in mongodb_url asks for",
        ),
        // LockTimeout, WriteConflict, TransactionTooOld, NoSuchTransaction, LockBusy
        24 | 112 | 225 | 251 | 46
        // DuplicateKey, where somebody else's unique index objects
        | DUPLICATE_KEY => (Conflict, ""),
        // BSONObjectTooLarge, "exceeds maximum document size", KeyTooLong
        10_334 | 17_419 | 17_420 | 17_280 => (TooLarge, ""),
        // "object to insert exceeds cappedMaxSize" and a message that is too long
        16_328 | 17 => (TooLarge, ""),
        // MaxTimeMSExpired, ExceededTimeLimit
        TOOK_TOO_LONG | 262 => (Unavailable, SLOW),
        // WriteConcernFailed, WriteConcernTimeout
        64 | 75 => (
            Unavailable,
            "the write was done and not yet acknowledged by the members that w asks for",
        ),
        // OutOfDiskSpace
        14_031 => (Unavailable, "make room on the server's disk"),
        // HostUnreachable, HostNotFound, NetworkTimeout, SocketException
        6 | 7 | 89 | 9_001
        // ShutdownInProgress, PrimarySteppedDown, InterruptedAtShutdown, InterruptedDueToReplStateChange
        | 91 | 189 | 11_600 | 11_602
        // NotWritablePrimary, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary, "not primary"
        | 10_107 | 13_435 | 13_436 | 10_058
        // ReadConcernMajorityNotAvailableYet, FailedToSatisfyReadPreference, Interrupted, CursorNotFound
        | 134 | 133 | 11_601 | 43
        // CursorKilled, ClientDisconnect, CappedPositionLost, QueryPlanKilled
        | 237 | 279 | 136 | 175
        // ChangeStreamHistoryLost, ChangeStreamFatalError
        | 286 | 280
        // AtlasError, RequestRateTooLarge of Azure, IngressRequestRateLimitExceeded
        | 8_000 | 16_500 | 462
        // IndexBuildAborted, IndexBuildAlreadyInProgress, DatabaseDropPending, ConflictingOperationInProgress
        | 276 | 382 | 215 | 117
        // StaleShardVersion, StaleConfig, a migration of a chunk
        | 63 | 13_388 | 150 => (Unavailable, ""),
        // "$changeStream is only supported on replica sets"
        40_573 => (ErrorClass::Unsupported, ""),
        // InvalidBSON, BSONObjectCorrupt
        22 | 320 => (CorruptData, ""),
        _ => (Internal, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_class() {
        use ErrorClass::{
            Conflict, CorruptData, Internal, InvalidConfig, TooLarge, Unavailable, Unsupported,
        };
        for (codes, class) in [
            (
                &[
                    6, 7, 89, 91, 189, 11_600, 11_602, 10_107, 13_435, 13_436, 50, 262, 64, 14_031,
                    43, 134, 16_500, 286,
                ][..],
                Unavailable,
            ),
            (&[112, 24, 11_000], Conflict),
            (&[11, 13, 18, 73, 85, 86, 100, 121, 166], InvalidConfig),
            (&[10_334, 17_280, 17_419], TooLarge),
            (&[22, 320], CorruptData),
            (&[40_573], Unsupported),
            (&[1, 2, 8, 9, 59, 72, 0], Internal),
        ] {
            for code in codes {
                assert_eq!(classify(*code).0, class, "{code}");
            }
        }
    }

    #[test]
    fn of_no_server_the_cause_is_told() {
        let text = "Server selection timeout: No available servers. Topology: { Type: Single, \
                    Servers: [ { Address: h:1, Type: Unknown, Error: Kind: I/O error: Connection \
                    refused (os error 111), labels: {}, source: None } ] }";
        assert_eq!(
            no_server(text),
            "no server that takes the call was found in time: I/O error: Connection refused (os \
             error 111)"
        );
    }

    #[test]
    fn no_server_because_of_tls_will_not_pass() {
        let text = "Server selection timeout: No available servers. Topology: { Servers: [ { \
                    Error: I/O error: invalid peer certificate: UnknownIssuer } ] }";
        assert_eq!(classify_selection(text).0, ErrorClass::InvalidConfig);
        let text = "Server selection timeout: Connection refused (os error 111)";
        assert_eq!(classify_selection(text).0, ErrorClass::Unavailable);
    }
}
