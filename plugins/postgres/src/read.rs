//! Reading records and statuses by their ids.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use tokio_postgres::{Row, types::Type};
use warren_plugin_api::{BatchResult, Record, Status, StoreError, StoreResult, Text, Timestamp};

use crate::{
    database::{Database, Kind, Parameter, Plan},
    row,
    statements::Statements,
    text,
};

/// What one statement reads.
const MOST_RECORDS: usize = 1_000;

/// Reads from one store's table.
pub(crate) struct Reader<'a> {
    pub(crate) database: &'a Database,
    pub(crate) statements: &'a Statements,
}

impl Reader<'_> {
    pub(crate) async fn get_many(&self, job_ids: &[Text]) -> BatchResult<Option<Record>> {
        self.read(&self.statements.get, job_ids, row::record).await
    }

    pub(crate) async fn status_many(&self, job_ids: &[Text]) -> BatchResult<Option<Status>> {
        let status = |row: &Row| {
            let number: i16 = row.try_get(1).unwrap_or(-1);
            row::status_of(number)
                .ok_or_else(|| StoreError::corrupt_data(format!("{number} is no status")))
        };
        self.read(&self.statements.status, job_ids, status).await
    }

    async fn read<T: Clone>(
        &self,
        sql: &str,
        job_ids: &[Text],
        decode: impl Fn(&Row) -> StoreResult<T>,
    ) -> BatchResult<Option<T>> {
        let columns: Vec<Cow<'_, str>> = job_ids.iter().map(|id| text::to_column(id)).collect();
        let mut answers = Vec::with_capacity(job_ids.len());
        for columns in columns.chunks(MOST_RECORDS) {
            let ids: Vec<&str> = columns.iter().map(|column| &**column).collect();
            let now = Timestamp::now().unix_us();
            let parameters: [Parameter<'_>; 2] = [(&ids, Type::TEXT_ARRAY), (&now, Type::INT8)];
            let mut found = Found::new(&ids);
            let take = |(): &mut (), row: Row| found.add(&row, &decode);
            self.database
                .collect(Kind::Read, Plan::Prepared, sql, &parameters, take)
                .await
                .map_err(|failure| self.database.store_error(&failure))?;
            answers.append(&mut found.answers());
        }
        Ok(answers)
    }
}

/// An answer for each id, in their order.
struct Found<'a, T> {
    places: HashMap<&'a str, usize>,
    /// What was asked for again, and where the first answer to it is.
    again: Vec<(usize, usize)>,
    answers: Vec<StoreResult<Option<T>>>,
}

impl<'a, T: Clone> Found<'a, T> {
    fn new(ids: &[&'a str]) -> Self {
        let mut places = HashMap::with_capacity(ids.len());
        let mut again = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            match places.entry(*id) {
                Entry::Vacant(entry) => {
                    entry.insert(place);
                }
                Entry::Occupied(first) => again.push((place, *first.get())),
            }
        }
        Self {
            places,
            again,
            answers: vec![Ok(None); ids.len()],
        }
    }

    /// The same row may come a second time, when the statement was sent again.
    fn add(&mut self, row: &Row, decode: impl Fn(&Row) -> StoreResult<T>) {
        let place = row.try_get(0).ok().and_then(|id: &str| self.places.get(id));
        if let Some(answer) = place.and_then(|place| self.answers.get_mut(*place)) {
            *answer = decode(row).map(Some);
        }
    }

    fn answers(mut self) -> Vec<StoreResult<Option<T>>> {
        for (place, first) in self.again {
            if let Some(answer) = self.answers.get(first).cloned()
                && let Some(copy) = self.answers.get_mut(place)
            {
                *copy = answer;
            }
        }
        self.answers
    }
}
