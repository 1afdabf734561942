//! The PostgreSQL store under the suite: a schema for each case.

use std::sync::LazyLock;

use serde_json::json;
use tokio_postgres::{Client, NoTls};
use warren::store::{StoreType, plugins::load_one};
use warren_conformance::Suite;
use warren_plugin_api::Text;
use warren_tests::{free_port, plugin, postgres_url};

use super::{MAX_RECORD_BYTES, SILENT, open, suite_of};

static POSTGRES: LazyLock<StoreType> = LazyLock::new(|| load_one(&plugin("postgres")).unwrap());

pub(crate) fn suite(schema: String) -> Suite {
    const SECRET: &str = "open-sesame";
    let config = |url: String| {
        json!({
            "postgres_url": url,
            "schema": schema,
            "max_record_bytes": MAX_RECORD_BYTES,
            // A batch of ten thousand on a busy machine.
            "statement_timeout": "1m",
        })
    };
    let absent = config(format!(
        "postgresql://me:{SECRET}@127.0.0.1:{}/results",
        free_port()
    ));
    let unresponsive = config(format!("postgresql://me@{}/results", SILENT.as_str()));
    let mut refused = url::Url::parse(&postgres_url()).unwrap();
    // Where the server trusts everybody it refuses a role that there is not.
    refused.set_username("nobody-of-this-name").unwrap();
    refused.set_password(Some(SECRET)).unwrap();
    let refused = config(refused.to_string());
    suite_of(&POSTGRES, config(postgres_url()))
        .unresponsive(move || open(&POSTGRES, unresponsive.clone()))
        .wrong_credentials(move || open(&POSTGRES, refused.clone()))
        .unreachable(move || open(&POSTGRES, absent.clone()))
        .secret(SECRET)
        .damage(move |job_id| damage(schema.clone(), job_id))
}

async fn connect() -> Client {
    let url = postgres_url();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn damage(schema: String, job_id: Text) {
    // No MessagePack begins with this byte.
    let sql = format!("UPDATE \"{schema}\".warren_results SET extra = '\\xc1' WHERE job_id = $1");
    let damaged = connect().await.execute(&sql, &[&job_id.as_str()]).await;
    assert_eq!(damaged.unwrap(), 1);
}

/// The ids that are still in the table, which goes with its schema.
pub(crate) fn left_over(schema: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = connect().await;
        let ids = format!("SELECT job_id FROM \"{schema}\".warren_results");
        let rows = client.query(&ids, &[]).await.unwrap();
        let drop = format!("DROP SCHEMA \"{schema}\" CASCADE");
        client.batch_execute(&drop).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    })
}
