//! `warren config init|check|show`, and `warren man`

use std::path::Path;

use clap::CommandFactory;
use serde_json::json;
use toml::Value;

use super::{
    arguments::{Arguments, ConfigCommand, GlobalArguments},
    config_init,
    error::{CliError, Exit},
    output::Output,
    session::Session,
};
use crate::config::redacted;

pub(super) async fn run(
    global: &GlobalArguments,
    command: &ConfigCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    match command {
        ConfigCommand::Init { store, force } => config_init::run(global, store.as_deref(), *force),
        ConfigCommand::Check => check(&Session::start(global)?, output).await,
        ConfigCommand::Show => show(&Session::start(global)?, output),
    }
}

/// The broker's address, the functions' programs, the store's type and configuration. Opening the
/// store is part of it; its server need not be there.
async fn check(session: &Session, output: &Output) -> Result<Exit, CliError> {
    session.loaded.config.broker.settings()?;
    session.functions()?;
    session.store().await?;
    if output.json {
        output.print_json(&json!({ "ok": true }));
    } else {
        println!("the configuration can be used");
    }
    Ok(Exit::Ok)
}

fn show(session: &Session, output: &Output) -> Result<Exit, CliError> {
    let failed =
        |error: toml::ser::Error| CliError::new(Exit::Failure, format!("cannot be shown: {error}"));
    let value = Value::try_from(&session.loaded.config).map_err(failed)?;
    let shown = redacted(&value);
    if output.json {
        let origins: serde_json::Map<_, _> = session
            .loaded
            .origins
            .iter()
            .map(|(key, origin)| (key.clone(), json!(origin.to_string())))
            .collect();
        output.print_json(&json!({ "config": shown, "origins": origins }));
        return Ok(Exit::Ok);
    }
    print!("{}", toml::to_string(&shown).map_err(failed)?);
    if !session.loaded.origins.is_empty() {
        println!("\n# Not defaults:");
        for (key, origin) in &session.loaded.origins {
            println!("#   {key}: {origin}");
        }
    }
    Ok(Exit::Ok)
}

/// Writes a manual page for each command.
pub(super) fn man(folder: &Path) -> Result<Exit, CliError> {
    clap_mangen::generate_to(Arguments::command(), folder)
        .map_err(|error| CliError::new(Exit::Failure, format!("{}: {error}", folder.display())))?;
    Ok(Exit::Ok)
}
