//! Stores made of the stores that come with Warren, under the suite.

use std::{path::PathBuf, sync::LazyLock};

use serde_json::{Value, json};
use warren::store::{
    StoreRegistry, StoreType,
    plugins::{PluginFolder, load_folders},
};
use warren_conformance::{Scale, Suite};
use warren_tests::{free_port, plugin_folder, redis_url};

use super::{MAX_RECORD_BYTES, keys_in_redis, open, suite_of};

/// Members are opened through the registry that the composition is in.
static REGISTRY: LazyLock<StoreRegistry> = LazyLock::new(|| {
    let registry = StoreRegistry::with_combinators();
    let folder = PluginFolder {
        path: plugin_folder().to_owned(),
        named: false,
    };
    load_folders(&registry, &[folder]);
    registry
});

macro_rules! store_type {
    ($static:ident, $name:literal) => {
        static $static: LazyLock<StoreType> =
            LazyLock::new(|| REGISTRY.choose($name, &[]).unwrap());
    };
}

store_type!(TIERED, "tiered");
store_type!(FANOUT, "fanout");
store_type!(FAILOVER, "failover");

/// Not the records of the SQLite store's own cases.
fn file(unique: &str) -> PathBuf {
    std::env::temp_dir().join(unique).join("results.db")
}

fn sqlite(unique: &str) -> Value {
    let config = json!({ "path": file(unique), "max_record_bytes": MAX_RECORD_BYTES });
    json!({ "type": "sqlite", "config": config })
}

fn memory(unique: &str) -> Value {
    json!({ "type": "memory", "config": { "name": unique } })
}

fn redis(unique: &str, url: String) -> Value {
    let config = json!({
        "redis_url": url,
        "key_prefix": unique,
        "max_record_bytes": MAX_RECORD_BYTES,
    });
    json!({ "type": "redis", "config": config })
}

/// Every handle has a front of its own: what one handle writes, no other may read an older copy of.
pub(crate) fn tiered(unique: String) -> Suite {
    let config = json!({
        "front": { "type": "memory" },
        "back": sqlite(&unique),
        "front_ttl": "10m",
    });
    suite_of(&TIERED, config).scale(Scale::Quick)
}

pub(crate) fn fanout(unique: String) -> Suite {
    let config = json!({ "members": [sqlite(&unique), memory(&unique)] });
    suite_of(&FANOUT, config).scale(Scale::Quick)
}

pub(crate) fn failover(unique: String) -> Suite {
    const SECRET: &str = "open-sesame";
    let config =
        |url: String| json!({ "primary": redis(&unique, url), "secondary": sqlite(&unique) });
    let absent = json!({
        "primary": redis(&unique, format!("redis://:{SECRET}@127.0.0.1:{}/0", free_port())),
        "secondary": redis(&unique, format!("redis://:{SECRET}@127.0.0.1:{}/0", free_port())),
    });
    suite_of(&FAILOVER, config(redis_url()))
        .scale(Scale::Quick)
        .unreachable(move || open(&FAILOVER, absent.clone()))
        .secret(SECRET)
}

pub(crate) fn file_left_over(unique: &str) -> Vec<String> {
    super::sqlite::left_over(unique)
}

pub(crate) fn failover_left_over(unique: &str) -> Vec<String> {
    let mut left = file_left_over(unique);
    left.extend(keys_in_redis(unique));
    left
}
