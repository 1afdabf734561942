//! Quorum queues: what their count of deliveries says, and what they give up on.

use serde_json::json;
use warren_tests::{PrivateRabbitMq, RabbitMq, System, command, redis_url};

const QUORUM: &[(&str, &str)] = &[("WARREN__BROKER__QUEUE_TYPE", "quorum")];

/// A message of a program that writes no record.
fn foreign_message(queue: &str) -> Vec<u8> {
    let message = json!({
        "job_id": format!("{queue}-foreign"),
        "function": "quick",
        "queue_name": queue,
        "enqueue_time": "2026-01-31T12:00:00Z",
    });
    message.to_string().into_bytes()
}

#[test]
fn a_job_that_workers_held_and_never_began_is_run() {
    let system = System::new(&command("quick", "echo 1"));
    system.run_with(QUORUM, &["worker", "--burst"]).expect(0);
    let rabbitmq = system.rabbitmq();
    rabbitmq.publish(&system.queue, &foreign_message(&system.queue), &[]);
    // As workers that are stopped do with what they have not begun.
    for _ in 0..25 {
        rabbitmq.give_back(&system.queue);
    }
    system.run_with(QUORUM, &["worker", "--burst"]).expect(0);
    let job = system.job(&format!("{}-foreign", system.queue)).unwrap();
    assert_eq!(job["status"], "completed", "{job}");
}

#[test]
fn a_message_without_an_id_that_kills_workers_ends_as_a_dead_letter() {
    let system = System::new(&command("deadly", "sleep 0.3; kill -9 $PPID"));
    let rabbitmq = system.rabbitmq();
    rabbitmq.declare(&system.queue);
    let body = json!({ "function": "deadly", "queue_name": system.queue });
    rabbitmq.publish(&system.queue, body.to_string().as_bytes(), &[]);
    // The delivery that had no id, and three lost runs; on a slow machine one dies before its start
    // is stored.
    let most = 5;
    let killed = (0..=most)
        .take_while(|_| system.run(&["worker", "--burst"]).code == 128 + 9)
        .count();
    assert!((4..=most).contains(&killed), "{killed} workers were killed");
    let listed = ["dlq", "ls", "-q", &system.queue, "--json"];
    let letter = system.run(&listed).expect(0).json();
    let error = letter["error"].as_str().unwrap();
    assert!(error.starts_with("WorkerLost: 3 workers"), "{letter}");
    let job = system.job(letter["job_id"].as_str().unwrap()).unwrap();
    assert_eq!(job["status"], "failed", "{job}");
}

#[test]
fn what_the_broker_gives_up_on_is_a_dead_letter_and_can_be_replayed() {
    let broker = PrivateRabbitMq::start();
    let system = System::on(&broker.url(), &redis_url(), &command("quick", "echo 1"));
    let rabbitmq = RabbitMq::connect_to(&broker.url());
    let id = system.run_with(QUORUM, &["enqueue", "-q", &system.queue, "quick"]);
    let id = id.expect(0).line().to_owned();
    let limit = r#"{"delivery-limit": 2}"#;
    broker.control(&["set_policy", "limit", ".*", limit, "--apply-to", "queues"]);
    rabbitmq.awaits_ready(&system.queue, 1);
    for _ in 0..3 {
        rabbitmq.give_back(&system.queue);
    }
    rabbitmq.awaits_ready(&system.dead_letters(), 1);
    let listed = ["dlq", "ls", "-q", &system.queue, "--json"];
    let letter = system.run_with(QUORUM, &listed).expect(0).json();
    assert_eq!(letter["job_id"], id.as_str());
    assert!(
        letter["error"]
            .as_str()
            .unwrap()
            .starts_with("DeadLettered: "),
        "{letter}"
    );
    broker.control(&["clear_policy", "limit"]);
    let replay = ["dlq", "replay", "-q", &system.queue];
    system.run_with(QUORUM, &replay).expect(0);
    system.run_with(QUORUM, &["worker", "--burst"]).expect(0);
    assert_eq!(system.job(&id).unwrap()["status"], "completed");
}
