//! What a case is, and what it needs of a store.

use futures_util::future::BoxFuture;
use warren_plugin_api::{Capabilities, ScanOrder};

use crate::{context::Context, expect::Checked, suite::Options};

/// A case of the suite and the rules that it checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaseInfo {
    /// `group::what_is_expected`
    pub id: &'static str,
    /// Ids of rules in `docs/result-store.md`.
    pub rules: &'static [&'static str],
}

/// All cases, in the order in which they run.
pub fn cases() -> impl Iterator<Item = CaseInfo> {
    all().map(|case| case.info)
}

pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    crate::cases::GROUPS.iter().copied().flatten()
}

pub(crate) struct Case {
    pub(crate) info: CaseInfo,
    pub(crate) needs: &'static [Need],
    pub(crate) run: for<'a> fn(&'a Context) -> BoxFuture<'a, Checked>,
}

/// What must be so for a case to make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Scan,
    ScanOrder,
    Stats,
    Push,
    Durable,
    /// Expired records are there until `cleanup_expired` removes them.
    OwnExpiry,
    /// The backend removes expired records.
    NativeExpiry,
    Embedded,
    NoRecordLimit,
    /// Nothing else is in the store: the suite was told so.
    Alone,
    /// The caller gave what the plugin's manifest declares.
    Declared,
    /// The caller gave the schema of the store's configuration.
    ConfigSchema,
    /// The caller gave words that must never be shown.
    Secrets,
    /// The caller gave a way to open the store on a backend that is not there.
    Unreachable,
    /// The caller gave a way to open the store on a backend that answers nothing.
    Unresponsive,
    /// The caller gave a way to open the store with credentials that are refused.
    WrongCredentials,
    /// The caller gave a way to open the store on a backend that is full.
    NoRoom,
    /// The caller gave a way to damage a stored record.
    Damage,
}

impl Need {
    /// Why the case does not apply, if it does not.
    pub(crate) fn missing(
        self,
        capabilities: &Capabilities,
        options: &Options,
    ) -> Option<&'static str> {
        let (met, reason) = match self {
            Self::Scan => (capabilities.scan, "the store declares no scan"),
            Self::ScanOrder => (
                capabilities.scan && capabilities.scan_order != ScanOrder::Unordered,
                "the store declares no order of scans",
            ),
            Self::Stats => (capabilities.stats, "the store declares no stats"),
            Self::Push => (capabilities.push, "the store declares no push"),
            Self::Durable => (capabilities.durable, "the store is not durable"),
            Self::OwnExpiry => (
                !capabilities.native_expiry,
                "the backend removes expired records by itself",
            ),
            Self::NativeExpiry => (
                capabilities.native_expiry,
                "the backend removes no expired records by itself",
            ),
            Self::Embedded => (capabilities.embedded, "the store is not embedded"),
            Self::NoRecordLimit => (
                capabilities.max_record_bytes.is_none(),
                "the store limits its records",
            ),
            Self::Alone => (
                options.alone,
                "the store may hold other data: see Suite::alone",
            ),
            Self::Declared => (
                options.declared.is_some(),
                "no manifest was given: see Suite::declared",
            ),
            Self::ConfigSchema => (
                options.config_schema.is_some(),
                "no schema of its configuration was given: see Suite::config_schema",
            ),
            Self::Secrets => (
                !options.secrets.is_empty(),
                "no secret was given: see Suite::secret",
            ),
            Self::Unreachable => (
                options.unreachable.is_some(),
                "no absent backend was given: see Suite::unreachable",
            ),
            Self::Unresponsive => (
                options.unresponsive.is_some(),
                "no unresponsive backend was given: see Suite::unresponsive",
            ),
            Self::WrongCredentials => (
                options.wrong_credentials.is_some(),
                "no wrong credentials were given: see Suite::wrong_credentials",
            ),
            Self::NoRoom => (
                options.no_room.is_some(),
                "no full backend was given: see Suite::no_room",
            ),
            Self::Damage => (
                options.damage.is_some(),
                "no way to damage a record was given: see Suite::damage",
            ),
        };
        (!met).then_some(reason)
    }
}

/// `case!("group", function, ["RS-001"], [Need, …])`
macro_rules! case {
    ($group:literal, $function:ident, [$($rule:literal),+ $(,)?]) => {
        case!($group, $function, [$($rule),+], [])
    };
    ($group:literal, $function:ident, [$($rule:literal),+ $(,)?], [$($need:ident),*]) => {
        $crate::case::Case {
            info: $crate::case::CaseInfo {
                id: concat!($group, "::", stringify!($function)),
                rules: &[$($rule),+],
            },
            needs: &[$($crate::case::Need::$need),*],
            run: |context| Box::pin($function(context)),
        }
    };
}
pub(crate) use case;
