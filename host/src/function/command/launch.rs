//! How a function's process is started.

use std::{fmt::Display, path::PathBuf, process::Stdio};

use tokio::process::Command;

use super::{CommandError, FunctionConfig, program::find_program};
use crate::function::JobError;

/// Knows a function's program, arguments, folder and environment.
#[derive(Debug)]
pub(super) struct Launcher {
    program: PathBuf,
    config: FunctionConfig,
}

impl Launcher {
    pub(super) fn new(function: &str, config: &FunctionConfig) -> Result<Self, CommandError> {
        let Some(program) = config.command.first() else {
            return Err(CommandError::Empty {
                function: function.to_owned(),
            });
        };
        let program = find_program(function, program, config.working_dir.as_deref())?;
        Ok(Self {
            program,
            config: config.clone(),
        })
    }

    /// The command, to be run with pipes for stdin, stdout and stderr.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.config.command[1..])
            .envs(&self.config.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(folder) = &self.config.working_dir {
            command.current_dir(folder);
        }
        command
    }
}

/// The error of a job whose command could not be started.
pub(super) fn not_started(reason: &dyn Display) -> JobError {
    JobError::new(
        "CommandNotStarted",
        format!("cannot start the command: {reason}"),
    )
}
