//! `warren demo`: everything in one process.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;

use super::in_process;
use std::os::unix::process::ExitStatusExt;
use warren_tests::Ran;

#[test]
fn the_demo_runs_jobs_of_every_kind() {
    let system = in_process("");
    let jobs = system
        .run(&["demo", "--jobs", "12", "--json"])
        .expect(0)
        .json_lines();
    assert_eq!(jobs.len(), 12);
    let job = |number: usize| {
        let id = format!("demo-{number:03}");
        jobs.iter().find(|job| job["job_id"] == *id).unwrap()
    };
    assert_eq!(job(0)["status"], "completed");
    assert_eq!(job(7)["result"], 8);
    assert_eq!(job(3)["attempt"], 2);
    assert_eq!(job(4)["status"], "failed");
    assert_eq!(job(4)["error"], "DivisionByZero: 4 / 0");
    assert_eq!(job(11)["result"], 10);
}

#[test]
fn the_demo_can_be_repeated_on_a_store_that_lasts() {
    let system = in_process("");
    for _ in 0..2 {
        let ran = system.run(&["demo", "--jobs", "6", "--store", "sqlite", "--json"]);
        assert_eq!(ran.expect(0).json_lines().len(), 6);
    }
}

/// What the demo says to type into another terminal.
fn said_to_type(ran: &Ran) -> &str {
    let mut lines = ran.stderr.lines();
    let typed = lines.find(|line| line.contains(" job get demo-"));
    typed
        .unwrap_or_else(|| panic!("no command in {:?}", ran.stderr))
        .trim()
}

#[test]
fn what_the_demo_says_to_type_into_another_terminal_works_as_it_stands() {
    // A configuration for another store lies here; it is not the demo's.
    let system = in_process("[result_store.config]\nmax_records = 7\n");
    let ran = system.run(&["demo", "--jobs", "6"]).expect(0);
    assert!(ran.stderr.contains("store \"sqlite\""), "{}", ran.stderr);
    let typed = said_to_type(&ran);
    let elsewhere = tempfile::tempdir().unwrap();
    for folder in [&system.path("."), elsewhere.path()] {
        let here = system.command(&[]);
        let mut terminal = Command::new("sh");
        for (name, value) in here.get_envs() {
            match value {
                Some(value) => terminal.env(name, value),
                None => terminal.env_remove(name),
            };
        }
        let output = terminal.args(["-c", typed]).current_dir(folder).output();
        let job = Ran::from(output.unwrap()).expect(0);
        assert!(job.stdout.contains("demo-000"), "{}", job.stdout);
        assert!(job.stdout.contains("completed"), "{}", job.stdout);
    }
}

#[test]
fn a_demo_whose_results_do_not_last_says_so() {
    let system = in_process("");
    let ran = system
        .run(&["demo", "--jobs", "1", "--store", "memory"])
        .expect(0);
    assert!(
        ran.stderr.contains("go with this process"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("job get"), "{}", ran.stderr);
}

#[test]
fn a_pipe_gets_one_plain_line_a_job() {
    let system = in_process("");
    let ran = system.run(&["demo", "--jobs", "6"]).expect(0);
    let lines: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(&lines[1][..4], ["demo-001", "completed", "add", "demo"]);
    assert!(!ran.stdout.contains('\x1b'), "{:?}", ran.stdout);
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_program_quietly() {
    let system = in_process("");
    let mut child = system
        .command(&["demo", "--jobs", "2000", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(
        ended.status.signal(),
        Some(Signal::SIGPIPE as i32),
        "{stderr}"
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
}
