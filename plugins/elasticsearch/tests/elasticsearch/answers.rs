//! How we take refusals, and what health tells, for either product.

use serde_json::{Value, json};
use warren_plugin_api::{ErrorClass, ResultStore};

use crate::{
    stub::{MakeReply, Reply, Seen},
    support::{MGET, class, none_found, refusal, store_on, store_with},
};

#[tokio::test]
async fn refusals_have_their_classes_and_hold_no_secret() {
    use ErrorClass::{Internal, InvalidConfig, Unavailable};
    let cases: [(MakeReply, ErrorClass, &str); 12] = [
        (
            || refusal(401, "security_exception", "unable to authenticate [s3cret]"),
            InvalidConfig,
            "check username and password",
        ),
        (
            || refusal(403, "security_exception", "is unauthorized"),
            InvalidConfig,
            "rights that the README lists",
        ),
        // OpenSearch's security plugin
        (
            || Reply::Text(401, "Unauthorized"),
            InvalidConfig,
            "401: Unauthorized",
        ),
        (
            || refusal(406, "media_type_header_exception", "Accept"),
            InvalidConfig,
            "7.10 or later",
        ),
        (
            || refusal(429, "circuit_breaking_exception", "Data too large"),
            Unavailable,
            "overloaded",
        ),
        (
            || refusal(429, "cluster_block_exception", "flood-stage watermark"),
            Unavailable,
            "make room",
        ),
        (
            || refusal(503, "cluster_manager_not_discovered_exception", "none"),
            Unavailable,
            "503",
        ),
        (|| Reply::Text(502, "<html>"), Unavailable, "<html>"),
        (
            || Reply::Text(200, "<html>"),
            Unavailable,
            "is not Elasticsearch",
        ),
        (
            || Reply::Json(200, json!({})),
            Unavailable,
            "is not Elasticsearch",
        ),
        (|| refusal(500, "exception", "s3cret"), Unavailable, "500"),
        (
            || refusal(400, "illegal_argument_exception", "no"),
            Internal,
            "400",
        ),
    ];
    for (reply, expected, said) in cases {
        let config = json!({"username": "me", "password": "s3cret"});
        let (store, _stub) = store_with(config, move |_| reply()).await;
        let error = store.get("a".into()).await.unwrap_err();
        assert_eq!(error.class(), expected, "{said}: {error}");
        assert!(error.message().contains(said), "{said}: {error}");
        assert!(!error.message().contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_credentials() {
    let other = crate::stub::Stub::start(|_| Reply::Text(200, "{}"));
    let to = other.url.clone();
    let (store, _stub) = store_on(move |_| Reply::Redirect(to.clone())).await;
    let refused = store.get("a".into()).await;
    assert_eq!(class(&refused), Some(ErrorClass::InvalidConfig));
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn one_item_that_cannot_be_read_spoils_no_other() {
    let (store, _stub) = store_on(|seen| match seen.line().as_str() {
        MGET => Reply::Json(
            200,
            json!({"docs": [
                {"_id": "a", "error": {"type": "no_shard_available_action_exception"}},
                {"_id": "b", "found": false},
                {"_id": "c", "found": true, "_seq_no": 1, "_primary_term": 1, "_source": {}},
            ]}),
        ),
        _ => Reply::Text(500, ""),
    })
    .await;
    let ids = ["a", "b", "c"].map(Into::into).to_vec();
    let records = store.get_many(ids).await.unwrap();
    assert_eq!(class(&records[0]), Some(ErrorClass::Unavailable));
    assert_eq!(records[1], Ok(None));
    assert_eq!(class(&records[2]), Some(ErrorClass::CorruptData));
}

fn healthy(seen: &Seen, banner: Value, status: &str, settings: Value) -> Reply {
    match seen.line().as_str() {
        MGET => none_found(seen),
        "GET /" => Reply::Json(200, banner),
        "GET /_cluster/health/warren-results" => Reply::Json(200, json!({"status": status})),
        "GET /warren-results/_settings" => {
            Reply::Json(200, json!({"warren-results-v1": {"settings": settings}}))
        }
        _ => Reply::Text(500, ""),
    }
}

#[tokio::test]
async fn health_tells_the_product_and_what_loses_results() {
    let elasticsearch = json!({"version": {"number": "9.1.4"}, "tagline": "You Know, for Search"});
    let opensearch = json!({"version": {"number": "3.8.0", "distribution": "opensearch"}});
    let durable = json!({"index.translog.durability": "request"});
    let careless = json!({"index.translog.durability": "async",
                          "index.blocks.read_only_allow_delete": "true"});
    for (banner, status, settings, told, warnings) in [
        (&elasticsearch, "green", &durable, "Elasticsearch 9.1.4", 0),
        (&opensearch, "yellow", &durable, "OpenSearch 3.8.0", 1),
        (&opensearch, "green", &careless, "OpenSearch 3.8.0", 2),
    ] {
        let (banner, settings) = (banner.clone(), settings.clone());
        let (store, _stub) =
            store_on(move |seen| healthy(seen, banner.clone(), status, settings.clone())).await;
        let health = store.health_check().await.unwrap();
        assert!(health.detail.starts_with(told), "{}", health.detail);
        assert_eq!(health.warnings.len(), warnings, "{:?}", health.warnings);
    }
    let (store, _stub) =
        store_on(move |seen| healthy(seen, opensearch.clone(), "red", json!({}))).await;
    let red = store.health_check().await;
    assert_eq!(class(&red), Some(ErrorClass::Unavailable));
}

#[tokio::test]
async fn health_needs_no_right_to_monitor() {
    let (store, _stub) = store_on(|seen| match seen.line().as_str() {
        MGET => none_found(seen),
        _ => refusal(403, "security_exception", "is unauthorized"),
    })
    .await;
    let health = store.health_check().await.unwrap();
    assert!(health.detail.starts_with("Elasticsearch or OpenSearch at"));
}
