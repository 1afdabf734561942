//! `warren enqueue` and `warren job`: what a client sees.

use std::{fs, thread};

use serde_json::json;
use warren_tests::{System, command, free_port};

use super::{echo, gated};

#[test]
fn enqueue_prints_the_id_and_says_whether_it_was_sent() {
    let system = System::new(&echo());
    let queue = system.queue.as_str();
    let ran = system
        .run(&["enqueue", "-q", queue, "echo", "--id", "mine", "--json"])
        .expect(0);
    assert_eq!(ran.json(), json!({ "job_id": "mine", "sent": true }));
    let ran = system
        .run(&["enqueue", "-q", queue, "echo", "--id", "mine"])
        .expect(1);
    assert!(ran.stderr.contains("\"mine\" exists"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--if-exists keep"), "{}", ran.stderr);
    let again = [
        "enqueue",
        "-q",
        queue,
        "echo",
        "--id",
        "mine",
        "--json",
        "--if-exists",
    ];
    let ran = system.run(&[&again[..], &["keep"]].concat()).expect(0);
    assert_eq!(ran.json(), json!({ "job_id": "mine", "sent": false }));
    let ran = system.run(&[&again[..], &["replace"]].concat()).expect(0);
    assert_eq!(ran.json(), json!({ "job_id": "mine", "sent": true }));
    system.rabbitmq().awaits_ready(queue, 2);
}

#[test]
fn a_waiting_client_gets_the_result() {
    let system = System::new(&(echo() + &command("fail", "exit 9")));
    let _worker = system.worker(&[]);
    let queue = system.queue.as_str();
    let ran = system
        .run(&["enqueue", "-q", queue, "echo", "1", "--wait"])
        .expect(0);
    let result: serde_json::Value = serde_json::from_str(ran.line()).unwrap();
    assert_eq!(result["args"], json!([1]));
    let ran = system
        .run(&["enqueue", "-q", queue, "fail", "--wait"])
        .expect(5);
    assert!(ran.stderr.contains("exit code 9"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    let ran = system
        .run(&["enqueue", "-q", queue, "fail", "--wait", "--json"])
        .expect(5);
    assert_eq!(ran.json()["status"], "failed");
}

#[test]
fn a_job_is_waited_for_by_id_until_it_ends_or_the_time_is_up() {
    let system = System::new(&gated());
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["gated"]);
    let ran = system
        .run(&["job", "wait", &id, "--timeout", "200ms"])
        .expect(7);
    assert!(
        ran.stderr.contains("has not ended within 200ms"),
        "{}",
        ran.stderr
    );
    thread::scope(|scope| {
        let waiting = scope.spawn(|| system.run(&["job", "wait", &id]));
        system.awaits_status(&id, "in_progress");
        system.touch("go");
        assert_eq!(waiting.join().unwrap().expect(0).line(), "\"went\"");
    });
}

#[test]
fn jobs_are_sent_from_a_file_of_lines() {
    let system = System::new(&echo());
    let queue = system.queue.as_str();
    let line = |number: u32| {
        json!({ "function": "echo", "args": [number], "kwargs": { "n": number }, "queue": queue })
            .to_string()
    };
    fs::write(
        system.path("jobs.jsonl"),
        format!("{}\n\n{}\n", line(1), line(2)),
    )
    .unwrap();
    let ran = system.run(&["enqueue", "--jsonl", "jobs.jsonl"]).expect(0);
    let ids: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(ids.len(), 2);
    system.run(&["worker", "--burst"]).expect(0);
    assert_eq!(
        system.job(ids[1]).unwrap()["result"]["kwargs"],
        json!({ "n": 2 })
    );

    fs::write(
        system.path("wrong.jsonl"),
        format!("{}\n{{\"function\": 1}}\n", line(3)),
    )
    .unwrap();
    let ran = system.run(&["enqueue", "--jsonl", "wrong.jsonl"]).expect(2);
    assert!(ran.stderr.contains("wrong.jsonl:2"), "{}", ran.stderr);
    system.rabbitmq().awaits_ready(queue, 0);
    system
        .run(&["enqueue", "--jsonl", "absent.jsonl"])
        .expect(2);
}

#[test]
fn waiting_for_a_job_needs_no_broker() {
    let system = System::new(&echo());
    let id = system.enqueue(&["echo"]);
    system.run(&["worker", "--burst"]).expect(0);
    let nowhere = format!("broker.url=amqp://127.0.0.1:{}", free_port());
    system
        .run(&["job", "wait", &id, "--set", &nowhere])
        .expect(0);
    system
        .run(&["job", "get", &id, "--set", &nowhere])
        .expect(0);
    system.run(&["results", "ls", "--set", &nowhere]).expect(0);
}

#[test]
fn several_jobs_are_shown_at_once_and_an_unknown_one_is_said_to_be() {
    let system = System::new(&echo());
    let id = system.enqueue(&["echo"]);
    let ran = system.run(&["job", "get", &id, "nope", "--json"]).expect(6);
    let jobs = ran.json_lines();
    assert_eq!(jobs[0]["status"], "queued");
    assert_eq!(jobs[1], json!({ "job_id": "nope", "status": null }));
}

#[test]
fn wrong_requests_are_refused() {
    let system = System::new(&echo());
    for arguments in [
        &["enqueue", "echo", "--kwarg", "name"][..],
        &["enqueue", "echo", "--delay", "soon"],
        &["enqueue", "echo", "--queue", ""],
        &["enqueue", "echo", "--queue", "amq.mine"],
        &["enqueue", "echo", "--if-exists", "maybe"],
        &["enqueue", "", "--queue", "q"],
        &["enqueue", "echo", "--timeout", "1s"],
    ] {
        let ran = system.run(arguments).expect(2);
        assert_ne!(ran.stderr, "", "{arguments:?}");
    }
}

#[test]
fn a_worker_that_only_checks_says_what_it_found() {
    let system = System::new(&echo());
    let ran = system.run(&["worker", "--check"]).expect(0);
    assert!(
        ran.stdout.contains("broker: ok") && ran.stdout.contains("store redis"),
        "{}",
        ran.stdout
    );
    let ran = system.run(&["worker", "--check", "--json"]).expect(0);
    assert_eq!(ran.json()["broker"], "ok");
}
