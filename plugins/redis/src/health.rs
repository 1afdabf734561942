//! How the server is, and what the store holds.

use std::{collections::BTreeMap, time::Instant};

use redis::Value;
use warren_plugin_api::{Health, Stats, Status, StoreError, StoreResult, Timestamp};

use crate::{
    cleanup::remove_expired, connection::Connections, scan::Scanner, script::unexpected,
    server::Info,
};

/// Statuses are counted one by one up to this many records.
const COUNTED_RECORDS: u64 = 20_000;
/// Statuses that one command reads.
const STATUSES_AT_ONCE: usize = 1_000;

/// Asks the server whether it would serve a call, and what an operator should know.
pub(crate) async fn check(connections: &Connections) -> StoreResult<Health> {
    let asked = Instant::now();
    connections.command(&redis::cmd("PING")).await?;
    let took = asked.elapsed();
    let address = connections.address();
    let Some(info) = info(connections).await else {
        return Ok(Health {
            detail: format!("Redis at {address}, answered in {took:.1?}"),
            warnings: vec!["the user may not run INFO, so there is nothing to look at".into()],
        });
    };
    if info.get("role") == Some("slave") {
        return Err(StoreError::unavailable(format!(
            "Redis at {address} is a replica, which takes no writes"
        )));
    }
    let mut warnings = warnings(&info);
    if keeps_nothing(connections, &info).await {
        warnings
            .push("neither RDB nor AOF is on: records end with the server's process".to_owned());
    }
    if address.is_insecure() {
        warnings.push("the server's TLS certificate is not checked".to_owned());
    }
    Ok(Health {
        detail: format!("{} at {address}, answered in {took:.1?}", info.product()),
        warnings,
    })
}

/// `None` for a user who may not ask.
async fn info(connections: &Connections) -> Option<Info> {
    let answer = connections.command(&redis::cmd("INFO")).await;
    answer.ok().map(Info::parse)
}

fn warnings(info: &Info) -> Vec<String> {
    let mut warnings = Vec::new();
    let (used, most) = (
        info.number("used_memory").unwrap_or_default(),
        info.number("maxmemory").unwrap_or_default(),
    );
    let policy = info.get("maxmemory_policy").unwrap_or("noeviction");
    if most > 0 && policy != "noeviction" {
        warnings.push(format!(
            "maxmemory-policy is {policy}: when memory is full, the server removes records \
             before their time; set noeviction"
        ));
    }
    if most > 0 && used / 9 >= most / 10 {
        warnings.push(format!("{used} of {most} bytes of memory are in use"));
    }
    if info.get("rdb_last_bgsave_status") == Some("err") {
        warnings.push("the last snapshot could not be written to disk".to_owned());
    }
    if info.get("aof_last_write_status") == Some("err") {
        warnings.push("the append-only file could not be written to disk".to_owned());
    }
    warnings
}

/// Whether nothing is written to disk. A user who may not read the configuration is not told.
async fn keeps_nothing(connections: &Connections, info: &Info) -> bool {
    if info.get("aof_enabled") != Some("0") {
        return false;
    }
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg("save");
    let points = match connections.command(&command).await {
        Ok(Value::Map(pairs)) => pairs.into_iter().next().map(|(_, value)| value),
        Ok(Value::Array(pair)) => pair.into_iter().nth(1),
        _ => return false,
    };
    matches!(points, Some(Value::BulkString(points)) if points.is_empty())
}

/// Counts the live records that are in the index.
pub(crate) async fn stats(scanner: &Scanner<'_>) -> StoreResult<Stats> {
    let (connections, keys) = (scanner.reader.connections, scanner.reader.keys);
    let cleaned = remove_expired(
        connections,
        keys,
        scanner.scripts,
        Timestamp::now(),
        u64::MAX,
    )
    .await?;
    let mut command = redis::cmd("ZCARD");
    command.arg(keys.scan_index());
    let answer = connections.command(&command).await?;
    let Value::Int(indexed) = answer else {
        return Err(unexpected(&answer));
    };
    let indexed = u64::try_from(indexed).unwrap_or_default();
    let mut stats = Stats {
        // While a backlog of expired records is removed, nobody knows how many are live.
        records: cleaned.finished.then_some(indexed),
        ..Stats::default()
    };
    if indexed <= COUNTED_RECORDS {
        stats.by_status = count(scanner).await?;
        stats.records = Some(stats.by_status.values().sum());
    }
    stats.details.insert("indexed".into(), indexed.into());
    if let Some(info) = info(connections).await {
        for name in ["used_memory", "maxmemory", "evicted_keys"] {
            if let Some(figure) = info.number(name) {
                stats
                    .details
                    .insert(format!("server_{name}"), figure.into());
            }
        }
    }
    Ok(stats)
}

async fn count(scanner: &Scanner<'_>) -> StoreResult<BTreeMap<Status, u64>> {
    let mut counts = BTreeMap::new();
    let mut last: Option<Vec<u8>> = None;
    loop {
        let members = scanner
            .entries_after(last.as_deref(), STATUSES_AT_ONCE)
            .await?;
        for status in scanner.statuses(&members).await? {
            *counts.entry(status).or_default() += 1;
        }
        match members.into_iter().next_back() {
            Some(member) => last = Some(member),
            None => return Ok(counts),
        }
    }
}
