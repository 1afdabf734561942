//! `warren results export`, `import` and `migrate`. No server is needed: stores are SQLite files.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::json;
use warren_tests::System;

fn config(more: &str) -> String {
    format!(
        "[broker]\nurl = \"memory://\"\n\n[result_store]\ntype = \"sqlite\"\n\n\
         [result_store.config]\n{more}\n"
    )
}

/// A store with three queued jobs, one of them large, and the files `from.toml` and `to.toml`.
fn two_stores(target: &str) -> System {
    let system = System::with_config(&config("path = \"from.db\""));
    fs::write(system.path("from.toml"), config("path = \"from.db\"")).unwrap();
    let to = config(&format!("path = \"to.db\"\n{target}"));
    fs::write(system.path("to.toml"), to).unwrap();
    let large = "x".repeat(20_000);
    for (id, argument) in [("a", "1"), ("large", large.as_str()), ("z", "2")] {
        system
            .run(&["enqueue", "work", argument, "--id", id])
            .expect(0);
    }
    system
}

const MIGRATE: [&str; 7] = [
    "results",
    "migrate",
    "--from",
    "from.toml",
    "--to",
    "to.toml",
    "--json",
];

fn ids_of(system: &System, config: &str) -> Vec<String> {
    let ran = system
        .run(&["results", "ls", "--json", "--config", config])
        .expect(0);
    let mut ids: Vec<String> = ran
        .json_lines()
        .iter()
        .map(|record| record["job_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

#[test]
fn every_result_is_copied_and_never_over_a_later_one() {
    let system = two_stores("");
    let first = system.run(&MIGRATE).expect(0).json();
    assert_eq!(first["copied"], 3, "{first}");
    assert_eq!(ids_of(&system, "to.toml"), ["a", "large", "z"]);
    let cancel = ["job", "cancel", "a", "--config", "to.toml"];
    system.run(&cancel).expect(0);
    let second = system.run(&MIGRATE).expect(0).json();
    assert_eq!(second["already_there"], 1, "{second}");
    let there = ["job", "get", "a", "--json", "--config", "to.toml"];
    assert_eq!(system.run(&there).expect(0).json()["status"], "aborted");
}

#[test]
fn a_record_that_the_target_refuses_does_not_keep_the_others() {
    let system = two_stores("max_record_bytes = 10000");
    let ran = system.run(&MIGRATE).expect(4);
    assert_eq!(ran.json()["copied"], 2, "{ran:?}");
    assert_eq!(ran.json()["refused"], 1, "{ran:?}");
    assert!(ran.stderr.contains("large"), "{ran:?}");
    assert_eq!(ids_of(&system, "to.toml"), ["a", "z"]);
}

#[test]
fn a_dry_run_keeps_the_progress_of_a_migration() {
    let system = two_stores("");
    let progress = json!({ "from": "from.toml", "to": "to.toml", "copied": 7 }).to_string();
    let state = system.path("warren-migrate.state");
    fs::write(&state, &progress).unwrap();
    let dry = system.run(&[&MIGRATE[..], &["--dry-run"]].concat());
    assert_eq!(dry.expect(0).json()["copied"], 3);
    assert_eq!(fs::read_to_string(&state).unwrap(), progress);
}

#[test]
fn the_environment_and_set_do_not_make_two_stores_one() {
    let system = two_stores("");
    let third = ["--set", "result_store.config.path=\"third.db\""];
    let variable = ("WARREN__RESULT_STORE__CONFIG__PATH", "third.db");
    let ran = system.run_with(&[variable], &[&MIGRATE[..], &third].concat());
    assert_eq!(ran.expect(0).json()["copied"], 3);
    assert_eq!(ids_of(&system, "to.toml"), ["a", "large", "z"]);
}

#[test]
fn a_store_is_not_copied_to_itself() {
    let system = two_stores("");
    let same = [
        "results",
        "migrate",
        "--from",
        "from.toml",
        "--to",
        "from.toml",
    ];
    let ran = system.run(&same).expect(2);
    assert!(ran.stderr.contains("the same store"), "{ran:?}");
}

#[test]
fn an_export_is_its_owner_s_and_can_be_imported() {
    let system = two_stores("");
    let export = ["results", "export", "--out", "all.jsonl"];
    system.touch("all.jsonl");
    system.run(&export).expect(0);
    let file = fs::metadata(system.path("all.jsonl")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let import = ["results", "import", "all.jsonl", "--config", "to.toml"];
    system.run(&import).expect(0);
    assert_eq!(ids_of(&system, "to.toml"), ["a", "large", "z"]);
}
