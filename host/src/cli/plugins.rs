//! `warren plugins ls|check`

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use warren_plugin_api::Capabilities;

use super::{
    arguments::{GlobalArguments, PluginsCommand},
    error::{CliError, Exit},
    output::Output,
    session::{Session, json_config},
};
use crate::store::{
    StoreRegistry, StoreType,
    plugins::{FileReport, FileState, load_folders, load_one},
};

/// How long a store may take to open when it is checked.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

pub(super) async fn run(
    global: &GlobalArguments,
    command: PluginsCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    match command {
        PluginsCommand::Ls => list(global, output),
        PluginsCommand::Check { file, store_config } => {
            check(global, &file, store_config.as_deref(), output).await
        }
    }
}

fn list(global: &GlobalArguments, output: &Output) -> Result<Exit, CliError> {
    let session = Session::start(global)?;
    let report = load_folders(StoreRegistry::global(), &session.plugin_folders());
    for (folder, error) in &report.unreadable_folders {
        eprintln!("warning: plugin folder {}: {error}", folder.display());
    }
    if output.json {
        report
            .files
            .iter()
            .for_each(|file| output.print_json(&file_json(file)));
        return Ok(Exit::Ok);
    }
    let rows: Vec<_> = report.files.iter().map(file_row).collect();
    if rows.is_empty() {
        let folders: Vec<_> = report
            .searched
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        eprintln!("no plugins in {}", folders.join(", "));
    }
    output.print_table(
        &[
            "NAME",
            "VERSION",
            "CONTRACT",
            "CAPABILITIES",
            "STATE",
            "FILE",
        ],
        rows,
    );
    Ok(Exit::Ok)
}

fn file_row(file: &FileReport) -> Vec<String> {
    let path = file.path.display().to_string();
    match &file.state {
        FileState::Loaded(store) => vec![
            store.manifest.name.clone(),
            store.manifest.version.clone(),
            format!("{}.{}", store.contract.0, store.contract.1),
            capabilities(store.capabilities()),
            "loaded".to_owned(),
            path,
        ],
        FileState::Refused(refused) => {
            let (name, version, contract) = match &refused.described {
                Some(file) => (
                    file.name.clone(),
                    file.version.clone(),
                    format!("{}.{}", file.contract.0, file.contract.1),
                ),
                None => Default::default(),
            };
            let reason = refused.error.to_string();
            // The file has a column of its own.
            let reason = reason.strip_prefix(&format!("{path}: ")).unwrap_or(&reason);
            vec![
                name,
                version,
                contract,
                String::new(),
                reason.to_owned(),
                path,
            ]
        }
    }
}

fn file_json(file: &FileReport) -> Value {
    match &file.state {
        FileState::Loaded(store) => {
            let mut json = store_json(store);
            json["file"] = json!(file.path);
            json["loaded"] = json!(true);
            json
        }
        FileState::Refused(refused) => json!({
            "file": file.path,
            "loaded": false,
            "name": refused.described.as_ref().map(|file| &file.name),
            "version": refused.described.as_ref().map(|file| &file.version),
            "reason": refused.error.to_string(),
        }),
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

async fn check(
    global: &GlobalArguments,
    file: &Path,
    store_config: Option<&str>,
    output: &Output,
) -> Result<Exit, CliError> {
    let store =
        load_one(file).map_err(|error| CliError::new(Exit::StoreUnusable, error.to_string()))?;
    let mut report = store_json(&store);
    if let Some(config) = config_to_check(global, store_config, &store)? {
        let problems = store.config_problems(&config);
        if !problems.is_empty() {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            return Err(CliError::new(Exit::Usage, lines.join("\nerror: ")));
        }
        let object = store.open_within(OPEN_DEADLINE, &config).await?;
        let slow = |_| {
            let text = format!("its health check took longer than {OPEN_DEADLINE:?}");
            CliError::new(Exit::StoreUnusable, text)
        };
        let health = tokio::time::timeout(OPEN_DEADLINE, object.health_check())
            .await
            .map_err(slow)??;
        report["health"] = json!(health);
        report["capabilities"] = json!(object.capabilities()?);
    }
    print_check(file, &store, &report, output);
    Ok(Exit::Ok)
}

/// The configuration to open the store with, if one was given.
fn config_to_check(
    global: &GlobalArguments,
    store_config: Option<&str>,
    store: &StoreType,
) -> Result<Option<Value>, CliError> {
    if let Some(text) = store_config {
        return serde_json::from_str(text).map(Some).map_err(|error| {
            CliError::new(Exit::Usage, format!("--store-config is not JSON: {error}"))
        });
    }
    let Some(file) = &global.config else {
        return Ok(None);
    };
    let settings = Session::start(global)?.loaded.config.result_store;
    let name = &store.manifest.name;
    match &settings.store_type {
        Some(chosen) if chosen != name => {
            let text = format!(
                "{} chooses store {chosen:?}, this plugin is store {name:?}",
                file.display()
            );
            Err(CliError::new(Exit::Usage, text))
        }
        _ => json_config(&settings.config).map(Some),
    }
}

fn print_check(file: &Path, store: &StoreType, report: &Value, output: &Output) {
    if output.json {
        output.print_json(report);
        return;
    }
    let (major, minor) = store.contract;
    println!(
        "{}: store {:?} {}",
        file.display(),
        store.manifest.name,
        store.manifest.version
    );
    println!(
        "built against contract {major}.{minor}; can do: {}",
        capabilities(store.capabilities())
    );
    if let Some(detail) = report["health"]["detail"].as_str() {
        println!("opens, and is healthy: {detail}");
    }
    for warning in report["health"]["warnings"]
        .as_array()
        .into_iter()
        .flatten()
    {
        println!("warning: {}", warning.as_str().unwrap_or_default());
    }
}
