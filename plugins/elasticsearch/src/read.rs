//! Reading by ids. `_mget` is real-time: it shows what was acknowledged, refreshed or not.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use warren_plugin_api::{BatchResult, Record, Status, StoreResult, Text, Timestamp};

use crate::{
    client::{Body, Kind},
    document::{self, Source},
    error::{Failure, Refusal},
    index::Index,
    job_key::document_id,
};

/// Documents of one request, with payloads and without.
const WHOLE_AT_ONCE: usize = 250;
const HEADS_AT_ONCE: usize = 1_000;

const WHOLE: &str = "_mget?_source_includes=record,payloads";
const HEADS: &str = "_mget?_source_includes=record";

/// Reads through one alias.
pub(crate) struct Reader<'a> {
    pub(crate) index: &'a Index,
}

/// A document, or that there is none, and the version it has.
#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    found: bool,
    #[serde(rename = "_seq_no")]
    seq_no: Option<u64>,
    #[serde(rename = "_primary_term")]
    primary_term: Option<u64>,
    #[serde(rename = "_source")]
    source: Option<Source>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Documents {
    docs: Vec<Document>,
}

/// Which state of a document a write refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DocumentVersion {
    pub(crate) seq_no: u64,
    pub(crate) primary_term: u64,
}

/// What stands in a document.
pub(crate) struct Stored {
    pub(crate) version: DocumentVersion,
    /// Without its payloads where only heads were asked for; `corrupt_data` when it is no record.
    pub(crate) record: StoreResult<Record>,
}

impl Reader<'_> {
    pub(crate) async fn get_many(&self, job_ids: &[Text]) -> BatchResult<Option<Record>> {
        let ids: Vec<String> = job_ids.iter().map(|id| document_id(id)).collect();
        let records = self
            .many(&ids, WHOLE, WHOLE_AT_ONCE, document::decode)
            .await;
        self.live(records, |record| record)
    }

    pub(crate) async fn status_many(&self, job_ids: &[Text]) -> BatchResult<Option<Status>> {
        let ids: Vec<String> = job_ids.iter().map(|id| document_id(id)).collect();
        let records = self
            .many(&ids, HEADS, HEADS_AT_ONCE, document::decode_head)
            .await;
        self.live(records, |record| record.status)
    }

    /// What is stored under documents' ids, in one request.
    pub(crate) async fn heads(&self, ids: &[&str]) -> Result<Vec<Item>, Failure> {
        self.documents(ids, HEADS, document::decode_head).await
    }

    /// Whole records by their documents' ids, expired or not.
    pub(crate) async fn whole(&self, ids: &[&str]) -> Result<Vec<Item>, Failure> {
        self.documents(ids, WHOLE, document::decode).await
    }

    /// What has not expired by this machine's clock.
    fn live<T>(
        &self,
        records: Result<Vec<Item>, Failure>,
        wanted: impl Fn(Record) -> T,
    ) -> BatchResult<Option<T>> {
        let records = records.map_err(|failure| self.index.store_error(&failure))?;
        let now = Timestamp::now();
        Ok(records
            .into_iter()
            .map(|item| match item {
                Ok(None) => Ok(None),
                Ok(Some(stored)) => {
                    let record = stored.record?;
                    Ok((!record.is_expired(now)).then(|| wanted(record)))
                }
                Err(refusal) => Err(self.index.store_error(&refusal.into())),
            })
            .collect())
    }

    async fn many(
        &self,
        ids: &[String],
        endpoint: &str,
        at_once: usize,
        decode: fn(&str, &Source) -> StoreResult<Record>,
    ) -> Result<Vec<Item>, Failure> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(at_once) {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            found.append(&mut self.documents(&ids, endpoint, decode).await?);
        }
        Ok(found)
    }

    async fn documents(
        &self,
        ids: &[&str],
        endpoint: &str,
        decode: fn(&str, &Source) -> StoreResult<Record>,
    ) -> Result<Vec<Item>, Failure> {
        let body = json!({ "ids": ids }).to_string().into_bytes();
        let mut again = false;
        loop {
            let answer: Documents = self
                .index
                .send(Kind::Read, &Method::POST, endpoint, Body::Json(&body))
                .await?;
            let items = items(ids, answer.docs, decode)?;
            let is_gone = items
                .iter()
                .any(|item| matches!(item, Err(refusal) if refusal.is_missing_index()));
            if !is_gone || again {
                return Ok(items);
            }
            // Told for each item, under a status of 200.
            self.index.is_gone();
            again = true;
        }
    }
}

/// The answer for one id: nothing, what is stored, or why that is not known.
pub(crate) type Item = Result<Option<Stored>, Refusal>;

/// Answers come in the order of the ids; that is checked.
fn items(
    ids: &[&str],
    documents: Vec<Document>,
    decode: fn(&str, &Source) -> StoreResult<Record>,
) -> Result<Vec<Item>, Failure> {
    let is_answered = documents.len() == ids.len()
        && ids
            .iter()
            .zip(&documents)
            .all(|(id, found)| *id == found.id);
    if !is_answered {
        return Err(Failure::Strange(format!(
            "{} documents were asked for, and {} answered, or others",
            ids.len(),
            documents.len()
        )));
    }
    documents
        .into_iter()
        .map(|document| item(&document, decode))
        .collect()
}

fn item(
    document: &Document,
    decode: fn(&str, &Source) -> StoreResult<Record>,
) -> Result<Item, Failure> {
    if let Some(error) = &document.error {
        // An item has no status of its own.
        return Ok(Err(Refusal::of_error(503, error)));
    }
    if !document.found {
        return Ok(Ok(None));
    }
    let (Some(seq_no), Some(primary_term)) = (document.seq_no, document.primary_term) else {
        return Err(Failure::Strange(
            "a document without _seq_no and _primary_term".to_owned(),
        ));
    };
    let nothing = Source::default();
    let source = document.source.as_ref().unwrap_or(&nothing);
    Ok(Ok(Some(Stored {
        version: DocumentVersion {
            seq_no,
            primary_term,
        },
        record: decode(&document.id, source),
    })))
}
