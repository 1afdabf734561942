//! What SQLite reports, as a class and a sentence.

use std::{io, path::Path};

use rusqlite::{Error, ErrorCode};
use warren_plugin_api::{ErrorClass, StoreError};

/// What a call was about when it failed: the same damage means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum During {
    /// Opening the file, or looking after it.
    Opening,
    /// Reading records.
    Reading,
    /// Writing or deleting records.
    Writing,
}

/// Turns SQLite's error into the contract's.
pub(crate) fn store_error(error: &Error, path: &Path, during: During) -> StoreError {
    let (class, advice) = classify(error, during);
    let separator = if advice.is_empty() { "" } else { ": " };
    StoreError::new(
        class,
        format!("SQLite on {}: {error}{separator}{advice}", path.display()),
    )
}

/// What the operating system says about the file or its folder.
pub(crate) fn file_error(what: &str, path: &Path, error: &io::Error) -> StoreError {
    let class = match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory
        // A file stands where a folder is to be made.
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput => ErrorClass::InvalidConfig,
        // A full disk, too many open files, a file system that is away.
        _ => ErrorClass::Unavailable,
    };
    StoreError::new(
        class,
        format!("cannot {what} {}: {error}: check path", path.display()),
    )
}

/// Whether the error is about one record, and the transaction goes on without it.
pub(crate) fn is_of_one_record(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(error, _) => matches!(
            error.code,
            ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch
        ),
        Error::ToSqlConversionFailure(_) => true,
        _ => is_unreadable(error),
    }
}

/// Whether what is stored is there and is no record.
pub(crate) fn is_unreadable(error: &Error) -> bool {
    matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
            | Error::InvalidColumnType(..)
    )
}

/// Whether somebody else holds a lock.
pub(crate) fn is_busy(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Whether the disk, or what SQLite may take of it, is full.
pub(crate) fn is_full(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Whether the connection is good for further calls; if not, the file is opened anew.
pub(crate) fn keeps_connection(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
    )
}

const DAMAGED: &str = "the file is damaged: restore a copy, or move it and its -wal file away";
const PERMISSIONS: &str = "the file and its folder must be writable";

fn classify(error: &Error, during: During) -> (ErrorClass, &'static str) {
    use ErrorClass::{CorruptData, Internal, InvalidConfig, TooLarge, Unavailable};
    if is_unreadable(error) {
        return (CorruptData, "this is no record");
    }
    let Some(code) = error.sqlite_error_code() else {
        return match error {
            Error::InvalidPath(_) | Error::NulError(_) => (InvalidConfig, "check path"),
            _ => (Internal, ""),
        };
    };
    match code {
        // "database is locked"
        ErrorCode::DatabaseBusy
        // "database table is locked"
        | ErrorCode::DatabaseLocked => (
            Unavailable,
            "another process holds its lock for longer than busy_timeout",
        ),
        // "locking protocol"
        ErrorCode::FileLockingProtocolFailed => (
            Unavailable,
            "locks do not work there: put the file on a local disk",
        ),
        // "database or disk is full"
        ErrorCode::DiskFull => (Unavailable, "make room, or shorten the results' ttl"),
        // "disk I/O error"
        ErrorCode::SystemIoFailure
        // "out of memory"
        | ErrorCode::OutOfMemory
        // "interrupted"
        | ErrorCode::OperationInterrupted
        // "database schema has changed"
        | ErrorCode::SchemaChanged => (Unavailable, ""),
        // "unable to open database file": what an operator could change is found out by opening
        // the file before SQLite does, so this is want of file handles, or a folder that is gone.
        ErrorCode::CannotOpen if during != During::Opening => (Unavailable, ""),
        // "attempt to write a readonly database", "access permission denied",
        // "authorization denied", and a -wal or -shm file that cannot be made
        ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::AuthorizationForStatementDenied => (InvalidConfig, PERMISSIONS),
        // "file is not a database"
        ErrorCode::NotADatabase => (
            InvalidConfig,
            "path leads to a file of something else, or to a damaged one",
        ),
        // "database disk image is malformed". A record that cannot be read is given up, one that
        // cannot be written must not be: whoever looks after the file can still save it.
        ErrorCode::DatabaseCorrupt if during == During::Reading => (CorruptData, DAMAGED),
        ErrorCode::DatabaseCorrupt => (InvalidConfig, DAMAGED),
        // "string or blob too big"
        ErrorCode::TooBig => (TooLarge, "lower max_record_bytes"),
        _ => (Internal, ""),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn failure(code: std::ffi::c_int) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn sqlites_codes_have_their_classes() {
        use During::{Opening, Reading, Writing};
        use ErrorClass::{CorruptData, Internal, InvalidConfig, TooLarge, Unavailable};
        for (code, during, class) in [
            (ffi::SQLITE_BUSY, Writing, Unavailable),
            (ffi::SQLITE_BUSY_RECOVERY, Opening, Unavailable),
            (ffi::SQLITE_LOCKED, Reading, Unavailable),
            (ffi::SQLITE_PROTOCOL, Opening, Unavailable),
            (ffi::SQLITE_FULL, Writing, Unavailable),
            (ffi::SQLITE_IOERR_FSYNC, Writing, Unavailable),
            (ffi::SQLITE_NOMEM, Reading, Unavailable),
            (ffi::SQLITE_CANTOPEN, Opening, InvalidConfig),
            (ffi::SQLITE_CANTOPEN, Reading, Unavailable),
            (ffi::SQLITE_READONLY_DIRECTORY, Writing, InvalidConfig),
            (ffi::SQLITE_PERM, Opening, InvalidConfig),
            (ffi::SQLITE_NOTADB, Opening, InvalidConfig),
            (ffi::SQLITE_CORRUPT, Reading, CorruptData),
            (ffi::SQLITE_CORRUPT, Writing, InvalidConfig),
            (ffi::SQLITE_TOOBIG, Writing, TooLarge),
            (ffi::SQLITE_MISUSE, Writing, Internal),
        ] {
            let error = store_error(&failure(code), Path::new("/x/results.db"), during);
            assert_eq!(error.class(), class, "{code} {during:?}: {error}");
            let shown = error.to_string();
            assert!(shown.contains("SQLite on /x/results.db: "), "{shown}");
        }
    }

    #[test]
    fn what_can_be_changed_by_an_operator_is_told_from_what_passes() {
        for (kind, class) in [
            (io::ErrorKind::PermissionDenied, ErrorClass::InvalidConfig),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorClass::InvalidConfig),
            (io::ErrorKind::NotADirectory, ErrorClass::InvalidConfig),
            (io::ErrorKind::StorageFull, ErrorClass::Unavailable),
            (
                io::ErrorKind::StaleNetworkFileHandle,
                ErrorClass::Unavailable,
            ),
        ] {
            let error = file_error("open", Path::new("x"), &kind.into());
            assert_eq!(error.class(), class, "{kind:?}");
        }
    }

    #[test]
    fn only_a_record_s_own_error_lets_its_transaction_go_on() {
        assert!(is_of_one_record(&failure(ffi::SQLITE_TOOBIG)));
        assert!(!is_of_one_record(&failure(ffi::SQLITE_FULL)));
        assert!(!is_of_one_record(&failure(ffi::SQLITE_IOERR)));
    }
}
