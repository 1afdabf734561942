//! Waiting on a store that announces nothing: word of what ends comes over RabbitMQ.

use serde_json::Value;
use warren_tests::{Proxy, System, WorkerProcess, amqp_url, command, eventually, eventually_true};

use super::{
    echo,
    faults::{broker_address, through},
    gated,
};

/// The program, running on, with its stdout in a file.
fn start(system: &System, out: &str, arguments: &[&str]) -> WorkerProcess {
    let mut command = system.command(arguments);
    command.stdout(std::fs::File::create(system.path(out)).unwrap());
    WorkerProcess::spawn_quiet(command)
}

fn lines(system: &System, out: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(system.path(out)).unwrap();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_client_waits_for_any_and_for_all() {
    let system = System::on_files(
        &amqp_url(),
        &(echo() + &gated() + &command("fail", "exit 1")),
    );
    let _worker = system.worker(&[]);
    let slow = system.enqueue(&["gated"]);
    let quick = system.enqueue(&["echo", "--delay", "1s"]);
    let ran = system
        .run(&["job", "wait", &slow, "nobody", &quick, "--any", "--json"])
        .expect(0);
    assert_eq!(ran.json()["job_id"], quick);
    let late = system
        .run(&["job", "wait", &slow, "--any", "--timeout", "10ms"])
        .expect(7);
    assert!(late.stderr.contains("none of 1 jobs"), "{late:?}");

    let failing = system.enqueue(&["fail", "--delay", "1s"]);
    let waiting = start(
        &system,
        "all",
        &["job", "wait", &slow, &failing, &quick, "--all", "--json"],
    );
    system.touch("go");
    assert_eq!(waiting.ended().code, 5, "one of them failed");
    let shown: Vec<_> = lines(&system, "all")
        .iter()
        .map(|job| job["job_id"].clone())
        .collect();
    assert_eq!(shown, [slow, failing, quick], "in the order of the ids");
    system
        .run(&["job", "wait", "x", "--any", "--all"])
        .expect(2);
}

#[test]
fn who_waits_is_told_that_the_record_was_deleted() {
    let system = System::on_files(&amqp_url(), &echo());
    let id = system.enqueue(&["echo"]);
    let waiting = start(&system, "out", &["job", "wait", &id]);
    system.run(&["results", "purge", "--yes"]).expect(0);
    let ended = waiting.ended();
    assert_eq!(ended.code, 6, "{ended:?}");
}

#[test]
fn what_ends_is_watched_through_a_lost_connection() {
    let proxy = Proxy::to(&broker_address());
    let system = System::on_files(&amqp_url(), &(echo() + &command("fail", "exit 1")));
    let _worker = system.worker(&[]);
    let url = format!("broker.url={}", through(&proxy));
    let mut watching = start(
        &system,
        "seen",
        &[
            "results",
            "watch",
            "--json",
            "--function",
            "echo",
            "--limit",
            "2",
            "--set",
            &url,
        ],
    );
    watching.logs("watching for jobs that end");
    let before = system.enqueue(&["echo"]);
    system.awaits_status(&before, "completed");
    eventually_true("it is seen", || lines(&system, "seen").len() == 1);

    proxy.cut();
    watching.logs("some results may be missing here");
    let other = system.enqueue(&["fail"]);
    system.awaits_status(&other, "failed");
    let after = system.enqueue(&["echo"]);
    assert_eq!(watching.ended().code, 0);
    let seen: Vec<_> = lines(&system, "seen")
        .iter()
        .map(|job| job["job_id"].clone())
        .collect();
    assert_eq!(seen, [before, after]);
}

#[test]
fn who_waits_without_a_connection_for_a_while_misses_nothing() {
    let proxy = Proxy::to(&broker_address());
    let system = System::on_files(&amqp_url(), &gated());
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["gated"]);
    system.awaits_status(&id, "in_progress");
    let url = format!("broker.url={}", through(&proxy));
    let mut waiting = start(
        &system,
        "out",
        &["job", "wait", &id, "--set", &url, "--log-level", "info"],
    );
    waiting.logs("connected to the broker");
    proxy.go_away();
    waiting.logs("lost the broker");
    system.touch("go");
    system.awaits_status(&id, "completed");
    proxy.come_back();
    assert_eq!(waiting.ended().code, 0);
    let printed = eventually("its result", || {
        std::fs::read_to_string(system.path("out")).map_err(|error| error.to_string())
    });
    assert_eq!(printed.trim(), "\"went\"");
}

#[test]
fn without_a_broker_a_wait_goes_on_and_says_how() {
    let system = System::on_files(&amqp_url(), &gated());
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["gated"]);
    system.awaits_status(&id, "in_progress");
    let nowhere = format!("broker.url=amqp://127.0.0.1:{}", warren_tests::free_port());
    let mut waiting = start(&system, "out", &["job", "wait", &id, "--set", &nowhere]);
    waiting.logs("nobody can tell when jobs end");
    system.touch("go");
    assert_eq!(waiting.ended().code, 0);
}
