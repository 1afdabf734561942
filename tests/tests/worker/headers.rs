//! Headers that the AMQP library, or a frame, has no room for: whoever may publish can write them.

use serde_json::Value;
use warren_tests::{
    System, WorkerProcess, amqp_url, command,
    raw_amqp::{
        FRAME_MAX, header, headers_that_fill_a_frame, nested_header, publish_raw,
        vanish_with_a_delivery,
    },
};

use super::echo;

/// So many levels fill a frame. A worker that read them by recursion would run out of stack.
const LEVELS: u32 = 26_000;

fn id(system: &System, name: &str) -> String {
    format!("{}-{name}", system.queue)
}

/// Publishes the job `name` of a program that writes no record.
fn publish(system: &System, function: &str, name: &str, headers: &[u8]) {
    publish_to(&system.queue, system, function, name, headers);
}

fn publish_to(queue: &str, system: &System, function: &str, name: &str, headers: &[u8]) {
    let body = format!(
        "{{\"job_id\": {:?}, \"function\": {function:?}, \"queue_name\": {:?}}}",
        id(system, name),
        system.queue
    );
    publish_raw(&amqp_url(), queue, body.as_bytes(), headers);
}

fn kept_its_connection(worker: &WorkerProcess) {
    let log = worker.log();
    assert!(!log.contains("lost the broker"), "{log}");
}

/// Bytes of text.
fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

fn ids(listed: &[Value]) -> Vec<&str> {
    let mut ids: Vec<_> = listed
        .iter()
        .filter_map(|it| it["job_id"].as_str())
        .collect();
    ids.sort_unstable();
    ids
}

#[test]
fn headers_that_cannot_be_read_do_not_keep_jobs_from_running() {
    let system = System::new(&echo());
    let worker = system.worker(&[]);
    let odd = [
        ("deep", nested_header(b"deep", LEVELS)),
        ("name", header(b"na\xff\xfeme", b't', &[1])),
        ("text", header(b"text", b'S', &text(b"\xff\xfe"))),
        (
            "inside",
            header(b"table", b'F', &text(&header(b"\xe9", b't', &[1]))),
        ),
        (
            "many",
            (0..20_000_u32).fold(Vec::new(), |mut all, number| {
                all.extend(header(&number.to_be_bytes()[1..], b'V', &[]));
                all
            }),
        ),
        ("full", headers_that_fill_a_frame(&[])),
        ("ordinary", header(b"x-mine", b'S', &text(b"mine"))),
    ];
    for (name, headers) in &odd {
        publish(&system, "echo", name, headers);
    }
    for (name, _) in &odd {
        system.awaits_status(&id(&system, name), "completed");
    }
    system.rabbitmq().awaits_ready(&system.queue, 0);
    kept_its_connection(&worker);
}

#[test]
fn jobs_whose_headers_leave_no_room_are_repeated_and_end_as_dead_letters() {
    let retry = "retry = { limit = 1, base = \"10ms\" }";
    let script = "echo ran >> ran; exit 3";
    let system = System::new(&format!(
        "[functions.fails]\ncommand = [\"sh\", \"-c\", {script:?}]\n{retry}\n\n"
    ));
    let mut worker = system.worker(&[]);
    let mine = header(b"x-mine", b'S', &text(b"mine"));
    publish(&system, "fails", "full", &headers_that_fill_a_frame(&mine));
    let job = system.awaits_status(&id(&system, "full"), "failed");
    assert_eq!(job["attempt"], 2, "{job}");
    assert_eq!(system.awaits_file("ran").lines().count(), 2);
    worker.logs("left out headers");
    let letter = system.rabbitmq().take(&system.dead_letters());
    assert_eq!(letter.headers["x-error-type"], "CommandFailed");
    assert_eq!(letter.headers["x-mine"], "mine");
    assert_eq!(letter.headers["x-retry-count"], "1");
    assert!(!letter.headers.contains_key("fill"));
    kept_its_connection(&worker);
}

#[test]
fn dead_letters_with_such_headers_can_be_listed_shown_and_replayed() {
    let system = System::new(&format!("{}{}", echo(), command("broken", "exit 3")));
    let worker = system.worker(&[]);
    publish(&system, "broken", "deep", &nested_header(b"deep", LEVELS));
    system.awaits_status(&id(&system, "deep"), "failed");
    drop(worker);
    // What another program, or the broker, put there.
    for (name, headers) in [
        ("deep-echo", nested_header(b"deep", LEVELS)),
        (
            "full-echo",
            headers_that_fill_a_frame(&header(b"na\xffme", b't', &[1])),
        ),
    ] {
        publish_to(&system.dead_letters(), &system, "echo", name, &headers);
    }
    let listed = system.run(&["dlq", "ls", "-q", &system.queue, "--json"]);
    let expected = ["deep", "deep-echo", "full-echo"].map(|name| id(&system, name));
    assert_eq!(ids(&listed.expect(0).json_lines()), expected);
    for id in &expected {
        let show = ["dlq", "show", "-q", &system.queue, "--id", id, "--json"];
        let shown = system.run(&show).expect(0).json();
        assert_eq!(shown["job_id"], id.as_str());
    }
    let replay = ["dlq", "replay", "-q", &system.queue, "--function", "echo"];
    system.run(&replay).expect(0);
    system.run(&["worker", "--burst"]).expect(0);
    for id in &expected[1..] {
        system.awaits_status(id, "completed");
    }
}

#[test]
fn headers_that_outgrow_the_frame_when_they_are_delivered_again_lose_the_longest() {
    const QUORUM: &[(&str, &str)] = &[("WARREN__BROKER__QUEUE_TYPE", "quorum")];
    let system = System::new(&echo());
    system.run_with(QUORUM, &["worker", "--burst"]).expect(0);
    let full = headers_that_fill_a_frame(&[]);
    assert!(full.len() > FRAME_MAX - 100);
    publish(&system, "echo", "full", &full);
    publish(&system, "echo", "next", &[]);
    // The broker adds a count of deliveries: some versions from the first, all from the second on.
    vanish_with_a_delivery(&amqp_url(), &system.queue);
    system.rabbitmq().awaits_ready(&system.queue, 2);
    system.run_with(QUORUM, &["worker", "--burst"]).expect(0);
    for name in ["full", "next"] {
        system.awaits_status(&id(&system, name), "completed");
    }
}
