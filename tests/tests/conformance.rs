//! The stores that come with Warren, loaded as the plugin files they are, against every rule of
//! their contract. A test of its own for each case of each store, which has the store to itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

#[path = "conformance/composed.rs"]
mod composed;
#[path = "conformance/elasticsearch.rs"]
mod elasticsearch;
#[path = "../../plugins/s3/tests/s3/memory_s3.rs"]
mod memory_s3;
#[path = "conformance/mongodb.rs"]
mod mongodb;
#[path = "conformance/postgres.rs"]
mod postgres;
#[path = "conformance/s3.rs"]
mod s3;
#[path = "conformance/sqlite.rs"]
mod sqlite;

use std::{
    net::TcpListener,
    process::ExitCode,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};
use warren::store::{StoreType, plugins::load_one};
use warren_conformance::{Outcome, Suite, cases};
use warren_plugin_api::{StoreError, StoreResult, Text};
use warren_tests::{PrivateRedis, free_port, plugin, redis_url, unique};

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

const NO_DAMAGE: (&str, &str) = (
    "errors::a_damaged_record_is_corrupt_data",
    "no way to damage a record was given: see Suite::damage",
);
const NO_ABSENT_BACKEND: (&str, &str) = (
    "errors::an_absent_backend_is_unavailable",
    "no absent backend was given: see Suite::unreachable",
);
const NO_SECRET: (&str, &str) = (
    "health::no_secret_is_shown",
    "no secret was given: see Suite::secret",
);
const LIMITED: (&str, &str) = (
    "limits::large_records_come_back",
    "the store limits its records",
);
const NATIVE_EXPIRY: (&str, &str) = (
    "cleanup::exactly_what_expired_by_then",
    "the backend removes expired records by itself",
);
const OWN_EXPIRY: (&str, &str) = (
    "cleanup::what_expires_by_itself_needs_none",
    "the backend removes no expired records by itself",
);
const NEEDS_A_SERVER: (&str, &str) = (
    "capabilities::an_embedded_store_needs_no_option",
    "the store is not embedded",
);

/// Not every backend has such a fault, or can be brought to have it here.
const FAULTS_OF_SOME: &[&str] = &[
    "errors::an_unresponsive_backend_is_given_up",
    "errors::wrong_credentials_are_invalid_config",
    "errors::a_full_backend_is_unavailable",
];

const BACKENDS: &[Backend] = &[
    Backend {
        name: "failover",
        suite: composed::failover,
        left_over: composed::failover_left_over,
        not_applicable: &[LIMITED, NATIVE_EXPIRY, NEEDS_A_SERVER, NO_DAMAGE],
    },
    Backend {
        name: "fanout",
        suite: composed::fanout,
        left_over: composed::file_left_over,
        not_applicable: &[
            LIMITED,
            NATIVE_EXPIRY,
            NEEDS_A_SERVER,
            NO_DAMAGE,
            NO_ABSENT_BACKEND,
            NO_SECRET,
        ],
    },
    Backend {
        name: "tiered",
        suite: composed::tiered,
        left_over: composed::file_left_over,
        not_applicable: &[
            LIMITED,
            OWN_EXPIRY,
            NEEDS_A_SERVER,
            NO_DAMAGE,
            NO_ABSENT_BACKEND,
            NO_SECRET,
        ],
    },
    Backend {
        name: "elasticsearch",
        suite: elasticsearch::suite,
        left_over: elasticsearch::left_over,
        not_applicable: elasticsearch::NOT_APPLICABLE,
    },
    Backend {
        name: "memory",
        suite: memory,
        left_over: |_| Vec::new(),
        not_applicable: &[
            LIMITED,
            NATIVE_EXPIRY,
            (
                "lifecycle::records_outlive_the_handle",
                "the store is not durable",
            ),
            (
                "lifecycle::records_outlive_a_handle_that_was_not_closed",
                "the store is not durable",
            ),
            NO_ABSENT_BACKEND,
            NO_DAMAGE,
            NO_SECRET,
        ],
    },
    Backend {
        name: "mongodb",
        suite: mongodb::suite,
        left_over: mongodb::left_over,
        not_applicable: &[LIMITED, NATIVE_EXPIRY, NEEDS_A_SERVER],
    },
    Backend {
        name: "postgres",
        suite: postgres::suite,
        left_over: postgres::left_over,
        not_applicable: &[LIMITED, OWN_EXPIRY, NEEDS_A_SERVER],
    },
    Backend {
        name: "redis",
        suite: redis,
        left_over: keys_in_redis,
        not_applicable: &[LIMITED, NATIVE_EXPIRY, NEEDS_A_SERVER],
    },
    Backend {
        name: "sqlite",
        suite: sqlite::suite,
        left_over: sqlite::left_over,
        not_applicable: &[LIMITED, OWN_EXPIRY, NO_SECRET],
    },
];

fn suite_of(store_type: &'static LazyLock<StoreType>, config: Value) -> Suite {
    Suite::new(move || open(store_type, config.clone()))
        .alone()
        .declared(store_type.manifest.capabilities.clone())
        .config_schema(store_type.manifest.config_schema.clone())
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
            // A batch of ten thousand on a busy machine.
            "response_timeout": "1m",
        })
    };
    let absent = config(format!("redis://:{SECRET}@127.0.0.1:{}/0", free_port()));
    let unresponsive = config(format!("redis://{}/0", SILENT.as_str()));
    let mut refused = url::Url::parse(&redis_url()).unwrap();
    refused.set_username("nobody").unwrap();
    refused.set_password(Some(SECRET)).unwrap();
    let refused = config(refused.to_string());
    let full = OnceLock::new();
    let full_prefix = unique.clone();
    let prefix = unique.clone();
    suite_of(&REDIS, config(redis_url()))
        .unresponsive(move || open(&REDIS, unresponsive.clone()))
        .wrong_credentials(move || open(&REDIS, refused.clone()))
        .no_room(move || {
            // It runs as long as the suite.
            let server = full.get_or_init(full_redis);
            open(
                &REDIS,
                json!({ "redis_url": server.url(), "key_prefix": full_prefix }),
            )
        })
        .unreachable(move || open(&REDIS, absent.clone()))
        .secret(SECRET)
        .damage(move |job_id| damage_in_redis(prefix.clone(), job_id))
}

/// A Redis that takes no more writes.
fn full_redis() -> PrivateRedis {
    let server = PrivateRedis::start();
    let mut connection = redis::Client::open(server.url())
        .and_then(|client| client.get_connection())
        .unwrap();
    let mut limit = redis::cmd("CONFIG");
    limit.arg("SET").arg("maxmemory").arg("1");
    limit.exec(&mut connection).unwrap();
    server
}

/// The address of a port that takes connections and answers nothing.
static SILENT: LazyLock<String> = LazyLock::new(|| {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // Never accepted, and open until this process ends.
    std::mem::forget(listener);
    address.to_string()
});

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
    keys.cursor_arg(0)
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
        (Outcome::NotApplicable(found), None) if FAULTS_OF_SOME.contains(&id) => {
            return Ok(Completion::ignored_with(found));
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

/// A test's name says what was proved against what.
fn shown_name(backend: &Backend) -> &'static str {
    match backend.name {
        "elasticsearch" => elasticsearch::shown_name(),
        "mongodb" => mongodb::shown_name(),
        name => name,
    }
}

fn main() -> ExitCode {
    if sqlite::run_errand() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let trials = BACKENDS
        .iter()
        .chain(s3::BACKENDS)
        .flat_map(|backend| {
            let cases = cases().filter(|case| s3::is_tried(backend.name, case.id));
            cases.map(move |case| {
                let name = format!("{}::{}", shown_name(backend), case.id);
                Trial::ignorable_test(name, move || run_case(backend, case.id))
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
