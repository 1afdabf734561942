//! Writing, in batches that are as few commands as the server's limits allow.
//!
//! A record that is most likely the first of its job is inserted, any other replaces an earlier
//! version, or is inserted where nothing is stored. Either way a document that is there and was
//! not matched makes the server report a duplicate key. Then it is looked at: it refuses the
//! write, or has expired, or the write came in between two others; then it is sent again.

use std::collections::HashMap;

use mongodb::bson::{Document, RawArrayBuf, RawDocumentBuf, doc, raw::cstr};
use warren_plugin_api::{
    BatchResult, ErrorClass, Status, StoreError, StoreResult, Text, Timestamp, Write, WriteMode,
    WriteOutcome,
};

use crate::{
    database::Database,
    document::{self, ATTEMPT, EXPIRES_AT, STATUS, VERSION},
    error::{DUPLICATE_KEY, Failure, ServerError, write_concern_error},
    guard::{self, Over},
    read::{IDS_AT_ONCE, find},
};

/// What one command writes. The server takes 100,000 statements; a call of the store has fewer.
const MOST_STATEMENTS: usize = 10_000;
/// The server takes 16 MiB; a record that is larger than this goes alone.
const MOST_BYTES: usize = 12 * 1024 * 1024;
/// What a statement costs besides its document: the condition, with the key again.
const STATEMENT_BYTES: usize = 512;
/// How often a write is sent again that came in between others of the same job.
const TURNS: usize = 8;

/// Writes to one store's collection.
pub(crate) struct Writer<'a> {
    pub(crate) database: &'a Database,
    pub(crate) max_record_bytes: u64,
}

/// A record to be written, and its place in the batch.
struct Item<'a> {
    place: usize,
    write: &'a Write,
    document: RawDocumentBuf,
}

impl Item<'_> {
    fn bytes(&self) -> usize {
        self.document.as_bytes().len() + self.write.record.job_id.len() + STATEMENT_BYTES
    }

    /// Whether most likely nothing is stored for the job.
    fn is_first(&self) -> bool {
        self.write.mode == WriteMode::IfAbsent
            || (self.write.mode == WriteMode::IfNewer && self.write.record.status == Status::Queued)
    }
}

/// Which statement a record is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statement {
    Insert,
    Replace(Over),
}

type Outcomes = [StoreResult<WriteOutcome>];

impl Writer<'_> {
    pub(crate) async fn put_many(&self, writes: &[Write]) -> BatchResult<WriteOutcome> {
        // What stays of it where a command is not sent, because another one failed.
        let not_sent = StoreError::unavailable(format!(
            "MongoDB at {}: another command of the batch failed",
            self.database.address()
        ));
        let mut outcomes: Vec<StoreResult<WriteOutcome>> = vec![Err(not_sent); writes.len()];
        let mut broken: Option<StoreError> = None;
        for round in self.rounds(writes, &mut outcomes) {
            let (first, later): (Vec<_>, Vec<_>) = round.iter().partition(|item| item.is_first());
            let replace = Statement::Replace(Over::Earlier);
            for (statement, items) in [(Statement::Insert, first), (replace, later)] {
                for items in commands_of(&items) {
                    match &broken {
                        None => {
                            let written = self.write(statement, items, &mut outcomes).await;
                            broken = written.err();
                        }
                        Some(error) => fail(items, error, &mut outcomes),
                    }
                }
            }
        }
        Ok(outcomes)
    }

    /// Splits a batch, since within one job the order counts: the writes of a job are in rounds
    /// one after another.
    fn rounds<'a>(&self, writes: &'a [Write], outcomes: &mut Outcomes) -> Vec<Vec<Item<'a>>> {
        let mut rounds: Vec<Vec<Item<'a>>> = Vec::new();
        let mut next_of: HashMap<&str, usize> = HashMap::with_capacity(writes.len());
        for (place, write) in writes.iter().enumerate() {
            let document = match self.document(write) {
                Ok(document) => document,
                Err(error) => {
                    set(outcomes, place, Err(error));
                    continue;
                }
            };
            let item = Item {
                place,
                write,
                document,
            };
            let next = next_of.entry(&write.record.job_id).or_default();
            match rounds.get_mut(*next) {
                Some(round) => round.push(item),
                None => rounds.push(vec![item]),
            }
            *next += 1;
        }
        rounds
    }

    fn document(&self, write: &Write) -> StoreResult<RawDocumentBuf> {
        let size = write.record.size_bytes();
        if u64::try_from(size).unwrap_or(u64::MAX) > self.max_record_bytes {
            return Err(StoreError::too_large(format!(
                "the record has {size} bytes, expected at most {} (max_record_bytes)",
                self.max_record_bytes
            )));
        }
        document::of(&write.record)
    }

    /// Writes what one command holds.
    ///
    /// # Errors
    /// When the server cannot be expected to take anything else either; the outcomes have it too.
    async fn write(
        &self,
        statement: Statement,
        items: &[&Item<'_>],
        outcomes: &mut Outcomes,
    ) -> StoreResult<()> {
        let sent = self.send_or_each(statement, items, outcomes).await;
        let mut refused = self.or_fail(sent, items, outcomes)?;
        for _ in 0..TURNS {
            if refused.is_empty() {
                return Ok(());
            }
            let judged = self.judge(&refused, outcomes).await;
            let [earlier, expired] = self.or_fail(judged, &refused, outcomes)?;
            refused.clear();
            for (over, items) in [(Over::Earlier, earlier), (Over::Expired, expired)] {
                let sent = self.send_or_each(Statement::Replace(over), &items, outcomes);
                let sent = sent.await;
                refused.append(&mut self.or_fail(sent, &items, outcomes)?);
            }
        }
        let error = StoreError::conflict(format!(
            "MongoDB at {}: others wrote the same job {TURNS} times meanwhile",
            self.database.address()
        ));
        fail(&refused, &error, outcomes);
        Ok(())
    }

    fn or_fail<T>(
        &self,
        result: Result<T, Failure>,
        items: &[&Item<'_>],
        outcomes: &mut Outcomes,
    ) -> StoreResult<T> {
        result.map_err(|failure| {
            let error = self.database.store_error(&failure);
            fail(items, &error, outcomes);
            error
        })
    }

    /// One command for all; where the server finds it too large after all, one for each.
    async fn send_or_each<'i, 'a>(
        &self,
        statement: Statement,
        items: &[&'i Item<'a>],
        outcomes: &mut Outcomes,
    ) -> Result<Vec<&'i Item<'a>>, Failure> {
        let failure = match self.send(statement, items, outcomes).await {
            Ok(refused) => return Ok(refused),
            Err(failure) => failure,
        };
        let error = self.database.store_error(&failure);
        if error.class() != ErrorClass::TooLarge {
            return Err(failure);
        }
        let [_only] = items else {
            let mut refused = Vec::new();
            for item in items {
                match self.send(statement, &[*item], outcomes).await {
                    Ok(mut again) => refused.append(&mut again),
                    Err(failure) => {
                        let error = self.database.store_error(&failure);
                        if error.class() != ErrorClass::TooLarge {
                            return Err(failure);
                        }
                        fail(&[*item], &error, outcomes);
                    }
                }
            }
            return Ok(refused);
        };
        fail(items, &error, outcomes);
        Ok(Vec::new())
    }

    /// Sends one command and returns what met a document that it could not replace.
    async fn send<'i, 'a>(
        &self,
        statement: Statement,
        items: &[&'i Item<'a>],
        outcomes: &mut Outcomes,
    ) -> Result<Vec<&'i Item<'a>>, Failure> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let command = self.command(statement, items)?;
        let answer = self.database.run_raw(command).await?;
        let mut refused = Vec::new();
        let mut failed = vec![false; items.len()];
        for error in item_errors(&answer) {
            let index = error.get_i32("index").ok();
            let index = index.and_then(|index| usize::try_from(index).ok());
            let Some((index, item)) = index.and_then(|index| Some((index, *items.get(index)?)))
            else {
                return Err(Failure::Part(ServerError::of(error)));
            };
            failed[index] = true;
            let error = ServerError::of(error);
            if error.code == DUPLICATE_KEY {
                refused.push(item);
            } else {
                let error = self.database.store_error(&Failure::Part(error));
                set(outcomes, item.place, Err(error));
            }
        }
        let written = match write_concern_error(&answer) {
            None => Ok(WriteOutcome::Written),
            Some(error) => Err(self.database.store_error(&Failure::Part(error))),
        };
        for (item, _) in items.iter().zip(failed).filter(|(_, failed)| !failed) {
            set(outcomes, item.place, written.clone());
        }
        Ok(refused)
    }

    fn command(
        &self,
        statement: Statement,
        items: &[&Item<'_>],
    ) -> Result<RawDocumentBuf, Failure> {
        let now = Timestamp::now();
        let mut list = RawArrayBuf::new();
        for item in items {
            match statement {
                Statement::Insert => list.push(&*item.document),
                Statement::Replace(over) => {
                    let condition = guard::condition(item.write, over, now);
                    let mut update = RawDocumentBuf::new();
                    update.append(cstr!("q"), RawDocumentBuf::try_from(&condition)?);
                    update.append(cstr!("u"), &*item.document);
                    update.append(cstr!("upsert"), true);
                    list.push(&*update);
                }
            }
        }
        let collection = self.database.collection_name();
        let mut command = RawDocumentBuf::new();
        match statement {
            Statement::Insert => {
                command.append(cstr!("insert"), collection);
                command.append(cstr!("documents"), list);
            }
            Statement::Replace(_) => {
                command.append(cstr!("update"), collection);
                command.append(cstr!("updates"), list);
            }
        }
        command.append(cstr!("ordered"), false);
        let concern = self.database.write_concern()?;
        command.append(cstr!("writeConcern"), RawDocumentBuf::try_from(&concern)?);
        command.append(cstr!("maxTimeMS"), self.database.max_time_ms());
        Ok(command)
    }

    /// Looks at what is stored instead, and returns those that may be written nevertheless: over
    /// an earlier version, and over what has expired.
    async fn judge<'i, 'a>(
        &self,
        refused: &[&'i Item<'a>],
        outcomes: &mut Outcomes,
    ) -> Result<[Vec<&'i Item<'a>>; 2], Failure> {
        let (mut earlier, mut expired) = (Vec::new(), Vec::new());
        for refused in refused.chunks(IDS_AT_ONCE) {
            let ids: Vec<Text> = refused
                .iter()
                .map(|item| item.write.record.job_id.clone())
                .collect();
            let versions = doc! { STATUS: 1, ATTEMPT: 1, VERSION: 1, EXPIRES_AT: 1 };
            let found = find(self.database, &ids, doc! {}, Some(versions)).await?;
            let now = Timestamp::now();
            let found: HashMap<&str, &RawDocumentBuf> = found
                .iter()
                .filter_map(|document| Some((document::job_id(document)?, document)))
                .collect();
            for item in refused {
                let stored = found
                    .get(&*item.write.record.job_id)
                    .map(|document| document::version_and_expiry(document));
                match (stored, item.write.mode) {
                    // What cannot be judged is there, and no reason to replace it.
                    (Some(Err(_)), WriteMode::IfAbsent) => {
                        set(outcomes, item.place, Ok(WriteOutcome::Stale));
                    }
                    (Some(Err(error)), WriteMode::IfNewer) => {
                        set(outcomes, item.place, Err(error));
                    }
                    (Some(Ok(stored)), _) if !item.write.may_replace(Some(stored), now) => {
                        set(outcomes, item.place, Ok(WriteOutcome::Stale));
                    }
                    (Some(Ok((_, Some(at)))), _) if at <= now => expired.push(*item),
                    (_, WriteMode::IfAbsent) => expired.push(*item),
                    _ => earlier.push(*item),
                }
            }
        }
        Ok([earlier, expired])
    }
}

/// What the server says of single statements of a command.
fn item_errors(answer: &Document) -> impl Iterator<Item = &Document> {
    let errors = answer.get_array("writeErrors");
    errors
        .into_iter()
        .flatten()
        .filter_map(|error| error.as_document())
}

fn set(outcomes: &mut Outcomes, place: usize, outcome: StoreResult<WriteOutcome>) {
    if let Some(found) = outcomes.get_mut(place) {
        *found = outcome;
    }
}

fn fail(items: &[&Item<'_>], error: &StoreError, outcomes: &mut Outcomes) {
    for item in items {
        set(outcomes, item.place, Err(error.clone()));
    }
}

/// Parts that are each small enough for one command.
fn commands_of<'s, 'i, 'a>(items: &'s [&'i Item<'a>]) -> impl Iterator<Item = &'s [&'i Item<'a>]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let (mut count, mut bytes) = (0, 0);
        for item in rest.iter().take(MOST_STATEMENTS) {
            bytes += item.bytes();
            if count > 0 && bytes > MOST_BYTES {
                break;
            }
            count += 1;
        }
        let (part, after) = rest.split_at_checked(count)?;
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}
