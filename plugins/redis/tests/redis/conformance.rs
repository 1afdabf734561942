//! The suite that every store must pass.

use std::time::Duration;

use serde_json::json;
use warren_conformance::{Scale, Suite};
use warren_plugin_api::{ResultStore, StoreObject};
use warren_store_redis::RedisStore;

use crate::{
    server::{PrivateServer, free_port},
    support::{open, unique},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_is_kept() {
    let server = PrivateServer::start(&["--requirepass", "s3cret-word"]).await;
    let prefix = unique("suite");
    let url = format!("redis://:s3cret-word@127.0.0.1:{}/0", server.port);
    let config = json!({"redis_url": url, "key_prefix": prefix, "max_record_bytes": 8_000_000});
    let nowhere = json!({
        "redis_url": format!("redis://:s3cret-word@127.0.0.1:{}/0", free_port()),
        "connect_timeout": "1s",
    });
    let suite = Suite::new(move || {
        let config = config.clone();
        async { Ok(StoreObject::from_store(open(config).await?)) }
    });
    suite
        .scale(Scale::Full)
        .alone()
        .declared(RedisStore::CAPABILITIES)
        .secret("s3cret-word")
        .case_timeout(Duration::from_secs(120))
        .unreachable(move || {
            let config = nowhere.clone();
            async { Ok(StoreObject::from_store(open(config).await?)) }
        })
        .damage(move |job_id| {
            let key = format!("{prefix}:result:{job_id}");
            let url = url.clone();
            async move {
                let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
                redis::cmd("SET")
                    .arg(key)
                    .arg("{\"status\":")
                    .exec(&mut connection)
                    .unwrap();
            }
        })
        .run()
        .await
        .assert_passed();
}
