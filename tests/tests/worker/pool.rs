//! Jobs that are lines to long-lived processes.

use std::fs;

use serde_json::json;
use warren_tests::{System, eventually_true};

/// A pool of one process, which answers each job by this shell code; `$job` is the job's line.
fn pool(answer: &str, more: &str) -> String {
    let script = format!("while read -r job; do {answer}; done");
    format!(
        "[functions.line]\ncommand = [\"sh\", \"-c\", {script:?}]\nprocesses = 1\n\
         retry = {{ limit = 0 }}\n{more}\n"
    )
}

/// Answers with the process's id, unless the job says otherwise.
const PID: &str = "case \"$job\" in \
    *die*) echo last words >&2; kill -9 $$;; \
    *quit*) exit 0;; \
    *chat*) echo Loading...;; \
    *hang*) sleep 1000 & echo $! > grandchild; wait;; \
    *fail*) echo '{\"error\": {\"type\": \"DiskFull\", \"message\": \"no room\"}}';; \
    *) echo \"{\\\"result\\\": $$}\";; esac";

fn pid(system: &System) -> u64 {
    let id = system.enqueue(&["line"]);
    system.awaits_status(&id, "completed")["result"]
        .as_u64()
        .unwrap()
}

fn error(system: &System, argument: &str) -> String {
    let id = system.enqueue(&["line", argument]);
    let job = system.awaits_status(&id, "failed");
    job["error"].as_str().unwrap().to_owned()
}

#[test]
fn one_process_runs_one_job_after_another() {
    let system = System::new(&pool(PID, ""));
    let _worker = system.worker(&[]);
    let first = pid(&system);
    assert_eq!(error(&system, "fail"), "DiskFull: no room");
    assert_eq!(pid(&system), first);
}

#[test]
fn a_process_that_dies_fails_its_job_and_is_replaced() {
    let system = System::new(&pool(PID, ""));
    let _worker = system.worker(&[]);
    let first = pid(&system);
    let id = system.enqueue(&["line", "die"]);
    let job = system.awaits_status(&id, "failed");
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("signal 9"), "{error}");
    assert_eq!(job["extra"]["warren.error_detail"], "last words");
    let second = pid(&system);
    assert_ne!(second, first);
    assert!(self::error(&system, "quit").contains("exit code 0"));
    assert_ne!(pid(&system), second);
}

#[test]
fn a_process_that_answers_garbage_fails_its_job_and_is_replaced() {
    let system = System::new(&pool(PID, ""));
    let _worker = system.worker(&[]);
    let first = pid(&system);
    let error = error(&system, "chat");
    assert!(error.contains("Loading..."), "{error}");
    assert_ne!(pid(&system), first);
}

#[test]
fn a_process_that_takes_too_long_is_killed_with_what_it_started_and_replaced() {
    let system = System::new(&pool(PID, "timeout = \"1s\"\n"));
    let _worker = system.worker(&[]);
    let first = pid(&system);
    let error = error(&system, "hang");
    assert!(error.starts_with("JobTimeout: "), "{error}");
    let grandchild = system.awaits_file("grandchild");
    eventually_true("it was killed", || {
        fs::read_to_string(format!("/proc/{grandchild}/stat"))
            .map_or(true, |stat| stat.contains(") Z "))
    });
    assert_ne!(pid(&system), first);
}

#[test]
fn progress_is_seen_while_the_job_runs() {
    let answer = "echo '{\"progress\": {\"done\": 3, \"of\": 4}}'; \
        while [ -e warren.toml ] && [ ! -e go ]; do sleep 0.05; done; echo '{\"result\": \"done\"}'";
    let system = System::new(&pool(answer, ""));
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["line"]);
    eventually_true("progress is stored", || {
        let job = system.job(&id).unwrap();
        job["status"] == "in_progress" && job["progress"] == json!({ "done": 3, "of": 4 })
    });
    system.touch("go");
    assert_eq!(system.awaits_status(&id, "completed")["result"], "done");
}

#[test]
fn a_process_is_replaced_after_as_many_jobs_as_it_is_told() {
    let system = System::new(&pool(PID, "recycle_after = 2\n"));
    let _worker = system.worker(&[]);
    let pids = [pid(&system), pid(&system), pid(&system)];
    assert_eq!(pids[0], pids[1]);
    assert_ne!(pids[1], pids[2]);
}

#[test]
fn a_process_that_writes_much_to_stderr_does_not_block() {
    let answer = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo '{\"result\": 1}'";
    let system = System::new(&pool(answer, ""));
    let _worker = system.worker(&[]);
    for _ in 0..2 {
        let id = system.enqueue(&["line"]);
        assert_eq!(system.awaits_status(&id, "completed")["result"], 1);
    }
}
