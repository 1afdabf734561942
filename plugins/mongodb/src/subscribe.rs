//! Completions, pushed.

use futures_util::StreamExt;
use mongodb::bson::{Document, RawDocument, doc};
use tokio::sync::watch;
use warren_plugin_api::{
    CompletionSink, ErrorClass, HostContext, Status, StoreError, StoreResult, Text,
};

use crate::{
    database::Database,
    error::{Failure, UNAUTHORIZED},
    health::{Kind, kind},
};

/// Whether a change stream can be had: tried, since rights count too, and compatible servers
/// differ.
///
/// # Errors
/// When the server cannot be asked.
pub(crate) async fn is_possible(
    database: &Database,
    hello: &Document,
    host: &HostContext,
) -> Result<bool, Failure> {
    if matches!(kind(hello), Kind::Single) {
        return Ok(false);
    }
    let failure = match database.watch(endings()).await {
        Ok(_stream) => return Ok(true),
        Err(failure) => failure,
    };
    let error = database.store_error(&failure);
    if error.class() == ErrorClass::Unavailable {
        return Err(failure);
    }
    let advice = match failure.code() {
        Some(UNAUTHORIZED) => "give the user the right to changeStream",
        _ => "set push = false",
    };
    host.warn(format_args!(
        "ended jobs are not announced, clients ask again and again: {}: {advice}",
        error.message()
    ));
    Ok(false)
}

/// Ended jobs, with no more of each than its key and status. What replaces a document is a
/// `replace` with the whole of it; a deleted one is marked by an `update`, which nobody is told.
fn endings() -> Vec<Document> {
    let ended: Vec<&str> = Status::ALL
        .into_iter()
        .filter(|status| status.is_terminal())
        .map(|status| status.as_str())
        .collect();
    vec![
        doc! { "$match": {
            "operationType": { "$in": ["insert", "replace"] },
            "fullDocument.status": { "$in": ended },
        } },
        doc! { "$project": { "documentKey._id": 1, "fullDocument.status": 1 } },
    ]
}

/// Listens until the stream is lost or the store closed. The driver takes up a stream again
/// where it was broken off, without a gap.
pub(crate) async fn listen(
    database: &Database,
    closed: &mut watch::Receiver<bool>,
    sink: &CompletionSink,
) -> StoreResult<()> {
    tokio::select! {
        ended = announce_all(database, sink) => ended,
        () = is_closed(closed) => Err(StoreError::unavailable("the store was closed")),
    }
}

async fn announce_all(database: &Database, sink: &CompletionSink) -> StoreResult<()> {
    let described = |failure: Failure| database.store_error(&failure);
    let apart = database.apart().map_err(described)?;
    let mut changes = apart.watch(endings()).await.map_err(described)?;
    sink.ready();
    while let Some(change) = changes.next().await {
        let change = change.map_err(|error| lost(database, &Failure::Driver(error)))?;
        if let Some((job_id, status)) = completion(&change) {
            sink.completed(job_id, status);
        }
    }
    Err(StoreError::unavailable(format!(
        "the subscription to MongoDB at {} is lost: the collection was dropped or renamed",
        database.address()
    )))
}

/// Whatever ended it: the host subscribes again.
fn lost(database: &Database, failure: &Failure) -> StoreError {
    let error = database.store_error(failure);
    StoreError::unavailable(format!("the subscription is lost: {}", error.message()))
}

fn completion(change: &RawDocument) -> Option<(Text, Status)> {
    let key = change.get_document("documentKey").ok()?;
    let document = change.get_document("fullDocument").ok()?;
    let status: Status = document.get_str("status").ok()?.parse().ok()?;
    let job_id = key.get_str("_id").ok()?;
    status.is_terminal().then(|| (job_id.into(), status))
}

async fn is_closed(closed: &mut watch::Receiver<bool>) {
    // An error means that the store is gone, which is as good as closed.
    let _ = closed.wait_for(|closed| *closed).await;
}

#[cfg(test)]
mod tests {
    use mongodb::bson::RawDocumentBuf;

    use super::*;

    #[test]
    fn anything_else_in_the_stream_is_ignored() {
        for change in [
            doc! {},
            doc! { "documentKey": { "_id": 1 }, "fullDocument": { "status": "failed" } },
            doc! { "documentKey": { "_id": "a" }, "fullDocument": { "status": "queued" } },
            doc! { "documentKey": { "_id": "a" }, "fullDocument": { "status": "done" } },
            doc! { "documentKey": { "_id": "a" } },
        ] {
            let raw = RawDocumentBuf::try_from(&change).unwrap();
            assert_eq!(completion(&raw), None, "{change}");
        }
        let change = doc! { "documentKey": { "_id": "a" }, "fullDocument": { "status": "failed" } };
        let raw = RawDocumentBuf::try_from(&change).unwrap();
        assert_eq!(completion(&raw), Some(("a".into(), Status::Failed)));
    }
}
