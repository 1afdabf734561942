//! Beside rabbitmq-arq 0.2.2, the Python library whose messages and records these are: each side
//! sends jobs that the other runs, and reads what the other stored.
//!
//! Needs RabbitMQ at `WARREN_TEST_AMQP_URL`, `redis-server` (each test starts its own, since the
//! Python library has one prefix for all keys), and `python3` with `venv` and a package index for
//! the first run. The Python worker is the stock one but for what keeps it from starting on a
//! broker without the delayed-message plugin: see `tests/interop/worker.py`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use warren_tests::{
    PrivateRedis, Ran, System, WorkerProcess, amqp_url, eventually,
    python::{program, python},
};

/// Runs `describe` as the Python worker does, and fails as Python functions do.
fn python_functions() -> String {
    let python = python().to_str().unwrap();
    let describe = "import json, sys; job = json.load(sys.stdin); \
        print(json.dumps({'args': repr(job['args']), 'kwargs': job['kwargs']}))";
    format!(
        "[functions.describe]\ncommand = [{python:?}, \"-c\", {describe:?}]\n\n\
         [functions.failing]\ncommand = [\"sh\", \"-c\", \"exit 3\"]\nretry = {{ limit = 0 }}\n"
    )
}

fn python_program(
    system: &System,
    redis: &PrivateRedis,
    name: &str,
    arguments: &[&str],
) -> Command {
    let mut command = Command::new(python());
    command
        .arg(program(name))
        .args([amqp_url(), redis.url(), system.queue.clone()])
        .args(arguments);
    command
}

fn python_client(system: &System, redis: &PrivateRedis, arguments: &[&str]) -> Value {
    let output = python_program(system, redis, "client.py", arguments)
        .output()
        .unwrap();
    Ran::from(output).expect(0).json()
}

/// A Python worker that has begun to consume.
fn python_worker(system: &System, redis: &PrivateRedis) -> WorkerProcess {
    let mut worker = WorkerProcess::spawn(python_program(system, redis, "worker.py", &[]));
    worker.logs("python worker started");
    worker
}

#[test]
fn jobs_that_python_sends_are_run_and_python_reads_what_became_of_them() {
    let redis = PrivateRedis::start();
    let system = System::beside_python(&redis, &python_functions());
    let _worker = system.worker(&["--name", "warren"]);
    let ids = python_client(&system, &redis, &["send"]);
    let id = |name: &str| ids[name].as_str().unwrap();
    for name in [
        "plain",
        "named",
        "unicode",
        "not_json",
        "types",
        "delayed",
        "until",
        "written_over",
    ] {
        system.awaits_status(id(name), "completed");
    }
    for name in ["failing", "unknown"] {
        system.awaits_status(id(name), "failed");
    }

    let mut arguments = vec!["read"];
    let names = ids.as_object().unwrap().keys();
    arguments.extend(names.map(|name| id(name)));
    arguments.push("never-sent");
    let seen = python_client(&system, &redis, &arguments);
    let args = |name: &str| seen[id(name)]["outcome"]["value"]["args"].clone();
    assert_eq!(args("plain"), "[2, 3]");
    assert_eq!(args("unicode"), "['é中 \\x00 🦀', '\"\\\\/']");
    assert_eq!(args("not_json"), "[nan, [inf]]");
    assert_eq!(
        args("types"),
        "[[1, 2], '1.5', '2025-01-01 00:00:00+00:00', 1180591620717411303424, None]"
    );
    assert_eq!(args("delayed"), "[]");
    assert_eq!(args("until"), "[]");
    assert_eq!(args("written_over"), "[]");

    let named = &seen[id("named")];
    assert_eq!(named["status"], "completed");
    assert_eq!(
        named["outcome"]["value"]["kwargs"],
        json!({ "name": "Ann", "options": { "a": [1] } })
    );
    let record = &named["record"];
    assert_eq!(record["function_name"], "describe");
    assert_eq!(record["worker_id"], "warren");
    assert_eq!(record["queue_name"], system.queue.as_str());
    assert_eq!(record["retry_count"], 0);
    assert_eq!(record["args"], json!([1]));
    assert!(record["duration"].as_f64().unwrap() > 0.0, "{record}");
    assert!(record["error"].is_null(), "{record}");

    let failing = &seen[id("failing")];
    assert_eq!(failing["status"], "failed");
    assert_eq!(failing["outcome"]["raised"], "RuntimeError");
    let text = failing["outcome"]["text"].as_str().unwrap();
    assert!(
        text.contains("CommandFailed: the command ended with exit code 3"),
        "{text}"
    );
    let text = seen[id("unknown")]["outcome"]["text"].as_str().unwrap();
    assert!(text.contains("UnknownFunction"), "{text}");
    assert_eq!(seen["never-sent"]["status"], Value::Null);
    assert_eq!(seen["never-sent"]["outcome"]["raised"], "JobNotFound");
}

#[test]
fn jobs_that_warren_sends_are_run_by_python_and_warren_reads_what_became_of_them() {
    let redis = PrivateRedis::start();
    let system = System::beside_python(&redis, "");
    let add = system.enqueue(&["add", "2", "3"]);
    let describe = system.enqueue(&["describe", "é中", "null", "--kwarg", "list=[1, {}]"]);
    let delayed = system.enqueue(&["describe", "--delay", "500ms"]);
    let boom = system.enqueue(&["boom"]);
    let flaky = system.enqueue(&["flaky"]);
    let unreachable = system.enqueue(&["unreachable"]);
    let before = python_client(&system, &redis, &["read"]);
    assert_eq!(before, json!({}));
    assert_eq!(system.job(&add).unwrap()["status"], "queued");

    let worker = python_worker(&system, &redis);
    let job = system.awaits_status(&add, "completed");
    assert_eq!(job["result"], 5);
    assert_eq!(job["worker"], "python");
    assert_eq!(job["attempt"], 1);
    assert_eq!(job["args"], json!([2, 3]));
    assert_eq!(system.run(&["job", "wait", &add]).expect(0).line(), "5");

    let seen = &system.awaits_status(&describe, "completed")["result"];
    assert_eq!(seen["args"], json!(["é中", null]));
    assert_eq!(seen["kwargs"], json!({ "list": [1, {}] }));
    assert_eq!(seen["job_id"], describe);
    system.awaits_status(&delayed, "completed");

    let job = system.awaits_status(&boom, "failed");
    assert_eq!(job["error"], "ValueError: boom é中");
    let ran = system.run(&["job", "wait", &boom]).expect(5);
    assert!(
        ran.stderr.contains("ValueError: boom é中"),
        "{}",
        ran.stderr
    );

    // The Python worker keeps the error of the attempt before.
    let job = system.awaits_status(&flaky, "completed");
    assert_eq!(job["result"], json!({ "tries": 2 }));
    assert_eq!(job["attempt"], 2);

    // Two retries; the record says `failed` after each.
    let job = eventually("the last attempt fails", || {
        let job = system.awaits_status(&unreachable, "failed");
        if job["attempt"] == 3 {
            Ok(job)
        } else {
            Err(job.to_string())
        }
    });
    assert_eq!(job["error"], "ConnectionError: upstream is down");

    system.rabbitmq().awaits_ready(&system.dead_letters(), 2);
    let letters = system
        .run(&["dlq", "ls", "-q", &system.queue, "--json"])
        .expect(0)
        .json_lines();
    let errors: Vec<_> = letters.iter().map(|letter| &letter["error"]).collect();
    assert_eq!(
        errors,
        ["ValueError: boom é中", "ConnectionError: upstream is down"]
    );
    assert_eq!(letters[0]["job_id"], boom);

    worker.signal(Signal::SIGTERM);
    worker.ended();
}

#[test]
fn a_dead_letter_of_python_s_is_replayed_and_run_by_warren() {
    let redis = PrivateRedis::start();
    let system = System::beside_python(&redis, &warren_tests::command("boom", "echo '\"mended\"'"));
    let id = system.enqueue(&["boom"]);
    let worker = python_worker(&system, &redis);
    system.awaits_status(&id, "failed");
    system.rabbitmq().awaits_ready(&system.dead_letters(), 1);
    drop(worker);
    let ran = system
        .run(&["dlq", "replay", "-q", &system.queue, "--json"])
        .expect(0);
    assert_eq!(ran.json_lines()[1]["replayed"], 1);
    system.run(&["worker", "--burst"]).expect(0);
    let job = system.job(&id).unwrap();
    assert_eq!(job["result"], "mended");
    let replayed_from = &job["extra"]["warren.replayed_from"];
    assert_eq!(replayed_from["error_type"], "ValueError");
    assert_eq!(replayed_from["error_message"], "boom é中");
}

#[test]
fn a_dead_letter_of_warren_s_is_replayed_and_run_by_python() {
    let redis = PrivateRedis::start();
    let system = System::beside_python(&redis, &warren_tests::command("flaky", "exit 3"));
    let id = system.enqueue(&["flaky"]);
    system.run(&["worker", "--burst"]).expect(0);
    system
        .run(&["dlq", "replay", "-q", &system.queue])
        .expect(0);
    // Its retry leaves out the header by which a Warren worker would know.
    let _worker = python_worker(&system, &redis);
    let job = system.awaits_status(&id, "completed");
    assert_eq!(job["result"], json!({ "tries": 2 }));
}

#[test]
fn a_retry_of_warren_s_is_the_second_attempt_for_python() {
    let redis = PrivateRedis::start();
    let system = System::beside_python(
        &redis,
        "[functions.describe]\ncommand = [\"false\"]\nretry = { limit = 3, base = \"6s\" }\n",
    );
    let id = system.enqueue(&["describe", "7"]);
    let worker = system.worker(&[]);
    system.awaits_status(&id, "retrying");
    worker.signal(Signal::SIGTERM);
    worker.ended().expect(0);
    let _worker = python_worker(&system, &redis);
    let job = system.awaits_status(&id, "completed");
    assert_eq!(job["attempt"], 2);
    assert_eq!(job["result"]["job_try"], 2);
    assert_eq!(job["result"]["args"], json!([7]));
}
