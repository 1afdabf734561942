//! Listing, newest first, along an index.

use std::fmt::Write;

use tokio_postgres::{Row, types::Type};
use warren_plugin_api::{
    Cursor, Filter, HostContext, Page, Record, Status, StoreResult, Text, Timestamp,
};

use crate::{
    cursor::Place,
    database::{Database, Kind, Parameter, Plan},
    error::Failure,
    row::{self, status_number},
    schema::{BY_TIME, COLUMNS, INDEXED_CHARACTERS},
    text,
};

/// Index of the first column that listings leave out.
const FIRST_PAYLOAD: usize = 14;
/// Rows that are read at once, since a record may be large.
const ROWS_AT_ONCE: usize = 1_000;

/// Lists one store's table.
pub(crate) struct Scanner<'a> {
    pub(crate) database: &'a Database,
    pub(crate) host: &'a HostContext,
}

/// Which part of the order: records with a time come first, those without it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    WithTime,
    WithoutTime,
}

impl Scanner<'_> {
    pub(crate) async fn scan(
        &self,
        filter: &Filter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> StoreResult<Page> {
        let mut place = cursor.map(Place::from_cursor).transpose()?;
        let limit = limit.min(ROWS_AT_ONCE);
        let mut part = match &place {
            Some(Place {
                enqueued_at: None, ..
            }) => Part::WithoutTime,
            _ => Part::WithTime,
        };
        // A record without a time passes no limit of time.
        let is_timed = filter.enqueued_from.is_some() || filter.enqueued_before.is_some();
        let mut records = Vec::new();
        let mut left = limit;
        loop {
            let rows = self
                .rows(filter, part, place.as_ref(), left)
                .await
                .map_err(|failure| self.database.store_error(&failure))?;
            if let Some(last) = rows.last() {
                place =
                    Some(place_of(last).map_err(|failure| self.database.store_error(&failure))?);
            }
            let is_full = rows.len() >= left;
            left -= rows.len().min(left);
            records.extend(rows.iter().filter_map(|row| self.readable(row)));
            if is_full {
                break;
            }
            if part == Part::WithoutTime || is_timed {
                return Ok(Page {
                    records,
                    next: None,
                });
            }
            (part, place) = (Part::WithoutTime, None);
        }
        Ok(Page {
            records,
            next: place.map(|place| place.to_cursor()),
        })
    }

    fn readable(&self, row: &Row) -> Option<Record> {
        match row::record(row) {
            Ok(record) => Some(record),
            Err(error) => {
                self.host.warn(format_args!("left out of a list: {error}"));
                None
            }
        }
    }

    async fn rows(
        &self,
        filter: &Filter,
        part: Part,
        place: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<Row>, Failure> {
        let mut statuses: Vec<Status> = filter.statuses.clone();
        statuses.sort_unstable();
        statuses.dedup();
        let query = Query::new(&self.database.names.results, filter, part, place, limit);
        let sql = query.sql(&statuses);
        let (queue, function) = (&query.queue, &query.function);
        let now = Timestamp::now().unix_us();
        let from = filter.enqueued_from.map(Timestamp::unix_us);
        let before = filter.enqueued_before.map(Timestamp::unix_us);
        let (time, job_id) = place.map_or((None, None), |place| {
            (place.enqueued_at, Some(place.job_id.as_str()))
        });
        let parameters: [Parameter<'_>; 7] = [
            (&now, Type::INT8),
            (queue, Type::TEXT),
            (function, Type::TEXT),
            (&from, Type::INT8),
            (&before, Type::INT8),
            (&time, Type::INT8),
            (&job_id, Type::TEXT),
        ];
        self.database
            .query(Kind::Read, Plan::Anew, &sql, &parameters)
            .await
    }
}

fn place_of(row: &Row) -> Result<Place, Failure> {
    Ok(Place {
        enqueued_at: row.try_get(6)?,
        job_id: row.try_get(0)?,
    })
}

/// A page of the order, as SQL. Values are parameters: $1 now, $2 queue, $3 function, $4 from,
/// $5 before, $6 and $7 the place after which it goes on.
struct Query<'a> {
    table: &'a str,
    columns: String,
    conditions: String,
    limit: usize,
    queue: Option<String>,
    function: Option<String>,
}

impl<'a> Query<'a> {
    fn new(
        table: &'a str,
        filter: &Filter,
        part: Part,
        place: Option<&Place>,
        limit: usize,
    ) -> Self {
        let mut conditions = String::from("(expires_at IS NULL OR expires_at > $1)");
        let mut and = |condition: &str| {
            let _ = write!(conditions, " AND {condition}");
        };
        let text = |text: &Text| text::to_column(text).into_owned();
        let (queue, function) = (
            filter.queue.as_ref().map(text),
            filter.function.as_ref().map(text),
        );
        for (column, number, wanted) in [("queue", 2, &queue), ("function", 3, &function)] {
            if let Some(wanted) = wanted {
                and(&is_text(column, number, wanted));
            }
        }
        match part {
            Part::WithTime => and("enqueued_at IS NOT NULL"),
            Part::WithoutTime => and("enqueued_at IS NULL"),
        }
        if filter.enqueued_from.is_some() {
            and("enqueued_at >= $4");
        }
        if filter.enqueued_before.is_some() {
            and("enqueued_at < $5");
        }
        match (part, place) {
            (_, None) => {}
            (Part::WithTime, Some(_)) => and("(enqueued_at, job_id) < ($6, $7)"),
            (Part::WithoutTime, Some(_)) => and("job_id < $7"),
        }
        let mut columns = COLUMNS[..FIRST_PAYLOAD].join(", ");
        for column in &COLUMNS[FIRST_PAYLOAD..] {
            if filter.without_payloads {
                let _ = write!(columns, ", ''::bytea AS {column}");
            } else {
                let _ = write!(columns, ", {column}");
            }
        }
        Self {
            table,
            columns,
            conditions,
            limit,
            queue,
            function,
        }
    }

    /// The order of one status is that of its index; several are merged. A limit that it does not
    /// see makes the planner follow an index even where it takes the table for a small one, as it
    /// does before the first `ANALYZE`; it would rather read and sort all that match.
    fn sql(&self, statuses: &[Status]) -> String {
        let page = |condition: &str| {
            format!(
                "SELECT {} FROM {} WHERE {}{condition} ORDER BY {BY_TIME} LIMIT (SELECT {})",
                self.columns, self.table, self.conditions, self.limit
            )
        };
        let pages: Vec<String> = statuses
            .iter()
            .map(|status| page(&format!(" AND status = {}", status_number(*status))))
            .collect();
        match pages.as_slice() {
            [] => page(""),
            [only] => only.clone(),
            several => format!(
                "SELECT * FROM (({})) AS pages ORDER BY {BY_TIME} LIMIT (SELECT {})",
                several.join(") UNION ALL ("),
                self.limit
            ),
        }
    }
}

/// The condition that a text is the parameter of this number, over the index of its beginning. A
/// shorter text is no other's beginning; compared twice it would look twice as rare.
fn is_text(column: &str, number: usize, wanted: &str) -> String {
    if wanted.chars().count() < INDEXED_CHARACTERS {
        return format!("left({column}, {INDEXED_CHARACTERS}) = ${number}");
    }
    format!(
        "left({column}, {INDEXED_CHARACTERS}) = left(${number}, {INDEXED_CHARACTERS}) \
         AND {column} = ${number}"
    )
}
