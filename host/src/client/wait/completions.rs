//! Every job that ends, as a stream.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use futures_util::{StreamExt, stream::BoxStream};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use warren_plugin_api::{Record, Text};

use super::{
    ASK_AGAIN, Shared, attendant,
    table::{StreamPlace, Word},
};

/// The most records of one read.
const BATCH: usize = 64;

/// What a stream of completions says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum CompletionEvent {
    /// A job has ended: its record.
    Ended(Box<Record>),
    /// From here on endings come; some from before this may have been missed. At the start of the
    /// stream, after a lost connection, and when it was read too slowly.
    MayHaveMissed,
}

struct Completions {
    shared: Arc<Shared>,
    place: StreamPlace,
    /// To be read.
    jobs: VecDeque<Text>,
    /// To be handed out.
    events: VecDeque<CompletionEvent>,
}

pub(super) fn stream(shared: &Arc<Shared>) -> BoxStream<'static, CompletionEvent> {
    let completions = Completions {
        place: shared.table.join_stream(),
        shared: Arc::clone(shared),
        jobs: VecDeque::new(),
        events: VecDeque::new(),
    };
    attendant::attend(shared);
    futures_util::stream::unfold(completions, |mut completions| async move {
        let event = completions.next().await;
        Some((event, completions))
    })
    .boxed()
}

impl Completions {
    async fn next(&mut self) -> CompletionEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            if self.jobs.is_empty() {
                let heard = self.place.words.recv().await;
                self.take(heard.map_err(|error| matches!(error, RecvError::Lagged(_))));
            }
            while self.jobs.len() < BATCH && self.events.is_empty() {
                match self.place.words.try_recv() {
                    Ok(word) => self.take(Ok(word)),
                    Err(TryRecvError::Lagged(_)) => self.take(Err(true)),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            self.read().await;
        }
    }

    /// Takes a word, or that some were missed.
    fn take(&mut self, heard: Result<Word, bool>) {
        match heard {
            Ok(Word::Jobs(jobs)) => self.jobs.extend(jobs.iter().cloned()),
            Ok(Word::Up) | Err(true) => self.events.push_back(CompletionEvent::MayHaveMissed),
            // The table has the sender, and this has the table.
            Err(false) => {}
        }
    }

    /// Reads some of the jobs. What the store does not answer for now is read later.
    async fn read(&mut self) {
        let mut seen = HashSet::new();
        let ids: Vec<Text> = self
            .jobs
            .iter()
            .take(BATCH)
            .filter(|job_id| seen.insert((*job_id).clone()))
            .cloned()
            .collect();
        if ids.is_empty() {
            return;
        }
        match self.shared.store.get_many(ids).await {
            Ok(records) => {
                // Only now, so that a call that is dropped loses none.
                self.jobs.drain(..BATCH.min(self.jobs.len()));
                let ended = records
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter(|record| record.status.is_terminal())
                    .map(|record| CompletionEvent::Ended(Box::new(record)));
                self.events.extend(ended);
            }
            Err(error) => {
                tracing::debug!(%error, "cannot read jobs that have ended");
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}
