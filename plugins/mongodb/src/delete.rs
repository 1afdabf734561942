//! Deleting, so that each record is found by exactly one of those who delete it.
//!
//! The server counts what a command deleted and does not say which. So many records are first
//! marked, in one step for each: they expire, and carry the id of this delete. Whatever happens
//! next, they are gone for everybody, and nobody else can count them.

use std::collections::HashMap;

use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use warren_plugin_api::{BatchResult, StoreError, StoreResult, Text, Timestamp};

use crate::{
    database::Database,
    document::{self, EXPIRES_AT, ID, TTL_AT, WRITE_ID},
    error::{Failure, ServerError, write_concern_error},
    guard::live,
    read::{IDS_AT_ONCE, any_of, find},
};

/// Deletes one record; `true` when a live one was there.
pub(crate) async fn delete(database: &Database, job_id: &Text) -> StoreResult<bool> {
    let mut condition = live(Timestamp::now());
    condition.insert(ID, job_id.as_str());
    let deleted = remove(database, condition, 1).await;
    deleted
        .map(|deleted| deleted > 0)
        .map_err(|failure| database.store_error(&failure))
}

/// Deletes many records, and says of each whether a live one was there.
pub(crate) async fn delete_many(database: &Database, job_ids: &[Text]) -> BatchResult<bool> {
    let mut deleted: Vec<StoreResult<bool>> = vec![Ok(false); job_ids.len()];
    // Of one that is there twice, the first finds it.
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(job_ids.len());
    let mut distinct = Vec::with_capacity(job_ids.len());
    for (place, job_id) in job_ids.iter().enumerate() {
        places.entry(job_id).or_insert_with(|| {
            distinct.push(job_id.clone());
            place
        });
    }
    for ids in distinct.chunks(IDS_AT_ONCE) {
        let answers = delete_chunk(database, ids).await.unwrap_or_else(|failure| {
            let error = database.store_error(&failure);
            vec![Err(error); ids.len()]
        });
        for (job_id, answer) in ids.iter().zip(answers) {
            let place = places.get(job_id.as_str());
            if let Some(found) = place.and_then(|place| deleted.get_mut(*place)) {
                *found = answer;
            }
        }
    }
    Ok(deleted)
}

async fn delete_chunk(
    database: &Database,
    ids: &[Text],
) -> Result<Vec<StoreResult<bool>>, Failure> {
    let mark = ObjectId::new();
    let marked = mark_all(database, ids, mark).await?;
    let answers = if marked == ids.len() {
        vec![Ok(true); ids.len()]
    } else if marked == 0 {
        vec![Ok(false); ids.len()]
    } else {
        find_marked(database, ids, mark, marked).await?
    };
    let gone = doc! { ID: any_of(ids), EXPIRES_AT: { "$lte": Timestamp::now().unix_us() } };
    remove(database, gone, 0).await?;
    Ok(answers)
}

/// Makes every live record of these jobs expire, and returns how many there were.
async fn mark_all(database: &Database, ids: &[Text], mark: ObjectId) -> Result<usize, Failure> {
    let mut condition = live(Timestamp::now());
    condition.insert(ID, any_of(ids));
    let marked = doc! {
        EXPIRES_AT: Timestamp::MIN.unix_us(),
        TTL_AT: DateTime::from_millis(0),
        WRITE_ID: mark,
    };
    let command = doc! {
        "update": database.collection_name(),
        "updates": [{ "q": condition, "u": { "$set": marked }, "multi": true }],
        "writeConcern": database.write_concern()?,
        "maxTimeMS": database.max_time_ms(),
    };
    counted(&database.run(command).await?)
}

async fn find_marked(
    database: &Database,
    ids: &[Text],
    mark: ObjectId,
    marked: usize,
) -> Result<Vec<StoreResult<bool>>, Failure> {
    let found = find(database, ids, doc! { WRITE_ID: mark }, Some(doc! { ID: 1 })).await?;
    let found: Vec<&str> = found
        .iter()
        .filter_map(|document| document::job_id(document))
        .collect();
    let is_certain = found.len() == marked;
    let found: std::collections::HashSet<&str> = found.into_iter().collect();
    Ok(ids
        .iter()
        .map(|id| match found.contains(id.as_str()) {
            true => Ok(true),
            false if is_certain => Ok(false),
            false => Err(StoreError::conflict(format!(
                "MongoDB at {}: a job was written while it was deleted, and it is not known \
                 whether it was this one",
                database.address()
            ))),
        })
        .collect())
}

/// Removes what matches, one or all (`limit` 0), and returns how many there were.
pub(crate) async fn remove(
    database: &Database,
    condition: Document,
    limit: i32,
) -> Result<usize, Failure> {
    let command = doc! {
        "delete": database.collection_name(),
        "deletes": [{ "q": condition, "limit": limit }],
        "writeConcern": database.write_concern()?,
        "maxTimeMS": database.max_time_ms(),
    };
    counted(&database.run(command).await?)
}

/// How many documents a command of one statement took.
fn counted(answer: &Document) -> Result<usize, Failure> {
    let errors = answer.get_array("writeErrors").ok();
    if let Some(error) = errors.and_then(|errors| errors.first()?.as_document()) {
        return Err(Failure::Part(ServerError::of(error)));
    }
    if let Some(error) = write_concern_error(answer) {
        return Err(Failure::Part(error));
    }
    let count = match answer.get("n") {
        Some(Bson::Int32(count)) => usize::try_from(*count).ok(),
        Some(Bson::Int64(count)) => usize::try_from(*count).ok(),
        _ => None,
    };
    count.ok_or_else(|| {
        StoreError::unavailable("the server did not say how many documents it changed").into()
    })
}
