//! `warren job cancel`: from any process, wherever the job is.

use warren_tests::{System, eventually_true};

use super::{echo, gated};

fn started(system: &System) -> String {
    std::fs::read_to_string(system.path("started")).unwrap_or_default()
}

#[test]
fn a_running_job_is_stopped_and_the_worker_goes_on() {
    let system = System::new(&gated());
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["gated"]);
    system.awaits_status(&id, "in_progress");
    eventually_true("it has started", || started(&system).contains(&id));

    let ran = system.run(&["job", "cancel", &id]).expect(0);
    assert_eq!(ran.line(), format!("{id} aborted"));
    let job = system.awaits_status(&id, "aborted");
    assert_eq!(job["error"], "JobAborted: aborted on request");
    system.rabbitmq().awaits_ready(&system.queue, 0);

    let next = system.enqueue(&["gated"]);
    system.touch("go");
    assert_eq!(system.awaits_status(&next, "completed")["result"], "went");
    // Its process was stopped before there was anything to go on for.
    let finished = std::fs::read_to_string(system.path("finished")).unwrap();
    assert_eq!(finished.trim(), next);
    assert_eq!(system.job(&id).unwrap()["status"], "aborted");
    assert_eq!(
        system.rabbitmq().ready(&system.dead_letters()),
        Some(0),
        "whoever aborts a job knows why it ended"
    );
}

#[test]
fn a_job_that_waits_in_its_queue_never_runs() {
    let system = System::new(&gated());
    let (aborted, kept) = (system.enqueue(&["gated"]), system.enqueue(&["gated"]));
    system.run(&["job", "cancel", &aborted]).expect(0);
    assert_eq!(system.job(&aborted).unwrap()["status"], "aborted");
    system.touch("go");
    // This worker was not there when the job was aborted.
    system.run(&["worker", "--burst"]).expect(0);
    assert_eq!(system.job(&kept).unwrap()["status"], "completed");
    assert_eq!(system.job(&aborted).unwrap()["status"], "aborted");
    assert_eq!(started(&system).trim(), kept);
}

#[test]
fn a_delayed_job_never_runs() {
    let system = System::new(&gated());
    system.touch("go");
    let worker = system.worker(&[]);
    let aborted = system.enqueue(&["gated", "--delay", "1s"]);
    let kept = system.enqueue(&["gated", "--delay", "2s"]);
    system.run(&["job", "cancel", &aborted]).expect(0);
    system.awaits_status(&kept, "completed");
    assert_eq!(started(&system).trim(), kept);
    assert_eq!(system.job(&aborted).unwrap()["status"], "aborted");
    drop(worker);
}

#[test]
fn what_has_ended_or_is_unknown_is_said_so() {
    let system = System::new(&echo());
    let id = system.enqueue(&["echo"]);
    system.run(&["worker", "--burst"]).expect(0);
    let ran = system.run(&["job", "cancel", &id]).expect(1);
    assert!(
        ran.stderr.contains("has ended already: completed"),
        "{ran:?}"
    );
    assert_eq!(system.job(&id).unwrap()["status"], "completed");
    system.run(&["job", "cancel", "nobody"]).expect(6);
    let ran = system.run(&["job", "cancel", "nobody", "--json"]).expect(6);
    assert_eq!(ran.json()["state"], "unknown");
}
