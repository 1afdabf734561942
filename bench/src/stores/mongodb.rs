//! The MongoDB driver alone, on the collection and the indexes that the MongoDB store has made: one
//! `update` command for each batch, which replaces earlier versions and inserts where there is none.

use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::{
    Client, Collection, Database,
    bson::{RawArrayBuf, RawDocumentBuf, doc, rawdoc},
};
use warren_plugin_api::{Record, Status, Text, Timestamp};

use super::{Driver, Place, mongodb_document as document};
use crate::error::{BenchError, ensure};

const COLLECTION: &str = "warren_results";
/// Ids of one command, and commands under way, as the store has them.
const IDS_AT_ONCE: usize = 100;
const COMMANDS_AT_ONCE: usize = 4;
/// As the store is configured here.
const LIMIT_MS: i32 = 60_000;

pub(super) struct Bare {
    database: Database,
    collection: Collection<RawDocumentBuf>,
}

impl Bare {
    pub(super) async fn connect(place: &Place) -> Result<Self, BenchError> {
        let database = Client::with_uri_str(&place.url)
            .await?
            .database(&place.schema());
        Ok(Self {
            collection: database.collection(COLLECTION),
            database,
        })
    }

    /// What has not expired, in one answer.
    async fn find(&self, ids: &[Text]) -> Result<Vec<RawDocumentBuf>, BenchError> {
        let expired = doc! { "$lte": Timestamp::now().unix_us() };
        let several: Vec<&str> = ids.iter().map(Text::as_str).collect();
        let found = self
            .collection
            .find(doc! { "expires_at": { "$not": expired }, "_id": { "$in": several } })
            .limit(ids.len() as i64)
            .batch_size(ids.len() as u32 + 1)
            .max_time(std::time::Duration::from_millis(LIMIT_MS as u64))
            .await?;
        Ok(found.try_collect().await?)
    }
}

impl Driver for Bare {
    async fn write(&mut self, records: &[Record]) -> Result<(), BenchError> {
        let mut updates = RawArrayBuf::new();
        for record in records {
            updates.push(update(record));
        }
        let answer = self
            .database
            .run_raw_command(rawdoc! {
                "update": COLLECTION,
                "updates": updates,
                "ordered": false,
                "writeConcern": { "w": "majority", "wtimeout": LIMIT_MS },
                "maxTimeMS": LIMIT_MS,
            })
            .await?;
        ensure("records written", written(&answer), records.len())
    }

    async fn read(&mut self, ids: &[Text]) -> Result<Vec<Record>, BenchError> {
        let finds: Vec<_> = ids.chunks(IDS_AT_ONCE).map(|ids| self.find(ids)).collect();
        let found: Vec<Vec<RawDocumentBuf>> = stream::iter(finds)
            .buffered(COMMANDS_AT_ONCE)
            .try_collect()
            .await?;
        let mut records = Vec::with_capacity(ids.len());
        for document in found.iter().flatten() {
            records.push(document::read(document)?);
        }
        Ok(records)
    }
}

/// Where a later version is there, this matches nothing, and the insert meets the same key: the
/// server then counts one less.
fn update(record: &Record) -> RawDocumentBuf {
    let version = document::version_number(record);
    let earlier = if record.status.is_terminal() {
        rawdoc! { "$lt": version }
    } else {
        rawdoc! { "$lte": version }
    };
    let mut condition = rawdoc! { "_id": record.job_id.as_str(), "version": earlier };
    if record.status == Status::Queued {
        let open = rawdoc! { "$nin": ["completed", "failed", "aborted"] };
        condition.append(mongodb::bson::raw::cstr!("status"), open);
    }
    rawdoc! { "q": condition, "u": document::write(record), "upsert": true }
}

fn written(answer: &mongodb::bson::Document) -> usize {
    let count = answer.get("n").and_then(|count| match count {
        mongodb::bson::Bson::Int32(count) => usize::try_from(*count).ok(),
        mongodb::bson::Bson::Int64(count) => usize::try_from(*count).ok(),
        _ => None,
    });
    count.unwrap_or_default()
}

/// Removes the database.
pub(super) async fn remove(place: &Place) -> Result<(), BenchError> {
    let client = Client::with_uri_str(&place.url).await?;
    client.database(&place.schema()).drop().await?;
    Ok(())
}
