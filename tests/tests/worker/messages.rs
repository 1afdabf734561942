//! Messages that are no jobs, and jobs that are odd.

use lapin::types::{AMQPValue, FieldArray, FieldTable};
use serde_json::json;
use warren_tests::System;

use super::echo;

fn body(system: &System, id: &str, more: &str) -> Vec<u8> {
    format!(
        "{{\"job_id\": {id:?}, \"function\": \"echo\", \"queue_name\": {:?}{more}}}",
        system.queue
    )
    .into_bytes()
}

#[test]
fn text_that_is_no_json_becomes_a_dead_letter_with_the_reason() {
    let system = System::new(&echo());
    let _worker = system.worker(&[]);
    for garbage in [
        &b"hello"[..],
        b"",
        b"[1, 2]",
        b"{\"function\": ",
        b"\xff\xfe\x00",
    ] {
        system.rabbitmq().publish(&system.queue, garbage, &[]);
        let letter = system.rabbitmq().take(&system.dead_letters());
        assert_eq!(letter.body, garbage);
        assert_eq!(letter.headers["x-error-type"], "UnreadableMessage");
        assert_eq!(letter.headers["x-error-category"], "non_retriable");
        assert_eq!(letter.headers["x-job-id"], "parse_failed");
        assert!(
            letter.headers["x-error-message"].len() > 10,
            "{:?}",
            letter.headers
        );
    }
}

#[test]
fn a_wrong_message_with_an_id_leaves_a_failed_record() {
    let system = System::new(&echo());
    let _worker = system.worker(&[]);
    let message = body(&system, "odd-1", ", \"args\": {\"a\": 1}");
    system.rabbitmq().publish(&system.queue, &message, &[]);
    let job = system.awaits_status("odd-1", "failed");
    let error = job["error"].as_str().unwrap();
    assert!(
        error.starts_with("UnreadableMessage: ") && error.contains("args"),
        "{error}"
    );
    assert_eq!(job["function"], "echo");
    let letter = system.rabbitmq().take(&system.dead_letters());
    assert_eq!(letter.body, message);
    assert_eq!(letter.headers["x-job-id"], "odd-1");
}

#[test]
fn a_message_without_a_function_is_refused() {
    let system = System::new(&echo());
    let _worker = system.worker(&[]);
    let message = format!(
        "{{\"job_id\": \"odd-2\", \"queue_name\": {:?}}}",
        system.queue
    );
    system
        .rabbitmq()
        .publish(&system.queue, message.as_bytes(), &[]);
    let job = system.awaits_status("odd-2", "failed");
    assert!(job["error"].as_str().unwrap().contains("function"), "{job}");
}

#[test]
fn a_message_that_is_too_long_is_refused_unread() {
    let system = System::new(&echo());
    let _worker = system.worker(&[]);
    let blanks = " ".repeat(17 * 1024 * 1024);
    let message = body(&system, "long-1", &format!(", \"args\": [{blanks}]"));
    system.rabbitmq().publish(&system.queue, &message, &[]);
    let letter = system.rabbitmq().take(&system.dead_letters());
    assert_eq!(letter.body.len(), message.len());
    let said = &letter.headers["x-error-message"];
    assert!(said.contains("at most 16777216"), "{said}");
    // The worker goes on.
    let id = system.enqueue(&["echo"]);
    system.awaits_status(&id, "completed");
}

#[test]
fn headers_of_any_kind_do_not_keep_a_job_from_running() {
    let system = System::new(&echo());
    let _worker = system.worker(&[]);
    let mut table = FieldTable::default();
    table.insert("inner".into(), AMQPValue::LongString("x".into()));
    let odd = [
        ("text", "x-retry-count", AMQPValue::LongString("0".into())),
        (
            "words",
            "x-retry-count",
            AMQPValue::LongString("many".into()),
        ),
        ("negative", "x-retry-count", AMQPValue::LongLongInt(-5)),
        ("table", "x-retry-count", AMQPValue::FieldTable(table)),
        ("boolean", "x-client-delayed", AMQPValue::Boolean(true)),
        (
            "array",
            "x-death",
            AMQPValue::FieldArray(FieldArray::default()),
        ),
        ("fraction", "x-warren-max-retries", AMQPValue::Double(-0.5)),
        (
            "least",
            "x-warren-result-ttl-ms",
            AMQPValue::LongLongInt(i64::MIN),
        ),
        ("void", "x-warren-result-ttl-ms", AMQPValue::Void),
        (
            "bytes",
            "x-job-id",
            AMQPValue::LongString(vec![0xff, 0xfe].into()),
        ),
    ];
    for (id, header, value) in odd {
        let headers = [(header, value)];
        let message = body(&system, &format!("{}-{id}", system.queue), "");
        system.rabbitmq().publish(&system.queue, &message, &headers);
        system.awaits_status(&format!("{}-{id}", system.queue), "completed");
    }
}

#[test]
fn the_least_that_a_foreign_program_may_send_is_run() {
    let system = System::new(&warren_tests::command("note", "cat > noted; echo 1"));
    let _worker = system.worker(&[]);
    let message = format!(
        "{{\"function\":\"note\",\"queue_name\":{:?},\"args\":[1,2]}}",
        system.queue
    );
    system
        .rabbitmq()
        .publish(&system.queue, message.as_bytes(), &[]);
    let noted = system.awaits_file("noted");
    let job: serde_json::Value = serde_json::from_str(&noted).unwrap();
    assert_eq!(job["args"], json!([1, 2]));
    assert_eq!(job["kwargs"], json!({}));
    let id = job["job_id"].as_str().unwrap();
    system.awaits_status(id, "completed");
}

#[test]
fn numbers_that_json_does_not_know_reach_the_command_as_they_came() {
    let system = System::new(&warren_tests::command("echo", "cat > noted; echo 1"));
    let _worker = system.worker(&[]);
    let message = body(
        &system,
        "nan-1",
        ", \"args\": [NaN, [Infinity, -Infinity], 1]",
    );
    system.rabbitmq().publish(&system.queue, &message, &[]);
    system.awaits_status("nan-1", "completed");
    let noted = system.awaits_file("noted");
    assert!(noted.contains("[NaN, [Infinity, -Infinity], 1]"), "{noted}");
}
