//! `warren demo`: everything in one process.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use nix::sys::signal::Signal;

use super::in_process;
use std::os::unix::process::ExitStatusExt;

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
