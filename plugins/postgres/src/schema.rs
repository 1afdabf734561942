//! The tables: made, and brought up to date, by whoever comes first.

use tokio_postgres::{Client, GenericClient, types::Type};
use warren_plugin_api::StoreError;

use crate::{error::Failure, names::Names};

/// The columns of a record, in the order in which every statement names them.
pub(crate) const COLUMNS: [&str; 19] = [
    "job_id",
    "status",
    "attempt",
    "queue",
    "function",
    "worker",
    "enqueued_at",
    "started_at",
    "finished_at",
    "updated_at",
    "heartbeat_at",
    "expires_at",
    "duration",
    "error",
    "args",
    "kwargs",
    "result",
    "progress",
    "extra",
];

/// The indexes of the table of records: by what, and over what.
pub(crate) const INDEXES: [(&str, &str); 5] = [
    ("enqueued_at", "(BY_TIME)"),
    ("status", "(status, BY_TIME)"),
    ("queue", "(left(queue, FIRST), BY_TIME)"),
    ("function", "(left(function, FIRST), BY_TIME)"),
    ("expires_at", "(expires_at) WHERE expires_at IS NOT NULL"),
];
/// The order of scans.
pub(crate) const BY_TIME: &str = "enqueued_at DESC NULLS LAST, job_id DESC";

/// So many characters of a queue or function are in its index; what is indexed has a limit of
/// about 2,700 bytes, and a job id may take 2,048 of them.
pub(crate) const INDEXED_CHARACTERS: usize = 100;

/// What leads from one version of the tables to the next; the first makes them.
const MIGRATIONS: [fn(&Names) -> String; 1] = [tables];
/// The version that this store works with.
const VERSION: i32 = MIGRATIONS.len() as i32;

/// Held while tables are made or changed; "warren" in ASCII.
const LOCK: i64 = 0x77_61_72_72_65_6e;
const OLDEST_SERVER: i32 = 120_000;

fn tables(names: &Names) -> String {
    let table = &names.results;
    let mut sql = format!(
        r#"
        CREATE TABLE {table} (
            job_id text COLLATE "C" NOT NULL PRIMARY KEY,
            status smallint NOT NULL CHECK (status BETWEEN 0 AND 5),
            attempt bigint NOT NULL,
            queue text COLLATE "C" NOT NULL,
            function text COLLATE "C" NOT NULL,
            worker text COLLATE "C" NOT NULL,
            enqueued_at bigint,
            started_at bigint,
            finished_at bigint,
            updated_at bigint,
            heartbeat_at bigint,
            expires_at bigint,
            duration bigint,
            error text COLLATE "C",
            args bytea NOT NULL,
            kwargs bytea NOT NULL,
            result bytea NOT NULL,
            progress bytea NOT NULL,
            extra bytea NOT NULL
        );
        "#
    );
    for (of, over) in INDEXES {
        let name = names.index(of);
        let over = over
            .replace("BY_TIME", BY_TIME)
            .replace("FIRST", &INDEXED_CHARACTERS.to_string());
        sql.push_str(&format!("CREATE INDEX {name} ON {table} {over};\n"));
    }
    sql
}

/// Whether the tables are there and of this version; the server is looked at, too.
pub(crate) async fn is_up_to_date(client: &Client, names: &Names) -> Result<bool, Failure> {
    let row = client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::int4, \
             current_setting('server_encoding'), current_setting('server_version')",
            &[],
        )
        .await?;
    let (number, encoding): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    if number < OLDEST_SERVER {
        let version: String = row.try_get(2)?;
        return Err(invalid(format!(
            "the server is PostgreSQL {version}, expected 12 or later"
        )));
    }
    if encoding != "UTF8" {
        return Err(invalid(format!(
            "the database's encoding is {encoding}, expected UTF8: create it with \
             ENCODING 'UTF8' TEMPLATE template0"
        )));
    }
    Ok(version(client, names).await? == Some(VERSION))
}

/// Makes the tables, or brings them up to date, however long that takes the server.
pub(crate) async fn migrate(client: &mut Client, names: &Names) -> Result<(), Failure> {
    let transaction = client.transaction().await?;
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0")
        .await?;
    transaction
        .query_typed("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)])
        .await?;
    // Another may have been here meanwhile.
    let found = version(&transaction, names).await?;
    let is_there = transaction
        .query_typed(
            "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1",
            &[(&names.raw_schema, Type::TEXT)],
        )
        .await?;
    if is_there.is_empty() {
        let schema = &names.schema;
        transaction
            .batch_execute(&format!("CREATE SCHEMA {schema}"))
            .await?;
    }
    if found.is_none() {
        transaction
            .batch_execute(&format!(
                "CREATE TABLE {} (version integer NOT NULL PRIMARY KEY, \
                 made_at timestamptz NOT NULL DEFAULT now())",
                names.versions
            ))
            .await?;
    }
    let insert = format!("INSERT INTO {} (version) VALUES ($1)", names.versions);
    for (version, migration) in (1..).zip(MIGRATIONS) {
        if version > found.unwrap_or_default() {
            transaction.batch_execute(&migration(names)).await?;
            transaction
                .execute_typed(&insert, &[(&version, Type::INT4)])
                .await?;
        }
    }
    Ok(transaction.commit().await?)
}

/// The version of the tables that are there.
///
/// # Errors
/// `invalid_config` for one that a later Warren made.
async fn version(client: &impl GenericClient, names: &Names) -> Result<Option<i32>, Failure> {
    // Not `to_regclass`: it remembers that a table was not there, for the whole transaction.
    let there = client
        .query_typed(
            "SELECT 1 FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2",
            &[
                (&names.raw_schema, Type::TEXT),
                (&names.raw_versions, Type::TEXT),
            ],
        )
        .await?;
    if there.is_empty() {
        return Ok(None);
    }
    let select = format!("SELECT coalesce(max(version), 0) FROM {}", names.versions);
    let row = client.query_typed_one(&select, &[]).await?;
    let version: i32 = row.try_get(0)?;
    if version > VERSION {
        return Err(invalid(format!(
            "the tables of {} have version {version}, this store knows versions up to {VERSION}: \
             use a later Warren, or another schema or table_prefix",
            names.results
        )));
    }
    Ok(Some(version))
}

fn invalid(text: String) -> Failure {
    Failure::Store(StoreError::invalid_config(text))
}
