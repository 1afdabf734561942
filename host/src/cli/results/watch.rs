//! `warren results watch`: results as jobs end.

use std::time::Duration;

use futures_util::StreamExt;
use warren_plugin_api::{Record, Timestamp};

use super::{
    super::{
        arguments::FilterArguments,
        error::{CliError, Exit},
        output::{Output, record_json, record_row},
        session::Session,
    },
    close,
};
use crate::client::{ClientOptions, CompletionEvent, Waiters};

pub(super) async fn run(
    session: &Session,
    filter: &FilterArguments,
    limit: Option<u64>,
    output: &Output,
) -> Result<Exit, CliError> {
    let store = session.store().await?;
    // Where the store announces what ends, this can do without.
    let broker = match session.broker().await {
        Ok(broker) => Some(broker),
        Err(_) if store.capabilities().push => None,
        Err(error) => return Err(error),
    };
    let waiters = Waiters::new(store, broker.clone(), ClientOptions::default().safety_read);
    let mut completions = waiters.completions();
    let (mut shown, mut is_watching) = (0, false);
    while limit.is_none_or(|limit| shown < limit) {
        match completions.next().await {
            Some(CompletionEvent::Ended(record)) if matches(filter, &record) => {
                shown += 1;
                if output.json {
                    output.print_json(&record_json(&record));
                } else {
                    output.print_row(&record_row(&record));
                }
            }
            Some(CompletionEvent::Ended(_)) => {}
            Some(CompletionEvent::MayHaveMissed) if is_watching => {
                eprintln!("some results may be missing here: see `warren results ls`");
            }
            Some(CompletionEvent::MayHaveMissed) => {
                is_watching = true;
                eprintln!("watching for jobs that end");
            }
            None => break,
        }
    }
    close(broker).await;
    Ok(Exit::Ok)
}

fn matches(filter: &FilterArguments, record: &Record) -> bool {
    let age = |limit: Duration| {
        let enqueued_at = record.enqueued_at?;
        Some(Timestamp::now().saturating_duration_since(enqueued_at) <= limit)
    };
    let is_wanted =
        |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    (filter.statuses.is_empty() || filter.statuses.contains(&record.status))
        && is_wanted(&filter.queue, &record.queue)
        && is_wanted(&filter.function, &record.function)
        && filter.since.is_none_or(|since| age(since) == Some(true))
        && filter.until.is_none_or(|until| age(until) == Some(false))
}
