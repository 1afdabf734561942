//! `warren spool status|inspect|drain`

use std::path::PathBuf;

use directories::ProjectDirs;
use serde_json::json;
use warren_plugin_api::Write;

use super::{
    arguments::SpoolCommand,
    error::{CliError, Exit},
    output::{Output, RECORD_COLUMNS, record_json, record_row},
    session::Session,
};
use crate::{
    config::{Config, redacted},
    worker::{DiskSpool, Spool, Survey, bring_to_store},
};

pub(super) async fn run(
    session: &Session,
    command: SpoolCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    let folder = folder(&session.loaded.config)?;
    match command {
        SpoolCommand::Status => status(&DiskSpool::survey(&folder)?, &folder, output),
        SpoolCommand::Inspect { limit } => inspect(DiskSpool::survey(&folder)?, limit, output),
        SpoolCommand::Drain => return drain(session, &folder, output).await,
    }
    Ok(Exit::Ok)
}

/// The folder of the workers whose results go to the configured store: what waits for one store
/// must not be brought to another.
pub(super) fn folder(config: &Config) -> Result<PathBuf, CliError> {
    let base = match &config.worker.spool.dir {
        Some(dir) => dir.clone(),
        None => state_folder().ok_or_else(|| {
            CliError::new(Exit::Usage, "no home folder to keep the spool in")
                .with_hint("set worker.spool.dir, or worker.spool.durable = false")
        })?,
    };
    let store = &config.result_store;
    let name: String = store
        .store_type
        .as_deref()
        .unwrap_or_default()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '_'
            }
        })
        .collect();
    // Without secrets: a new password does not make another store.
    let shown = redacted(&toml::Value::Table(store.config.clone())).to_string();
    Ok(base.join(format!("{name}-{:08x}", crc32fast::hash(shown.as_bytes()))))
}

fn state_folder() -> Option<PathBuf> {
    // What systemd's StateDirectory= gives a service.
    if let Some(folder) = std::env::var_os("STATE_DIRECTORY").filter(|it| !it.is_empty()) {
        return Some(PathBuf::from(folder).join("spool"));
    }
    let folders = ProjectDirs::from("", "", "warren")?;
    let state = folders.state_dir().unwrap_or_else(|| folders.data_dir());
    Some(state.join("spool"))
}

fn status(spools: &[Survey], folder: &std::path::Path, output: &Output) {
    if output.json {
        for spool in spools {
            output.print_json(&json!({
                "folder": spool.folder,
                "in_use": spool.in_use,
                "records": spool.writes.len(),
                "bytes": spool.bytes,
            }));
        }
        return;
    }
    let rows = spools
        .iter()
        .map(|spool| {
            vec![
                spool.writes.len().to_string(),
                spool.bytes.to_string(),
                if spool.in_use { "a worker" } else { "nobody" }.to_owned(),
                spool.folder.display().to_string(),
            ]
        })
        .collect::<Vec<_>>();
    if rows.is_empty() {
        eprintln!("no spool in {}", folder.display());
    }
    output.print_table(&["RECORDS", "BYTES", "USED BY", "FOLDER"], rows);
}

fn inspect(spools: Vec<Survey>, limit: usize, output: &Output) {
    let records = spools
        .into_iter()
        .flat_map(|spool| spool.writes)
        .map(|Write { record, .. }| record)
        .take(limit);
    if output.json {
        records.for_each(|record| output.print_json(&record_json(&record)));
    } else {
        let rows = records.map(|record| record_row(&record)).collect();
        output.print_table(&RECORD_COLUMNS, rows);
    }
}

async fn drain(
    session: &Session,
    folder: &std::path::Path,
    output: &Output,
) -> Result<Exit, CliError> {
    let store = session.store().await?;
    let spools = DiskSpool::open_abandoned(folder)?;
    let waiting: usize = spools.iter().map(Spool::len).sum();
    let bar = output.progress_bar(waiting as u64, "results brought to the store");
    let (mut taken, mut refused) = (0, 0);
    for spool in spools {
        let brought = bring_to_store(&store, &spool, |count| bar.inc(count)).await?;
        taken += brought.taken;
        refused += brought.refused;
    }
    bar.finish_and_clear();
    if output.json {
        output.print_json(&json!({ "taken": taken, "refused": refused }));
    } else {
        println!("{taken} results brought to the store");
        if refused > 0 {
            println!("{refused} were refused for good");
        }
    }
    Ok(if refused == 0 {
        Exit::Ok
    } else {
        Exit::StoreUnusable
    })
}
