//! Messages, errors and results that are out of all proportion, among ordinary jobs.

use std::fmt::Write;

use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use warren_tests::{
    fault::{Counts, Mix, Repeats, Round, Scenario},
    raw_amqp::{header, headers_that_fill_a_frame, nested_header},
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("errors_of_200_kb", Repeats::Never, large_errors),
    Scenario::of_redis(
        "results_of_64_mib_are_stored",
        Repeats::Never,
        large_results_are_stored,
    ),
    Scenario::of_redis(
        "results_of_64_mib_are_spooled",
        Repeats::Never,
        large_results_are_spooled,
    ),
    Scenario::new(
        "results_of_64_mib_are_refused",
        Repeats::Never,
        large_results_are_refused,
    ),
    Scenario::new("argument_bombs", Repeats::Never, argument_bombs),
    Scenario::new("garbage_in_headers", Repeats::Never, garbage_in_headers),
];

fn large_errors(round: &mut Round) -> Counts {
    let worker = round.worker();
    round.load(Mix::All);
    round.load_of(Mix::LargeErrors, 20);
    round.broke();
    round.count(vec![worker])
}

/// Jobs with a result of 64 MiB.
const LARGE_RESULTS: usize = 2;

/// Allows records of 128 MiB, and time to write one on a busy machine.
fn make_room(round: &Round) {
    round.configure("result_store.config", "max_record_bytes", "134217728");
    round.configure("result_store", "deadline", "\"30s\"");
}

fn large_results(round: &mut Round, refused: usize) -> Counts {
    let worker = round.worker();
    round.load(Mix::All);
    round.load_of(Mix::LargeResults, LARGE_RESULTS);
    round.broke();
    let mut counts = round.count(vec![worker]);
    counts.expect_refused(refused);
    counts
}

fn large_results_are_stored(round: &mut Round) -> Counts {
    make_room(round);
    large_results(round, 0)
}

/// A store takes records of 64 MiB, unless it is told otherwise, and there is more to a record.
fn large_results_are_refused(round: &mut Round) -> Counts {
    large_results(round, LARGE_RESULTS)
}

/// They end while the store is away.
fn large_results_are_spooled(round: &mut Round) -> Counts {
    make_room(round);
    let worker = round.worker();
    round.load(Mix::All);
    round.broke();
    round.redis.stop();
    round.load_of(Mix::LargeResults, LARGE_RESULTS);
    round.awaits("results of 64 MiB are spooled", |_| {
        round.spooled("bytes") > 64 * 1024 * 1024
    });
    round.redis.start_again();
    let mut counts = round.count(vec![worker]);
    counts.expect_refused(0);
    counts
}

/// A message that calls `quick` with arguments of this JSON text.
fn call(round: &Round, id: &str, argument: &str) -> Vec<u8> {
    let mut body = json!({
        "job_id": id,
        "function": "quick",
        "queue_name": round.system.queue,
    })
    .to_string();
    body.pop();
    let _ = write!(body, ", \"args\": [{argument}]}}");
    body.into_bytes()
}

fn argument_bombs(round: &mut Round) -> Counts {
    let worker = round.worker();
    round.load(Mix::All);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let bombs = [
        nested(100),
        nested(100_000),
        format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000)),
        "9".repeat(100_000),
        format!("-1e{}", "9".repeat(1_000)),
        "1e-999999999".to_owned(),
        format!("\"{}\"", "\\u0000".repeat(100_000)),
        "\"\\ud800\"".to_owned(),
        format!("{{{}\"z\":0}}", "\"same\":1,".repeat(50_000)),
        "NaN, Infinity, -Infinity".to_owned(),
    ];
    let rabbitmq = round.rabbitmq();
    for (number, bomb) in bombs.iter().enumerate() {
        let id = format!("bomb-{number}");
        let body = call(round, &id, bomb);
        rabbitmq.publish(&round.system.queue, &body, &[]);
        round.broke();
        round.sent_by_hand(&id);
    }
    round.count(vec![worker])
}

fn garbage_in_headers(round: &mut Round) -> Counts {
    let worker = round.worker();
    round.load(Mix::All);
    let long = |text: String| AMQPValue::LongString(text.into());
    let garbage = [
        ("x-retry-count", long("three".to_owned())),
        ("x-retry-count", AMQPValue::LongLongInt(i64::MAX)),
        ("x-retry-count", AMQPValue::LongLongInt(i64::MIN)),
        ("x-retry-count", AMQPValue::Double(f64::MIN)),
        ("x-warren-max-retries", AMQPValue::LongLongInt(-1)),
        ("x-warren-result-ttl-ms", AMQPValue::LongLongInt(i64::MIN)),
        ("x-warren-result-ttl-ms", long("\u{0}\u{feff}".to_owned())),
        (
            "x-client-delayed",
            AMQPValue::FieldTable(FieldTable::default()),
        ),
        ("x-delay", AMQPValue::LongLongInt(i64::MIN)),
        ("x-death", long("x".repeat(100_000))),
        (
            "x-warren-replayed-from",
            long("{\"replays\":".repeat(9_000)),
        ),
        ("x-delivery-count", AMQPValue::Void),
    ];
    let rabbitmq = round.rabbitmq();
    for (number, header) in garbage.into_iter().enumerate() {
        let id = format!("garbage-{number}");
        let body = call(round, &id, "1");
        rabbitmq.publish(&round.system.queue, &body, &[header]);
        round.broke();
        round.sent_by_hand(&id);
    }
    let unreadable = [
        nested_header(b"deep", 26_000),
        header(b"na\xff\xfeme", b't', &[1]),
        headers_that_fill_a_frame(&[]),
    ];
    for (number, headers) in unreadable.into_iter().enumerate() {
        let id = format!("unreadable-{number}");
        round.publish_raw(&call(round, &id, "1"), &headers);
        round.broke();
        round.sent_by_hand(&id);
    }
    round.count(vec![worker])
}
