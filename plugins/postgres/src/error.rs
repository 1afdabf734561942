//! What PostgreSQL and the driver report, as a class and a sentence.

use std::{error::Error, io};

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use tokio_postgres::error::SqlState;
use warren_plugin_api::{ErrorClass, StoreError};

use crate::address::Address;

/// Why a statement was not answered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server or the driver says why.
    Driver(tokio_postgres::Error),
    /// No answer within the time that is allowed.
    Silent,
    /// All connections are in use, or none could be made in time.
    NoConnection(&'static str),
    /// Already put into words.
    Store(StoreError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Self::Driver(error)
            }
            PoolError::Timeout(TimeoutType::Wait) => {
                Self::NoConnection("all connections are in use, raise connections")
            }
            PoolError::Timeout(_) => Self::NoConnection("connecting took too long"),
            PoolError::Closed => Self::NoConnection("the store was closed"),
            PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Self::NoConnection("no connection could be prepared")
            }
        }
    }
}

impl Failure {
    pub(crate) fn sql_state(&self) -> Option<&SqlState> {
        match self {
            Self::Driver(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the connection broke, so that the statement may have been done or not.
    pub(crate) fn is_lost_connection(&self) -> bool {
        match self {
            Self::Driver(error) => match error.code() {
                Some(state) => is_shutdown(state),
                None => is_io(error) || error.is_closed(),
            },
            _ => false,
        }
    }

    /// Whether the statement was rolled back because of another, and may be sent again.
    pub(crate) fn is_conflict(&self) -> bool {
        self.sql_state().is_some_and(|state| {
            *state == SqlState::T_R_DEADLOCK_DETECTED
                || *state == SqlState::T_R_SERIALIZATION_FAILURE
        })
    }

    /// Whether the server never began: what was prepared is gone, or the tables are.
    pub(crate) fn was_not_begun(&self) -> bool {
        self.sql_state().is_some_and(|state| {
            *state == SqlState::INVALID_SQL_STATEMENT_NAME
                || *state == SqlState::FEATURE_NOT_SUPPORTED
        }) || self.is_missing_table()
    }

    pub(crate) fn is_missing_table(&self) -> bool {
        self.sql_state().is_some_and(|state| {
            *state == SqlState::UNDEFINED_TABLE || *state == SqlState::INVALID_SCHEMA_NAME
        })
    }

    /// Whether it lies in what one record holds: another may be taken.
    pub(crate) fn is_about_data(&self) -> bool {
        self.sql_state()
            .is_some_and(|state| matches!(class_of(state.code()), "22" | "23" | "54" | "P0"))
    }

    /// Whether the connection is of no more use.
    pub(crate) fn spoils_connection(&self) -> bool {
        match self {
            Self::Driver(error) => match error.code() {
                Some(state) => {
                    is_shutdown(state)
                        // After a failover the name leads to another server.
                        || *state == SqlState::READ_ONLY_SQL_TRANSACTION
                        || self.was_not_begun()
                }
                None => true,
            },
            Self::Silent => true,
            Self::NoConnection(_) | Self::Store(_) => false,
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
            Self::NoConnection(why) => (ErrorClass::Unavailable, (*why).to_owned(), ""),
            Self::Driver(error) => described(error),
        };
        let mut text = format!("PostgreSQL at {address}: {text}");
        if !advice.is_empty() {
            text.push_str(": ");
            text.push_str(advice);
        }
        // Nothing is known to repeat it; this makes sure.
        let password = address.config.get_password().map(String::from_utf8_lossy);
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            text = text.replace(&*password, "…");
        }
        StoreError::new(class, text)
    }
}

fn described(error: &tokio_postgres::Error) -> (ErrorClass, String, &'static str) {
    if let Some(said) = error.as_db_error() {
        let (class, advice) = classify(said.code().code());
        // Not the detail: it may hold what the failing row holds.
        let text = format!(
            "{} {}: {}",
            said.severity(),
            said.code().code(),
            said.message()
        );
        return (class, text, advice);
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    let (class, advice) = classify_driver(error, &text);
    (class, text, advice)
}

/// The driver does not name its kinds; their sentences are part of its interface.
fn classify_driver(error: &tokio_postgres::Error, text: &str) -> (ErrorClass, &'static str) {
    use ErrorClass::{Internal, InvalidConfig, Unavailable};
    if text.starts_with("error performing TLS handshake") {
        // A server that goes away meanwhile objects to nothing.
        return match io_cause(error).map(io::Error::kind) {
            None | Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => (
                InvalidConfig,
                "check sslmode and the tls_ options against the server's",
            ),
            Some(_) => (Unavailable, ""),
        };
    }
    if text.starts_with("authentication error") || text.starts_with("invalid configuration") {
        return (InvalidConfig, LOG_IN);
    }
    if io_cause(error).is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        return (InvalidConfig, "this program may not open the socket");
    }
    // With TLS 1.3 the server objects to this client's certificate after the handshake.
    if rustls_alert(error) {
        return (
            InvalidConfig,
            "check the tls_ options against what the server asks for",
        );
    }
    if is_io(error) || error.is_closed() || text.starts_with("timeout") {
        return (Unavailable, "");
    }
    if text.starts_with("error parsing response") || text.starts_with("unexpected message") {
        return (
            Unavailable,
            "what answers there does not speak PostgreSQL's protocol, or a proxy garbles it",
        );
    }
    (Internal, "")
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text == "error communicating with the server" || text == "error connecting to server"
}

fn io_cause(error: &tokio_postgres::Error) -> Option<&io::Error> {
    error.source().and_then(|cause| cause.downcast_ref())
}

fn rustls_alert(error: &tokio_postgres::Error) -> bool {
    io_cause(error)
        .and_then(io::Error::get_ref)
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| matches!(error, rustls::Error::AlertReceived(_)))
}

/// "57P01 terminating connection due to administrator command" and the like.
fn is_shutdown(state: &SqlState) -> bool {
    matches!(state.code(), "57P01" | "57P02" | "57P03" | "57P05") || class_of(state.code()) == "08"
}

fn class_of(state: &str) -> &str {
    state.get(..2).unwrap_or_default()
}

const SLOW: &str = "look why the server is slow or away, or raise statement_timeout and the host's \
     deadline";
const LOG_IN: &str = "check user, password and database in postgres_url";
const PERMISSIONS: &str = "give the user the rights that the README lists";
const FULL: &str = "make room on the server's disk";

/// The class of an SQLSTATE, and what to do.
fn classify(state: &str) -> (ErrorClass, &'static str) {
    use ErrorClass::{Conflict, CorruptData, Internal, InvalidConfig, TooLarge, Unavailable};
    match state {
        // "deadlock detected", "could not serialize access due to concurrent update"
        "40001" | "40P01"
        // "could not obtain lock on row in relation"
        | "55P03" => (Conflict, ""),
        // "canceling statement due to statement timeout"
        "57014" => (Unavailable, SLOW),
        // "sorry, too many clients already", "remaining connection slots are reserved"
        "53300" => (
            Unavailable,
            "raise max_connections of the server or lower connections",
        ),
        // "could not extend file: No space left on device"
        "53100" => (Unavailable, FULL),
        // "cannot execute INSERT in a read-only transaction"
        "25006" => (
            Unavailable,
            "postgres_url leads to a standby or a read-only database, or a failover is under way",
        ),
        // "role is not permitted to log in", "no pg_hba.conf entry for host"
        "28000" | "28P01" => (InvalidConfig, LOG_IN),
        // "database does not exist"
        "3D000" => (InvalidConfig, LOG_IN),
        // "permission denied for table"
        "42501" => (InvalidConfig, PERMISSIONS),
        // "relation does not exist", "schema does not exist"
        "42P01" | "3F000" => (Unavailable, "its tables are gone, the next call makes them anew"),
        // "column does not exist": somebody else's table
        "42703" | "42804" | "42P10" | "42809" => (
            InvalidConfig,
            "another program's table has this name, choose another schema or table_prefix",
        ),
        // "unacceptable schema name"
        "42939" => (InvalidConfig, "choose another schema"),
        // "prepared statement does not exist"
        "26000" | "42P05" => (
            InvalidConfig,
            "set transaction_pooling where a pooler stands before the server",
        ),
        // "unsupported startup parameter: options", from a pooler
        "08P01" => (InvalidConfig, "the server or a pooler before it refuses what was sent"),
        // "could not read block 0 in file", "invalid page in block", "missing chunk number"
        "XX001" | "XX002" | "58030" => (CorruptData, ""),
        // "invalid memory alloc request size": a value of more than 1 GB
        "54000" | "54001" | "22001" => (TooLarge, ""),
        _ => match class_of(state) {
            // Connection exceptions; insufficient resources; "the database system is starting up";
            // system errors, such as a file that cannot be opened
            "08" | "53" | "57" | "58" => (Unavailable, ""),
            // Authorization
            "28" => (InvalidConfig, LOG_IN),
            // Program limits
            "54" => (TooLarge, ""),
            // Transaction rollback
            "40" => (Conflict, ""),
            // Object not in prerequisite state, such as a replica that is too far behind
            "55" => (Unavailable, ""),
            _ => (Internal, ""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_class() {
        use ErrorClass::{Conflict, CorruptData, Internal, InvalidConfig, TooLarge, Unavailable};
        for (states, class) in [
            (
                &[
                    "08000", "08006", "57P01", "57P02", "57P03", "57014", "53000", "53100",
                    "53200", "53300", "25006", "58000", "42P01",
                ][..],
                Unavailable,
            ),
            (&["40001", "40P01", "55P03"], Conflict),
            (
                &["28000", "28P01", "3D000", "42501", "42703", "26000"],
                InvalidConfig,
            ),
            (&["54000", "54011"], TooLarge),
            (&["XX001", "XX002"], CorruptData),
            (&["XX000", "42601", "22012", "23514"], Internal),
        ] {
            for state in states {
                assert_eq!(classify(state).0, class, "{state}");
            }
        }
    }
}
