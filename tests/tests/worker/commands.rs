//! Jobs that are commands: what goes in, what comes out, and what goes wrong.

use std::fs;

use serde_json::json;
use warren_tests::{System, command, eventually, eventually_true};

use super::echo;

#[test]
fn the_job_comes_on_stdin_and_the_result_goes_to_stdout() {
    let system = System::new(&echo());
    let _worker = system.worker(&[]);
    let id = system.enqueue(&[
        "echo",
        "1",
        "-2.5",
        "text",
        "\"1\"",
        "[true, null]",
        "中é",
        "--kwarg",
        "name=Ann",
        "--kwarg",
        "list=[1]",
    ]);
    let job = system.awaits_status(&id, "completed");
    let seen = &job["result"];
    assert_eq!(
        seen["args"],
        json!([1, -2.5, "text", "1", [true, null], "中é"])
    );
    assert_eq!(seen["kwargs"], json!({ "name": "Ann", "list": [1] }));
    assert_eq!(seen["job_id"], id);
    assert_eq!(seen["function"], "echo");
    assert_eq!(seen["queue"], system.queue.as_str());
    assert_eq!(seen["attempt"], 1);
    assert_eq!(job["args"], seen["args"]);
    assert_eq!(job["kwargs"], seen["kwargs"]);
}

#[test]
fn a_command_runs_in_its_folder_with_its_environment() {
    let system = System::new(
        "[functions.where]\n\
         command = [\"sh\", \"-c\", \"printf '[\\\"%s\\\", \\\"%s\\\", \\\"%s\\\"]' $GREETING $WARREN_JOB_ID $(basename $PWD)\"]\n\
         working_dir = \"inner\"\n\
         env = { GREETING = \"hello\" }\n",
    );
    fs::create_dir(system.path("inner")).unwrap();
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["where"]);
    let job = system.awaits_status(&id, "completed");
    assert_eq!(job["result"], json!(["hello", id, "inner"]));
}

#[test]
fn no_output_is_null() {
    let system = System::new(&command("quiet", "exit 0"));
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["quiet"]);
    assert!(system.awaits_status(&id, "completed")["result"].is_null());
}

#[test]
fn output_that_is_not_json_fails_with_its_beginning_and_is_not_tried_again() {
    let system = System::new(
        "[functions.chatty]\n\
         command = [\"sh\", \"-c\", \"echo run >> runs; echo Loading model...; echo 5\"]\n\
         retry = { limit = 5, base = \"10ms\" }\n",
    );
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["chatty"]);
    let error = system.awaits_status(&id, "failed")["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        error.starts_with("InvalidOutput: stdout is not JSON"),
        "{error}"
    );
    assert!(error.contains("Loading model..."), "{error}");
    assert_eq!(fs::read_to_string(system.path("runs")).unwrap(), "run\n");
}

#[test]
fn only_the_end_of_a_huge_stderr_is_kept() {
    let system = System::new(&command(
        "noisy",
        "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1",
    ));
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["noisy"]);
    let job = system.awaits_status(&id, "failed");
    let detail = job["extra"]["warren.error_detail"].as_str().unwrap();
    assert!(
        detail.ends_with("the end"),
        "{}",
        &detail[detail.len() - 100..]
    );
    assert!(detail.len() <= 20_000, "{}", detail.len());
}

#[test]
fn a_command_that_a_signal_killed_fails_with_the_signal() {
    let system = System::new(&command("suicidal", "kill -9 $$"));
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["suicidal"]);
    let job = system.awaits_status(&id, "failed");
    assert_eq!(
        job["error"],
        "CommandFailed: the command was killed by signal 9"
    );
}

/// A child that ignores SIGTERM, and a parent that waits for it.
const STUBBORN: &str = "[functions.stubborn]\n\
    command = [\"sh\", \"-c\", \"(trap '' TERM; sleep 1000) & echo $! > grandchild; echo $$ > child; wait\"]\n\
    timeout = \"300ms\"\nretry = { limit = 0 }\n";

/// A zombie that its new parent has not reaped yet does not run any more.
fn is_running(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_timeout_kills_everything_that_the_command_started() {
    let system = System::new(STUBBORN);
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["stubborn"]);
    let (child, grandchild) = (
        system.awaits_file("child"),
        system.awaits_file("grandchild"),
    );
    system.awaits_status(&id, "failed");
    for pid in [child, grandchild] {
        eventually_true("it was killed", || !is_running(&pid));
    }
}

#[test]
fn what_a_command_leaves_running_is_killed_when_it_ends() {
    let system = System::new(&command(
        "leaves",
        "sleep 1000 >/dev/null 2>&1 & echo $! > left; echo 1",
    ));
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["leaves"]);
    system.awaits_status(&id, "completed");
    let left = system.awaits_file("left");
    eventually_true("it was killed", || !is_running(&left));
}

#[test]
fn a_large_argument_and_a_large_result_go_through() {
    let system = System::new(&echo());
    let _worker = system.worker(&[]);
    let big = "x".repeat(100_000);
    let args: Vec<&str> = std::iter::once("echo").chain([big.as_str(); 10]).collect();
    let id = system.enqueue(&args);
    let job = system.awaits_status(&id, "completed");
    assert_eq!(job["result"]["args"].as_array().unwrap().len(), 10);
}

#[test]
fn a_program_that_is_gone_fails_its_jobs_and_not_the_worker() {
    let system = System::new(
        "[functions.gone]\ncommand = [\"./program\"]\nretry = { limit = 0 }\n\n\
         [functions.echo]\ncommand = [\"cat\"]\n",
    );
    fs::copy("/bin/cat", system.path("program")).unwrap();
    let _worker = system.worker(&[]);
    fs::remove_file(system.path("program")).unwrap();
    let id = system.enqueue(&["gone"]);
    let error = system.awaits_status(&id, "failed")["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.starts_with("CommandNotStarted: "), "{error}");
    let id = system.enqueue(&["echo"]);
    system.awaits_status(&id, "completed");
}

#[test]
fn a_command_says_by_its_exit_code_that_it_is_to_be_run_again() {
    let system = System::new(
        "[functions.busy]\n\
         command = [\"sh\", \"-c\", \"[ $WARREN_ATTEMPT = 2 ] || exit 75\"]\n\
         retry = { limit = 3, base = \"50ms\", on = { only = [\"TemporaryFailure\"] } }\n",
    );
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["busy"]);
    let job = eventually("the job ends", || match system.job(&id).unwrap() {
        job if job["status"] == "completed" || job["status"] == "failed" => Ok(job),
        job => Err(job.to_string()),
    });
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(job["attempt"], 2);
}
