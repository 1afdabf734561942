//! Each status, seen from outside.

use serde_json::json;
use warren_tests::{System, eventually_true};

use super::{echo, gated};

#[test]
fn a_job_is_queued_then_in_progress_then_completed() {
    let system = System::new(&gated());
    let id = system.enqueue(&["gated", "1"]);
    let job = system.job(&id).unwrap();
    assert_eq!(job["status"], "queued");
    assert_eq!(job["function"], "gated");
    assert_eq!(job["queue"], system.queue.as_str());
    assert_eq!(job["args"], json!([1]));
    assert!(job["worker"] == "" || job["worker"].is_null(), "{job}");

    let _worker = system.worker(&["--name", "ada"]);
    let job = system.awaits_status(&id, "in_progress");
    assert_eq!(job["worker"], "ada");
    assert_eq!(job["attempt"], 1);
    assert!(
        job["started_at"].is_string() && job["finished_at"].is_null(),
        "{job}"
    );

    system.touch("go");
    let job = system.awaits_status(&id, "completed");
    assert_eq!(job["result"], "went");
    assert_eq!(job["worker"], "ada");
    assert!(job["duration_seconds"].as_f64().unwrap() > 0.0, "{job}");
    assert!(job["error"].is_null(), "{job}");
}

#[test]
fn an_unknown_id_is_not_a_queued_job() {
    let system = System::new("");
    let ran = system.run(&["job", "get", "never-sent"]).expect(6);
    assert!(ran.stderr.contains("no such job"), "{}", ran.stderr);
    let ran = system
        .run(&["job", "get", "never-sent", "--json"])
        .expect(6);
    assert_eq!(
        ran.json(),
        json!({ "job_id": "never-sent", "status": null })
    );
    system.run(&["job", "wait", "never-sent"]).expect(6);
}

#[test]
fn a_failed_job_has_its_error_and_is_a_dead_letter() {
    let system = System::new(&warren_tests::command(
        "fail",
        "echo the disk is full >&2; exit 3",
    ));
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["fail"]);
    let job = system.awaits_status(&id, "failed");
    assert_eq!(
        job["error"],
        "CommandFailed: the command ended with exit code 3"
    );
    assert_eq!(job["extra"]["warren.error_detail"], "the disk is full");
    assert!(job["result"].is_null(), "{job}");
    let text = system.run(&["job", "get", &id]).expect(0).stdout;
    assert!(text.contains("the disk is full"), "{text}");

    let letter = system.rabbitmq().take(&system.dead_letters());
    assert_eq!(letter.headers["x-job-id"], id);
    assert_eq!(letter.headers["x-error-type"], "CommandFailed");
    assert_eq!(
        letter.headers["x-error-message"],
        "the command ended with exit code 3"
    );
}

#[test]
fn an_unknown_function_fails_with_those_that_are_known() {
    let system = System::new(&echo());
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["ehco"]);
    let error = system.awaits_status(&id, "failed")["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        error,
        "UnknownFunction: this worker has no function \"ehco\"; registered: echo"
    );
    system.rabbitmq().awaits_ready(&system.dead_letters(), 1);
}

#[test]
fn a_job_that_fails_is_retried_by_its_policy_until_it_works() {
    let system = System::new(
        "[functions.third]\n\
         command = [\"sh\", \"-c\", \"echo $WARREN_ATTEMPT >> attempts; [ $WARREN_ATTEMPT = 3 ]\"]\n\
         retry = { limit = 5, base = \"100ms\" }\n",
    );
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["third"]);
    let job = system.awaits_status(&id, "completed");
    assert_eq!(job["attempt"], 3);
    let attempts = std::fs::read_to_string(system.path("attempts")).unwrap();
    assert_eq!(attempts, "1\n2\n3\n");
}

#[test]
fn a_job_between_two_attempts_is_retrying() {
    let system = System::new(
        "[functions.fail]\ncommand = [\"false\"]\nretry = { limit = 1, base = \"1h\" }\n",
    );
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["fail"]);
    let job = system.awaits_status(&id, "retrying");
    assert_eq!(job["attempt"], 1);
    assert_eq!(
        job["error"],
        "CommandFailed: the command ended with exit code 1"
    );
    assert_eq!(system.rabbitmq().ready(&system.dead_letters()), Some(0));
}

#[test]
fn a_job_whose_retries_are_used_up_is_a_dead_letter() {
    let system = System::new(
        "[functions.fail]\n\
         command = [\"sh\", \"-c\", \"echo run >> runs; exit 1\"]\n\
         retry = { limit = 2, base = \"50ms\" }\n",
    );
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["fail"]);
    let job = system.awaits_status(&id, "failed");
    assert_eq!(job["attempt"], 3);
    let letter = system.rabbitmq().take(&system.dead_letters());
    assert_eq!(letter.headers["x-job-id"], id);
    assert_eq!(letter.headers["x-error-category"], "retriable");
    let runs = std::fs::read_to_string(system.path("runs")).unwrap();
    assert_eq!(runs.lines().count(), 3);
}

#[test]
fn the_sender_may_choose_how_often_a_job_is_retried() {
    let system = System::new(
        "[functions.fail]\n\
         command = [\"sh\", \"-c\", \"exit 1\"]\n\
         retry = { limit = 50, base = \"10ms\" }\n",
    );
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["fail", "--retries", "1"]);
    assert_eq!(system.awaits_status(&id, "failed")["attempt"], 2);
}

#[test]
fn a_job_past_its_expiry_is_aborted_and_does_not_run() {
    let system = System::new(&gated());
    let id = system.enqueue(&["gated", "--expires", "1ms"]);
    let _worker = system.worker(&[]);
    let job = system.awaits_status(&id, "aborted");
    let error = job["error"].as_str().unwrap();
    assert!(error.starts_with("JobExpired: expired at "), "{error}");
    assert!(!system.path("started").exists());
    assert_eq!(system.rabbitmq().ready(&system.dead_letters()), Some(0));
    system.run(&["job", "wait", &id]).expect(5);
}

#[test]
fn a_job_that_takes_too_long_fails() {
    let system = System::new(
        "[functions.slow]\ncommand = [\"sleep\", \"1000\"]\ntimeout = \"200ms\"\n\
         retry = { limit = 0 }\n",
    );
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["slow"]);
    let error = system.awaits_status(&id, "failed")["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        error.starts_with("JobTimeout: ") && error.contains("its timeout is 0.2 s"),
        "{error}"
    );
}

#[test]
fn a_long_delay_does_not_hold_up_a_shorter_one() {
    let system = System::new(&echo());
    let _worker = system.worker(&[]);
    let long = system.enqueue(&["echo", "--delay", "1h"]);
    let short = system.enqueue(&["echo", "--delay", "300ms"]);
    system.awaits_status(&short, "completed");
    assert_eq!(system.job(&long).unwrap()["status"], "queued");
}

#[test]
fn a_burst_ends_when_the_queue_is_empty() {
    let system = System::new(&echo());
    let ids: Vec<String> = (0..5)
        .map(|number| system.enqueue(&["echo", &number.to_string()]))
        .collect();
    let ran = system.run(&["worker", "--burst", "--json"]).expect(0);
    let report = ran.json();
    assert_eq!(report["completed"], 5);
    assert_eq!(report["failed"], 0);
    for id in ids {
        assert_eq!(system.job(&id).unwrap()["status"], "completed");
    }
    let ran = system.run(&["worker", "--burst"]).expect(0);
    assert!(
        ran.line().starts_with("0 completed, 0 failed"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_burst_waits_for_the_retries_of_its_jobs() {
    let system = System::new(
        "[functions.second]\n\
         command = [\"sh\", \"-c\", \"[ $WARREN_ATTEMPT = 2 ]\"]\n\
         retry = { limit = 1, base = \"500ms\" }\n",
    );
    let id = system.enqueue(&["second"]);
    let report = system
        .run(&["worker", "--burst", "--json"])
        .expect(0)
        .json();
    assert_eq!(report["retried"], 1);
    assert_eq!(report["completed"], 1);
    assert_eq!(system.job(&id).unwrap()["attempt"], 2);
}

#[test]
fn a_worker_runs_as_many_jobs_at_once_as_it_is_told() {
    let system = System::new(&gated());
    let ids: Vec<String> = (0..3).map(|_| system.enqueue(&["gated"])).collect();
    let _worker = system.worker(&["--concurrency", "2"]);
    eventually_true("two jobs run", || {
        std::fs::read_to_string(system.path("started")).is_ok_and(|text| text.lines().count() == 2)
    });
    let statuses: Vec<_> = ids
        .iter()
        .map(|id| system.job(id).unwrap()["status"].clone())
        .collect();
    assert_eq!(
        statuses
            .iter()
            .filter(|status| **status == "queued")
            .count(),
        1
    );
    system.touch("go");
    for id in &ids {
        system.awaits_status(id, "completed");
    }
}
