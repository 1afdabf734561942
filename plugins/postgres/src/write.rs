//! Writing and deleting, in batches that are one statement each.

use std::{borrow::Cow, collections::HashMap};

use tokio_postgres::types::Type;
use warren_plugin_api::{
    BatchResult, StoreError, StoreResult, Text, Timestamp, Write, WriteMode, WriteOutcome,
};

use crate::{
    database::{Database, Kind, Parameter, Plan},
    error::Failure,
    row::{Columns, status_number},
    statements::{ALWAYS, IF_ABSENT, IF_NEWER, Statements},
    text,
};

/// What one statement writes: its rows stay locked until it ends.
const MOST_RECORDS: usize = 1_000;
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// What an item costs besides its bytes.
const OVERHEAD_BYTES: usize = 256;

/// Writes to one store's tables.
pub(crate) struct Writer<'a> {
    pub(crate) database: &'a Database,
    pub(crate) statements: &'a Statements,
    pub(crate) max_record_bytes: u64,
    pub(crate) announce: bool,
}

/// A record to be written, and its place in the batch.
struct Item<'a> {
    place: usize,
    columns: Columns<'a>,
}

/// Writes that can be one statement: of one mode, and no job twice.
struct Round<'a> {
    mode: WriteMode,
    items: Vec<Item<'a>>,
}

impl Writer<'_> {
    pub(crate) async fn put_many(&self, writes: &[Write]) -> BatchResult<WriteOutcome> {
        let mut outcomes: Vec<StoreResult<WriteOutcome>> =
            vec![Ok(WriteOutcome::Stale); writes.len()];
        let mut broken: Option<StoreError> = None;
        for mut round in self.rounds(writes, &mut outcomes) {
            // Batches that lock their rows in one order do not wait for each other in a circle.
            round
                .items
                .sort_unstable_by(|a, b| a.columns.job_id.cmp(&b.columns.job_id));
            for items in statements_of(&round.items) {
                if let Some(error) = &broken {
                    fail(items, error, &mut outcomes);
                    continue;
                }
                if let Err(failure) = self.put_or_each(round.mode, items, &mut outcomes).await {
                    let error = self.database.store_error(&failure);
                    fail(items, &error, &mut outcomes);
                    if !failure.is_about_data() && !failure.is_conflict() {
                        broken = Some(error);
                    }
                }
            }
        }
        Ok(outcomes)
    }

    /// Splits a batch: within one job the order counts, and `ON CONFLICT` takes no job twice.
    fn rounds<'a>(
        &self,
        writes: &'a [Write],
        outcomes: &mut [StoreResult<WriteOutcome>],
    ) -> Vec<Round<'a>> {
        let mut rounds: Vec<Round<'a>> = Vec::new();
        // The round that comes next for a job that was seen before.
        let mut next_of: HashMap<&str, usize> = HashMap::with_capacity(writes.len());
        for (place, write) in writes.iter().enumerate() {
            let columns = match self.columns(write) {
                Ok(columns) => columns,
                Err(error) => {
                    if let Some(outcome) = outcomes.get_mut(place) {
                        *outcome = Err(error);
                    }
                    continue;
                }
            };
            let earliest = next_of
                .get(write.record.job_id.as_str())
                .copied()
                .unwrap_or(0);
            let index = rounds
                .iter()
                .skip(earliest)
                .position(|round| round.mode == write.mode)
                .map_or(rounds.len(), |offset| earliest + offset);
            if index == rounds.len() {
                rounds.push(Round {
                    mode: write.mode,
                    items: Vec::new(),
                });
            }
            if let Some(round) = rounds.get_mut(index) {
                round.items.push(Item { place, columns });
            }
            next_of.insert(&write.record.job_id, index + 1);
        }
        rounds
    }

    fn columns<'a>(&self, write: &'a Write) -> StoreResult<Columns<'a>> {
        let size = write.record.size_bytes();
        if u64::try_from(size).unwrap_or(u64::MAX) > self.max_record_bytes {
            return Err(StoreError::too_large(format!(
                "the record has {size} bytes, expected at most {} (max_record_bytes)",
                self.max_record_bytes
            )));
        }
        Columns::of(&write.record)
    }

    /// One statement for all; where the server objects to what one record holds, one for each.
    async fn put_or_each(
        &self,
        mode: WriteMode,
        items: &[Item<'_>],
        outcomes: &mut [StoreResult<WriteOutcome>],
    ) -> Result<(), Failure> {
        match self.put(mode, items, outcomes).await {
            Err(failure) if failure.is_about_data() && items.len() > 1 => {}
            done => return done,
        }
        for item in items {
            let item = std::slice::from_ref(item);
            match self.put(mode, item, outcomes).await {
                Err(failure) if failure.is_about_data() || failure.is_conflict() => {
                    fail(item, &self.database.store_error(&failure), outcomes);
                }
                done => done?,
            }
        }
        Ok(())
    }

    async fn put(
        &self,
        mode: WriteMode,
        items: &[Item<'_>],
        outcomes: &mut [StoreResult<WriteOutcome>],
    ) -> Result<(), Failure> {
        let ends = |item: &Item<'_>| item.columns.record.status.is_terminal();
        let announces = self.announce && items.iter().any(ends);
        let written = self.send(mode, items, announces).await?;
        let mut places = HashMap::with_capacity(items.len());
        for item in items {
            places.insert(&*item.columns.job_id, item.place);
        }
        for row in &written {
            let job_id: Option<&str> = row.try_get(0)?;
            let place = job_id.and_then(|job_id| places.get(job_id));
            if let Some(outcome) = place.and_then(|place| outcomes.get_mut(*place)) {
                *outcome = Ok(WriteOutcome::Written);
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        mode: WriteMode,
        items: &[Item<'_>],
        announces: bool,
    ) -> Result<Vec<tokio_postgres::Row>, Failure> {
        let arrays = Arrays::of(items);
        let now = Timestamp::now().unix_us();
        let mode = match mode {
            WriteMode::IfNewer => IF_NEWER,
            WriteMode::IfAbsent => IF_ABSENT,
            WriteMode::Always => ALWAYS,
        };
        let channel = self.database.names.channel.as_str();
        let mut parameters = arrays.parameters();
        parameters.push((&now, Type::INT8));
        parameters.push((&mode, Type::INT2));
        let sql = if announces {
            parameters.push((&channel, Type::TEXT));
            &self.statements.put_and_announce
        } else {
            &self.statements.put
        };
        self.database
            .query(Kind::Write, Plan::Prepared, sql, &parameters)
            .await
    }

    pub(crate) async fn delete_many(&self, job_ids: &[Text]) -> BatchResult<bool> {
        let mut deleted: Vec<StoreResult<bool>> = vec![Ok(false); job_ids.len()];
        // Of one that is there twice, the first finds it.
        let mut places: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(job_ids.len());
        for (place, job_id) in job_ids.iter().enumerate() {
            places.entry(text::to_column(job_id)).or_insert(place);
        }
        let distinct: Vec<&str> = places.keys().map(|column| &**column).collect();
        let now = Timestamp::now().unix_us();
        for chunk in distinct.chunks(MOST_RECORDS) {
            let parameters: [Parameter<'_>; 2] = [(&chunk, Type::TEXT_ARRAY), (&now, Type::INT8)];
            let sql = &self.statements.delete;
            let rows = self
                .database
                .query(Kind::Write, Plan::Prepared, sql, &parameters)
                .await;
            let rows = match rows {
                Ok(rows) => rows,
                Err(failure) => {
                    let error = self.database.store_error(&failure);
                    for place in chunk.iter().filter_map(|column| places.get(*column)) {
                        if let Some(answer) = deleted.get_mut(*place) {
                            *answer = Err(error.clone());
                        }
                    }
                    continue;
                }
            };
            for row in &rows {
                let (Ok(job_id), Ok(was_live)) = (row.try_get::<_, &str>(0), row.try_get(1)) else {
                    continue;
                };
                if let Some(answer) = places.get(job_id).and_then(|place| deleted.get_mut(*place)) {
                    *answer = Ok(was_live);
                }
            }
        }
        Ok(deleted)
    }
}

fn fail(items: &[Item<'_>], error: &StoreError, outcomes: &mut [StoreResult<WriteOutcome>]) {
    for item in items {
        if let Some(outcome) = outcomes.get_mut(item.place) {
            *outcome = Err(error.clone());
        }
    }
}

/// Parts that are each small enough for one statement.
fn statements_of<'a, 'b>(items: &'a [Item<'b>]) -> impl Iterator<Item = &'a [Item<'b>]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let (mut count, mut bytes) = (0, 0);
        for item in rest.iter().take(MOST_RECORDS) {
            bytes += item.columns.record.size_bytes() + OVERHEAD_BYTES;
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

/// One array for each column.
#[derive(Default)]
struct Arrays<'a> {
    job_id: Vec<&'a str>,
    status: Vec<i16>,
    attempt: Vec<i64>,
    queue: Vec<&'a str>,
    function: Vec<&'a str>,
    worker: Vec<&'a str>,
    /// `enqueued_at` to `expires_at`.
    times: [Vec<Option<i64>>; 6],
    duration: Vec<Option<i64>>,
    error: Vec<Option<&'a str>>,
    /// `args` to `progress`.
    payloads: [Vec<&'a [u8]>; 4],
    extra: Vec<&'a [u8]>,
}

impl<'a> Arrays<'a> {
    fn of(items: &'a [Item<'a>]) -> Self {
        let mut arrays = Self::default();
        for Item { columns, .. } in items {
            let record = columns.record;
            arrays.job_id.push(&columns.job_id);
            arrays.status.push(status_number(record.status));
            arrays.attempt.push(record.attempt.into());
            arrays.queue.push(&columns.queue);
            arrays.function.push(&columns.function);
            arrays.worker.push(&columns.worker);
            let times = [
                record.enqueued_at,
                record.started_at,
                record.finished_at,
                record.updated_at,
                record.heartbeat_at,
                record.expires_at,
            ];
            for (array, time) in arrays.times.iter_mut().zip(times) {
                array.push(time.map(Timestamp::unix_us));
            }
            arrays.duration.push(columns.duration);
            arrays.error.push(columns.error.as_deref());
            let payloads = [
                &record.args,
                &record.kwargs,
                &record.result,
                &record.progress,
            ];
            for (array, payload) in arrays.payloads.iter_mut().zip(payloads) {
                array.push(payload.as_slice());
            }
            arrays.extra.push(&columns.extra);
        }
        arrays
    }

    /// $1 to $19.
    fn parameters(&self) -> Vec<Parameter<'_>> {
        let mut parameters: Vec<Parameter<'_>> = vec![
            (&self.job_id, Type::TEXT_ARRAY),
            (&self.status, Type::INT2_ARRAY),
            (&self.attempt, Type::INT8_ARRAY),
            (&self.queue, Type::TEXT_ARRAY),
            (&self.function, Type::TEXT_ARRAY),
            (&self.worker, Type::TEXT_ARRAY),
        ];
        for times in &self.times {
            parameters.push((times, Type::INT8_ARRAY));
        }
        parameters.push((&self.duration, Type::INT8_ARRAY));
        parameters.push((&self.error, Type::TEXT_ARRAY));
        for payloads in &self.payloads {
            parameters.push((payloads, Type::BYTEA_ARRAY));
        }
        parameters.push((&self.extra, Type::BYTEA_ARRAY));
        parameters
    }
}
