//! reqwest alone, on the index that the Elasticsearch store has made: `_mget` of what is stored, and
//! then one `_bulk` of writes that each take effect only if it is still that.

use reqwest::{Client, Url, header::CONTENT_TYPE};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use warren_plugin_api::{Record, Text, Timestamp, WriteMode};

use super::{
    Driver, Place,
    backend::PATIENCE,
    elasticsearch_document::{self as document, Source},
    http,
};
use crate::error::{BenchError, ensure};

/// Records of one request, as the store has them.
const WRITTEN_AT_ONCE: usize = 500;
const READ_AT_ONCE: usize = 250;

pub(super) struct Bare {
    http: Client,
    index: String,
}

#[derive(Deserialize)]
struct Documents {
    docs: Vec<Document>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "_seq_no")]
    seq_no: Option<u64>,
    #[serde(rename = "_primary_term")]
    primary_term: Option<u64>,
    /// Where there is a document.
    #[serde(rename = "_source")]
    source: Option<Source>,
}

#[derive(Deserialize)]
struct Done {
    items: Vec<DoneItem>,
}

#[derive(Deserialize)]
struct DoneItem {
    #[serde(alias = "create", alias = "index")]
    action: Status,
}

#[derive(Deserialize)]
struct Status {
    status: u16,
}

impl Bare {
    pub(super) fn connect(place: &Place) -> Result<Self, BenchError> {
        Ok(Self {
            http: http::client()?.build()?,
            index: format!("{}/{}", place.url.trim_end_matches('/'), place.schema()),
        })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        media_type: &'static str,
        body: Vec<u8>,
    ) -> Result<T, BenchError> {
        let url = format!("{}/{endpoint}", self.index);
        let request = self.http.post(url).header(CONTENT_TYPE, media_type);
        let answer = request.body(body).send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// What is stored, in the order of the ids.
    async fn documents(&self, ids: &[&str], fields: &str) -> Result<Vec<Document>, BenchError> {
        let endpoint = format!("_mget?_source_includes={fields}");
        let body = json!({ "ids": ids }).to_string().into_bytes();
        let found: Documents = self.ask(&endpoint, "application/json", body).await?;
        ensure("documents answered", found.docs.len(), ids.len())?;
        Ok(found.docs)
    }
}

impl Driver for Bare {
    async fn write(&mut self, records: &[Record]) -> Result<(), BenchError> {
        for records in records.chunks(WRITTEN_AT_ONCE) {
            let ids: Vec<&str> = records.iter().map(|it| it.job_id.as_str()).collect();
            let stored = self.documents(&ids, "record").await?;
            let mut lines = Vec::new();
            for (record, stored) in records.iter().zip(stored) {
                add_action(&mut lines, record, &stored)?;
            }
            let endpoint = "_bulk?require_alias=true&timeout=59500ms";
            let done: Done = self.ask(endpoint, "application/x-ndjson", lines).await?;
            let is_written = |it: &&DoneItem| matches!(it.action.status, 200 | 201);
            let written = done.items.iter().filter(is_written).count();
            ensure("records written", written, records.len())?;
        }
        Ok(())
    }

    async fn read(&mut self, ids: &[Text]) -> Result<Vec<Record>, BenchError> {
        let mut records = Vec::with_capacity(ids.len());
        for ids in ids.chunks(READ_AT_ONCE) {
            let ids: Vec<&str> = ids.iter().map(Text::as_str).collect();
            for found in self.documents(&ids, "record,payloads").await? {
                if let Some(source) = found.source {
                    records.push(document::read(&source)?);
                }
            }
        }
        let now = Timestamp::now();
        records.retain(|record| !record.is_expired(now));
        Ok(records)
    }
}

/// Creates the document where there is none, else replaces the one that was looked at.
fn add_action(lines: &mut Vec<u8>, record: &Record, stored: &Document) -> Result<(), BenchError> {
    let action = match &stored.source {
        None => json!({ "create": { "_id": record.job_id.as_str() } }),
        Some(source) => {
            let head = document::read_head(source)?;
            let (new, there) = (record.version(), Some(head.version_and_expiry()));
            let may = WriteMode::IfNewer.may_replace(new, there, Timestamp::now());
            ensure("whether a record may be written", may, true)?;
            json!({ "index": {
                "_id": record.job_id.as_str(),
                "if_seq_no": stored.seq_no,
                "if_primary_term": stored.primary_term,
            } })
        }
    };
    serde_json::to_writer(&mut *lines, &action)?;
    lines.push(b'\n');
    document::write(record, lines)?;
    lines.push(b'\n');
    Ok(())
}

/// The store takes user and password apart from the address.
pub(super) fn config(place: &Place) -> Value {
    let mut config = json!({
        "elasticsearch_urls": [place.url],
        "index": place.schema(),
        "request_timeout": PATIENCE,
    });
    if let Ok(mut url) = Url::parse(&place.url)
        && let Some(password) = url.password().map(str::to_owned)
    {
        config["username"] = url.username().into();
        config["password"] = password.into();
        let _ = url.set_username("");
        let _ = url.set_password(None);
        config["elasticsearch_urls"] = json!([url.as_str()]);
    }
    config
}

/// Removes the index.
pub(super) async fn remove(place: &Place) -> Result<(), BenchError> {
    let bare = Bare::connect(place)?;
    let removing = bare.http.delete(format!("{}-v1", bare.index)).send();
    removing.await?.error_for_status()?;
    Ok(())
}
