//! Reading records and statuses by their ids.

use std::collections::{HashMap, hash_map::Entry};

use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use warren_plugin_api::{BatchResult, Record, Status, StoreResult, Text, Timestamp};

use crate::{
    database::{Database, Query},
    document::{self, ID, STATUS},
    error::Failure,
    guard::live,
};

/// What one command asks for: its time on the server is many round trips'.
pub(crate) const IDS_AT_ONCE: usize = 100;
/// How many commands of one call are under way.
const COMMANDS_AT_ONCE: usize = 4;

/// Reads from one store's collection.
pub(crate) struct Reader<'a> {
    pub(crate) database: &'a Database,
}

impl Reader<'_> {
    pub(crate) async fn get_many(&self, job_ids: &[Text]) -> BatchResult<Option<Record>> {
        self.read(job_ids, None, document::record).await
    }

    pub(crate) async fn status_many(&self, job_ids: &[Text]) -> BatchResult<Option<Status>> {
        self.read(job_ids, Some(doc! { STATUS: 1 }), document::status)
            .await
    }

    async fn read<T: Clone>(
        &self,
        job_ids: &[Text],
        projection: Option<Document>,
        decode: impl Fn(&RawDocument) -> StoreResult<T>,
    ) -> BatchResult<Option<T>> {
        let chunks = job_ids.chunks(IDS_AT_ONCE);
        let finds: Vec<_> = chunks
            .map(|ids| {
                find(
                    self.database,
                    ids,
                    live(Timestamp::now()),
                    projection.clone(),
                )
            })
            .collect();
        let found: Vec<Vec<RawDocumentBuf>> = stream::iter(finds)
            .buffered(COMMANDS_AT_ONCE)
            .try_collect()
            .await
            .map_err(|failure| self.database.store_error(&failure))?;
        let mut answers = Vec::with_capacity(job_ids.len());
        for (ids, found) in job_ids.chunks(IDS_AT_ONCE).zip(found) {
            answers.append(&mut in_order(ids, &found, &decode));
        }
        Ok(answers)
    }
}

/// The documents of the jobs that pass.
pub(crate) async fn find(
    database: &Database,
    job_ids: &[Text],
    mut filter: Document,
    projection: Option<Document>,
) -> Result<Vec<RawDocumentBuf>, Failure> {
    filter.insert(ID, any_of(job_ids));
    database
        .find(Query {
            filter,
            projection,
            limit: job_ids.len(),
            ..Query::default()
        })
        .await
}

/// A condition for a key.
pub(crate) fn any_of(job_ids: &[Text]) -> Bson {
    match job_ids {
        [only] => only.as_str().into(),
        several => {
            let several: Vec<&str> = several.iter().map(Text::as_str).collect();
            doc! { "$in": several }.into()
        }
    }
}

/// An answer for each id; what was asked for again is a copy of the first answer.
fn in_order<T: Clone>(
    ids: &[Text],
    found: &[RawDocumentBuf],
    decode: impl Fn(&RawDocument) -> StoreResult<T>,
) -> Vec<StoreResult<Option<T>>> {
    let mut places = HashMap::with_capacity(ids.len());
    let mut again = Vec::new();
    for (place, id) in ids.iter().enumerate() {
        match places.entry(id.as_str()) {
            Entry::Vacant(entry) => {
                entry.insert(place);
            }
            Entry::Occupied(first) => again.push((place, *first.get())),
        }
    }
    let mut answers: Vec<StoreResult<Option<T>>> = vec![Ok(None); ids.len()];
    for document in found {
        let place = document::job_id(document).and_then(|id| places.get(id));
        if let Some(answer) = place.and_then(|place| answers.get_mut(*place)) {
            *answer = decode(document).map(Some);
        }
    }
    for (place, first) in again {
        if let Some(answer) = answers.get(first).cloned()
            && let Some(copy) = answers.get_mut(place)
        {
            *copy = answer;
        }
    }
    answers
}
