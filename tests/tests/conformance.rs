//! The stores that come with Warren, loaded as the plugin files they are, against every rule of
//! their contract. A test of its own for each case of each store, which has the store to itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

#[path = "conformance/postgres.rs"]
mod postgres;
#[path = "conformance/sqlite.rs"]
mod sqlite;

use std::{process::ExitCode, sync::LazyLock, time::Duration};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};
use warren::store::{StoreType, plugins::load_one};
use warren_conformance::{Outcome, Suite, cases};
use warren_plugin_api::{StoreError, StoreResult, Text};
use warren_tests::{free_port, plugin, redis_url, unique};

/// Small enough that records at the limit are quick to write.
const MAX_RECORD_BYTES: u64 = 256 * 1024;
const OPEN_DEADLINE: Duration = Duration::from_secs(20);

/// A store type, and how the suite is set up for it.
struct Backend {
    name: &'static str,
    suite: fn(unique: String) -> Suite,
    /// What is left of a case in the backend: nothing may be.
    left_over: fn(unique: &str) -> Vec<String>,
    /// Cases that say nothing about this store, with the reason.
    not_applicable: &'static [(&'static str, &'static str)],
}

const BACKENDS: &[Backend] = &[
    Backend {
        name: "memory",
        suite: memory,
        left_over: |_| Vec::new(),
        not_applicable: &[
            (
                "limits::large_records_come_back",
                "the store limits its records",
            ),
            (
                "cleanup::exactly_what_expired_by_then",
                "the backend removes expired records by itself",
            ),
            (
                "lifecycle::records_outlive_the_handle",
                "the store is not durable",
            ),
            (
                "lifecycle::records_outlive_a_handle_that_was_not_closed",
                "the store is not durable",
            ),
            (
                "errors::an_absent_backend_is_unavailable",
                "no absent backend was given: see Suite::unreachable",
            ),
            (
                "errors::a_damaged_record_is_corrupt_data",
                "no way to damage a record was given: see Suite::damage",
            ),
            (
                "health::no_secret_is_shown",
                "no secret was given: see Suite::secret",
            ),
        ],
    },
    Backend {
        name: "postgres",
        suite: postgres::suite,
        left_over: postgres::left_over,
        not_applicable: &[(
            "limits::large_records_come_back",
            "the store limits its records",
        )],
    },
    Backend {
        name: "redis",
        suite: redis,
        left_over: keys_in_redis,
        not_applicable: &[
            (
                "limits::large_records_come_back",
                "the store limits its records",
            ),
            (
                "cleanup::exactly_what_expired_by_then",
                "the backend removes expired records by itself",
            ),
        ],
    },
    Backend {
        name: "sqlite",
        suite: sqlite::suite,
        left_over: sqlite::left_over,
        not_applicable: &[
            (
                "limits::large_records_come_back",
                "the store limits its records",
            ),
            (
                "health::no_secret_is_shown",
                "no secret was given: see Suite::secret",
            ),
        ],
    },
];

fn suite_of(store_type: &'static LazyLock<StoreType>, config: Value) -> Suite {
    Suite::new(move || open(store_type, config.clone()))
        .alone()
        .declared(store_type.manifest.capabilities.clone())
}

async fn open(
    store_type: &'static LazyLock<StoreType>,
    config: Value,
) -> StoreResult<warren_plugin_api::StoreObject> {
    let opened = store_type.open_within(OPEN_DEADLINE, &config).await;
    opened.map_err(|error| match error {
        warren::store::OpenError::Constructor { error, .. } => error,
        other => StoreError::internal(other.to_string()),
    })
}

static MEMORY: LazyLock<StoreType> = LazyLock::new(|| load_one(&plugin("memory")).unwrap());

/// Handles of one name share their records.
fn memory(unique: String) -> Suite {
    let config = json!({ "name": unique, "max_record_bytes": MAX_RECORD_BYTES });
    suite_of(&MEMORY, config)
}

static REDIS: LazyLock<StoreType> = LazyLock::new(|| load_one(&plugin("redis")).unwrap());

fn redis(unique: String) -> Suite {
    const SECRET: &str = "open-sesame";
    let config = |url: String| {
        json!({
            "redis_url": url,
            "key_prefix": unique,
            "max_record_bytes": MAX_RECORD_BYTES,
        })
    };
    let absent = config(format!("redis://:{SECRET}@127.0.0.1:{}/0", free_port()));
    let prefix = unique.clone();
    suite_of(&REDIS, config(redis_url()))
        .unreachable(move || open(&REDIS, absent.clone()))
        .secret(SECRET)
        .damage(move |job_id| damage_in_redis(prefix.clone(), job_id))
}

fn redis_connection() -> redis::Connection {
    let url = redis_url();
    redis::Client::open(url)
        .and_then(|client| client.get_connection())
        .unwrap_or_else(|error| panic!("no Redis ({error}): start one with `redis-server`"))
}

async fn damage_in_redis(prefix: String, job_id: Text) {
    redis::cmd("SET")
        .arg(format!("{prefix}:result:{job_id}"))
        .arg("{\"no\": \"record\"")
        .exec(&mut redis_connection())
        .unwrap();
}

fn keys_in_redis(prefix: &str) -> Vec<String> {
    let mut connection = redis_connection();
    let mut keys = redis::cmd("SCAN");
    keys.arg(0)
        .arg("MATCH")
        .arg(format!("{prefix}:*"))
        .arg("COUNT")
        .arg(1_000);
    let keys = keys.iter(&mut connection).unwrap();
    keys.map(|key: redis::RedisResult<Vec<u8>>| String::from_utf8_lossy(&key.unwrap()).into_owned())
        .collect()
}

fn run_case(backend: &'static Backend, id: &'static str) -> Result<Completion, Failed> {
    let unique = unique("conformance");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let suite = (backend.suite)(unique.clone());
    let report = runtime.block_on(suite.run_matching(id));
    let case = report.cases.first().expect("the case is there");
    if std::env::var_os("SHOW_TOOK").is_some() {
        eprintln!("TOOK {} {} {}", case.took.as_millis(), backend.name, id);
    }
    let expected = backend
        .not_applicable
        .iter()
        .find(|(not_applicable, _)| *not_applicable == id)
        .map(|(_, reason)| *reason);
    match (&case.outcome, expected) {
        (Outcome::Failed(_), _) => return Err(case.to_string().into()),
        (Outcome::NotApplicable(found), Some(reason)) if found == reason => {
            return Ok(Completion::ignored_with(reason));
        }
        (Outcome::NotApplicable(_), _) => return Err(case.to_string().into()),
        (Outcome::Passed, Some(reason)) => {
            return Err(format!("expected not to apply ({reason}), found it passed").into());
        }
        (Outcome::Passed, None) => {}
    }
    let left_over = (backend.left_over)(&unique);
    if left_over.is_empty() {
        return Ok(Completion::Completed);
    }
    Err(format!("expected nothing left in the backend, found {left_over:?}").into())
}

fn main() -> ExitCode {
    if sqlite::run_errand() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let trials = BACKENDS
        .iter()
        .flat_map(|backend| {
            cases().map(move |case| {
                let name = format!("{}::{}", backend.name, case.id);
                Trial::ignorable_test(name, move || run_case(backend, case.id))
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
