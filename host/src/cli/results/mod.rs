//! `warren results ls|watch|stats|purge|export|import|migrate`

mod export;
mod import;
mod migrate;
mod pages;
mod patience;
mod watch;

use std::io::{IsTerminal, Write, stdin, stdout};

use serde_json::json;
use warren_plugin_api::{Cursor, Filter, Text, Timestamp};

use super::{
    arguments::{FilterArguments, ResultsCommand},
    error::{CliError, Exit},
    output::{Output, RECORD_COLUMNS, record_json, record_row},
    session::Session,
};
use crate::{announcer::Announcer, broker::Broker, store::Store};
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
        ResultsCommand::Watch { filter, limit } => {
            watch::run(session, &filter, limit, output).await
        }
        ResultsCommand::Stats => stats(&store().await?, output).await,
        ResultsCommand::Purge {
            filter,
            dry_run,
            yes,
        } => {
            let purge = Purge { dry_run, yes };
            purge.run(session, filter.into(), output).await
        }
        ResultsCommand::Export { filter, out } => {
            export::run(&store().await?, filter.into(), out.as_deref(), output).await
        }
        ResultsCommand::Import { file, when } => {
            let (store, broker) = tokio::join!(store(), session.broker_if_there());
            let (store, announcer) = (store?, broker.clone());
            let announcer = Announcer::new(store.clone(), announcer);
            let exit = import::run(&store, &announcer, &file, when, output).await;
            close(broker).await;
            exit
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
    let records = stats.records.map(|count| count.to_string());
    let records = records.unwrap_or_else(|| "not counted".to_owned());
    add("records".to_owned(), records);
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

struct Purge {
    dry_run: bool,
    yes: bool,
}

impl Purge {
    async fn run(
        self,
        session: &Session,
        filter: Filter,
        output: &Output,
    ) -> Result<Exit, CliError> {
        let Self { dry_run, yes } = self;
        if !dry_run && !yes {
            confirm("Delete all matching results?")?;
        }
        let store = session.store().await?;
        let broker = if dry_run {
            None
        } else {
            session.broker_if_there().await
        };
        let announcer = Announcer::new(store.clone(), broker.clone());
        let filter = Filter {
            without_payloads: true,
            ..filter
        };
        let bar = output.progress_count("results found");
        let mut pages = Pages::new(&store, filter, None);
        let (mut found, mut deleted) = (0_u64, 0_u64);
        while let Some(records) = pages.next().await? {
            found += records.len() as u64;
            bar.set_position(found);
            if dry_run {
                continue;
            }
            let ids: Vec<Text> = records.into_iter().map(|record| record.job_id).collect();
            let answers = store.delete_many(ids.clone()).await?;
            announcer.deleted(ids);
            for answer in answers {
                deleted += u64::from(answer?);
            }
        }
        bar.finish_and_clear();
        close(broker).await;
        if output.json {
            output.print_json(&json!({ "found": found, "deleted": deleted, "dry_run": dry_run }));
        } else if dry_run {
            println!("{found} results would be deleted");
        } else {
            println!("{deleted} results deleted");
        }
        Ok(Exit::Ok)
    }
}

/// What was announced is on its way then.
async fn close(broker: Option<Broker>) {
    if let Some(broker) = broker {
        broker.close().await;
    }
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
