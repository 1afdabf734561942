//! `[functions.<name>]`: which command a function is, and how its runs are treated.

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{pool::PoolHandler, run::CommandHandler};
use crate::{
    function::{FunctionPolicy, FunctionRegistry, Handler, RegisterFunctionError},
    job::{RetryOn, RetryPolicy},
};

/// A function that is a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionConfig {
    /// The program and its arguments. It gets the job as one JSON object on stdin and writes its
    /// result as JSON to stdout; nothing written means `null`.
    pub command: Vec<String>,
    /// Keep up to this many processes, which run one job after another and speak JSON lines: a
    /// job per line of stdin, and for each a line of stdout, `{"result": …}` or
    /// `{"error": {"type": …, "message": …, "retry": …}}`, after any number of
    /// `{"progress": …}`. Absent: a process for each job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<NonZeroU16>,
    /// Replace a process of the pool after this many jobs; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recycle_after: Option<NonZeroU32>,
    /// Give each run a named pipe, `$WARREN_PROGRESS`, for lines of JSON that say how far it has
    /// come. Only for a process for each job: those of a pool say so on stdout.
    #[serde(default)]
    pub progress: bool,
    /// The folder it runs in; the worker's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<PathBuf>,
    /// Further environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The longest that one run may take.
    #[serde(default = "default_timeout", with = "crate::duration_text")]
    pub timeout: Duration,
    /// How long results are kept, instead of the result store's `ttl`.
    #[serde(
        default,
        with = "crate::duration_text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub result_ttl: Option<Duration>,
    /// When a failed run is repeated.
    #[serde(default)]
    pub retry: RetryConfig,
}

fn default_timeout() -> Duration {
    FunctionPolicy::default().timeout
}

/// `[functions.<name>.retry]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// The most repetitions.
    pub limit: u32,
    /// The wait before the first repetition; doubled before each further one.
    #[serde(with = "crate::duration_text")]
    pub base: Duration,
    /// The longest wait.
    #[serde(with = "crate::duration_text")]
    pub cap: Duration,
    /// Shorten each wait by a random part of up to half.
    pub jitter: bool,
    /// `any`, `never`, or `{ only = ["ConnectionError"] }`.
    pub on: RetryOn,
}

impl Default for RetryConfig {
    fn default() -> Self {
        let RetryPolicy {
            limit,
            base,
            cap,
            jitter,
            on,
        } = RetryPolicy::default();
        Self {
            limit,
            base,
            cap,
            jitter,
            on,
        }
    }
}

impl RetryConfig {
    fn policy(&self) -> RetryPolicy {
        let Self {
            limit,
            base,
            cap,
            jitter,
            on,
        } = self.clone();
        RetryPolicy {
            limit,
            base,
            cap,
            jitter,
            on,
        }
    }
}

/// Why a command cannot be a function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// `command = []`
    #[error("functions.{function}.command is empty; expected a program and its arguments")]
    Empty {
        /// The function.
        function: String,
    },
    /// No such program.
    #[error("functions.{function}.command: no program {program:?} was found")]
    NoSuchProgram {
        /// The function.
        function: String,
        /// The program.
        program: String,
    },
    /// The program's file lacks the permission to be executed.
    #[error(
        "functions.{function}.command: {} may not be executed; make it executable with chmod +x, \
         or name its interpreter first",
        .program.display()
    )]
    NotExecutable {
        /// The function.
        function: String,
        /// The file.
        program: PathBuf,
    },
    /// `recycle_after` without `processes`.
    #[error(
        "functions.{function}.recycle_after needs functions.{function}.processes: only a pool has processes that stay"
    )]
    NoPool {
        /// The function.
        function: String,
    },
    /// `progress` with `processes`.
    #[error(
        "functions.{function}.progress does not go with functions.{function}.processes: \
         a process of a pool writes {{\"progress\": …}} lines to stdout"
    )]
    ProgressOfPool {
        /// The function.
        function: String,
    },
    /// The name is taken.
    #[error(transparent)]
    NameTaken(#[from] RegisterFunctionError),
}

impl FunctionRegistry {
    /// Registers the functions of a configuration.
    ///
    /// # Errors
    /// A command is empty or its program is missing, or a name is taken.
    pub fn register_commands(
        &mut self,
        functions: &BTreeMap<String, FunctionConfig>,
    ) -> Result<(), CommandError> {
        for (name, config) in functions {
            let handler: Arc<dyn Handler> = match config.processes {
                Some(_) if config.progress => {
                    return Err(CommandError::ProgressOfPool {
                        function: name.clone(),
                    });
                }
                Some(processes) => {
                    let processes = usize::from(processes.get());
                    Arc::new(PoolHandler::new(name, config, processes)?)
                }
                None if config.recycle_after.is_some() => {
                    return Err(CommandError::NoPool {
                        function: name.clone(),
                    });
                }
                None => Arc::new(CommandHandler::new(name, config)?),
            };
            let policy = FunctionPolicy {
                timeout: config.timeout,
                retry: config.retry.policy(),
                result_ttl: config.result_ttl,
            };
            self.register_handler(name, policy, handler)?;
        }
        Ok(())
    }
}
