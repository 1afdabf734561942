//! The index: its settings and the types of its fields.

use serde_json::{Value, json};

use crate::config::ElasticsearchConfig;

/// Counted up whenever a field is added; a later one is refused.
pub(crate) const VERSION: u64 = 1;

/// Characters of a text that can be searched for. A term may have 32,766 bytes.
pub(crate) const MOST_INDEXED_CHARS: usize = 8_191;

/// What makes the index and its alias in one step.
pub(crate) fn create_body(config: &ElasticsearchConfig) -> Value {
    let mut body = json!({
        "mappings": mapping(),
        "aliases": { config.index.as_str(): {} },
    });
    let mut settings = serde_json::Map::new();
    if let Some(shards) = config.shards {
        settings.insert("number_of_shards".into(), shards.into());
    }
    if let Some(replicas) = config.replicas {
        settings.insert("number_of_replicas".into(), replicas.into());
    }
    // Not an empty one: Elasticsearch's serverless form takes no settings.
    if !settings.is_empty() {
        body["settings"] = json!({ "index": settings });
    }
    body
}

fn mapping() -> Value {
    let (searched, kept) = (
        json!({"type": "keyword"}),
        json!({"type": "long", "index": false}),
    );
    let (time, text, bytes) = (
        json!({"type": "long"}),
        json!({"type": "text"}),
        json!({"type": "binary"}),
    );
    json!({
        "dynamic": "strict",
        "_meta": {"warren": {"version": VERSION}},
        "properties": {
            "job_id": searched,
            "status": searched,
            "queue": searched,
            "function": searched,
            "worker": searched,
            "attempt": kept,
            "enqueued_at": time,
            "started_at": kept,
            "finished_at": time,
            "updated_at": kept,
            "heartbeat_at": kept,
            "expires_at": time,
            "duration_us": kept,
            "error": text,
            "args": text,
            "kwargs": text,
            "result": text,
            "progress": text,
            "bytes": kept,
            "sort_key": searched,
            "record": bytes,
            "payloads": bytes,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_sent_when_they_are_set() {
        let config = ElasticsearchConfig::default();
        assert_eq!(create_body(&config).get("settings"), None);
        let config = ElasticsearchConfig {
            replicas: Some(0),
            ..config
        };
        let expected = json!({"index": {"number_of_replicas": 0}});
        assert_eq!(create_body(&config)["settings"], expected);
    }
}
