//! `warren results migrate`: copies every record from one store to another, and makes sure.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use warren_plugin_api::{
    Cursor, ErrorClass, Filter, Record, StoreError, Text, Timestamp, Write, WriteMode, WriteOutcome,
};

use super::{
    super::{
        arguments::MigrateCommand,
        error::{CliError, Exit},
        output::Output,
        session::Session,
    },
    pages::Pages,
    patience::patiently,
};
use crate::store::Store;

/// How far a migration has come: what the state file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Progress {
    from: String,
    to: String,
    cursor: Option<Cursor>,
    /// Written to the target.
    copied: u64,
    /// The target had a later record, or the same one; not compared.
    already_there: u64,
    /// Changed in the source while it was copied: its writer has to reach the target too.
    changed_meanwhile: u64,
    /// The target does not take them.
    refused: u64,
    bytes: u64,
}

pub(super) async fn run(
    session: &Session,
    command: &MigrateCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    let (from, to) = (
        session.of_file(&command.from)?,
        session.of_file(&command.to)?,
    );
    refuse_one_store(&from, &to)?;
    let (from, to) = (from.store().await?, to.store().await?);
    let state = StateFile::new(command);
    let mut progress = if command.dry_run {
        Progress::default()
    } else {
        state.read()?
    };
    let total = from.stats().await.ok().and_then(|stats| stats.records);
    let bar = match total {
        Some(total) => output.progress_bar(total, "results"),
        None => output.progress_count("results"),
    };
    let mut pages = Pages::new(&from, Filter::default(), progress.cursor.clone());
    while let Some(records) = pages.next().await? {
        bar.inc(records.len() as u64);
        if command.dry_run {
            progress.copied += records.len() as u64;
            progress.bytes += records.iter().map(|it| it.size_bytes() as u64).sum::<u64>();
            continue;
        }
        copy(&from, &to, records, &mut progress, output).await?;
        progress.cursor = pages.cursor().cloned();
        if progress.cursor.is_some() {
            state.write(&progress)?;
        }
    }
    bar.finish_and_clear();
    if !command.dry_run {
        state.remove();
    }
    print(&progress, command.dry_run, output);
    Ok(if progress.refused > 0 {
        Exit::StoreUnusable
    } else if progress.changed_meanwhile > 0 {
        Exit::Failure
    } else {
        Exit::Ok
    })
}

/// A store that is copied to itself would be called complete.
fn refuse_one_store(from: &Session, to: &Session) -> Result<(), CliError> {
    let (from, to) = (
        &from.loaded.config.result_store,
        &to.loaded.config.result_store,
    );
    if (&from.store_type, &from.config) == (&to.store_type, &to.config) {
        let text = "--from and --to name the same store";
        return Err(CliError::new(Exit::Usage, text)
            .with_hint("result_store is read from the two files alone, not from the environment"));
    }
    Ok(())
}

/// Writes records to the target, reads them back and compares.
async fn copy(
    from: &Store,
    to: &Store,
    records: Vec<Record>,
    progress: &mut Progress,
    output: &Output,
) -> Result<(), CliError> {
    if records.is_empty() {
        return Ok(());
    }
    let digests: Vec<_> = records.iter().map(digest).collect();
    let ids: Vec<Text> = records.iter().map(|it| it.job_id.clone()).collect();
    progress.bytes += records.iter().map(|it| it.size_bytes() as u64).sum::<u64>();
    let writes: Vec<Write> = records
        .into_iter()
        .map(|record| Write {
            record,
            mode: WriteMode::IfNewer,
        })
        .collect();
    let outcomes = patiently(|| to.put_many(writes.clone())).await?;
    let stored = patiently(|| to.get_many(ids.clone())).await?;
    for (((job_id, digest), outcome), stored) in ids.iter().zip(digests).zip(outcomes).zip(stored) {
        match outcome {
            Ok(WriteOutcome::Written) => {}
            // Somebody else wrote it, or an earlier run of this migration.
            Ok(WriteOutcome::Stale) => {
                progress.already_there += 1;
                continue;
            }
            Err(error) => {
                let text = format!("{job_id}: the target store did not take it: {error}");
                let shown = CliError::new(Exit::StoreUnusable, text);
                if is_about_the_store(&error) {
                    return Err(shown);
                }
                output.error(&shown);
                progress.refused += 1;
                continue;
            }
        }
        let arrived = stored?.as_ref().map(self::digest);
        if arrived == Some(digest) {
            progress.copied += 1;
            continue;
        }
        let now = patiently(|| from.get(job_id.clone())).await?;
        if now.as_ref().map(self::digest) == Some(digest) {
            let text = format!("{job_id}: the target store does not return what was written");
            return Err(CliError::new(Exit::StoreUnusable, text));
        }
        progress.changed_meanwhile += 1;
    }
    Ok(())
}

/// Not about one record: the next one would fare no better.
fn is_about_the_store(error: &StoreError) -> bool {
    matches!(
        error.class(),
        ErrorClass::Unavailable | ErrorClass::InvalidConfig
    )
}

/// Of everything in the record.
fn digest(record: &Record) -> [u8; 32] {
    // A record without maps of other keys than text is always JSON.
    let json = serde_json::to_vec(record).unwrap_or_default();
    Sha256::digest(json).into()
}

fn print(progress: &Progress, dry_run: bool, output: &Output) {
    if output.json {
        output.print_json(&json!({
            "copied": progress.copied,
            "already_there": progress.already_there,
            "changed_meanwhile": progress.changed_meanwhile,
            "refused": progress.refused,
            "bytes": progress.bytes,
            "dry_run": dry_run,
        }));
        return;
    }
    let Progress {
        copied,
        already_there,
        changed_meanwhile,
        refused,
        bytes,
        ..
    } = progress;
    if dry_run {
        println!("{copied} results of {bytes} bytes would be copied");
        return;
    }
    println!(
        "{copied} results copied and compared, {already_there} were there already and not compared"
    );
    if *changed_meanwhile > 0 {
        println!("{changed_meanwhile} changed while they were copied: run it again");
    }
    if *refused > 0 {
        println!("{refused} were refused by the target store");
    }
}

/// Where a migration that was interrupted goes on.
struct StateFile<'a> {
    path: &'a Path,
    from: String,
    to: String,
}

impl<'a> StateFile<'a> {
    fn new(command: &'a MigrateCommand) -> Self {
        Self {
            path: &command.state,
            from: command.from.display().to_string(),
            to: command.to.display().to_string(),
        }
    }

    fn failed(&self, error: impl std::fmt::Display) -> CliError {
        CliError::new(Exit::Usage, format!("{}: {error}", self.path.display()))
    }

    fn read(&self) -> Result<Progress, CliError> {
        let fresh = Progress {
            from: self.from.clone(),
            to: self.to.clone(),
            ..Progress::default()
        };
        let json = match fs::read(self.path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh),
            Err(error) => return Err(self.failed(error)),
        };
        let progress: Progress =
            serde_json::from_slice(&json).map_err(|error| self.failed(error))?;
        if (&progress.from, &progress.to) != (&self.from, &self.to) {
            let text = format!(
                "is of a migration from {} to {}: delete it, or name another with --state",
                progress.from, progress.to
            );
            return Err(self.failed(text));
        }
        eprintln!(
            "going on after {} results, at {}",
            progress.copied + progress.already_there,
            Timestamp::now()
        );
        Ok(progress)
    }

    /// A new file takes the old one's name: an interrupted write leaves the old one.
    fn write(&self, progress: &Progress) -> Result<(), CliError> {
        let json = serde_json::to_vec(progress).map_err(|error| self.failed(error))?;
        let new = self.path.with_extension("new");
        fs::write(&new, json)
            .and_then(|()| fs::rename(&new, self.path))
            .map_err(|error| self.failed(error))
    }

    fn remove(&self) {
        // It need not be there.
        let _ = fs::remove_file(self.path);
    }
}
