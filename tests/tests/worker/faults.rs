//! What breaks around a worker, and what must not break with it.

use std::{fs, io::Write, process::Stdio};

use nix::sys::signal::Signal;
use warren_tests::{
    PrivateRedis, Proxy, Ran, System, amqp_url, eventually_true, free_port, redis_url,
};

use super::{echo, gated};

/// Redis calls that fail fast, so that no test waits for a deadline.
const QUICK_STORE: &str = "result_store.deadline=500ms";

fn finished(system: &System) -> usize {
    let text = fs::read_to_string(system.path("finished")).unwrap_or_default();
    text.lines().count()
}

#[test]
fn a_job_of_a_killed_worker_is_run_by_another() {
    let system = System::new(&gated());
    let id = system.enqueue(&["gated"]);
    let first = system.worker(&["--name", "first"]);
    let job = system.awaits_status(&id, "in_progress");
    assert_eq!(job["worker"], "first");
    first.kill();
    // Its command outlives it, as commands of killed processes do; let it end without a trace.
    let _second = system.worker(&["--name", "second"]);
    eventually_true("the second worker runs it", || {
        system.job(&id).unwrap()["worker"] == "second"
    });
    system.touch("go");
    let job = system.awaits_status(&id, "completed");
    assert_eq!(job["worker"], "second");
    assert_eq!(job["result"], "went");
    system.rabbitmq().awaits_ready(&system.queue, 0);
    assert_eq!(system.rabbitmq().ready(&system.dead_letters()), Some(0));
}

#[test]
fn jobs_go_on_while_the_store_is_down_and_their_results_come_later() {
    let mut redis = PrivateRedis::start();
    let system = System::on(&amqp_url(), &redis.url(), &gated());
    let mut worker = system.worker(&["--set", QUICK_STORE]);
    let before = system.enqueue(&["gated"]);
    system.awaits_status(&before, "in_progress");
    let during = system.enqueue(&["gated"]);
    redis.stop();
    system.touch("go");
    eventually_true("both jobs finish", || finished(&system) == 2);
    // Answered though not stored: nothing goes back to the queue.
    system.rabbitmq().awaits_ready(&system.queue, 0);
    worker.logs("store");
    redis.start_again();
    for id in [before, during] {
        assert_eq!(system.awaits_status(&id, "completed")["result"], "went");
    }
    assert_eq!(finished(&system), 2);
}

#[test]
fn a_store_that_hangs_fails_no_job() {
    let redis = PrivateRedis::start();
    let system = System::on(&amqp_url(), &redis.url(), &gated());
    let _worker = system.worker(&["--set", QUICK_STORE]);
    let ids: Vec<String> = (0..2).map(|_| system.enqueue(&["gated"])).collect();
    system.awaits_status(&ids[0], "in_progress");
    redis.hang();
    system.touch("go");
    eventually_true("both jobs finish", || finished(&system) == 2);
    redis.go_on();
    for id in &ids {
        system.awaits_status(id, "completed");
    }
    assert_eq!(finished(&system), 2);
}

#[test]
fn a_job_is_sent_while_the_store_is_down_and_says_so() {
    let mut redis = PrivateRedis::start();
    let system = System::on(&amqp_url(), &redis.url(), &echo());
    redis.stop();
    let ran = system.run(&["enqueue", "-q", &system.queue, "echo", "--set", QUICK_STORE]);
    let ran = ran.expect(0);
    assert!(
        ran.stderr.contains("WARN") && ran.stderr.contains("store"),
        "{}",
        ran.stderr
    );
    let id = ran.line().to_owned();
    redis.start_again();
    system.run(&["worker", "--burst"]).expect(0);
    assert_eq!(system.job(&id).unwrap()["status"], "completed");
}

#[test]
fn a_store_that_is_down_is_said_to_be_when_it_is_asked() {
    let url = format!("redis://ann:s3cret-pa55word@127.0.0.1:{}/0", free_port());
    let system = System::on(&amqp_url(), &url, &echo());
    for command in [
        &["job", "get", "x"][..],
        &["results", "ls"],
        &["results", "stats"],
        &["worker", "--check"],
    ] {
        let mut arguments = command.to_vec();
        arguments.extend(["--set", QUICK_STORE, "--log-level", "trace"]);
        let ran = system.run(&arguments).expect(4);
        assert!(ran.stderr.contains("127.0.0.1"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("s3cret-pa55word"), "{}", ran.stderr);
    }
}

/// The address of the broker behind a proxy, with the user and virtual host of the tests.
pub(super) fn through(proxy: &Proxy) -> String {
    let mut url = url::Url::parse(&amqp_url()).unwrap();
    let address: std::net::SocketAddr = proxy.address().parse().unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(address.port())).unwrap();
    url.to_string()
}

pub(super) fn broker_address() -> String {
    let url = url::Url::parse(&amqp_url()).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5672))
}

#[test]
fn a_worker_outlives_the_loss_of_its_connection() {
    let proxy = Proxy::to(&broker_address());
    let system = System::on(&through(&proxy), &redis_url(), &(echo() + &gated()));
    let mut worker = system.worker(&[]);
    let running = system.enqueue(&["gated"]);
    system.awaits_status(&running, "in_progress");
    proxy.cut();
    worker.logs("lost");
    system.touch("go");
    let id = system.enqueue(&["echo"]);
    system.awaits_status(&id, "completed");
    let job = system.awaits_status(&running, "completed");
    assert_eq!(job["result"], "went");
    system.rabbitmq().awaits_ready(&system.queue, 0);
    assert_eq!(system.rabbitmq().ready(&system.dead_letters()), Some(0));
}

#[test]
fn a_worker_waits_for_a_broker_that_is_away() {
    let proxy = Proxy::to(&broker_address());
    let system = System::on(&through(&proxy), &redis_url(), &echo());
    let mut worker = system.worker(&[]);
    proxy.go_away();
    worker.logs("lost");
    let direct = format!("broker.url={}", amqp_url());
    let id = system.enqueue(&["echo", "--set", &direct]);
    proxy.come_back();
    system.awaits_status(&id, "completed");
}

#[test]
fn a_worker_ends_although_its_broker_has_fallen_silent() {
    let proxy = Proxy::to(&broker_address());
    let system = System::on(&through(&proxy), &redis_url(), &echo());
    // Nothing tells it that the connection is dead.
    let worker = system.worker(&["--set", "broker.heartbeat=10m"]);
    proxy.fall_silent();
    worker.signal(Signal::SIGTERM);
    worker.ended().expect(0);
}

#[test]
fn a_client_without_a_broker_says_so_and_leaves_no_record() {
    let proxy = Proxy::to(&broker_address());
    let system = System::on(&through(&proxy), &redis_url(), &echo());
    proxy.go_away();
    let ran = system.run(&[
        "enqueue",
        "-q",
        &system.queue,
        "echo",
        "--id",
        "unsent",
        "--set",
        "broker.connect_timeout=2s",
    ]);
    let ran = ran.expect(3);
    assert!(ran.stderr.contains("broker unavailable"), "{}", ran.stderr);
    assert_eq!(system.job("unsent"), None);
    proxy.come_back();
    system
        .run(&["enqueue", "-q", &system.queue, "echo", "--id", "unsent"])
        .expect(0);
}

#[test]
fn a_client_outlives_the_loss_of_its_connection() {
    const FIRST: usize = 500;
    let proxy = Proxy::to(&broker_address());
    let system = System::on(&through(&proxy), &redis_url(), &echo());
    let mut client = system
        .command(&["enqueue", "--jsonl", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = format!(
        "{{\"function\": \"echo\", \"queue\": {:?}}}\n",
        system.queue
    );
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(line.repeat(FIRST).as_bytes()).unwrap();
    system.rabbitmq().awaits_ready(&system.queue, FIRST as u32);
    proxy.cut();
    stdin.write_all(line.repeat(10).as_bytes()).unwrap();
    drop(stdin);
    let ran = Ran::from(client.wait_with_output().unwrap()).expect(0);
    assert_eq!(ran.stdout.lines().count(), FIRST + 10);
    system
        .rabbitmq()
        .awaits_ready(&system.queue, FIRST as u32 + 10);
}

#[test]
fn a_worker_without_a_broker_does_not_start() {
    let system = System::on(
        &format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port()),
        &redis_url(),
        &echo(),
    );
    let ran = system.run(&["worker"]).expect(3);
    assert!(ran.stderr.contains("Connection refused"), "{}", ran.stderr);
}
