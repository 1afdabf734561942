//! The MongoDB store under the suite: a database for each case, on the server of
//! `WARREN_TEST_MONGODB_URL` or else on SecantusDB 0.7.0b3, a MongoDB-compatible server and not
//! MongoDB.

use std::{
    env,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use mongodb::{
    Client, Collection,
    bson::{Document, doc},
};
use serde_json::json;
use warren::store::{StoreType, plugins::load_one};
use warren_conformance::Suite;
use warren_plugin_api::Text;
use warren_tests::{Secantus, free_port, plugin};

use super::{MAX_RECORD_BYTES, open, suite_of};

static MONGODB: LazyLock<StoreType> = LazyLock::new(|| load_one(&plugin("mongodb")).unwrap());

/// Names a server of the user's own.
const URL: &str = "WARREN_TEST_MONGODB_URL";

fn url() -> String {
    static STARTED: OnceLock<Secantus> = OnceLock::new();
    env::var(URL).unwrap_or_else(|_| STARTED.get_or_init(|| Secantus::start(&[])).url())
}

pub(crate) fn shown_name() -> &'static str {
    match env::var_os(URL) {
        Some(_) => "mongodb",
        None => "mongodb_on_secantusdb_0_7_0b3",
    }
}

pub(crate) fn suite(database: String) -> Suite {
    const SECRET: &str = "open-sesame";
    let config = |url: String| {
        json!({
            "mongodb_url": url,
            "database": database,
            "max_record_bytes": MAX_RECORD_BYTES,
            // SecantusDB is slow, and slower on a busy machine.
            "operation_timeout": "2m",
        })
    };
    let mut absent = config(format!("mongodb://me:{SECRET}@127.0.0.1:{}/", free_port()));
    absent["connect_timeout"] = "300ms".into();
    suite_of(&MONGODB, config(url()))
        .case_timeout(Duration::from_secs(300))
        .unreachable(move || open(&MONGODB, absent.clone()))
        .secret(SECRET)
        .damage(move |job_id| damage(database.clone(), job_id))
}

async fn collection(database: &str) -> Collection<Document> {
    let client = Client::with_uri_str(url()).await.unwrap();
    client.database(database).collection("warren_results")
}

async fn damage(database: String, job_id: Text) {
    let job = doc! { "_id": job_id.as_str() };
    let damage = doc! { "$set": { "args": "no bytes" } };
    let collection = collection(&database).await;
    let damaged = collection.update_one(job, damage).await.unwrap();
    assert_eq!(damaged.modified_count, 1);
}

/// The ids that are still in the collection, which goes with its database.
pub(crate) fn left_over(database: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let collection = collection(database).await;
        let ids = collection.distinct("_id", doc! {}).await.unwrap();
        let client = collection.client();
        client.database(database).drop().await.unwrap();
        ids.iter().map(ToString::to_string).collect()
    })
}
