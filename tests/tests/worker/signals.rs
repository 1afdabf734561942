//! How a worker ends when it is told to.

use std::{collections::HashSet, fs};

use nix::sys::signal::Signal;
use warren_tests::{System, WorkerProcess, eventually_true};

use super::gated;

/// A worker that runs one job and holds another two unstarted.
fn busy() -> (System, WorkerProcess, Vec<String>) {
    let system = System::new(&gated());
    let ids: Vec<String> = (0..3).map(|_| system.enqueue(&["gated"])).collect();
    let worker = system.worker(&["--concurrency", "1", "--prefetch", "3", "--name", "first"]);
    system.awaits_file("started");
    system.rabbitmq().awaits_ready(&system.queue, 0);
    (system, worker, ids)
}

fn lines(system: &System, file: &str) -> Vec<String> {
    let text = fs::read_to_string(system.path(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn stops_gracefully(signal: Signal) {
    let (system, mut worker, ids) = busy();
    let running = lines(&system, "started");
    assert_eq!(running.len(), 1);
    worker.signal(signal);
    // What was not started is free for others while the job still runs.
    system.rabbitmq().awaits_ready(&system.queue, 2);
    worker.logs("running jobs may finish");
    system.touch("go");
    let ran = worker.ended().expect(0);
    assert!(
        ran.line().starts_with("1 completed, 0 failed"),
        "{}",
        ran.stdout
    );
    assert_eq!(lines(&system, "started"), running);
    assert_eq!(system.job(&running[0]).unwrap()["status"], "completed");

    let report = system
        .run(&["worker", "--burst", "--name", "second", "--json"])
        .expect(0)
        .json();
    assert_eq!(report["completed"], 2);
    let by_second = ids
        .iter()
        .filter(|id| system.job(id).unwrap()["worker"] == "second");
    assert_eq!(by_second.count(), 2);
    let finished: HashSet<_> = lines(&system, "finished").into_iter().collect();
    assert_eq!(finished, ids.into_iter().collect());
    assert_eq!(lines(&system, "finished").len(), 3);
}

#[test]
fn sigterm_finishes_the_running_job_and_gives_back_the_others() {
    stops_gracefully(Signal::SIGTERM);
}

#[test]
fn sigint_finishes_the_running_job_and_gives_back_the_others() {
    stops_gracefully(Signal::SIGINT);
}

#[test]
fn sighup_finishes_the_running_job_and_gives_back_the_others() {
    stops_gracefully(Signal::SIGHUP);
}

#[test]
fn a_second_signal_ends_at_once_and_gives_back_the_running_job_too() {
    let (system, mut worker, ids) = busy();
    worker.signal(Signal::SIGTERM);
    worker.logs("running jobs may finish");
    worker.signal(Signal::SIGTERM);
    let ran = worker.ended().expect(128 + 15);
    assert!(
        ran.line().starts_with("0 completed, 0 failed"),
        "{}",
        ran.stdout
    );
    system.rabbitmq().awaits_ready(&system.queue, 3);
    assert_eq!(lines(&system, "finished"), [""; 0]);

    system.touch("go");
    let report = system
        .run(&["worker", "--burst", "--json"])
        .expect(0)
        .json();
    assert_eq!(report["completed"], 3);
    for id in ids {
        assert_eq!(system.job(&id).unwrap()["status"], "completed");
    }
    assert_eq!(lines(&system, "finished").len(), 3);
}

#[test]
fn a_job_that_outlasts_the_grace_time_is_given_back() {
    let system = System::new(&gated());
    let id = system.enqueue(&["gated"]);
    let worker = system.worker(&["--set", "worker.shutdown_grace=100ms"]);
    system.awaits_file("started");
    worker.signal(Signal::SIGINT);
    worker.ended().expect(128 + 2);
    system.rabbitmq().awaits_ready(&system.queue, 1);
    let job = system.job(&id).unwrap();
    assert!(
        job["status"] == "in_progress" || job["status"] == "queued",
        "{job}"
    );
}

#[test]
fn an_idle_worker_ends_on_the_first_signal() {
    let system = System::new(&gated());
    let worker = system.worker(&[]);
    worker.signal(Signal::SIGTERM);
    let ran = worker.ended().expect(0);
    assert!(ran.line().starts_with("0 completed"), "{}", ran.stdout);
    eventually_true("its consumer is gone", || {
        let info = system
            .run(&["queue", "info", &system.queue, "--json"])
            .expect(0);
        info.json_lines()[0]["consumers"] == 0
    });
}
