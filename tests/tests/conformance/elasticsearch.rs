//! The Elasticsearch store under the suite: an index for each case, on the cluster of
//! `WARREN_TEST_ELASTICSEARCH_URL` or else on osmem-server 0.1.6, an emulator of OpenSearch 3.8.0
//! and neither OpenSearch nor Elasticsearch.

use std::sync::{LazyLock, OnceLock};

use reqwest::Method;
use serde_json::{Value, json};
use url::Url;
use warren::store::{StoreType, plugins::load_one};
use warren_conformance::Suite;
use warren_plugin_api::Text;
use warren_tests::{elasticsearch_url, free_port, plugin};

use super::{LIMITED, MAX_RECORD_BYTES, NEEDS_A_SERVER, OWN_EXPIRY, open, suite_of};

static ELASTICSEARCH: LazyLock<StoreType> =
    LazyLock::new(|| load_one(&plugin("elasticsearch")).unwrap());

const NO_PUSH: &str = "the store declares no push";

pub(crate) const NOT_APPLICABLE: &[(&str, &str)] = &[
    LIMITED,
    OWN_EXPIRY,
    NEEDS_A_SERVER,
    ("push::every_ending_is_announced", NO_PUSH),
    ("push::endings_through_another_handle", NO_PUSH),
    ("push::nothing_else_is_announced", NO_PUSH),
    ("push::an_announced_ending_can_be_read", NO_PUSH),
    ("push::every_subscriber_is_told", NO_PUSH),
    ("push::a_dropped_subscription_is_silent", NO_PUSH),
    ("push::closing_ends_a_subscription", NO_PUSH),
    ("push::a_record_comes_along_as_it_is_stored", NO_PUSH),
];

pub(crate) fn shown_name() -> &'static str {
    match std::env::var_os("WARREN_TEST_ELASTICSEARCH_URL") {
        Some(_) => "elasticsearch",
        None => "elasticsearch_on_osmem_0_1_6",
    }
}

pub(crate) fn suite(index: String) -> Suite {
    const SECRET: &str = "open-sesame";
    let mut url: Url = elasticsearch_url().parse().unwrap();
    let (user, password) = (url.username().to_owned(), url.password().map(str::to_owned));
    url.set_username("").unwrap();
    url.set_password(None).unwrap();
    let mut config = json!({
        "elasticsearch_urls": [url.as_str()],
        "index": index,
        // Hundreds of indices are made: as little work for each as can be.
        "shards": 1,
        "replicas": 0,
        "max_record_bytes": MAX_RECORD_BYTES,
        // A batch of ten thousand on a busy machine.
        "request_timeout": "1m",
    });
    let mut absent = config.clone();
    absent["elasticsearch_urls"] = json!([format!("http://127.0.0.1:{}", free_port())]);
    absent["api_key"] = SECRET.into();
    if let Some(password) = password {
        config["username"] = user.into();
        config["password"] = password.into();
    }
    suite_of(&ELASTICSEARCH, config)
        .unreachable(move || open(&ELASTICSEARCH, absent.clone()))
        .secret(SECRET)
        .damage(move |job_id| damage(index.clone(), job_id))
}

/// A plain request beside the store.
async fn request(method: Method, path: &str, body: Value) -> Value {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let url = format!("{}/{path}", elasticsearch_url().trim_end_matches('/'));
    let answer = reqwest::Client::new()
        .request(method, url)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

async fn damage(index: String, job_id: Text) {
    // No MessagePack begins with the byte 0xc1.
    let body = json!({"doc": {"record": "wQ=="}});
    let path = format!("{index}/_update/{job_id}");
    let damaged = request(Method::POST, &path, body).await;
    assert_eq!(damaged["result"], "updated");
}

/// The ids that are still in the index, which goes after that.
pub(crate) fn left_over(index: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        request(Method::POST, &format!("{index}/_refresh"), json!({})).await;
        let search = json!({"size": 100, "query": {"match_all": {}}, "_source": false});
        let found = request(Method::POST, &format!("{index}/_search"), search).await;
        request(Method::DELETE, &format!("{index}-v1"), json!({})).await;
        let hits = found["hits"]["hits"].as_array().unwrap();
        hits.iter().map(|hit| hit["_id"].to_string()).collect()
    })
}
