//! How the deployment is, and what the store holds.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mongodb::bson::{Bson, Document, doc};
use tokio::time::timeout;
use warren_plugin_api::{Health, Stats, Status, StoreError, StoreResult, Timestamp};

use crate::{
    address::Trust,
    database::Database,
    document::{EXPIRES_AT, STATUS, TTL_AT, date_not_before},
    error::{Failure, TOOK_TOO_LONG},
    indexes,
};

/// How far the server's clock may be from this machine's.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);

/// Asks the deployment whether it would serve a call, and what an operator should know. Indexes
/// that somebody dropped are made anew.
pub(crate) async fn check(database: &Database) -> StoreResult<Health> {
    let described = |failure: Failure| database.store_error(&failure);
    let asked = Instant::now();
    let hello = hello(database).await.map_err(described)?;
    let took = asked.elapsed();
    let address = database.address();
    if !hello.get_bool("isWritablePrimary").unwrap_or_default() {
        return Err(StoreError::unavailable(format!(
            "MongoDB at {address} is no primary, which takes no writes"
        )));
    }
    let build = database.run_admin(doc! { "buildInfo": 1 }).await;
    let version = match &build {
        Ok(build) => build.get_str("version").unwrap_or("of an unknown version"),
        Err(_) => "of an unknown version",
    };
    indexes::ensure(database).await.map_err(described)?;
    let kind = match kind(&hello) {
        Kind::ReplicaSet(name) => format!("replica set {name}"),
        Kind::Sharded => "sharded cluster".to_owned(),
        Kind::Single => "single server".to_owned(),
    };
    Ok(Health {
        detail: format!("MongoDB {version} at {address}, {kind}, answered in {took:.1?}"),
        warnings: warnings(database, &hello),
    })
}

pub(crate) async fn hello(database: &Database) -> Result<Document, Failure> {
    database.run_admin(doc! { "hello": 1 }).await
}

pub(crate) enum Kind<'a> {
    ReplicaSet(&'a str),
    Sharded,
    Single,
}

/// What answered.
pub(crate) fn kind(hello: &Document) -> Kind<'_> {
    if let Ok(name) = hello.get_str("setName") {
        return Kind::ReplicaSet(name);
    }
    match hello.get_str("msg") {
        Ok("isdbgrid") => Kind::Sharded,
        _ => Kind::Single,
    }
}

fn warnings(database: &Database, hello: &Document) -> Vec<String> {
    let mut warnings = Vec::new();
    let address = database.address();
    if address.is_weak() {
        warnings.push(
            "w=1 or journal=false: what was acknowledged may be lost with one server".to_owned(),
        );
    }
    match address.trust() {
        Trust::Certain => {}
        Trust::Insecure => warnings.push("the server's TLS certificate is not checked".to_owned()),
        Trust::Unchecked => warnings.push(
            "whoever can redirect the connection can read and change results: add tls=true to \
             mongodb_url"
                .to_owned(),
        ),
    }
    if let Ok(time) = hello.get_datetime("localTime") {
        let theirs = Timestamp::from_unix_us(time.timestamp_millis().saturating_mul(1_000));
        let ahead = theirs.saturating_duration_since(Timestamp::now());
        if ahead > CLOCKS_DIFFER {
            warnings.push(format!(
                "the server's clock is {} s ahead of this machine's: it removes results that much \
                 too early",
                ahead.as_secs()
            ));
        }
    }
    warnings
}

/// Counts the live records along the indexes. Where the server is not done with it in most of the
/// time that a command has, there is only its own figure of all documents.
pub(crate) async fn stats(database: &Database) -> StoreResult<Stats> {
    let described = |failure: Failure| database.store_error(&failure);
    let mut stats = Stats::default();
    let documents = database.estimated_count().await.map_err(described)?;
    stats.details.insert("documents".into(), documents.into());
    let quarter = database.operation_timeout() / 4;
    match timeout(quarter * 3, count(database, Timestamp::now())).await {
        Ok(Ok(by_status)) => {
            stats.records = Some(by_status.values().sum());
            stats.by_status = by_status;
        }
        Ok(Err(failure)) if failure.code() != Some(TOOK_TOO_LONG) => {
            return Err(described(failure));
        }
        // Dear to find out on this server.
        Ok(Err(_)) | Err(_) => {}
    }
    // What a user may not ask, and what a compatible server does not have, is left out.
    let sizes = vec![doc! { "$collStats": { "storageStats": {} } }];
    if let Ok(sizes) = database.aggregate(quarter, sizes).await
        && let Some(sizes) = sizes
            .first()
            .and_then(|it| it.get_document("storageStats").ok())
    {
        let (data, indexes) = (
            number(sizes, "storageSize"),
            number(sizes, "totalIndexSize"),
        );
        stats.bytes = data.map(|data| data.saturating_add(indexes.unwrap_or_default()));
        for (name, figure) in [
            ("index_bytes", indexes),
            ("uncompressed_bytes", number(sizes, "size")),
        ] {
            if let Some(figure) = figure {
                stats.details.insert(name.into(), figure.into());
            }
        }
    }
    Ok(stats)
}

/// All records less those that have expired: each is found in an index that holds what is asked,
/// so that no document is read but the few that the server has yet to remove.
async fn count(database: &Database, now: Timestamp) -> Result<BTreeMap<Status, u64>, Failure> {
    let every: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
    let mut by_status = by_status(database, doc! { STATUS: { "$in": every } }).await?;
    let expired = doc! {
        TTL_AT: { "$lte": date_not_before(now) },
        EXPIRES_AT: { "$lte": now.unix_us() },
    };
    for (status, expired) in self::by_status(database, expired).await? {
        if let Some(count) = by_status.get_mut(&status) {
            *count = count.saturating_sub(expired);
        }
    }
    by_status.retain(|_, count| *count > 0);
    Ok(by_status)
}

async fn by_status(
    database: &Database,
    condition: Document,
) -> Result<BTreeMap<Status, u64>, Failure> {
    let counts = database
        .aggregate(
            database.operation_timeout(),
            vec![
                doc! { "$match": condition },
                doc! { "$group": { "_id": format!("${STATUS}"), "records": { "$sum": 1 } } },
            ],
        )
        .await?;
    let mut by_status = BTreeMap::new();
    for found in &counts {
        let status = found.get_str("_id").ok().and_then(|word| word.parse().ok());
        if let (Some(status), Some(count)) = (status, number(found, "records")) {
            by_status.insert(status, count);
        }
    }
    Ok(by_status)
}

fn number(document: &Document, name: &str) -> Option<u64> {
    match document.get(name)? {
        Bson::Int32(number) => u64::try_from(*number).ok(),
        Bson::Int64(number) => u64::try_from(*number).ok(),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size beyond the range of a double is none"
        )]
        Bson::Double(number) if *number >= 0.0 => Some(*number as u64),
        _ => None,
    }
}
