//! `warren results import`: records from lines of JSON.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use serde_json::json;
use warren_plugin_api::{Record, Status, Text, Timestamp, Write, WriteMode, WriteOutcome};

use super::{
    super::{
        arguments::ImportWhen,
        error::{CliError, Exit},
        output::Output,
    },
    patience::patiently,
};
use crate::{announcer::Announcer, job::JobId, store::Store};

/// Records that one call of the store takes, unless their bytes come first.
const RECORDS: usize = 500;
const BYTES: usize = 8 * 1024 * 1024;

/// What became of the lines.
#[derive(Default)]
struct Counts {
    written: u64,
    /// The store has a later record, or any, as the mode says.
    stale: u64,
    expired: u64,
    failed: u64,
}

pub(super) async fn run(
    store: &Store,
    announcer: &Announcer,
    file: &Path,
    when: ImportWhen,
    output: &Output,
) -> Result<Exit, CliError> {
    let name = file.display();
    let cannot_read = |error: io::Error| CliError::new(Exit::Usage, format!("{name}: {error}"));
    let reader: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(file).map_err(cannot_read)?))
    };
    let bar = output.progress_count("results imported");
    let mut counts = Counts::default();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (number, line) in reader.lines().enumerate() {
        let line = line.map_err(cannot_read)?;
        if line.trim().is_empty() {
            continue;
        }
        let record = match read(&line) {
            Ok(record) => record,
            Err(reason) => {
                // What came before it stays imported: importing the whole file again is harmless.
                write(store, announcer, batch, &mut counts, output).await?;
                let text = format!("{name}:{}: not a record: {reason}", number + 1);
                return Err(CliError::new(Exit::Usage, text));
            }
        };
        if record.is_expired(Timestamp::now()) {
            counts.expired += 1;
            continue;
        }
        bytes += line.len();
        batch.push(Write {
            record,
            mode: when.into(),
        });
        if batch.len() == RECORDS || bytes >= BYTES {
            bar.inc(batch.len() as u64);
            let batch = std::mem::take(&mut batch);
            write(store, announcer, batch, &mut counts, output).await?;
            bytes = 0;
        }
    }
    write(store, announcer, batch, &mut counts, output).await?;
    bar.finish_and_clear();
    Ok(print(&counts, output))
}

fn read(line: &str) -> Result<Record, String> {
    let record: Record = serde_json::from_str(line).map_err(|error| error.to_string())?;
    JobId::new(record.job_id.as_str()).map_err(|error| error.to_string())?;
    Ok(record)
}

async fn write(
    store: &Store,
    announcer: &Announcer,
    batch: Vec<Write>,
    counts: &mut Counts,
    output: &Output,
) -> Result<(), CliError> {
    if batch.is_empty() {
        return Ok(());
    }
    let jobs: Vec<(Text, Status)> = batch
        .iter()
        .map(|write| (write.record.job_id.clone(), write.record.status))
        .collect();
    let answers = patiently(|| store.put_many(batch.clone())).await?;
    let mut ended = Vec::new();
    for ((job_id, status), answer) in jobs.into_iter().zip(answers) {
        match answer {
            Ok(WriteOutcome::Written) => {
                counts.written += 1;
                if status.is_terminal() {
                    ended.push(job_id);
                }
            }
            Ok(WriteOutcome::Stale) => counts.stale += 1,
            Err(error) => {
                counts.failed += 1;
                let text = format!("{job_id}: {error}");
                output.error(&CliError::new(Exit::StoreUnusable, text));
            }
        }
    }
    announcer.ended(ended);
    Ok(())
}

fn print(counts: &Counts, output: &Output) -> Exit {
    let Counts {
        written,
        stale,
        expired,
        failed,
    } = counts;
    if output.json {
        output.print_json(&json!({
            "written": written, "stale": stale, "expired": expired, "failed": failed,
        }));
    } else {
        println!(
            "{written} results imported, {stale} already there, {expired} expired, {failed} failed"
        );
    }
    if *failed == 0 {
        Exit::Ok
    } else {
        Exit::StoreUnusable
    }
}

impl From<ImportWhen> for WriteMode {
    fn from(when: ImportWhen) -> Self {
        match when {
            ImportWhen::Newer => Self::IfNewer,
            ImportWhen::Absent => Self::IfAbsent,
            ImportWhen::Always => Self::Always,
        }
    }
}
