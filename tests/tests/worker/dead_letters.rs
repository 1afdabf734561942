//! `warren dlq`: jobs that failed for good, listed and run again.

use serde_json::{Value, json};
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
    let printed = ran.json_lines();
    assert_eq!(
        printed[1],
        json!({ "replayed": 1, "unreadable": 0, "refused": 0 })
    );
    assert_eq!(printed.len(), 2);
    system.rabbitmq().awaits_ready(&system.dead_letters(), 0);
    assert_eq!(system.job(&id).unwrap()["status"], "queued");

    system.run(&["worker", "--burst"]).expect(0);
    let job = system.job(&id).unwrap();
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(job["result"], "works");
    assert_eq!(job["attempt"], 1);
    assert_eq!(job["args"], json!([7]));
}

/// What the record of a replayed job says of its earlier run.
fn replayed_from(job: &Value) -> &Value {
    &job["extra"]["warren.replayed_from"]
}

/// Fails at both of its attempts, and later in another way, until there is `mended`.
fn mended_slowly() -> String {
    let script = "[ -e mended ] && { echo 1; exit; }; [ -e again ] && exit 6; exit 5";
    let retry = "limit = 1, base = \"10ms\"";
    format!("[functions.mends]\ncommand = [\"sh\", \"-c\", {script:?}]\nretry = {{ {retry} }}\n\n")
}

#[test]
fn every_record_of_a_replayed_job_says_which_failure_it_comes_from() {
    let system = System::new(&mended_slowly());
    let queue = system.queue.clone();
    let replay = ["dlq", "replay", "-q", &queue, "--json"];
    let id = system.enqueue(&["mends"]);
    system.run(&["worker", "--burst"]).expect(0);
    let failed = system.job(&id).unwrap();
    assert_eq!(replayed_from(&failed), &Value::Null);

    let printed = system.run(&replay).expect(0).json_lines();
    let queued = system.job(&id).unwrap();
    let (link, from) = (&printed[0], replayed_from(&queued));
    assert_eq!(link["job_id"], id.as_str());
    assert_eq!(link["new_run"]["job_id"], id.as_str());
    assert_eq!(link["new_run"]["enqueued_at"], queued["enqueued_at"]);
    assert_ne!(link["new_run"]["enqueued_at"], failed["enqueued_at"]);
    assert_eq!(&link["replayed_from"], from);
    assert_eq!(
        *from,
        json!({
            "failed_at": failed["finished_at"],
            "error_type": "CommandFailed",
            "error_message": "the command ended with exit code 5",
            "attempts": 2,
            "dead_letter_queue": system.dead_letters(),
            "replays": 1,
        })
    );

    // It is repeated and fails again: that end says what the run came from too.
    system.touch("again");
    system.run(&["worker", "--burst"]).expect(0);
    let failed_again = system.job(&id).unwrap();
    assert_eq!(failed_again["attempt"], 2, "{failed_again}");
    assert_eq!(replayed_from(&failed_again), from);
    let letter = system.run(&["dlq", "ls", "-q", &queue, "--json"]).expect(0);
    assert_eq!(letter.json()["replays"], 1);

    // The latest failure is the one that is told of.
    system.run(&replay).expect(0);
    system.touch("mended");
    system.run(&["worker", "--burst"]).expect(0);
    let completed = system.job(&id).unwrap();
    assert_eq!(completed["status"], "completed", "{completed}");
    let from = replayed_from(&completed);
    assert_eq!(from["error_message"], "the command ended with exit code 6");
    assert_eq!(
        (&from["attempts"], &from["replays"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(from["failed_at"], failed_again["finished_at"]);

    let shown = system.run(&["job", "get", &id]).expect(0).stdout;
    let failed_at = failed_again["finished_at"].as_str().unwrap();
    let line = format!(
        "  replayed from the dead letter of {failed_at}: CommandFailed: the command ended with \
         exit code 6\n"
    );
    assert!(shown.contains(&line), "{shown}");
}

#[test]
fn a_replayed_job_says_where_it_comes_from_while_it_runs_and_when_it_is_aborted() {
    let script = "[ -e second ] || exit 4; until [ -e go ]; do sleep 0.1; done";
    let system = System::new(&command("holds", script));
    let id = system.enqueue(&["holds"]);
    system.run(&["worker", "--burst"]).expect(0);
    system
        .run(&["dlq", "replay", "-q", &system.queue])
        .expect(0);
    system.touch("second");
    let _worker = system.worker(&[]);
    let running = system.awaits_status(&id, "in_progress");
    assert_eq!(replayed_from(&running)["replays"], 1, "{running}");
    system.run(&["job", "cancel", &id]).expect(0);
    let aborted = system.awaits_status(&id, "aborted");
    assert_eq!(replayed_from(&aborted), replayed_from(&running));
}

/// One failed job, its producer's wishes in its headers.
fn failed_job() -> (System, String) {
    let system = System::new(&broken());
    let id = system.enqueue(&["broken", "--retries", "0", "--ttl", "3h"]);
    system.run(&["worker", "--burst"]).expect(0);
    system.rabbitmq().awaits_ready(&system.dead_letters(), 1);
    (system, id)
}

#[test]
fn a_replayed_job_is_as_its_producer_sent_it_and_says_one_time() {
    let (system, id) = failed_job();
    let replay = ["dlq", "replay", "-q", &system.queue];
    system.run(&replay).expect(0);
    let message = system.rabbitmq().take(&system.queue);
    assert_eq!(message.headers["x-warren-max-retries"], "0");
    assert_eq!(message.headers["x-warren-result-ttl-ms"], "10800000");
    assert_eq!(message.headers["x-retry-count"], "0");
    assert!(message.headers.contains_key("x-warren-replayed-from"));
    assert_eq!(message.headers.len(), 4, "{:?}", message.headers);

    // A worker that is told to abort a job compares these to the microsecond.
    let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
    let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
    let sent = digits(body["enqueue_time"].as_str().unwrap());
    let job = system.job(&id).unwrap();
    let recorded = digits(job["enqueued_at"].as_str().unwrap());
    assert_eq!(sent[..20], recorded[..20], "{body} {job}");
}

#[test]
fn a_job_that_cannot_be_sent_again_is_as_it_was() {
    let (system, id) = failed_job();
    let before = system.job(&id).unwrap();
    system
        .rabbitmq()
        .delete(std::slice::from_ref(&system.queue));
    system
        .run(&["dlq", "replay", "-q", &system.queue])
        .expect(1);
    assert_eq!(system.job(&id).unwrap(), before);
    system.rabbitmq().awaits_ready(&system.dead_letters(), 1);
}

#[test]
fn a_record_that_the_store_refuses_ends_no_replay() {
    let system = System::new(&broken());
    let large = "x".repeat(20_000);
    let refused = system.enqueue(&["broken", &large]);
    let sent = system.enqueue(&["broken"]);
    system.run(&["worker", "--burst"]).expect(0);
    system.rabbitmq().awaits_ready(&system.dead_letters(), 2);

    let small = "result_store.config.max_record_bytes=10000";
    let ran = system.run(&[
        "dlq",
        "replay",
        "-q",
        &system.queue,
        "--json",
        "--set",
        small,
    ]);
    let ran = ran.expect(4);
    assert_eq!(
        ran.json_lines()[1],
        json!({ "replayed": 1, "unreadable": 0, "refused": 1 })
    );
    assert!(ran.stderr.contains(&refused), "{ran:?}");
    system.rabbitmq().awaits_ready(&system.dead_letters(), 1);
    assert_eq!(system.job(&sent).unwrap()["status"], "queued");
    assert_eq!(system.job(&refused).unwrap()["status"], "failed");
}

#[test]
fn more_dead_letters_than_are_taken_at_once_are_replayed_past_those_that_stay() {
    let system = System::new(&broken());
    let jobs: String = (0..250)
        .map(|number| {
            let function = if number % 2 == 0 { "broken" } else { "other" };
            let queue = &system.queue;
            format!("{}\n", json!({ "function": function, "queue": queue }))
        })
        .collect();
    std::fs::write(system.path("jobs.jsonl"), jobs).unwrap();
    system.run(&["enqueue", "--jsonl", "jobs.jsonl"]).expect(0);
    system.run(&["worker", "--burst"]).expect(0);
    system.rabbitmq().awaits_ready(&system.dead_letters(), 250);
    let replay = ["dlq", "replay", "-q", &system.queue, "--function", "broken"];
    system.run(&replay).expect(0);
    system.rabbitmq().awaits_ready(&system.queue, 125);
    system.rabbitmq().awaits_ready(&system.dead_letters(), 125);
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
    assert_eq!(
        ran.json(),
        json!({ "replayed": 0, "unreadable": 1, "refused": 0 })
    );
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
