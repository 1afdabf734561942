//! Why a file is not a plugin that this host can use.

use std::path::PathBuf;

use super::entry::{CONTRACT_MAJOR, CONTRACT_MINOR};

/// Why a plugin file was refused. Each text names the file, what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A link that leads nowhere.
    #[error("{}: the link leads to {}, which does not exist", file.display(), target.display())]
    DanglingLink {
        /// The file.
        file: PathBuf,
        /// Where the link leads.
        target: PathBuf,
    },
    /// The file cannot be read.
    #[error("{}: cannot be read: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A folder, a pipe, a device.
    #[error("{}: found a {found}, expected a plugin file", file.display())]
    NotAFile {
        /// The file.
        file: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// No bytes at all.
    #[error("{}: the file is empty; copy the plugin again", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// Not in the format of a shared library.
    #[error("{}: not a shared library: found {found}, expected {expected}", file.display())]
    NotALibrary {
        /// The file.
        file: PathBuf,
        /// What its first bytes say.
        found: String,
        /// The format of this system's libraries.
        expected: &'static str,
    },
    /// The file ends before its own headers say it does.
    #[error(
        "{}: the file is cut off: it has {found_bytes} bytes, its headers speak of {expected_bytes}; copy it again",
        file.display()
    )]
    CutOff {
        /// The file.
        file: PathBuf,
        /// Bytes that are there.
        found_bytes: u64,
        /// Bytes that should be there at least.
        expected_bytes: u64,
    },
    /// Built for another processor.
    #[error("{}: built for {found}, this host runs on {expected}", file.display())]
    WrongArchitecture {
        /// The file.
        file: PathBuf,
        /// The file's processor.
        found: String,
        /// The host's processor.
        expected: &'static str,
    },
    /// A library, but not a Warren store.
    #[error(
        "{}: a library, but not a Warren store plugin: it exports no {symbol}; does its source call export_store!?",
        file.display()
    )]
    NoEntrySymbol {
        /// The file.
        file: PathBuf,
        /// What was looked for.
        symbol: &'static str,
    },
    /// The plugin's description cannot be understood.
    #[error("{}: the plugin's description is damaged: {reason}", file.display())]
    DamagedInfo {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Built against a later contract.
    #[error(
        "{}: built against contract {found_major}.{found_minor}, this host supports {CONTRACT_MAJOR}.0 to {CONTRACT_MAJOR}.{CONTRACT_MINOR}; update Warren or use an older build of the plugin",
        file.display()
    )]
    ContractTooNew {
        /// The file.
        file: PathBuf,
        /// The plugin's major version.
        found_major: u32,
        /// The plugin's minor version.
        found_minor: u32,
    },
    /// Built against an earlier major contract.
    #[error(
        "{}: built against contract {found_major}.{found_minor}, this host supports {CONTRACT_MAJOR}.0 to {CONTRACT_MAJOR}.{CONTRACT_MINOR}; rebuild the plugin with warren-plugin-api {CONTRACT_MAJOR}",
        file.display()
    )]
    ContractTooOld {
        /// The file.
        file: PathBuf,
        /// The plugin's major version.
        found_major: u32,
        /// The plugin's minor version.
        found_minor: u32,
    },
    /// Built so that a panic ends the process.
    #[error(
        "{}: built with panic = \"abort\", so that a panic in it would end this process; build it with panic = \"unwind\"",
        file.display()
    )]
    PanicAborts {
        /// The file.
        file: PathBuf,
    },
    /// The system's loader refused the file.
    #[error("{}: the system cannot load it: {reason}", file.display())]
    SystemLoader {
        /// The file.
        file: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// The types of the contract differ between host and plugin.
    #[error(
        "{}: its types differ from those of contract {CONTRACT_MAJOR}.{CONTRACT_MINOR} ({reason}); rebuild it with an unchanged warren-plugin-api",
        file.display()
    )]
    ChangedLayout {
        /// The file.
        file: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// The plugin failed while it described itself.
    #[error("{}: failed while loading: {reason}", file.display())]
    FailedToLoad {
        /// The file.
        file: PathBuf,
        /// What the plugin said.
        reason: String,
    },
}
