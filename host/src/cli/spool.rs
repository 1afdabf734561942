//! `warren spool status|inspect|drain`

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

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
        SpoolCommand::Status => {
            status(&DiskSpool::survey(&folder)?, &folder, output);
            warn_of_others(&folder);
        }
        SpoolCommand::Inspect { limit } => inspect(&DiskSpool::survey(&folder)?, limit, output)?,
        SpoolCommand::Drain { from } => {
            let drained = drain(session, from.as_deref().unwrap_or(&folder), output).await;
            warn_of_others(&folder);
            return drained;
        }
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

/// What a dead worker left for another configuration of a store, if only a time-out was changed,
/// is nobody's: no worker comes back for it.
pub(super) fn warn_of_others(folder: &Path) {
    let Some(entries) = folder.parent().and_then(|base| base.read_dir().ok()) else {
        return;
    };
    for other in entries.flatten().map(|entry| entry.path()) {
        if other == folder {
            continue;
        }
        let spools = match DiskSpool::survey(&other) {
            Ok(spools) => spools,
            Err(error) => {
                tracing::warn!(%error, "cannot see what waits for another store");
                continue;
            }
        };
        let records: usize = spools
            .iter()
            .filter(|spool| !spool.in_use)
            .map(|spool| spool.records)
            .sum();
        if records > 0 {
            tracing::warn!(
                folder = %other.display(), records,
                "results wait here for a store with another result_store.config; if it is the \
                 same store, `warren spool drain --from FOLDER` brings them to it"
            );
        }
    }
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

fn status(spools: &[Survey], folder: &Path, output: &Output) {
    if output.json {
        for spool in spools {
            output.print_json(&json!({
                "folder": spool.folder,
                "in_use": spool.in_use,
                "records": spool.records,
                "bytes": spool.bytes,
            }));
        }
        return;
    }
    let rows = spools
        .iter()
        .map(|spool| {
            vec![
                spool.records.to_string(),
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

fn inspect(spools: &[Survey], limit: usize, output: &Output) -> Result<(), CliError> {
    let (mut left, mut rows) = (limit, Vec::new());
    for spool in spools {
        if left == 0 {
            break;
        }
        spool.for_each(|Write { record, .. }| {
            if output.json {
                output.print_json(&record_json(&record));
            } else {
                rows.push(record_row(&record));
            }
            left -= 1;
            if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
    }
    if !output.json {
        output.print_table(&RECORD_COLUMNS, rows);
    }
    Ok(())
}

async fn drain(session: &Session, folder: &Path, output: &Output) -> Result<Exit, CliError> {
    let (store, broker) = tokio::join!(session.store(), session.broker_if_there());
    let store = store?;
    if !folder.exists() {
        tracing::warn!(folder = %folder.display(), "there is no spool");
    }
    let spools = DiskSpool::open_abandoned(folder)?;
    let waiting: usize = spools.iter().map(Spool::len).sum();
    let bar = output.progress_bar(waiting as u64, "results brought to the store");
    let (mut taken, mut refused) = (0, 0);
    for spool in spools {
        let progress = |count| bar.inc(count);
        let brought = bring_to_store(&store, broker.as_ref(), &spool, progress).await?;
        taken += brought.taken;
        refused += brought.refused;
    }
    bar.finish_and_clear();
    if let Some(broker) = broker {
        broker.close().await;
    }
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
