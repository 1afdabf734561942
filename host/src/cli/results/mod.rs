//! `warren results ls|stats|purge|export|import|migrate`

mod export;
mod import;
mod migrate;
mod pages;

use std::io::{IsTerminal, Write, stdin, stdout};

use serde_json::json;
use warren_plugin_api::{Cursor, Filter, Text, Timestamp};

use super::{
    arguments::{FilterArguments, ResultsCommand},
    error::{CliError, Exit},
    output::{Output, RECORD_COLUMNS, record_json, record_row},
    session::Session,
};
use crate::store::Store;
use pages::Pages;

/// Records that one look at the store takes.
const PAGE: u32 = 1_000;

pub(super) async fn run(
    session: &Session,
    command: ResultsCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    let store = async || session.store().await;
    match command {
        ResultsCommand::Ls {
            filter,
            limit,
            cursor,
        } => {
            list(
                &store().await?,
                filter.into(),
                limit,
                cursor.map(Cursor),
                output,
            )
            .await
        }
        ResultsCommand::Stats => stats(&store().await?, output).await,
        ResultsCommand::Purge {
            filter,
            dry_run,
            yes,
        } => purge(&store().await?, filter.into(), dry_run, yes, output).await,
        ResultsCommand::Export { filter, out } => {
            export::run(&store().await?, filter.into(), out.as_deref(), output).await
        }
        ResultsCommand::Import { file, when } => {
            import::run(&store().await?, &file, when, output).await
        }
        ResultsCommand::Migrate(command) => migrate::run(session, &command, output).await,
    }
}

impl From<FilterArguments> for Filter {
    fn from(arguments: FilterArguments) -> Self {
        let now = Timestamp::now().unix_us();
        let ago = |duration: std::time::Duration| {
            let us = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_unix_us(now.saturating_sub(us))
        };
        Self {
            statuses: arguments.statuses,
            queue: arguments.queue.map(Text::from),
            function: arguments.function.map(Text::from),
            enqueued_from: arguments.since.map(ago),
            enqueued_before: arguments.until.map(ago),
            without_payloads: false,
        }
    }
}

async fn list(
    store: &Store,
    filter: Filter,
    limit: usize,
    mut cursor: Option<Cursor>,
    output: &Output,
) -> Result<Exit, CliError> {
    let mut rows = Vec::new();
    let mut left = limit;
    loop {
        let asked = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        if asked == 0 {
            break;
        }
        let page = store.scan(filter.clone(), cursor.take(), asked).await?;
        left = left.saturating_sub(page.records.len());
        for record in &page.records {
            if output.json {
                output.print_json(&record_json(record));
            } else {
                rows.push(record_row(record));
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if !output.json {
        output.print_table(&RECORD_COLUMNS, rows);
    }
    if let Some(Cursor(next)) = cursor {
        eprintln!("more with --cursor {next:?}");
    }
    Ok(Exit::Ok)
}

async fn stats(store: &Store, output: &Output) -> Result<Exit, CliError> {
    let stats = store.stats().await?;
    if output.json {
        output.print_json(&stats);
        return Ok(Exit::Ok);
    }
    let mut rows = Vec::new();
    let mut add = |name: String, value: String| rows.push(vec![name, value]);
    if let Some(records) = stats.records {
        add("records".to_owned(), records.to_string());
    }
    for (status, count) in &stats.by_status {
        add(format!("  {status}"), count.to_string());
    }
    if let Some(bytes) = stats.bytes {
        add("bytes".to_owned(), bytes.to_string());
    }
    for (name, value) in &stats.details {
        add(name.clone(), value.to_string());
    }
    output.print_table(&["WHAT", "HOW MANY"], rows);
    Ok(Exit::Ok)
}

async fn purge(
    store: &Store,
    filter: Filter,
    dry_run: bool,
    yes: bool,
    output: &Output,
) -> Result<Exit, CliError> {
    if !dry_run && !yes {
        confirm("Delete all matching results?")?;
    }
    let filter = Filter {
        without_payloads: true,
        ..filter
    };
    let bar = output.progress_count("results found");
    let mut pages = Pages::new(store, filter, None);
    let (mut found, mut deleted) = (0_u64, 0_u64);
    while let Some(records) = pages.next().await? {
        found += records.len() as u64;
        bar.set_position(found);
        if dry_run {
            continue;
        }
        let ids = records.into_iter().map(|record| record.job_id).collect();
        for answer in store.delete_many(ids).await? {
            deleted += u64::from(answer?);
        }
    }
    bar.finish_and_clear();
    if output.json {
        output.print_json(&json!({ "found": found, "deleted": deleted, "dry_run": dry_run }));
    } else if dry_run {
        println!("{found} results would be deleted");
    } else {
        println!("{deleted} results deleted");
    }
    Ok(Exit::Ok)
}

/// Asks a person; a program must have said `--yes`.
pub(super) fn confirm(question: &str) -> Result<(), CliError> {
    let refused = |text: &str| CliError::new(Exit::Usage, text).with_hint("--yes does not ask");
    if !stdin().is_terminal() {
        return Err(refused("nobody is there to be asked"));
    }
    print!("{question} [y/N] ");
    let _ = stdout().flush();
    let mut answer = String::new();
    let read = stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(refused("not confirmed"))
    }
}
