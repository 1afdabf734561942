//! `warren plugins ls|check|new`

mod arguments;
mod bench;
mod check;
mod contract_source;
mod ls;
mod new;
mod own_process;
mod suite;
mod verdicts;

use serde_json::{Value, json};
use warren_plugin_api::Capabilities;

pub(super) use arguments::PluginsCommand;

use super::{
    arguments::GlobalArguments,
    error::{CliError, Exit},
    output::Output,
};
use crate::store::StoreType;

pub(super) async fn run(
    global: &GlobalArguments,
    command: PluginsCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    match command {
        PluginsCommand::Ls => ls::run(global, output),
        PluginsCommand::Check(command) => check::run(global, &command, output).await,
        PluginsCommand::New(command) => new::run(&command, output),
    }
}

fn store_json(store: &StoreType) -> Value {
    json!({
        "name": store.manifest.name,
        "version": store.manifest.version,
        "description": store.manifest.description,
        "contract": format!("{}.{}", store.contract.0, store.contract.1),
        "capabilities": store.capabilities(),
    })
}

/// The words for what a store can do.
fn capabilities(it: &Capabilities) -> String {
    let words = [
        (it.durable, "durable"),
        (it.embedded, "embedded"),
        (it.native_expiry, "expiry"),
        (it.scan, "scan"),
        (it.stats, "stats"),
        (it.push, "push"),
    ];
    let held: Vec<_> = words
        .iter()
        .filter(|(has, _)| *has)
        .map(|(_, word)| *word)
        .collect();
    held.join(" ")
}
