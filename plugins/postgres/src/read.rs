//! Reading records and statuses by their ids.

use std::{borrow::Cow, collections::HashMap};

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
            let rows = self
                .database
                .query(Kind::Read, Plan::Prepared, sql, &parameters)
                .await
                .map_err(|failure| self.database.store_error(&failure))?;
            let mut found: HashMap<&str, StoreResult<T>> = HashMap::with_capacity(rows.len());
            for row in &rows {
                if let Ok(job_id) = row.try_get(0) {
                    found.insert(job_id, decode(row));
                }
            }
            for id in ids {
                answers.push(found.get(id).cloned().transpose());
            }
        }
        Ok(answers)
    }
}
