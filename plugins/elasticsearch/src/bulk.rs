//! `_bulk`: many conditional writes in one request, each answered by itself.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    client::{Body, Kind},
    config::Refresh,
    error::{Failure, Refusal},
    index::Index,
    read::DocumentVersion,
};

/// One document's action.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action<'a> {
    /// Only where there is none.
    Create(&'a [u8]),
    /// Only over this version.
    Replace(DocumentVersion, &'a [u8]),
    /// Only this version.
    Delete(DocumentVersion),
}

/// What became of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Made,
    /// The document is not what the action refers to: look again.
    Changed,
    Refused(Refusal),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ActionLine<'a> {
    Create(Target<'a>),
    Index(Target<'a>),
    Delete(Target<'a>),
}

#[derive(Serialize)]
struct Target<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_seq_no: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_primary_term: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<ItemAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ItemAnswer {
    Create(ItemResult),
    Index(ItemResult),
    Delete(ItemResult),
}

#[derive(Deserialize)]
struct ItemResult {
    #[serde(rename = "_id")]
    id: Option<String>,
    status: u16,
    error: Option<Value>,
}

/// The lines of the actions.
pub(crate) fn lines(actions: &[(&str, Action<'_>)]) -> Result<Vec<u8>, Failure> {
    let mut lines = Vec::new();
    for (id, action) in actions {
        let target = |version: Option<&DocumentVersion>| Target {
            id,
            if_seq_no: version.map(|version| version.seq_no),
            if_primary_term: version.map(|version| version.primary_term),
        };
        let (line, document) = match action {
            Action::Create(document) => (ActionLine::Create(target(None)), Some(*document)),
            Action::Replace(version, document) => {
                (ActionLine::Index(target(Some(version))), Some(*document))
            }
            Action::Delete(version) => (ActionLine::Delete(target(Some(version))), None),
        };
        serde_json::to_writer(&mut lines, &line)
            .map_err(|error| Failure::Strange(format!("an action cannot be encoded: {error}")))?;
        lines.push(b'\n');
        if let Some(document) = document {
            lines.extend_from_slice(document);
            lines.push(b'\n');
        }
    }
    Ok(lines)
}

/// Sends the actions; the answers are in their order.
pub(crate) async fn send(
    index: &Index,
    refresh: Refresh,
    actions: &[(&str, Action<'_>)],
) -> Result<Vec<Outcome>, Failure> {
    let body = lines(actions)?;
    // Without require_alias a missing index would be made with a mapping that nobody chose.
    let mut endpoint = format!(
        "_bulk?require_alias=true&timeout={}ms",
        index.client.servers_limit().as_millis()
    );
    if refresh == Refresh::OnWrite {
        endpoint.push_str("&refresh=wait_for");
    }
    let answer: Answer = index
        .send(Kind::Write, &Method::POST, &endpoint, Body::Lines(&body))
        .await?;
    let done = judged(actions, answer)?;
    let is_gone =
        |done: &Outcome| matches!(done, Outcome::Refused(refusal) if refusal.is_missing_index());
    if done.iter().any(is_gone) {
        index.is_gone();
    }
    Ok(done)
}

fn judged(actions: &[(&str, Action<'_>)], answer: Answer) -> Result<Vec<Outcome>, Failure> {
    if answer.items.len() != actions.len() {
        return Err(Failure::Strange(format!(
            "{} writes were sent and {} answered",
            actions.len(),
            answer.items.len()
        )));
    }
    let mut done = Vec::with_capacity(actions.len());
    for ((id, _), item) in actions.iter().zip(answer.items) {
        let (ItemAnswer::Create(result) | ItemAnswer::Index(result) | ItemAnswer::Delete(result)) =
            item;
        if result.id.as_deref().is_some_and(|answered| answered != *id) {
            return Err(Failure::Strange(
                "a write was answered for another document".to_owned(),
            ));
        }
        done.push(match (result.status, &result.error) {
            (200 | 201, None) => Outcome::Made,
            // What was to be deleted is gone.
            (404, None) => Outcome::Changed,
            (status, error) => {
                let nothing = Value::Null;
                let refusal = Refusal::of_error(status, error.as_ref().unwrap_or(&nothing));
                if refusal.is_conflict() {
                    Outcome::Changed
                } else {
                    Outcome::Refused(refusal)
                }
            }
        });
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: DocumentVersion = DocumentVersion {
        seq_no: 7,
        primary_term: 2,
    };

    #[test]
    fn actions_are_written_as_the_bulk_api_has_them() {
        let actions = [
            ("a", Action::Create(b"{\"x\":1}")),
            ("b", Action::Replace(VERSION, b"{}")),
            ("c", Action::Delete(VERSION)),
        ];
        let expected = "{\"create\":{\"_id\":\"a\"}}\n{\"x\":1}\n\
             {\"index\":{\"_id\":\"b\",\"if_seq_no\":7,\"if_primary_term\":2}}\n{}\n\
             {\"delete\":{\"_id\":\"c\",\"if_seq_no\":7,\"if_primary_term\":2}}\n";
        assert_eq!(lines(&actions).unwrap(), expected.as_bytes());
    }

    #[test]
    fn a_status_of_200_may_hold_failures() {
        let ids = ["a", "b", "c", "d", "e"];
        let actions = ids.map(|id| (id, Action::Delete(VERSION)));
        let answer = r#"{"took": 1, "errors": true, "items": [
            {"index": {"_id": "a", "status": 200, "result": "updated"}},
            {"create": {"_id": "b", "status": 409,
                "error": {"type": "version_conflict_engine_exception", "reason": "r"}}},
            {"index": {"_id": "c", "status": 429,
                "error": {"type": "es_rejected_execution_exception", "reason": "full"}}},
            {"delete": {"_id": "d", "status": 404, "result": "not_found"}},
            {"index": {"_id": "e", "status": 500}}]}"#;
        let done = judged(&actions, serde_json::from_str(answer).unwrap()).unwrap();
        let refused = |status, kind: &str, reason: &str| {
            Outcome::Refused(Refusal {
                status,
                kind: kind.into(),
                reason: reason.into(),
            })
        };
        assert_eq!(
            done,
            [
                Outcome::Made,
                Outcome::Changed,
                refused(429, "es_rejected_execution_exception", "full"),
                Outcome::Changed,
                refused(500, "", ""),
            ]
        );
        let other = r#"{"items": [{"index": {"_id": "b", "status": 200}}]}"#;
        let other = judged(&actions[..1], serde_json::from_str(other).unwrap());
        assert!(matches!(other, Err(Failure::Strange(_))));
        let fewer = judged(&actions, serde_json::from_str(r#"{"items": []}"#).unwrap());
        assert!(matches!(fewer, Err(Failure::Strange(_))));
    }
}
