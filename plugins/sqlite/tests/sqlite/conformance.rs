//! The suite that every store must pass.

use rusqlite::Connection;
use serde_json::json;
use warren_conformance::{Scale, Suite};
use warren_plugin_api::{ResultStore, StoreObject};
use warren_store_sqlite::SqliteStore;

use crate::support::{folder, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_is_kept() {
    let (_folder, path) = folder();
    let (_elsewhere, locked) = folder();
    // As a backup that wants the file for itself.
    let lock = Connection::open(&locked).unwrap();
    lock.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
        .unwrap();
    let config = json!({"path": path, "max_record_bytes": 8_000_000});
    let suite = Suite::new(move || {
        let config = config.clone();
        async { Ok(StoreObject::from_store(open(config).await?)) }
    });
    suite
        .scale(Scale::Quick)
        .alone()
        .declared(SqliteStore::CAPABILITIES)
        .unreachable(move || {
            let config = json!({"path": locked, "busy_timeout": "100ms"});
            async { Ok(StoreObject::from_store(open(config).await?)) }
        })
        .damage(move |job_id| {
            let path = path.clone();
            async move {
                let damaged = Connection::open(path)
                    .unwrap()
                    .execute(
                        "UPDATE records SET extra = x'c1' WHERE job_id = ?1",
                        [job_id.as_str()],
                    )
                    .unwrap();
                assert_eq!(damaged, 1);
            }
        })
        .run()
        .await
        .assert_passed();
}
