//! Listing, newest first, along an index.

use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use warren_plugin_api::{
    Cursor, Filter, HostContext, Page, Record, Status, StoreResult, Timestamp,
};

use crate::{
    cursor::Place,
    database::{Database, Query},
    document::{
        self, ENQUEUED_AT, FUNCTION, FUNCTION_REST, ID, PAYLOADS, QUEUE, QUEUE_REST, STATUS,
    },
    error::Failure,
    guard::live,
    indexes::newest_first,
};

/// Documents that are read at once, since a record may be large.
const RECORDS_AT_ONCE: usize = 1_000;

/// Lists one store's collection.
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
        let limit = limit.min(RECORDS_AT_ONCE);
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
            let found = self
                .page(filter, part, place.as_ref(), left)
                .await
                .map_err(|failure| self.database.store_error(&failure))?;
            if let Some(last) = found.last() {
                place = Some(place_of(last));
            }
            let is_full = found.len() >= left;
            left -= found.len().min(left);
            records.extend(found.iter().filter_map(|document| self.readable(document)));
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

    fn readable(&self, document: &RawDocument) -> Option<Record> {
        match document::record(document) {
            Ok(record) => Some(record),
            Err(error) => {
                self.host.warn(format_args!("left out of a list: {error}"));
                None
            }
        }
    }

    async fn page(
        &self,
        filter: &Filter,
        part: Part,
        place: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let left_out = || -> Document {
            let left_out = PAYLOADS
                .iter()
                .map(|name| ((*name).to_owned(), Bson::from(0)));
            left_out.collect()
        };
        self.database
            .find(Query {
                filter: condition(filter, part, place, Timestamp::now()),
                projection: filter.without_payloads.then(left_out),
                sort: Some(newest_first()),
                limit,
            })
            .await
    }
}

/// The conditions of a page let through keys and times of the right type only.
fn place_of(document: &RawDocument) -> Place {
    Place {
        enqueued_at: document.get_i64(ENQUEUED_AT).ok(),
        job_id: document::job_id(document).unwrap_or_default().to_owned(),
    }
}

/// What passes and comes after the place.
fn condition(filter: &Filter, part: Part, place: Option<&Place>, now: Timestamp) -> Document {
    let mut condition = live(now);
    if !filter.statuses.is_empty() {
        let mut statuses: Vec<Status> = filter.statuses.clone();
        statuses.sort_unstable();
        statuses.dedup();
        condition.insert(STATUS, any_of(&statuses));
    }
    for (name, rest_name, text) in [
        (QUEUE, QUEUE_REST, &filter.queue),
        (FUNCTION, FUNCTION_REST, &filter.function),
    ] {
        if let Some(text) = text {
            let (head, rest) = document::split(text);
            condition.insert(name, head);
            if document::may_go_on(head) {
                let rest = (!rest.is_empty()).then_some(rest);
                condition.insert(rest_name, rest);
            }
        }
    }
    // Text of any length: a key of another type is not ours.
    let mut keys = doc! { "$gte": "" };
    match part {
        Part::WithoutTime => {
            condition.insert(ENQUEUED_AT, Bson::Null);
            if let Some(place) = place {
                keys.insert("$lt", place.job_id.as_str());
            }
        }
        Part::WithTime => {
            let from = filter.enqueued_from.unwrap_or(Timestamp::MIN);
            let mut times = doc! { "$gte": from.unix_us() };
            if let Some(before) = filter.enqueued_before {
                times.insert("$lt", before.unix_us());
            }
            if let Some(Place {
                enqueued_at: Some(time),
                job_id,
            }) = place
            {
                // The index is entered at the place; of its time, what was listed is passed over.
                times.insert("$lte", *time);
                let earlier = doc! { ENQUEUED_AT: { "$lt": *time } };
                let same = doc! { ID: { "$lt": job_id.as_str() } };
                condition.insert("$or", vec![earlier, same]);
            }
            condition.insert(ENQUEUED_AT, times);
        }
    }
    condition.insert(ID, keys);
    condition
}

fn any_of(statuses: &[Status]) -> Bson {
    match statuses {
        [only] => only.as_str().into(),
        several => {
            let words: Vec<&str> = several.iter().map(|status| status.as_str()).collect();
            doc! { "$in": words }.into()
        }
    }
}
