//! Every way in which a job can end: what is stored, what is sent, what is counted.

use std::time::Duration;

use warren_plugin_api::{Record, Status, Timestamp};

use super::rig::Rig;
use crate::{
    broker::{HeaderValue, Headers},
    job::{JobMessage, ReplayedFrom, header},
    worker::{WorkerReport, attempt::LOST_RUNS},
};

fn error_of(record: &Record) -> &str {
    record.error.as_ref().map_or("", |error| error.as_str())
}

#[tokio::test]
async fn a_job_that_completes_leaves_its_result_and_nothing_else() {
    let rig = Rig::new().await;
    rig.send("a", "echo").await;
    let report = rig.burst().await;
    let record = rig.store.record("a").unwrap();
    assert_eq!(
        (record.status, record.result.as_slice()),
        (Status::Completed, &b"[]"[..])
    );
    assert_eq!(
        (record.worker.as_str(), record.queue.as_str()),
        ("w", "jobs")
    );
    assert!(record.duration.is_some() && record.finished_at >= record.started_at);
    assert_eq!(record.error, None);
    assert!(rig.queued().await.is_empty() && rig.dead_letters().await.is_empty());
    assert_eq!((report.completed, report.failed, report.running), (1, 0, 0));
}

#[tokio::test]
async fn an_error_that_is_not_retried_goes_to_the_dead_letters_with_the_reason() {
    let rig = Rig::new().await;
    let body = rig.message("a", "detailed").to_body();
    let mut headers = Headers::new();
    headers.insert("x-mine", HeaderValue::Text("kept".to_owned()));
    headers.insert(header::RETRY_COUNT, HeaderValue::Int(0));
    rig.send_raw(body.clone(), headers).await;
    let report = rig.burst().await;

    let record = rig.store.record("a").unwrap();
    assert_eq!(
        (record.status, error_of(&record)),
        (Status::Failed, "ValueError: boom é中")
    );
    assert_eq!(record.extra[0].1.as_slice(), br#""line 1\nline 2""#);
    let letters = rig.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].body, body, "the incoming bytes, unchanged");
    assert_eq!(letters[0].text(header::ERROR_TYPE), Some("ValueError"));
    assert_eq!(letters[0].text(header::ERROR_MESSAGE), Some("boom é中"));
    assert_eq!(
        letters[0].text(header::ERROR_CATEGORY),
        Some("non_retriable")
    );
    assert_eq!(letters[0].text(header::JOB_ID), Some("a"));
    assert_eq!(letters[0].text("x-mine"), Some("kept"));
    assert!(letters[0].text(header::FAILED_AT).is_some());
    assert_eq!(
        (report.failed, report.dead_lettered, report.retried),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn a_huge_error_fits_into_a_header_and_a_record() {
    let rig = Rig::new().await;
    rig.send("a", "huge_error").await;
    rig.burst().await;
    assert!(error_of(&rig.store.record("a").unwrap()).len() <= 16 * 1024);
    let letters = rig.dead_letters().await;
    assert!(letters[0].text(header::ERROR_MESSAGE).unwrap().len() <= 2048);
}

#[tokio::test]
async fn a_retried_job_completes_without_a_trace_of_the_earlier_errors() {
    let rig = Rig::new().await;
    rig.send("a", "flaky").await;
    let report = rig.burst().await;
    let record = rig.store.record("a").unwrap();
    assert_eq!((record.status, record.attempt), (Status::Completed, 3));
    assert_eq!(record.error, None);
    assert_eq!(*rig.functions.attempts.lock().unwrap(), [1, 2, 3]);
    let ends: Vec<Status> = rig.store.history("a");
    let ends: Vec<Status> = ends
        .into_iter()
        .filter(|end| *end != Status::InProgress)
        .collect();
    assert_eq!(
        ends,
        [Status::Retrying, Status::Retrying, Status::Completed]
    );
    assert_eq!((report.completed, report.retried, report.failed), (1, 2, 0));
}

#[tokio::test]
async fn a_job_that_fails_every_time_runs_once_and_then_as_often_as_it_may_be_retried() {
    let rig = Rig::new().await;
    rig.send("a", "broken").await;
    let report = rig.burst().await;
    assert_eq!(*rig.functions.attempts.lock().unwrap(), [1, 2, 3, 4]);
    let record = rig.store.record("a").unwrap();
    assert_eq!((record.status, record.attempt), (Status::Failed, 4));
    assert_eq!(error_of(&record), "OSError: gone");
    let letters = rig.dead_letters().await;
    assert_eq!(letters[0].text(header::ERROR_CATEGORY), Some("retriable"));
    assert_eq!(
        (report.failed, report.retried, report.dead_lettered),
        (1, 3, 1)
    );
}

#[tokio::test]
async fn the_job_says_how_often_it_may_be_retried() {
    for (limit, runs) in [(0, 1), (1, 2), (5, 6)] {
        let rig = Rig::new().await;
        let mut headers = Headers::new();
        headers.insert(header::MAX_RETRIES, HeaderValue::Int(limit));
        rig.send_raw(rig.message("a", "broken").to_body(), headers)
            .await;
        rig.burst().await;
        assert_eq!(rig.functions.runs(), runs, "{limit}");
    }
}

#[tokio::test]
async fn a_retry_carries_the_producers_headers_and_priority_and_the_counts_that_python_expects() {
    let rig = Rig::new().await;
    let mut headers = Headers::new();
    headers.insert("x-mine", HeaderValue::Text("kept".to_owned()));
    headers.insert(header::CLIENT_DELAYED, HeaderValue::Text("true".to_owned()));
    headers.insert(header::MAX_RETRIES, HeaderValue::Int(1));
    rig.send_with_priority(rig.message("a", "broken").to_body(), headers, 7)
        .await;
    rig.burst().await;
    let letters = rig.dead_letters().await;
    assert_eq!(letters[0].priority, 7);
    let last = letters[0].message();
    assert_eq!((last.job_try, last.status), (2, Status::Retrying));
    assert_eq!(last.error.as_ref().unwrap(), "OSError: gone");
    assert!(last.start_time.is_some() && last.end_time.is_some());
    let headers = &letters[0].headers;
    assert_eq!(headers.get(header::RETRY_COUNT), Some(&HeaderValue::Int(1)));
    assert_eq!(letters[0].text("x-mine"), Some("kept"));
    assert!(headers.get(header::CLIENT_DELAYED).is_none());
}

#[tokio::test]
async fn a_function_may_ask_to_be_run_again() {
    let rig = Rig::new().await;
    rig.send("a", "asks").await;
    let report = rig.burst().await;
    assert_eq!(rig.store.record("a").unwrap().status, Status::Completed);
    assert_eq!((report.completed, report.retried), (1, 1));
}

#[tokio::test]
async fn every_attempt_of_a_replayed_job_keeps_what_it_was_replayed_from() {
    let rig = Rig::new().await;
    let from = ReplayedFrom {
        error_type: "OSError".to_owned(),
        replays: 2,
        ..ReplayedFrom::default()
    };
    for (id, text) in [("a", from.to_header()), ("b", "{".to_owned())] {
        let headers = Headers::from([(header::REPLAYED_FROM, HeaderValue::Text(text))]);
        rig.send_raw(rig.message(id, "broken").to_body(), headers)
            .await;
    }
    rig.burst().await;
    let found = |id| ReplayedFrom::of_record(&rig.store.record(id).unwrap());
    assert_eq!(found("a"), Some(from.clone()));
    assert_eq!(rig.store.record("a").unwrap().attempt, 4);
    // What cannot be read is no reason not to run the job.
    assert_eq!((found("b"), rig.functions.runs()), (None, 8));
    // Either may have failed first.
    let letters = rig.dead_letters().await;
    let mut letters = letters.iter();
    let letter = letters.find(|it| it.text(header::JOB_ID) == Some("a"));
    let header = letter.unwrap().text(header::REPLAYED_FROM).unwrap();
    assert_eq!(ReplayedFrom::from_header(header), Some(from));
}

#[tokio::test]
async fn a_retry_count_that_is_a_string_loses_nothing() {
    let rig = Rig::new().await;
    let mut headers = Headers::new();
    headers.insert(header::RETRY_COUNT, HeaderValue::Text("2".to_owned()));
    rig.send_raw(rig.message("a", "broken").to_body(), headers)
        .await;
    rig.burst().await;
    assert_eq!(*rig.functions.attempts.lock().unwrap(), [3, 4]);
    assert_eq!(rig.store.record("a").unwrap().status, Status::Failed);
}

#[tokio::test]
async fn a_panic_and_a_time_out_are_errors_like_others() {
    for (function, expected) in [
        ("panics", "Panic: out of cheese"),
        ("hangs", "JobTimeout: ran for 0.2"),
    ] {
        let rig = Rig::new().await;
        let mut headers = Headers::new();
        headers.insert(header::MAX_RETRIES, HeaderValue::Int(0));
        rig.send_raw(rig.message("a", function).to_body(), headers)
            .await;
        rig.burst().await;
        let record = rig.store.record("a").unwrap();
        assert_eq!(record.status, Status::Failed);
        assert!(
            error_of(&record).starts_with(expected),
            "{}",
            error_of(&record)
        );
        assert_eq!(rig.dead_letters().await.len(), 1);
    }
}

#[tokio::test]
async fn an_expired_job_is_aborted_and_not_run() {
    let rig = Rig::new().await;
    let expires = Some(Timestamp::from_unix_us(1_700_000_000_000_000));
    rig.send_message(JobMessage {
        expires,
        ..rig.message("a", "echo")
    })
    .await;
    let report = rig.burst().await;
    let record = rig.store.record("a").unwrap();
    assert_eq!(record.status, Status::Aborted);
    assert!(error_of(&record).starts_with("JobExpired: expired at 2023-11-14T22:13:20+00:00"));
    assert_eq!((rig.functions.runs(), report.aborted), (0, 1));
    assert!(rig.dead_letters().await.is_empty());
}

#[tokio::test]
async fn an_unknown_function_fails_at_once_and_says_which_ones_there_are() {
    let rig = Rig::new().await;
    rig.send("a", "ecco").await;
    rig.burst().await;
    let record = rig.store.record("a").unwrap();
    assert_eq!(record.status, Status::Failed);
    let error = error_of(&record);
    assert!(
        error.starts_with("UnknownFunction: ") && error.contains("echo"),
        "{error}"
    );
    assert_eq!(
        rig.dead_letters().await[0].text(header::ERROR_TYPE),
        Some("UnknownFunction")
    );
}

#[tokio::test]
async fn an_unreadable_message_with_an_id_leaves_a_failed_record() {
    let rig = Rig::new().await;
    let body = r#"{"job_id": "a", "function": "echo", "queue_name": "jobs", "args": null}"#;
    rig.send_raw(body, Headers::new()).await;
    let report = rig.burst().await;
    let record = rig.store.record("a").unwrap();
    assert_eq!(
        (record.status, record.function.as_str()),
        (Status::Failed, "echo")
    );
    assert!(error_of(&record).contains("\"args\" is null: expected an array"));
    let letters = rig.dead_letters().await;
    assert_eq!(letters[0].body.as_slice(), body.as_bytes());
    assert_eq!(letters[0].text(header::JOB_ID), Some("a"));
    assert_eq!((report.failed, report.dead_lettered), (1, 1));
}

#[tokio::test]
async fn garbage_goes_to_the_dead_letters() {
    let rig = Rig::new().await;
    let bodies: [&[u8]; 5] = [
        b"",
        b"not json",
        b"[1]",
        b"\xff\xfe",
        b"{\"function\":\"echo\"}",
    ];
    for body in bodies {
        rig.send_raw(body, Headers::new()).await;
    }
    rig.burst().await;
    let letters = rig.dead_letters().await;
    let ids: Vec<_> = letters
        .iter()
        .map(|letter| letter.text(header::JOB_ID))
        .collect();
    assert_eq!(letters.len(), bodies.len());
    assert_eq!(
        ids.iter().filter(|id| **id == Some("parse_failed")).count(),
        4
    );
    assert_eq!(ids.iter().filter(|id| **id == Some("unknown")).count(), 1);
    assert!(
        letters
            .iter()
            .all(|letter| { letter.text(header::ERROR_TYPE) == Some("UnreadableMessage") })
    );
}

#[tokio::test]
async fn a_message_that_is_too_long_goes_to_the_dead_letters_and_fails_its_job() {
    let rig = Rig::new().await;
    rig.send("a", "echo").await;
    rig.burst_with(rig.builder().max_body_bytes(100)).await;
    let record = rig.store.record("a").unwrap();
    assert!(
        error_of(&record).contains("at most 100 are read"),
        "{}",
        error_of(&record)
    );
    assert_eq!(rig.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn a_job_whose_time_has_not_come_is_sent_again_and_runs_later() {
    let rig = Rig::new().await;
    let defer_until = Some(Timestamp::now().saturating_add(Duration::from_millis(300)));
    rig.send_message(JobMessage {
        defer_until,
        ..rig.message("a", "echo")
    })
    .await;
    let report = rig.burst().await;
    assert_eq!((report.deferred, rig.functions.runs()), (1, 0));
    assert_eq!(rig.store.record("a"), None);

    let running = rig.start(rig.builder());
    let record = rig.store.wait_for("a", Status::Completed).await;
    assert!(record.started_at >= defer_until);
    rig.shutdown.stop();
    running.end().await;
}

#[tokio::test]
async fn a_job_that_was_delayed_when_it_was_sent_is_not_delayed_again() {
    let rig = Rig::new().await;
    let defer_until = Some(Timestamp::now().saturating_add(Duration::from_secs(3600)));
    let message = JobMessage {
        defer_until,
        ..rig.message("a", "echo")
    };
    let mut headers = Headers::new();
    headers.insert(header::CLIENT_DELAYED, HeaderValue::Text("true".to_owned()));
    rig.send_raw(message.to_body(), headers).await;
    rig.burst().await;
    assert_eq!(rig.store.record("a").unwrap().status, Status::Completed);
}

#[tokio::test]
async fn results_are_kept_as_long_as_the_job_asks() {
    let rig = Rig::new().await;
    let mut headers = Headers::new();
    headers.insert(header::RESULT_TTL_MS, HeaderValue::Int(500));
    rig.send_raw(rig.message("a", "echo").to_body(), headers)
        .await;
    rig.send("b", "echo").await;
    rig.burst().await;
    let ttl = |id| {
        let record = rig.store.record(id).unwrap();
        record
            .expires_at
            .unwrap()
            .saturating_duration_since(record.finished_at.unwrap())
    };
    assert_eq!(ttl("a"), Duration::from_millis(500));
    assert_eq!(ttl("b"), Duration::from_secs(24 * 3600));
}

/// A record as a worker leaves it that is running `message`, or died while it did.
fn in_progress(message: &JobMessage, worker: &str, lost_runs: u32) -> Record {
    Record {
        job_id: message.job_id.as_text().clone(),
        status: Status::InProgress,
        attempt: 1,
        worker: worker.into(),
        enqueued_at: Some(message.enqueue_time),
        started_at: Some(Timestamp::now()),
        extra: vec![(LOST_RUNS.into(), lost_runs.to_string().into())],
        ..Record::default()
    }
}

#[tokio::test]
async fn a_job_that_took_too_many_workers_down_is_not_run_again() {
    let rig = Rig::new().await;
    let message = rig.message("a", "echo");
    rig.store.insert(in_progress(&message, "dead", 2));
    rig.send_message(message).await;
    rig.redeliver().await;
    rig.burst().await;
    assert_eq!(rig.functions.runs(), 0);
    let record = rig.store.record("a").unwrap();
    assert_eq!(record.status, Status::Failed);
    assert!(
        error_of(&record).starts_with("WorkerLost: 3 workers"),
        "{}",
        error_of(&record)
    );
    assert_eq!(
        rig.dead_letters().await[0].text(header::ERROR_TYPE),
        Some("WorkerLost")
    );
}

#[tokio::test]
async fn a_lost_run_is_counted_and_the_job_runs_again() {
    let rig = Rig::new().await;
    let message = rig.message("a", "waits");
    rig.store.insert(in_progress(&message, "dead", 1));
    rig.send_message(message).await;
    rig.redeliver().await;
    let running = rig.start(rig.builder().max_lost_runs(3));
    rig.functions.gate.notify_one();
    let record = rig.store.wait_for("a", Status::Completed).await;
    assert_eq!(record.extra[0].1.as_slice(), b"2");
    rig.shutdown.stop();
    running.end().await;
}

#[tokio::test]
async fn a_job_that_was_given_back_in_good_order_is_no_lost_run() {
    let rig = Rig::new().await;
    let message = rig.message("a", "echo");
    rig.store.insert(in_progress(&message, "", 2));
    rig.send_message(message).await;
    rig.redeliver().await;
    rig.burst().await;
    assert_eq!(rig.store.record("a").unwrap().status, Status::Completed);
}

/// Runs a message that a quorum queue has handed over so often.
async fn run_after_hand_overs(rig: &Rig, message: &JobMessage, times: i64) {
    let headers = Headers::from([(header::DELIVERY_COUNT, HeaderValue::Int(times))]);
    rig.send_raw(message.to_body(), headers).await;
    rig.burst().await;
}

#[tokio::test]
async fn hand_overs_are_no_lost_runs_where_the_store_would_know_of_a_run() {
    let rig = Rig::new().await;
    rig.store.be_durable();
    run_after_hand_overs(&rig, &rig.message("a", "echo"), 1_000).await;
    let record = rig.store.record("a").unwrap();
    assert_eq!(
        (record.status, &*record.extra),
        (Status::Completed, &[][..])
    );
    // The start is stored before the run, so that the next worker would know.
    let history = rig.store.history("a");
    assert_eq!(history, [Status::InProgress, Status::Completed]);
}

fn assert_handed_over_in_vain(record: &Record) {
    assert!(
        error_of(record).starts_with("WorkerLost: the broker handed this job over 20 times"),
        "{}",
        error_of(record)
    );
}

#[tokio::test]
async fn a_store_that_forgets_leaves_it_to_the_broker_to_count() {
    let rig = Rig::new().await;
    run_after_hand_overs(&rig, &rig.message("a", "echo"), 19).await;
    assert_eq!(rig.store.record("a").unwrap().status, Status::Completed);
    run_after_hand_overs(&rig, &rig.message("b", "echo"), 20).await;
    assert_handed_over_in_vain(&rig.store.record("b").unwrap());
    assert_eq!(rig.functions.runs(), 1);
}

/// As a message that came back as often on a queue that does not count, and now once more.
async fn run_after_counted(rig: &Rig, message: &JobMessage, times: i64) -> WorkerReport {
    let headers = Headers::from([(header::HAND_OVERS, HeaderValue::Int(times))]);
    rig.send_raw(message.to_body(), headers).await;
    rig.redeliver().await;
    rig.burst().await
}

#[tokio::test]
async fn where_the_broker_does_not_count_either_the_message_does() {
    let rig = Rig::new().await;
    let report = run_after_counted(&rig, &rig.message("a", "echo"), 18).await;
    // Sent again first, so that the next worker would know.
    assert_eq!((report.deferred, report.completed), (1, 1));
    run_after_counted(&rig, &rig.message("b", "echo"), 19).await;
    assert_handed_over_in_vain(&rig.store.record("b").unwrap());
    assert_eq!(rig.functions.runs(), 1);
}

#[tokio::test]
async fn what_is_counted_in_a_message_is_of_one_attempt() {
    let rig = Rig::new().await;
    run_after_counted(&rig, &rig.message("a", "broken"), 5).await;
    let left = rig.dead_letters().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].headers.get(header::HAND_OVERS), None);
}

#[tokio::test]
async fn a_record_of_another_job_with_the_same_id_says_nothing_about_this_one() {
    let rig = Rig::new().await;
    rig.store.be_durable();
    let earlier = JobMessage {
        enqueue_time: Timestamp::from_unix_us(1),
        ..rig.message("a", "echo")
    };
    rig.store.insert(in_progress(&earlier, "dead", 9));
    run_after_hand_overs(&rig, &rig.message("a", "echo"), 19).await;
    assert_eq!(rig.store.record("a").unwrap().status, Status::Completed);
    // Whether it ran is not known: its start may not have been stored.
    run_after_hand_overs(&rig, &rig.message("a", "echo"), 20).await;
    assert_eq!(rig.functions.runs(), 1);
}

#[tokio::test]
async fn a_message_that_names_no_job_is_one_job_from_its_second_delivery_on() {
    let rig = Rig::new().await;
    rig.send_raw(
        r#"{"function":"waits_long","queue_name":"jobs","args":[7]}"#,
        Headers::new(),
    )
    .await;
    rig.redeliver().await;
    let running = rig.start(rig.builder());
    while rig.functions.runs() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    rig.shutdown.stop();
    rig.shutdown.stop_now();
    let report = running.end().await;
    assert_eq!((report.deferred, report.requeued), (1, 1));
    let message = rig.queued().await.remove(0).message();
    assert!(message.is_identified);
    assert_eq!(message.args.as_slice(), b"[7]");
    let record = rig.store.record(message.job_id.as_str()).unwrap();
    assert_eq!(record.enqueued_at, Some(message.enqueue_time));
}

#[tokio::test]
async fn a_job_that_completed_is_not_run_again_because_its_answer_was_lost() {
    let rig = Rig::new().await;
    let message = rig.message("a", "echo");
    let done = Record {
        status: Status::Completed,
        ..in_progress(&message, "other", 0)
    };
    rig.store.insert(done.clone());
    rig.send_message(message).await;
    rig.redeliver().await;
    let report = rig.burst().await;
    assert_eq!((rig.functions.runs(), report.already_ended), (0, 1));
    assert_eq!(rig.store.record("a"), Some(done));
}

#[tokio::test]
async fn a_job_that_is_delivered_again_while_it_runs_is_not_run_twice() {
    let rig = Rig::new().await;
    let message = rig.message("a", "waits");
    rig.send_message(message.clone()).await;
    let running = rig.start(rig.builder());
    rig.store.wait_for("a", Status::InProgress).await;
    let mut headers = Headers::new();
    headers.insert(header::DELIVERY_COUNT, HeaderValue::Int(1));
    rig.send_raw(message.to_body(), headers).await;
    while rig
        .broker
        .queue_info(&rig.queue)
        .await
        .unwrap()
        .unwrap()
        .ready
        > 0
    {
        tokio::task::yield_now().await;
    }
    rig.functions.gate.notify_one();
    let both_answered = async {
        while running.stats.report().already_ended == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), both_answered)
        .await
        .unwrap();
    rig.shutdown.stop();
    assert_eq!(running.end().await.completed, 1);
    assert_eq!(rig.functions.runs(), 1);
}

#[tokio::test]
async fn a_failed_job_that_was_sent_again_by_hand_runs_even_if_it_is_delivered_twice() {
    let rig = Rig::new().await;
    let message = rig.message("a", "echo");
    rig.store.insert(Record {
        status: Status::Failed,
        ..in_progress(&message, "other", 0)
    });
    rig.send_message(message).await;
    rig.redeliver().await;
    rig.burst().await;
    assert_eq!(rig.functions.runs(), 1);
}

#[tokio::test]
async fn the_progress_of_a_running_job_can_be_seen() {
    let rig = Rig::new().await;
    rig.send("a", "reports").await;
    let running = rig.start(rig.builder());
    let seen = async {
        while rig
            .store
            .record("a")
            .is_none_or(|record| record.progress.as_slice() != b"50")
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .unwrap();
    assert_eq!(rig.store.record("a").unwrap().status, Status::InProgress);
    rig.functions.gate.notify_one();
    let record = rig.store.wait_for("a", Status::Completed).await;
    assert_eq!(record.progress.as_slice(), b"100");
    rig.shutdown.stop();
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_record_of_a_running_job_shows_that_its_worker_is_alive() {
    let rig = Rig::new().await;
    rig.send("a", "waits_long").await;
    let running = rig.start(rig.builder());
    let first = rig.store.wait_for("a", Status::InProgress).await;
    let refreshed = async {
        while rig.store.history("a").len() < 3 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), refreshed)
        .await
        .unwrap();
    let last = rig.store.record("a").unwrap();
    assert!(last.heartbeat_at > first.heartbeat_at);
    assert_eq!(
        (last.status, last.started_at),
        (Status::InProgress, first.started_at)
    );
    rig.functions.gate.notify_one();
    rig.store.wait_for("a", Status::Completed).await;
    rig.shutdown.stop();
    running.end().await;
}

#[tokio::test]
async fn many_jobs_are_all_run_once() {
    let rig = Rig::new().await;
    for number in 0..2000 {
        rig.send(&format!("job-{number}"), "echo").await;
    }
    let report = rig.burst_with(rig.builder().concurrency(50)).await;
    assert_eq!((report.completed, rig.functions.runs()), (2000, 2000));
    for number in 0..2000 {
        assert_eq!(
            rig.store.record(&format!("job-{number}")).unwrap().status,
            Status::Completed
        );
    }
    let records: usize = rig.store.batches().iter().sum();
    assert!(
        rig.store.batches().len() < records,
        "no batch had more than one record"
    );
}
