//! The stores' own limits end before the host's deadline: what an operator reads is the store's
//! sentence, which knows what was slow.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

use std::time::Duration;

use serde_json::{Value, json};
use warren::store::{Store, StorePolicy, StoreType, plugins::load_one};
use warren_plugin_api::ErrorClass;
use warren_tests::{
    Osmem, Proxy, S3_ACCESS_KEY_ID, S3_BUCKET, S3_SECRET_ACCESS_KEY, S3Service, Secantus, plugin,
    postgres_url, redis_url, unique,
};

fn store_type(name: &str) -> StoreType {
    load_one(&plugin(name)).unwrap()
}

#[test]
fn by_default_every_limit_of_a_store_is_below_the_hosts_deadline() {
    let deadline = StorePolicy::default().deadline;
    let mut seen = Vec::new();
    for name in [
        "elasticsearch",
        "memory",
        "mongodb",
        "postgres",
        "redis",
        "s3",
        "sqlite",
    ] {
        let schema = store_type(name).manifest.config_schema;
        let options = schema["properties"].as_object().unwrap();
        for (option, described) in options {
            let limits = option.ends_with("_timeout") || option == "retry_for";
            let Some(default) = described["default"].as_str().filter(|_| limits) else {
                continue;
            };
            let limit: Duration = humantime::parse_duration(default).unwrap();
            assert!(limit < deadline, "{name}: {option} is {default} by default");
            seen.push(format!("{name}.{option}"));
        }
    }
    for limit in [
        "elasticsearch.request_timeout",
        "mongodb.operation_timeout",
        "postgres.statement_timeout",
        "redis.response_timeout",
        "s3.request_timeout",
        "sqlite.busy_timeout",
    ] {
        assert!(
            seen.iter().any(|option| option == limit),
            "{limit}: {seen:?}"
        );
    }
}

/// Opens the store with its defaults, by way of a proxy that then falls silent, and asks it.
async fn says_of_silence(name: &str, server: &str, config: impl Fn(&str) -> Value) -> String {
    let proxy = Proxy::to(server);
    let config = config(&proxy.address());
    let policy = StorePolicy::default();
    let store = Store::open_now_or_later(store_type(name), config, policy);
    let store = store.await.unwrap();
    store.get("a".into()).await.unwrap();
    proxy.fall_silent();
    let error = store.get("a".into()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    error.to_string()
}

/// `127.0.0.1:6379` of `redis://127.0.0.1:6379/0`, and the URL with another address there.
fn address_of(url: String) -> (String, impl Fn(&str) -> String) {
    let url: url::Url = url.parse().unwrap();
    let default = if url.scheme() == "redis" {
        6_379
    } else {
        5_432
    };
    let port = url.port().unwrap_or(default);
    let address = format!("{}:{port}", url.host_str().unwrap());
    let through = move |proxy: &str| {
        let mut url = url.clone();
        let (host, port) = proxy.rsplit_once(':').unwrap();
        url.set_host(Some(host)).unwrap();
        url.set_port(port.parse().ok()).unwrap();
        url.to_string()
    };
    (address, through)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_named_by_its_store() {
    let (redis, redis_through) = address_of(redis_url());
    let (postgres, postgres_through) = address_of(postgres_url());
    let (osmem, mongodb, moto) = (Osmem::start(), Secantus::start(&[]), S3Service::moto());
    let elasticsearch = osmem.url().replace("http://", "");
    let s3 = moto.endpoint().replace("http://", "");
    let secantus = mongodb.address();
    let prefix = unique("timeouts");
    let said = tokio::join!(
        says_of_silence("redis", &redis, |proxy| json!({
            "redis_url": redis_through(proxy), "key_prefix": prefix,
        })),
        says_of_silence("postgres", &postgres, |proxy| json!({
            "postgres_url": postgres_through(proxy),
        })),
        says_of_silence("elasticsearch", &elasticsearch, |proxy| json!({
            "elasticsearch_urls": [format!("http://{proxy}")],
        })),
        says_of_silence("mongodb", &secantus, |proxy| json!({
            "mongodb_url": format!("mongodb://{proxy}/?directConnection=true"),
        })),
        says_of_silence("s3", &s3, |proxy| json!({
            "endpoint": format!("http://{proxy}"), "allow_http": true, "bucket": S3_BUCKET,
            "access_key_id": S3_ACCESS_KEY_ID, "secret_access_key": S3_SECRET_ACCESS_KEY,
        })),
    );
    let said = <[String; 5]>::from(said);
    let named = [
        "Redis at",
        "PostgreSQL at",
        "Elasticsearch at",
        "MongoDB at",
        "S3",
    ];
    for (said, named) in said.iter().zip(named) {
        assert!(
            said.contains(named) && !said.contains("gave no answer within"),
            "expected a sentence of the store's about {named}, found {said:?}"
        );
    }
}
