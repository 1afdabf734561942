//! `warren dlq`: jobs that failed for good, listed and run again.

use serde_json::json;
use warren_tests::{System, command};

/// Fails until there is `mended`.
fn broken() -> String {
    command(
        "broken",
        "[ -e mended ] || { echo no >&2; exit 4; }; echo '\"works\"'",
    )
}

#[test]
fn dead_letters_are_listed_with_reason_and_stay_where_they_are() {
    let system = System::new(&(broken() + &command("other", "kill -9 $$")));
    let queue = system.queue.as_str();
    let broken = system.enqueue(&["broken"]);
    let other = system.enqueue(&["other"]);
    system
        .run(&["worker", "--burst", "--concurrency", "1"])
        .expect(0);

    for _ in 0..2 {
        let letters = system
            .run(&["dlq", "ls", "-q", queue, "--json"])
            .expect(0)
            .json_lines();
        assert_eq!(letters.len(), 2);
        assert_eq!(letters[0]["job_id"], broken);
        assert_eq!(letters[0]["function"], "broken");
        assert_eq!(
            letters[0]["error"],
            "CommandFailed: the command ended with exit code 4"
        );
        assert!(letters[0]["failed_at"].as_str().unwrap().starts_with("20"));
        assert_eq!(letters[1]["job_id"], other);
    }
    let ls = |filter: &[&str]| -> Vec<String> {
        let mut arguments = vec!["dlq", "ls", "-q", queue];
        arguments.extend(filter);
        let ran = system.run(&arguments).expect(0);
        ran.stdout
            .lines()
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ls(&["--error", "SIGNAL 9"]), [other.as_str()]);
    assert_eq!(ls(&["--function", "broken"]), [broken.as_str()]);
    assert_eq!(ls(&["--id", &other]), [other.as_str()]);
    assert_eq!(ls(&["--error", "no such text"]), [""; 0]);
    system.rabbitmq().awaits_ready(&system.dead_letters(), 2);
}

#[test]
fn a_dead_letter_is_shown_whole_and_dropped_by_filter() {
    let system = System::new(&(broken() + &command("other", "exit 5")));
    let queue = system.queue.as_str();
    let kept = system.enqueue(&["broken", "7"]);
    let dropped = system.enqueue(&["other"]);
    system.run(&["worker", "--burst"]).expect(0);

    let shown = system
        .run(&["dlq", "show", "-q", queue, "--id", &kept, "--json"])
        .expect(0)
        .json();
    assert_eq!(shown["headers"]["x-error-type"], "CommandFailed");
    assert!(
        shown["body"].as_str().unwrap().contains(r#""args": [7]"#),
        "{shown}"
    );
    let none = ["dlq", "show", "-q", queue, "--id", "nobody"];
    system.run(&none).expect(6);

    let old = ["dlq", "drop", "-q", queue, "--until", "1h", "--yes"];
    assert_eq!(system.run(&old).expect(0).line(), "0 messages deleted");
    let new = [
        "dlq",
        "drop",
        "-q",
        queue,
        "--since",
        "1h",
        "--function",
        "other",
    ];
    // Nobody is there to be asked.
    system.run(&new).expect(2);
    let dry = [&new[..], &["--dry-run"]].concat();
    assert!(system.run(&dry).expect(0).line().starts_with(&dropped));
    let yes = [&new[..], &["--yes", "--json"]].concat();
    assert_eq!(system.run(&yes).expect(0).json(), json!({ "dropped": 1 }));
    system.rabbitmq().awaits_ready(&system.dead_letters(), 1);
    assert_eq!(system.job(&dropped).unwrap()["status"], "failed");
}

#[test]
fn a_replayed_job_runs_again_as_new() {
    let system = System::new(&broken());
    let queue = system.queue.as_str();
    let id = system.enqueue(&["broken", "7"]);
    system.run(&["worker", "--burst"]).expect(0);
    assert_eq!(system.job(&id).unwrap()["status"], "failed");
    system.touch("mended");

    let ran = system
        .run(&["dlq", "replay", "-q", queue, "--dry-run"])
        .expect(0);
    assert!(ran.line().starts_with(&id), "{}", ran.stdout);
    system.rabbitmq().awaits_ready(&system.dead_letters(), 1);
    assert_eq!(system.job(&id).unwrap()["status"], "failed");

    let ran = system
        .run(&["dlq", "replay", "-q", queue, "--json"])
        .expect(0);
    assert_eq!(ran.json(), json!({ "replayed": 1, "unreadable": 0 }));
    system.rabbitmq().awaits_ready(&system.dead_letters(), 0);
    assert_eq!(system.job(&id).unwrap()["status"], "queued");

    system.run(&["worker", "--burst"]).expect(0);
    let job = system.job(&id).unwrap();
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(job["result"], "works");
    assert_eq!(job["attempt"], 1);
    assert_eq!(job["args"], json!([7]));
}

#[test]
fn what_cannot_be_read_stays_a_dead_letter() {
    let system = System::new(&broken());
    let queue = system.queue.as_str();
    system.rabbitmq().declare(queue);
    system.rabbitmq().publish(queue, b"hello", &[]);
    system.run(&["worker", "--burst"]).expect(0);
    let ran = system.run(&["dlq", "ls", "-q", queue, "--json"]).expect(0);
    let letter = ran.json();
    assert_eq!(letter["job_id"], "parse_failed");
    assert!(
        letter["error"]
            .as_str()
            .unwrap()
            .starts_with("UnreadableMessage: ")
    );
    let ran = system
        .run(&["dlq", "replay", "-q", queue, "--json"])
        .expect(0);
    assert_eq!(ran.json(), json!({ "replayed": 0, "unreadable": 1 }));
    system.rabbitmq().awaits_ready(&system.dead_letters(), 1);
}

#[test]
fn a_queue_that_is_not_there_has_no_dead_letters() {
    let system = System::new("");
    let ran = system
        .run(&["dlq", "ls", "-q", "warren-test-absent"])
        .expect(6);
    assert!(
        ran.stderr.contains("warren-test-absent.dlq"),
        "{}",
        ran.stderr
    );
}
