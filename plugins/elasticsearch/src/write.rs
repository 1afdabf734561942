//! Writing and deleting: what is stored is read and judged, and then replaced only if it is still
//! that. Where somebody was faster, it is judged again.

use std::{collections::HashMap, time::Duration};

use warren_plugin_api::{
    BatchResult, ErrorClass, Record, Status, StoreError, StoreResult, Text, Timestamp, Write,
    WriteMode, WriteOutcome,
};

use crate::{
    bulk::{self, Action, Outcome},
    config::ElasticsearchConfig,
    document,
    error::Failure,
    index::Index,
    job_key::document_id,
    read::{DocumentVersion, Reader, Stored},
};

/// What one request writes.
const MOST_RECORDS: usize = 500;
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// What a document has besides its record's bytes in base64.
const OVERHEAD_BYTES: usize = 1_024;
/// How often a write is judged: with so many others on one job one wins each time.
const MOST_JUDGEMENTS: u32 = 64;
/// The longest pause after a conflict.
const MOST_PAUSE: Duration = Duration::from_millis(50);

/// Writes through one alias.
pub(crate) struct Writer<'a> {
    pub(crate) index: &'a Index,
    pub(crate) config: &'a ElasticsearchConfig,
}

/// What an item does to its document when the rules allow it.
enum Change<'a> {
    Write(&'a Write, Vec<u8>),
    Delete,
}

/// What is known of an item's document.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    Absent,
    At(DocumentVersion),
}

/// One item of a batch that is not settled.
struct Item<'a, T> {
    place: usize,
    id: String,
    change: Change<'a>,
    known: Known,
    /// What is answered when the change is made.
    outcome: T,
    bytes: usize,
}

/// A document as it is now, and what is to become of an item.
enum Verdict<T> {
    /// Make the change, and answer this.
    Change(T),
    /// Nothing is to be done.
    Settled(StoreResult<T>),
}

impl Writer<'_> {
    pub(crate) async fn put_many(&self, writes: &[Write]) -> BatchResult<WriteOutcome> {
        let mut outcomes = vec![Ok(WriteOutcome::Stale); writes.len()];
        let mut items = Vec::with_capacity(writes.len());
        for (place, write) in writes.iter().enumerate() {
            match self.item(place, write) {
                Ok(item) => items.push(item),
                Err(error) => settle(&mut outcomes, place, Err(error)),
            }
        }
        self.run(items, &mut outcomes, judge_write).await;
        Ok(outcomes)
    }

    pub(crate) async fn delete_many(&self, job_ids: &[Text]) -> BatchResult<bool> {
        let mut deleted = vec![Ok(false); job_ids.len()];
        let items = job_ids
            .iter()
            .enumerate()
            .map(|(place, job_id)| Item {
                place,
                id: document_id(job_id),
                change: Change::Delete,
                known: Known::Nothing,
                outcome: false,
                bytes: OVERHEAD_BYTES,
            })
            .collect();
        self.run(items, &mut deleted, judge_delete).await;
        Ok(deleted)
    }

    fn item<'a>(&self, place: usize, write: &'a Write) -> StoreResult<Item<'a, WriteOutcome>> {
        let (size, most) = (write.record.size_bytes(), self.config.max_record_bytes);
        if u64::try_from(size).unwrap_or(u64::MAX) > most.get() {
            return Err(StoreError::too_large(format!(
                "the record has {size} bytes, expected at most {most} (max_record_bytes)"
            )));
        }
        let id = document_id(&write.record.job_id);
        let document = document::encode(&write.record, &id, self.config.index_payloads)?;
        // A job begins with such a write: more often than not nothing is there.
        let is_first = write.mode == WriteMode::IfAbsent
            || (write.mode == WriteMode::IfNewer && write.record.status == Status::Queued);
        Ok(Item {
            place,
            id,
            bytes: document.len() + OVERHEAD_BYTES,
            change: Change::Write(write, document),
            known: if is_first {
                Known::Absent
            } else {
                Known::Nothing
            },
            outcome: WriteOutcome::Written,
        })
    }

    /// Items of one job one after another, others together.
    async fn run<T: Clone>(
        &self,
        items: Vec<Item<'_, T>>,
        answers: &mut [StoreResult<T>],
        judge: fn(&Item<'_, T>, Option<&Record>) -> Verdict<T>,
    ) {
        let mut broken: Option<StoreError> = None;
        for round in rounds(items) {
            for mut part in parts(round) {
                if let Some(error) = &broken {
                    fail(&part, error, answers);
                    continue;
                }
                if let Err(failure) = self.settle_all(&mut part, answers, judge).await {
                    let error = self.index.store_error(&failure);
                    fail(&part, &error, answers);
                    // A cluster that is away is not asked again for each part.
                    broken = matches!(
                        error.class(),
                        ErrorClass::Unavailable | ErrorClass::InvalidConfig
                    )
                    .then_some(error);
                }
            }
        }
    }

    /// Judges and changes until every item is settled; what is not is left in `items`.
    async fn settle_all<T: Clone>(
        &self,
        items: &mut Vec<Item<'_, T>>,
        answers: &mut [StoreResult<T>],
        judge: fn(&Item<'_, T>, Option<&Record>) -> Verdict<T>,
    ) -> Result<(), Failure> {
        let mut at_once = items.len().max(1);
        for judgement in 0..MOST_JUDGEMENTS {
            pause(judgement).await;
            self.look(items, answers, judge).await?;
            let mut left = Vec::new();
            let mut ahead = std::mem::take(items).into_iter().peekable();
            while ahead.peek().is_some() {
                let mut chunk: Vec<Item<'_, T>> = ahead.by_ref().take(at_once).collect();
                match self.change(&mut chunk, answers).await {
                    Ok(()) => left.append(&mut chunk),
                    // The request, not the record: fewer at once may be taken.
                    Err(failure) if failure.status() == Some(413) && chunk.len() > 1 => {
                        at_once = chunk.len() / 2;
                        left.append(&mut chunk);
                    }
                    Err(failure) if failure.status() == Some(413) => {
                        fail(&chunk, &self.index.store_error(&failure), answers);
                    }
                    Err(failure) => {
                        items.append(&mut left);
                        items.append(&mut chunk);
                        items.extend(ahead);
                        return Err(failure);
                    }
                }
            }
            *items = left;
            if items.is_empty() {
                return Ok(());
            }
        }
        let error = StoreError::conflict(format!(
            "others changed the job's record {MOST_JUDGEMENTS} times while it was to be written"
        ));
        Err(error.into())
    }

    /// Reads what is stored where that is not known, and settles what needs no change.
    async fn look<T: Clone>(
        &self,
        items: &mut Vec<Item<'_, T>>,
        answers: &mut [StoreResult<T>],
        judge: fn(&Item<'_, T>, Option<&Record>) -> Verdict<T>,
    ) -> Result<(), Failure> {
        let unknown: Vec<&str> = items
            .iter()
            .filter(|item| matches!(item.known, Known::Nothing))
            .map(|item| item.id.as_str())
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let reader = Reader { index: self.index };
        let mut found = reader.heads(&unknown).await?.into_iter();
        items.retain_mut(|item| {
            if !matches!(item.known, Known::Nothing) {
                return true;
            }
            let stored = match found.next() {
                Some(Ok(stored)) => stored,
                Some(Err(refusal)) => {
                    let error = self.index.store_error(&refusal.into());
                    settle(answers, item.place, Err(error));
                    return false;
                }
                // The reader has counted them.
                None => return true,
            };
            match verdict(item, stored.as_ref(), judge) {
                Verdict::Settled(answer) => {
                    settle(answers, item.place, answer);
                    false
                }
                Verdict::Change(outcome) => {
                    item.outcome = outcome;
                    item.known = stored.map_or(Known::Absent, |stored| Known::At(stored.version));
                    true
                }
            }
        });
        Ok(())
    }

    /// Sends the changes; what somebody else changed first stays in `items`, to be judged again.
    async fn change<T: Clone>(
        &self,
        items: &mut Vec<Item<'_, T>>,
        answers: &mut [StoreResult<T>],
    ) -> Result<(), Failure> {
        let actions: Vec<(&str, Action<'_>)> = items
            .iter()
            .filter_map(|item| Some((item.id.as_str(), action(item)?)))
            .collect();
        let mut done = bulk::send(self.index, self.config.refresh, &actions)
            .await?
            .into_iter();
        items.retain_mut(|item| match done.next() {
            Some(Outcome::Made) => {
                settle(answers, item.place, Ok(item.outcome.clone()));
                false
            }
            Some(Outcome::Refused(refusal)) if !refusal.is_missing_index() => {
                let error = self.index.store_error(&refusal.into());
                settle(answers, item.place, Err(error));
                false
            }
            _ => {
                item.known = Known::Nothing;
                true
            }
        });
        Ok(())
    }
}

fn action<'a, T>(item: &'a Item<'_, T>) -> Option<Action<'a>> {
    Some(match (&item.change, item.known) {
        (Change::Write(_, document), Known::Absent) => Action::Create(document),
        (Change::Write(_, document), Known::At(version)) => Action::Replace(version, document),
        (Change::Delete, Known::At(version)) => Action::Delete(version),
        // What is not known was looked at, and what is absent is not deleted.
        (Change::Write(..), Known::Nothing) | (Change::Delete, _) => return None,
    })
}

fn verdict<T: Clone>(
    item: &Item<'_, T>,
    stored: Option<&Stored>,
    judge: fn(&Item<'_, T>, Option<&Record>) -> Verdict<T>,
) -> Verdict<T> {
    match stored.map(|stored| &stored.record) {
        None => judge(item, None),
        Some(Ok(record)) => judge(item, Some(record)),
        // What cannot be judged is replaced or removed only by who does not ask.
        Some(Err(error)) => match &item.change {
            Change::Write(write, _) if write.mode != WriteMode::Always => {
                Verdict::Settled(Err(error.clone()))
            }
            // One that is deleted was no live record.
            _ => Verdict::Change(item.outcome.clone()),
        },
    }
}

fn judge_write(item: &Item<'_, WriteOutcome>, stored: Option<&Record>) -> Verdict<WriteOutcome> {
    let Change::Write(write, _) = &item.change else {
        return Verdict::Settled(Ok(WriteOutcome::Stale));
    };
    let stored = stored.map(Record::version_and_expiry);
    if write.may_replace(stored, Timestamp::now()) {
        Verdict::Change(WriteOutcome::Written)
    } else {
        Verdict::Settled(Ok(WriteOutcome::Stale))
    }
}

fn judge_delete(_item: &Item<'_, bool>, stored: Option<&Record>) -> Verdict<bool> {
    match stored {
        None => Verdict::Settled(Ok(false)),
        Some(record) => Verdict::Change(!record.is_expired(Timestamp::now())),
    }
}

fn settle<T>(answers: &mut [StoreResult<T>], place: usize, answer: StoreResult<T>) {
    if let Some(slot) = answers.get_mut(place) {
        *slot = answer;
    }
}

fn fail<T>(items: &[Item<'_, T>], error: &StoreError, answers: &mut [StoreResult<T>]) {
    for item in items {
        settle(answers, item.place, Err(error.clone()));
    }
}

/// The first item of each job, then the second, and so on.
fn rounds<'a, T>(items: Vec<Item<'a, T>>) -> Vec<Vec<Item<'a, T>>> {
    let mut rounds: Vec<Vec<Item<'a, T>>> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(items.len());
    for item in items {
        let round = seen.entry(item.id.clone()).or_insert(0);
        match rounds.get_mut(*round) {
            Some(items) => items.push(item),
            None => rounds.push(vec![item]),
        }
        *round += 1;
    }
    rounds
}

/// Parts that are each small enough for one request.
fn parts<'a, T>(items: Vec<Item<'a, T>>) -> Vec<Vec<Item<'a, T>>> {
    let mut parts: Vec<Vec<Item<'a, T>>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let fits = parts
            .last()
            .is_some_and(|part| part.len() < MOST_RECORDS && bytes + item.bytes <= MOST_BYTES);
        if !fits {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += item.bytes;
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    parts
}

/// Longer each time, and never the same for two.
async fn pause(judgement: u32) {
    if judgement < 2 {
        return;
    }
    let most = MOST_PAUSE.min(Duration::from_millis(1) * 2_u32.saturating_pow(judgement.min(8)));
    tokio::time::sleep(most.mul_f64(rand::random::<f64>())).await;
}
