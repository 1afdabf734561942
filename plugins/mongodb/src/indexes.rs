//! The indexes of the collection. Whoever comes first makes them; making them again does nothing.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use warren_plugin_api::StoreError;

use crate::{
    database::Database,
    document::{ENQUEUED_AT, FUNCTION, ID, QUEUE, STATUS, TTL_AT},
    error::{Failure, NO_COLLECTION, UNAUTHORIZED},
};

/// The order of listings; every index for them ends with it.
pub(crate) fn newest_first() -> Document {
    doc! { ENQUEUED_AT: -1, ID: -1 }
}

/// Name and keys of each index.
fn wanted() -> [(&'static str, Document); 5] {
    let by = |field: &str| {
        let mut keys = doc! { field: 1 };
        keys.extend(newest_first());
        keys
    };
    [
        ("by_time", newest_first()),
        ("by_status", by(STATUS)),
        ("by_queue", by(QUEUE)),
        ("by_function", by(FUNCTION)),
        (EXPIRY, doc! { TTL_AT: 1 }),
    ]
}

const EXPIRY: &str = "by_expiry";

/// Over a collection that has records already, this takes longer than any other command. The host
/// gives opening 30 s, and every other call less.
const MADE_WITHIN: Duration = Duration::from_secs(25);

/// Makes what is missing. It looks first, since looking takes fewer rights and no lock.
pub(crate) async fn ensure(database: &Database) -> Result<(), Failure> {
    let there = existing(database).await?;
    let missing: Vec<Document> = wanted()
        .into_iter()
        .filter(|(name, _)| named(&there, name).is_none())
        .map(|(name, keys)| spec(name, keys))
        .collect();
    if missing.is_empty() {
        return same_keys(database, &there);
    }
    let command = doc! {
        "createIndexes": database.collection_name(),
        "indexes": missing,
        "writeConcern": database.write_concern()?,
    };
    match database.run_within(MADE_WITHIN, command).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.code() == Some(UNAUTHORIZED) => {
            let error = failure.to_store_error(database.address());
            Err(StoreError::invalid_config(format!(
                "the indexes of {} are missing and cannot be made: {}",
                database.collection_name(),
                error.message()
            ))
            .into())
        }
        Err(failure) => Err(failure),
    }
}

fn spec(name: &str, keys: Document) -> Document {
    let mut spec = doc! { "key": keys, "name": name };
    if name == EXPIRY {
        // The date is the time itself.
        spec.insert("expireAfterSeconds", 0);
    }
    spec
}

async fn existing(database: &Database) -> Result<Vec<Document>, Failure> {
    let command = doc! { "listIndexes": database.collection_name(), "cursor": {} };
    let answer = match database.run(command).await {
        Ok(answer) => answer,
        Err(failure) if failure.code() == Some(NO_COLLECTION) => return Ok(Vec::new()),
        Err(failure) => return Err(failure),
    };
    // A collection has at most 64 indexes, which one answer holds.
    let batch = answer
        .get_document("cursor")
        .and_then(|cursor| cursor.get_array("firstBatch"));
    let batch = batch.map_err(|error| {
        StoreError::unavailable(format!("listIndexes was answered otherwise: {error}"))
    })?;
    Ok(batch
        .iter()
        .filter_map(|index| index.as_document().cloned())
        .collect())
}

fn named<'a>(there: &'a [Document], name: &str) -> Option<&'a Document> {
    there
        .iter()
        .find(|index| index.get_str("name").is_ok_and(|found| found == name))
}

/// Another program's index of that name would make listings slow and keep what has expired.
fn same_keys(database: &Database, there: &[Document]) -> Result<(), Failure> {
    for (name, keys) in wanted() {
        let found = named(there, name).and_then(|index| index.get_document("key").ok());
        let Some(found) = found else {
            continue;
        };
        if !is_same(found, &keys) {
            return Err(StoreError::invalid_config(format!(
                "the index {name} of {} has the keys {found}, expected {keys}: choose another \
                 database or collection_prefix, or drop the index",
                database.collection_name()
            ))
            .into());
        }
    }
    Ok(())
}

/// Directions may come back as numbers of another type.
fn is_same(found: &Document, wanted: &Document) -> bool {
    let direction = |value: &mongodb::bson::Bson| match value {
        mongodb::bson::Bson::Int32(number) => Some(f64::from(*number)),
        mongodb::bson::Bson::Int64(1) => Some(1.0),
        mongodb::bson::Bson::Int64(-1) => Some(-1.0),
        mongodb::bson::Bson::Double(number) => Some(*number),
        _ => None,
    };
    found.len() == wanted.len()
        && found
            .iter()
            .zip(wanted)
            .all(|((a, x), (b, y))| a == b && direction(x) == direction(y))
}
