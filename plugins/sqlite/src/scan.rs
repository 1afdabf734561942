//! Listing: one or more indexes walked side by side, the latest first, page by page.

use std::collections::BTreeSet;

use rusqlite::{CachedStatement, Connection, Row, Rows};
use warren_plugin_api::{Filter, Page, Record, Status, Timestamp};

use crate::{
    cursor::Place,
    error::is_unreadable,
    row::{self, FIELDS, PAYLOADS, position},
};

/// Rows that one page looks at before it returns what it has found.
const LOOKED_AT_PER_PAGE: usize = 100_000;

/// Records after `after`, or from the latest on.
pub(crate) fn page(
    connection: &Connection,
    filter: &Filter,
    after: Option<Place>,
    limit: usize,
) -> rusqlite::Result<Page> {
    let mut page = Listing {
        filter,
        now: Timestamp::now(),
        limit,
        looked_at: 0,
        last: None,
        records: Vec::new(),
    };
    let start = first_place(filter, after);
    let is_timed = |place: Place| place.enqueued_at.is_some();
    let by_time = filter.enqueued_from.is_some() || filter.enqueued_before.is_some();
    let done = if start.is_none_or(is_timed) {
        page.walk(connection, Part::Timed(start))? && {
            by_time || page.walk(connection, Part::Untimed(None))?
        }
    } else {
        by_time || page.walk(connection, Part::Untimed(start))?
    };
    Ok(Page {
        next: page.last.filter(|_| !done).map(Place::to_cursor),
        records: page.records,
    })
}

/// What is listed comes after this place.
fn first_place(filter: &Filter, after: Option<Place>) -> Option<Place> {
    let before = filter
        .enqueued_before
        .map(|time| Place::before(time.unix_us()));
    match (after, before) {
        (Some(after), Some(before)) => Some(after.min(before)),
        (after, before) => after.or(before),
    }
}

/// Records without a time have no place in a range of times: they are walked afterwards.
#[derive(Debug, Clone, Copy)]
enum Part {
    Timed(Option<Place>),
    Untimed(Option<Place>),
}

struct Listing<'a> {
    filter: &'a Filter,
    now: Timestamp,
    limit: usize,
    looked_at: usize,
    last: Option<Place>,
    records: Vec<Record>,
}

/// The next row of a walk, with its record if it is to be listed.
type Head = Option<(Place, Option<Record>)>;

impl Listing<'_> {
    /// Whether it came to the end.
    fn walk(&mut self, connection: &Connection, part: Part) -> rusqlite::Result<bool> {
        let statuses = statuses(self.filter);
        let sql = statement(self.filter, part, !statuses.is_empty());
        // Without statuses one walk leads over everything.
        let walks = statuses.len().max(1);
        let mut statements = (0..walks)
            .map(|_| connection.prepare_cached(&sql))
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let mut rows = Vec::with_capacity(walks);
        for (index, statement) in statements.iter_mut().enumerate() {
            bind(statement, self.filter, statuses.get(index), part)?;
            rows.push(statement.raw_query());
        }
        let mut heads = Vec::with_capacity(walks);
        for rows in &mut rows {
            heads.push(self.next(rows)?);
        }
        while let Some(latest) = latest(&heads) {
            if self.records.len() >= self.limit || self.looked_at >= LOOKED_AT_PER_PAGE {
                return Ok(false);
            }
            self.looked_at += 1;
            let next = self.next(&mut rows[latest])?;
            if let Some((place, record)) = std::mem::replace(&mut heads[latest], next) {
                self.last = Some(place);
                self.records.extend(record);
            }
        }
        Ok(true)
    }

    fn next(&self, rows: &mut Rows<'_>) -> rusqlite::Result<Head> {
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let place = Place {
            enqueued_at: row.get(position::ENQUEUED_AT)?,
            number: row.get("number")?,
        };
        let record = match self.record(row) {
            // Whoever asks for it by its id is told.
            Err(error) if is_unreadable(&error) => None,
            record => record?,
        };
        Ok(Some((place, record)))
    }

    /// What the walk's own condition does not say is looked at here.
    fn record(&self, row: &Row<'_>) -> rusqlite::Result<Option<Record>> {
        let is = |index: usize, wanted: &Option<_>| -> rusqlite::Result<bool> {
            let wanted: Option<&warren_plugin_api::Text> = wanted.as_ref();
            let found = row.get_ref(index)?.as_str()?;
            Ok(wanted.is_none_or(|wanted| *wanted == found))
        };
        let expires_at: Option<i64> = row.get(position::EXPIRES_AT)?;
        if expires_at.is_some_and(|at| at <= self.now.unix_us())
            || !is(position::QUEUE, &self.filter.queue)?
            || !is(position::FUNCTION, &self.filter.function)?
        {
            return Ok(None);
        }
        row::read(row, !self.filter.without_payloads).map(Some)
    }
}

fn latest(heads: &[Head]) -> Option<usize> {
    heads
        .iter()
        .enumerate()
        .filter_map(|(index, head)| head.as_ref().map(|(place, _)| (*place, index)))
        .max()
        .map(|(_, index)| index)
}

/// The statuses to walk one by one: an index is in the order of time for one status only.
fn statuses(filter: &Filter) -> Vec<Status> {
    let wanted: BTreeSet<Status> = if !filter.statuses.is_empty() {
        filter.statuses.iter().copied().collect()
    } else if filter.queue.is_some() || filter.function.is_some() {
        Status::ALL.into()
    } else {
        BTreeSet::new()
    };
    wanted.into_iter().collect()
}

/// ?1 is the function or queue, ?2 the status, ?3 and ?4 number and time to begin after, ?5 the
/// earliest time.
fn statement(filter: &Filter, part: Part, by_status: bool) -> String {
    let payloads = if filter.without_payloads {
        String::new()
    } else {
        format!("{PAYLOADS}, ")
    };
    let (index, walk) = match (&filter.function, &filter.queue) {
        (Some(_), _) => ("by_function", "function = ?1 AND status = ?2 AND"),
        (None, Some(_)) => ("by_queue", "queue = ?1 AND status = ?2 AND"),
        (None, None) if by_status => ("by_status", "status = ?2 AND"),
        (None, None) => ("by_time", ""),
    };
    let range = match part {
        Part::Timed(_) => "(enqueued_at, number) < (?4, ?3) AND enqueued_at >= ?5",
        Part::Untimed(_) => "enqueued_at IS NULL AND number < ?3",
    };
    format!(
        "SELECT {FIELDS}, {payloads}number FROM records INDEXED BY {index} WHERE {walk} {range} \
         ORDER BY enqueued_at DESC, number DESC"
    )
}

fn bind(
    statement: &mut CachedStatement<'_>,
    filter: &Filter,
    status: Option<&Status>,
    part: Part,
) -> rusqlite::Result<()> {
    let name = filter.function.as_ref().or(filter.queue.as_ref());
    statement.raw_bind_parameter(1, name.map(|name| name.as_str()))?;
    statement.raw_bind_parameter(2, status.map(|status| status.as_str()))?;
    match part {
        Part::Timed(start) => {
            let place = start.unwrap_or(Place {
                enqueued_at: Some(i64::MAX),
                number: i64::MAX,
            });
            let from = filter.enqueued_from.unwrap_or(Timestamp::MIN);
            statement.raw_bind_parameter(3, place.number)?;
            statement.raw_bind_parameter(4, place.enqueued_at)?;
            statement.raw_bind_parameter(5, from.unix_us())
        }
        Part::Untimed(start) => {
            let number = start.map_or(i64::MAX, |place| place.number);
            statement.raw_bind_parameter(3, number)
        }
    }
}
