//! Exit codes, and errors as people and programs see them.

use crate::{
    broker::BrokerError,
    client::{ClientError, EnqueueError, WaitError},
    config::ConfigError,
    function::command::CommandError,
    store::OpenError,
    worker::{HealthError, SpoolError, WorkerError, signals::StopSignal},
};
use warren_plugin_api::{ErrorClass, StoreError};

/// How the program ends. The same numbers stand in `warren --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Ok,
    Failure,
    Usage,
    BrokerUnavailable,
    StoreUnusable,
    JobFailed,
    NotFound,
    TimedOut,
    /// A signal ended it before everything was finished.
    Signalled(StopSignal),
}

impl Exit {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::BrokerUnavailable => 3,
            Self::StoreUnusable => 4,
            Self::JobFailed => 5,
            Self::NotFound => 6,
            Self::TimedOut => 7,
            Self::Signalled(signal) => 128 + signal.number(),
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) struct CliError {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl CliError {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub(super) const fn exit(&self) -> Exit {
        self.exit
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let suggestion = match &error {
            ConfigError::Invalid { suggestion, .. } => suggestion.clone(),
            _ => None,
        };
        let this = Self::new(Exit::Usage, error.to_string());
        match suggestion {
            Some(word) => this.with_hint(format!("did you mean `{word}`?")),
            None => this,
        }
    }
}

impl From<BrokerError> for CliError {
    fn from(error: BrokerError) -> Self {
        let (exit, hint) = match &error {
            BrokerError::InvalidUrl { .. } => (Exit::Usage, Some("set broker.url")),
            BrokerError::Unavailable { .. } => (
                Exit::BrokerUnavailable,
                Some("is RabbitMQ running, and is broker.url right?"),
            ),
            BrokerError::AccessRefused { .. } => (
                Exit::BrokerUnavailable,
                Some("check user, password and virtual host in broker.url"),
            ),
            BrokerError::InvalidTls { .. } => (Exit::Usage, None),
            BrokerError::NoSuchQueue { .. } => (Exit::NotFound, None),
            _ => (Exit::Failure, None),
        };
        Self {
            hint: hint.map(str::to_owned),
            ..Self::new(exit, error.to_string())
        }
    }
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        let (exit, hint) = match &error {
            OpenError::UnknownType { .. } => {
                let hint = "`warren plugins ls` shows every plugin and why one is not loaded";
                (Exit::Usage, Some(hint.to_owned()))
            }
            OpenError::InvalidConfig { name, .. } => (Exit::Usage, Some(every_option_of(name))),
            OpenError::Constructor { name, error }
                if error.class() == ErrorClass::InvalidConfig =>
            {
                (Exit::StoreUnusable, Some(every_option_of(name)))
            }
            OpenError::Constructor { .. } | OpenError::ConstructorHangs { .. } => {
                (Exit::StoreUnusable, None)
            }
        };
        Self {
            hint,
            ..Self::new(exit, error.to_string())
        }
    }
}

fn every_option_of(store: &str) -> String {
    format!("`warren config init --store {store} --config example.toml` writes every option of it")
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::new(Exit::StoreUnusable, format!("result store: {error}"))
    }
}

impl From<EnqueueError> for CliError {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Broker(error) => error.into(),
            EnqueueError::Store(error) => error.into(),
            EnqueueError::Invalid(error) => Self::new(Exit::Usage, error.to_string()),
            error @ EnqueueError::Duplicate { .. } => Self::new(Exit::Failure, error.to_string())
                .with_hint("--if-exists keep or --if-exists replace"),
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Broker(error) => error.into(),
            ClientError::Store(error) => error.into(),
            error @ ClientError::Busy { .. } => Self::new(Exit::Failure, error.to_string()),
        }
    }
}

impl From<WaitError> for CliError {
    fn from(error: WaitError) -> Self {
        let exit = match &error {
            WaitError::UnknownJob { .. } | WaitError::Gone { .. } => Exit::NotFound,
            WaitError::Timeout { .. } | WaitError::NoneEnded { .. } => Exit::TimedOut,
            WaitError::NoJobs => Exit::Usage,
            WaitError::Store(_) => Exit::StoreUnusable,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<WorkerError> for CliError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Broker(error) => error.into(),
            error @ WorkerError::InvalidOption { .. } => Self::new(Exit::Usage, error.to_string()),
            error => Self::new(Exit::Failure, error.to_string()),
        }
    }
}

impl From<SpoolError> for CliError {
    fn from(error: SpoolError) -> Self {
        Self::new(Exit::Failure, error.to_string())
            .with_hint("set worker.spool.dir to a folder that can be written")
    }
}

impl From<HealthError> for CliError {
    fn from(error: HealthError) -> Self {
        Self::new(Exit::Failure, error.to_string())
            .with_hint("set worker.health.listen or --health-listen to an address that is free")
    }
}

impl From<CommandError> for CliError {
    fn from(error: CommandError) -> Self {
        Self::new(Exit::Usage, error.to_string())
    }
}
