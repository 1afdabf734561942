//! The suite that every store must pass; the workspace's tests run all of it over the plugin file.

use serde_json::json;
use warren_conformance::{Scale, Suite};
use warren_plugin_api::{ResultStore, StoreObject};
use warren_store_postgres::PostgresStore;

use crate::{
    server::{PrivateServer, free_port},
    support::{TestStore, connect, open, shared_url},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_is_kept_through_a_pooler_in_transaction_mode() {
    let server = PrivateServer::start(&[]);
    let config = json!({
        "postgres_url": server.pooler(),
        "transaction_pooling": true,
        "max_record_bytes": 2_000_000,
    });
    let report = Suite::new(move || {
        let config = config.clone();
        async { Ok(StoreObject::from_store(open(config).await?)) }
    })
    .scale(Scale::Quick)
    .alone()
    .run()
    .await;
    report.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_is_kept() {
    let tables = TestStore::open().await;
    let config = json!({
        "postgres_url": shared_url(),
        "schema": tables.schema,
        "max_record_bytes": 2_000_000,
    });
    let nowhere = json!({
        "postgres_url": format!("postgresql://me:s3cret-word@127.0.0.1:{}/x", free_port()),
        "connect_timeout": "1s",
    });
    let table = tables.table();
    Suite::new(move || {
        let config = config.clone();
        async { Ok(StoreObject::from_store(open(config).await?)) }
    })
    .scale(Scale::Quick)
    .alone()
    .declared(PostgresStore::CAPABILITIES)
    .secret("s3cret-word")
    .unreachable(move || {
        let config = nowhere.clone();
        async { Ok(StoreObject::from_store(open(config).await?)) }
    })
    .damage(move |job_id| {
        let sql = format!("UPDATE {table} SET extra = '\\xc1' WHERE job_id = $1");
        async move {
            let damaged = connect(&shared_url()).await;
            let damaged = damaged.execute(&sql, &[&job_id.as_str()]).await;
            assert_eq!(damaged.unwrap(), 1);
        }
    })
    .run()
    .await
    .assert_passed();
}
