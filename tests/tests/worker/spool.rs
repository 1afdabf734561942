//! Results that wait on the worker's disk while the store is down.

use warren_tests::{PrivateRedis, System, amqp_url, eventually_true};

use super::echo;

const QUICK_STORE: &str = "result_store.deadline=500ms";

/// A worker on a store that is down, with `count` jobs done.
fn jobs_without_a_store(
    redis: &mut PrivateRedis,
    count: usize,
) -> (System, warren_tests::WorkerProcess, Vec<String>) {
    let system = System::on(&amqp_url(), &redis.url(), &echo());
    let worker = system.worker(&["--set", QUICK_STORE]);
    redis.stop();
    let ids = (0..count)
        .map(|number| system.enqueue(&["echo", &number.to_string()]))
        .collect();
    system.rabbitmq().awaits_ready(&system.queue, 0);
    eventually_true("all results are in the spool", || waiting(&system) == count);
    (system, worker, ids)
}

fn waiting(system: &System) -> usize {
    let spools = system.run(&["spool", "status", "--json"]).expect(0);
    spools
        .json_lines()
        .iter()
        .map(|spool| spool["records"].as_u64().unwrap() as usize)
        .sum()
}

#[test]
fn results_survive_a_worker_that_is_killed_while_the_store_is_down() {
    let mut redis = PrivateRedis::start();
    let (system, worker, ids) = jobs_without_a_store(&mut redis, 3);
    worker.kill();
    assert_eq!(waiting(&system), 3);
    redis.start_again();
    assert!(system.job(&ids[0]).is_none(), "the store knows nothing yet");
    let _next = system.worker(&[]);
    for (number, id) in ids.iter().enumerate() {
        let job = system.awaits_status(id, "completed");
        assert_eq!(job["args"][0], number);
        assert_eq!(job["attempt"], 1, "it was not run again");
    }
    eventually_true("nothing waits any more", || waiting(&system) == 0);
}

#[test]
fn what_a_dead_worker_left_can_be_seen_and_brought_to_the_store_by_hand() {
    let mut redis = PrivateRedis::start();
    let (system, worker, ids) = jobs_without_a_store(&mut redis, 2);
    worker.kill();
    let seen = system.run(&["spool", "inspect", "--json"]).expect(0);
    let mut seen: Vec<_> = seen
        .json_lines()
        .iter()
        .map(|record| record["job_id"].as_str().unwrap().to_owned())
        .collect();
    seen.sort();
    let mut sent = ids.clone();
    sent.sort();
    assert_eq!(seen, sent);
    system.run(&["spool", "drain"]).expect(4);
    assert_eq!(waiting(&system), 2, "a store that is down takes nothing");
    redis.start_again();
    let drained = system.run(&["spool", "drain", "--json"]).expect(0);
    assert_eq!(drained.json()["taken"], 2);
    for id in &ids {
        assert_eq!(system.job(id).unwrap()["status"], "completed");
    }
    assert_eq!(waiting(&system), 0);
}

#[test]
fn a_spool_of_another_configuration_is_named_and_can_be_brought() {
    let mut redis = PrivateRedis::start();
    let (system, worker, ids) = jobs_without_a_store(&mut redis, 1);
    worker.kill();
    redis.start_again();
    let other = ["--set", "result_store.config.max_record_bytes=1000000"];
    let status = system.run(&[&["spool", "status"][..], &other].concat());
    let stderr = status.expect(0).stderr;
    let spool = std::fs::read_dir(system.path("spool")).unwrap();
    let folder = spool.map(|entry| entry.unwrap().path()).next().unwrap();
    let folder = folder.to_str().unwrap();
    assert!(stderr.contains(folder), "{stderr}");

    let nothing = system.run(&[&["spool", "drain", "--json"][..], &other].concat());
    assert_eq!(nothing.expect(0).json()["taken"], 0);
    let drain = ["spool", "drain", "--json", "--from", folder];
    let drained = system.run(&[&drain[..], &other].concat()).expect(0);
    assert_eq!(drained.json()["taken"], 1);
    assert_eq!(system.job(&ids[0]).unwrap()["status"], "completed");
}

#[test]
fn a_drain_that_the_store_refused_something_of_says_so() {
    let mut redis = PrivateRedis::start();
    let system = System::on(&amqp_url(), &redis.url(), &echo());
    let worker = system.worker(&["--set", QUICK_STORE]);
    redis.stop();
    system.enqueue(&["echo"]);
    eventually_true("the result is in the spool", || waiting(&system) == 1);
    worker.kill();
    redis.start_again();
    let spool = std::fs::read_dir(system.path("spool")).unwrap();
    let folder = spool.map(|entry| entry.unwrap().path()).next().unwrap();
    // Not even a record that says so.
    let small = "result_store.config.max_record_bytes=50";
    let drain = ["spool", "drain", "--json", "--set", small, "--from"];
    let drained = system.run(&[&drain[..], &[folder.to_str().unwrap()]].concat());
    assert_eq!(drained.expect(4).json()["refused"], 1);
}

#[test]
fn a_spool_that_is_full_loses_nothing() {
    let mut redis = PrivateRedis::start();
    let system = System::on(&amqp_url(), &redis.url(), &echo());
    let small = "worker.spool.max_bytes=1000";
    let mut worker = system.worker(&["--set", QUICK_STORE, "--set", small]);
    redis.stop();
    let ids: Vec<String> = (0..8).map(|_| system.enqueue(&["echo"])).collect();
    worker.logs("the spool takes no more");
    redis.start_again();
    for id in &ids {
        assert_eq!(system.awaits_status(id, "completed")["attempt"], 1);
    }
}

#[test]
fn a_worker_without_a_place_for_its_spool_says_so() {
    let system = System::on(&amqp_url(), "redis://127.0.0.1:1/0", &echo());
    system.touch("file");
    let refused = system.run(&["worker", "--set", "worker.spool.dir=file/spool"]);
    let refused = refused.expect(1);
    assert!(refused.stderr.contains("worker.spool.dir"), "{refused:?}");
    assert!(refused.stderr.contains("file/spool"), "{refused:?}");
}
