//! `warren results` and `warren queue`.

use serde_json::json;
use warren_tests::{System, command};

use super::{echo, gated};

/// Three completed jobs, one failed, one queued.
fn five_jobs() -> (System, Vec<String>) {
    let system = System::new(&(echo() + &command("fail", "exit 1")));
    let mut ids: Vec<String> = ["echo", "echo", "fail", "echo"]
        .map(|function| system.enqueue(&[function]))
        .into();
    system.run(&["worker", "--burst"]).expect(0);
    ids.push(system.enqueue(&["echo"]));
    (system, ids)
}

#[test]
fn results_are_listed_by_status_function_and_page() {
    let (system, ids) = five_jobs();
    let ls = |arguments: &[&str]| -> Vec<String> {
        let mut all = vec!["results", "ls", "--json"];
        all.extend(arguments);
        let jobs = system.run(&all).expect(0).json_lines();
        let mut ids: Vec<String> = jobs
            .iter()
            .map(|job| job["job_id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    let sorted = |ids: &[String]| {
        let mut ids = ids.to_vec();
        ids.sort();
        ids
    };
    assert_eq!(ls(&[]), sorted(&ids));
    assert_eq!(ls(&["--status", "failed"]), [ids[2].clone()]);
    assert_eq!(
        ls(&["--status", "failed", "--status", "queued"]),
        sorted(&[ids[2].clone(), ids[4].clone()])
    );
    assert_eq!(ls(&["--function", "fail"]), [ids[2].clone()]);
    assert_eq!(ls(&["--queue", &system.queue]), sorted(&ids));
    assert_eq!(ls(&["--queue", "another"]), [""; 0]);
    assert_eq!(ls(&["--since", "1h"]), sorted(&ids));
    assert_eq!(ls(&["--until", "1h"]), [""; 0]);
    assert_eq!(ls(&["--limit", "2"]).len(), 2);
    system.run(&["results", "ls", "--status", "done"]).expect(2);

    let ran = system
        .run(&["results", "ls", "--status", "failed"])
        .expect(0);
    let cells: Vec<&str> = ran.line().split('\t').collect();
    assert_eq!(
        cells[..5],
        [
            ids[2].as_str(),
            "failed",
            "fail",
            system.queue.as_str(),
            "1"
        ]
    );
    assert!(cells[6].starts_with("CommandFailed"), "{cells:?}");
}

#[test]
fn one_unknown_job_hides_no_other() {
    let (system, ids) = five_jobs();
    for command in ["get", "wait"] {
        let ran = system
            .run(&["job", command, &ids[0], "nobody", &ids[1], "--json"])
            .expect(6);
        let shown: Vec<_> = ran
            .json_lines()
            .iter()
            .filter(|job| job["status"] == "completed")
            .map(|job| job["job_id"].clone())
            .collect();
        assert_eq!(shown, [ids[0].as_str(), ids[1].as_str()], "{ran:?}");
    }
}

#[test]
fn a_listing_goes_on_where_it_ended() {
    let (system, ids) = five_jobs();
    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut arguments = vec!["results", "ls", "--json", "--limit", "2"];
        if let Some(cursor) = &cursor {
            arguments.extend(["--cursor", cursor]);
        }
        let ran = system.run(&arguments).expect(0);
        seen.extend(
            ran.json_lines()
                .iter()
                .map(|job| job["job_id"].as_str().unwrap().to_owned()),
        );
        let next = ran
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix("more with --cursor "));
        match next {
            Some(next) => cursor = Some(serde_json::from_str(next).unwrap()),
            None => break,
        }
        assert!(seen.len() <= ids.len(), "{seen:?}");
    }
    seen.sort();
    let mut ids = ids;
    ids.sort();
    assert_eq!(seen, ids);
}

#[test]
fn results_are_counted_and_purged() {
    let (system, ids) = five_jobs();
    let stats = system.run(&["results", "stats", "--json"]).expect(0).json();
    assert_eq!(stats["records"], 5, "{stats}");
    let text = system.run(&["results", "stats"]).expect(0).stdout;
    assert!(text.contains("records\t5"), "{text}");

    let ran = system
        .run(&["results", "purge", "--status", "completed"])
        .expect(2);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    let purge = ["results", "purge", "--status", "completed", "--json"];
    let ran = system.run(&[&purge[..], &["--dry-run"]].concat()).expect(0);
    assert_eq!(
        ran.json(),
        json!({ "found": 3, "deleted": 0, "dry_run": true })
    );
    let ran = system.run(&[&purge[..], &["--yes"]].concat()).expect(0);
    assert_eq!(
        ran.json(),
        json!({ "found": 3, "deleted": 3, "dry_run": false })
    );
    assert_eq!(system.job(&ids[0]), None);
    assert_eq!(system.job(&ids[2]).unwrap()["status"], "failed");
    assert_eq!(system.job(&ids[4]).unwrap()["status"], "queued");
}

#[test]
fn a_queue_is_looked_at_and_emptied() {
    let system = System::new(&echo());
    let queue = system.queue.as_str();
    let ran = system.run(&["queue", "info", queue]).expect(6);
    assert!(ran.stderr.contains("does not exist"), "{}", ran.stderr);
    assert_eq!(system.rabbitmq().ready(queue), None, "looking created it");
    system.run(&["queue", "purge", queue, "--yes"]).expect(6);

    system.enqueue(&["echo"]);
    system.enqueue(&["echo"]);
    system.rabbitmq().awaits_ready(queue, 2);
    let infos = system
        .run(&["queue", "info", queue, "--json"])
        .expect(0)
        .json_lines();
    assert_eq!(
        infos[0],
        json!({ "queue": queue, "ready": 2, "consumers": 0 })
    );
    assert_eq!(infos[1]["queue"], system.dead_letters());
    let ran = system.run(&["queue", "info", queue]).expect(0);
    assert!(
        ran.stdout.starts_with(&format!("{queue}\t2\t0")),
        "{}",
        ran.stdout
    );

    let ran = system.run(&["queue", "purge", queue]).expect(2);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    let ran = system
        .run(&["queue", "purge", queue, "--yes", "--json"])
        .expect(0);
    assert_eq!(ran.json(), json!({ "queue": queue, "purged": 2 }));
    system.rabbitmq().awaits_ready(queue, 0);
}

#[test]
fn a_worker_that_is_gone_is_said_to_be() {
    let system = System::new(&gated());
    let worker = system.worker(&["--name", "first"]);
    let id = system.enqueue(&["gated"]);
    let job = system.awaits_status(&id, "in_progress");
    assert_eq!(job["worker_gone"], false, "{job}");
    worker.kill();
    system.touch("go");
    // As if half a minute and more had passed.
    let exported = system.run(&["results", "export"]).expect(0);
    let mut record = exported.json();
    let long_ago = record["heartbeat_at"].as_i64().unwrap() - 3_600_000_000;
    record["heartbeat_at"] = long_ago.into();
    std::fs::write(system.path("old.jsonl"), record.to_string()).unwrap();
    system
        .run(&["results", "import", "old.jsonl", "--when", "always"])
        .expect(0);

    let job = system.job(&id).unwrap();
    assert_eq!(job["worker_gone"], true, "{job}");
    assert!(job["heartbeat_age_seconds"].as_f64().unwrap() >= 3600.0);
    let shown = system.run(&["job", "get", &id]).expect(0).stdout;
    assert!(shown.contains("its worker has been gone for 1h"), "{shown}");
}

#[test]
fn a_command_says_how_far_it_has_come() {
    let script = r#"echo '{"done": 1}' > "$WARREN_PROGRESS"
        while [ -e started ] && [ ! -e go ]; do sleep 0.05; done
        echo '{"done": 2}' > "$WARREN_PROGRESS""#;
    let system = System::new(&format!(
        "[functions.steps]\ncommand = [\"sh\", \"-c\", {script:?}]\nprogress = true\n"
    ));
    system.touch("started");
    let _worker = system.worker(&[]);
    let id = system.enqueue(&["steps"]);
    warren_tests::eventually_true("the first step", || {
        system
            .job(&id)
            .is_some_and(|job| job["progress"] == json!({ "done": 1 }))
    });
    system.touch("go");
    let job = system.awaits_status(&id, "completed");
    assert_eq!(job["progress"], json!({ "done": 2 }));
}
