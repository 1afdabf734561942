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
fn a_job_that_waits_for_a_process_of_a_pool_never_runs() {
    let script = r#"while read -r job; do echo "$job" >> started
        while [ -e started ] && [ ! -e go ]; do sleep 0.05; done; echo '{"result": 1}'; done"#;
    let pool =
        format!("[functions.pooled]\ncommand = [\"sh\", \"-c\", {script:?}]\nprocesses = 1\n");
    let system = System::new(&pool);
    let _worker = system.worker(&[]);
    let first = system.enqueue(&["pooled"]);
    eventually_true("the first has the process", || {
        started(&system).contains(&first)
    });
    let waiting = system.enqueue(&["pooled"]);
    system.awaits_status(&waiting, "in_progress");
    system.run(&["job", "cancel", &waiting]).expect(0);
    system.rabbitmq().awaits_ready(&system.queue, 0);
    system.touch("go");
    system.awaits_status(&first, "completed");
    let last = system.enqueue(&["pooled"]);
    system.awaits_status(&last, "completed");
    assert!(!started(&system).contains(&waiting));
    assert_eq!(system.job(&waiting).unwrap()["status"], "aborted");
}

/// Aborts a job before its delay is over, however slow this machine is; returns its id and delay.
fn aborted_while_delayed(system: &System) -> (String, &'static str) {
    for delay in ["1s", "2s", "4s", "8s", "16s", "32s"] {
        let id = system.enqueue(&["gated", "--delay", delay]);
        let ran = system.run(&["job", "cancel", &id]);
        if ran.code == 0 && !started(system).contains(&id) {
            return (id, delay);
        }
    }
    panic!("two commands take longer than half a minute");
}

#[test]
fn a_delayed_job_never_runs() {
    let system = System::new(&gated());
    system.touch("go");
    let worker = system.worker(&[]);
    let (aborted, delay) = aborted_while_delayed(&system);
    // Sent later, so due later.
    let kept = system.enqueue(&["gated", "--delay", delay]);
    system.awaits_status(&kept, "completed");
    assert!(!started(&system).contains(&aborted));
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
