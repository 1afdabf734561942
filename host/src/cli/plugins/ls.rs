//! `warren plugins ls`

use serde_json::{Value, json};

use super::{capabilities, store_json};
use crate::{
    cli::{
        arguments::GlobalArguments,
        error::{CliError, Exit},
        output::Output,
        session::Session,
    },
    store::{
        StoreRegistry,
        plugins::{FileReport, FileState, load_folders},
    },
};

pub(super) fn run(global: &GlobalArguments, output: &Output) -> Result<Exit, CliError> {
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
            "contract": refused
                .described
                .as_ref()
                .map(|file| format!("{}.{}", file.contract.0, file.contract.1)),
            "reason": refused.error.to_string(),
        }),
    }
}
