//! The S3 store under the suite: a prefix for each case. All of it in a bucket of an imitation of
//! S3 in memory, since a real server takes minutes for it; some cases on SeaweedFS,
//! which is a real server, and on moto, an emulator; and on a service of the user's own, where
//! `WARREN_TEST_S3_ENDPOINT`, `…_BUCKET`, `…_ACCESS_KEY_ID` and `…_SECRET_ACCESS_KEY` name one.

use std::{env, sync::LazyLock, time::Duration};

use serde_json::{Value, json};
use warren::store::{StoreType, plugins::load_one};
use warren_conformance::{Scale, Suite};
use warren_plugin_api::Text;
use warren_tests::{
    S3_ACCESS_KEY_ID, S3_BUCKET, S3_SECRET_ACCESS_KEY, S3Service, free_port, plugin,
};

use super::{
    Backend, MAX_RECORD_BYTES, NEEDS_A_SERVER, OWN_EXPIRY, memory_s3::MemoryS3, open, suite_of,
};

pub(crate) const IN_MEMORY: &str = "s3_in_memory";
/// Five requests to write a record: what takes longest is done at its full size, and once.
pub(crate) const IN_MEMORY_FULL: &str = "s3_in_memory_at_full_size";
pub(crate) const ON_SEAWEEDFS: &str = "s3_on_seaweedfs";
pub(crate) const ON_MOTO: &str = "s3_on_moto";
pub(crate) const OF_THE_USER: &str = "s3_of_the_user";

const NO_PUSH: &str = "the store declares no push";

const NOT_APPLICABLE: &[(&str, &str)] = &[
    (
        "limits::large_records_come_back",
        "the store limits its records",
    ),
    OWN_EXPIRY,
    NEEDS_A_SERVER,
    ("push::every_ending_is_announced", NO_PUSH),
    ("push::endings_through_another_handle", NO_PUSH),
    ("push::nothing_else_is_announced", NO_PUSH),
    ("push::an_announced_ending_can_be_read", NO_PUSH),
    ("push::every_subscriber_is_told", NO_PUSH),
    ("push::closing_ends_a_subscription", NO_PUSH),
    ("push::a_record_comes_along_as_it_is_stored", NO_PUSH),
    ("push::a_dropped_subscription_is_silent", NO_PUSH),
];

/// The backends, of which the last is there when the environment names it.
pub(crate) const BACKENDS: &[Backend] = &[
    Backend {
        name: IN_MEMORY,
        suite: |prefix| in_memory(prefix).scale(Scale::Quick),
        left_over: records_in_memory,
        not_applicable: NOT_APPLICABLE,
    },
    Backend {
        name: IN_MEMORY_FULL,
        suite: |prefix| in_memory(prefix).case_timeout(Duration::from_secs(600)),
        left_over: records_in_memory,
        not_applicable: &[],
    },
    Backend {
        name: ON_SEAWEEDFS,
        suite: |prefix| on(&prefix, SEAWEEDFS.endpoint()),
        left_over: |_| Vec::new(),
        not_applicable: NOT_APPLICABLE,
    },
    Backend {
        name: ON_MOTO,
        suite: |prefix| on(&prefix, MOTO.endpoint()),
        left_over: |_| Vec::new(),
        not_applicable: NOT_APPLICABLE,
    },
    Backend {
        name: OF_THE_USER,
        suite: of_the_user,
        left_over: |_| Vec::new(),
        not_applicable: NOT_APPLICABLE,
    },
];

/// What is tried on services that are not in this process: what depends on how they treat
/// preconditions, keys, lists, bytes and deletes.
const CASES: &[&str] = &[
    "identity::hostile_ids",
    "identity::near_ids_stay_apart",
    "round_trip::every_field",
    "round_trip::hostile_payloads_in_every_field",
    "round_trip::extreme_times",
    "guarded_writes::one_winner_of_a_claim",
    "guarded_writes::one_winner_between_handles",
    "guarded_writes::one_ending_of_an_attempt",
    "guarded_writes::a_stale_write_changes_nothing",
    "expiry::what_has_expired_is_absent",
    "batches::missing_and_repeated_ids",
    "batches::writes_of_one_job_act_in_order",
    "batches::deletes_act_in_order",
    "scan::the_declared_order",
    "scan_changes::an_old_cursor_still_works",
    "cleanup::exactly_what_expired_by_then",
    "cleanup::nothing_is_left_in_the_index",
    "delete::the_record_is_gone_for_every_reader",
    "delete::no_guard_is_left",
    "stats::changes_are_followed",
    "health::no_secret_is_shown",
    "limits::the_largest_record_is_taken",
    "lifecycle::records_outlive_a_handle_that_was_not_closed",
    "concurrency::readers_see_whole_records",
];

/// Whether this case is run on this backend.
pub(crate) fn is_tried(backend: &str, case: &str) -> bool {
    match backend {
        OF_THE_USER if env::var_os("WARREN_TEST_S3_ENDPOINT").is_none() => false,
        IN_MEMORY_FULL => case == "batches::of_ten_thousand",
        IN_MEMORY => case != "batches::of_ten_thousand",
        // An emulator takes half a minute for what its real neighbour shows.
        ON_MOTO if case == "round_trip::hostile_payloads_in_every_field" => false,
        ON_SEAWEEDFS | ON_MOTO | OF_THE_USER => CASES.contains(&case),
        _ => true,
    }
}

static S3: LazyLock<StoreType> = LazyLock::new(|| load_one(&plugin("s3")).unwrap());
static IMITATION: LazyLock<MemoryS3> = LazyLock::new(MemoryS3::start);
static SEAWEEDFS: LazyLock<S3Service> = LazyLock::new(S3Service::seaweedfs);
static MOTO: LazyLock<S3Service> = LazyLock::new(S3Service::moto);

fn config(prefix: &str, endpoint: String) -> Value {
    json!({
        "endpoint": endpoint,
        "allow_http": true,
        "bucket": S3_BUCKET,
        "prefix": prefix,
        "access_key_id": S3_ACCESS_KEY_ID,
        "secret_access_key": S3_SECRET_ACCESS_KEY,
        "max_record_bytes": MAX_RECORD_BYTES,
    })
}

fn in_memory(prefix: String) -> Suite {
    let mut present = config(&prefix, IMITATION.endpoint());
    present["bucket"] = super::memory_s3::BUCKET.into();
    let mut absent = config(&prefix, format!("http://127.0.0.1:{}", free_port()));
    absent["retry_for"] = "100ms".into();
    suite_of(&S3, present)
        .unreachable(move || open(&S3, absent.clone()))
        .secret(S3_SECRET_ACCESS_KEY)
        .damage(move |job_id| {
            let key = format!("{prefix}/records/{}", job(&job_id));
            async move {
                assert!(IMITATION.object(&key).is_some());
                IMITATION.set(&key, b"no record");
            }
        })
}

/// Records, and marks of removed ones. Entries may stay for an hour where a call was dropped, and
/// lead nowhere.
fn records_in_memory(prefix: &str) -> Vec<String> {
    IMITATION.keys(&format!("{prefix}/records/"))
}

fn on(prefix: &str, endpoint: String) -> Suite {
    let mut config = config(prefix, endpoint);
    // SeaweedFS lets writers of one object wait for each other.
    config["request_timeout"] = "1m".into();
    suite_of(&S3, config)
        .secret(S3_SECRET_ACCESS_KEY)
        .scale(Scale::Quick)
}

fn of_the_user(prefix: String) -> Suite {
    let named = |what: &str| {
        let name = format!("WARREN_TEST_S3_{what}");
        env::var(&name).unwrap_or_else(|_| panic!("{name} is set where WARREN_TEST_S3_ENDPOINT is"))
    };
    let mut config = config(&prefix, named("ENDPOINT"));
    config["bucket"] = named("BUCKET").into();
    config["access_key_id"] = named("ACCESS_KEY_ID").into();
    config["secret_access_key"] = named("SECRET_ACCESS_KEY").into();
    suite_of(&S3, config)
        .secret(named("SECRET_ACCESS_KEY"))
        .scale(Scale::Quick)
}

/// As the store's documentation says.
fn job(job_id: &Text) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(job_id.as_str());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
