//! A worker whose results go to the S3 store, here on SeaweedFS, a real server.

use warren_tests::{
    Proxy, S3_ACCESS_KEY_ID, S3_BUCKET, S3_SECRET_ACCESS_KEY, S3Service, System, amqp_url,
    eventually_true, unique,
};

use super::{echo, gated};

/// A queue and a prefix of the test's own.
fn system_on(endpoint: &str, more: &str) -> System {
    let queue = unique("s3");
    let mut system = System::with_config(&format!(
        "[broker]\nurl = {:?}\n\n[worker]\nqueues = [{queue:?}]\n\n\
         [result_store]\ntype = \"s3\"\n\n\
         [result_store.config]\nendpoint = {endpoint:?}\nallow_http = true\n\
         bucket = {S3_BUCKET:?}\nprefix = {queue:?}\naccess_key_id = {S3_ACCESS_KEY_ID:?}\n\
         secret_access_key = {S3_SECRET_ACCESS_KEY:?}\n{more}\n\n{}{}",
        amqp_url(),
        echo(),
        gated()
    ));
    system.queue = queue;
    system
}

#[test]
fn results_on_seaweedfs_are_found_by_every_command_and_wait_in_the_spool_while_it_is_away() {
    let service = S3Service::seaweedfs();
    let proxy = Proxy::to(&service.address());
    let endpoint = format!("http://{}", proxy.address());
    let system = system_on(&endpoint, "lifecycle_days = 7");
    let mut worker = system.worker(&[]);
    let queue = system.queue.clone();
    let enqueue = [
        "enqueue", "echo", "1", "--queue", &queue, "--wait", "--json",
    ];
    let waited = system.run(&enqueue).expect(0).json();
    assert_eq!(waited["status"], "completed", "{waited}");
    let listed = system.run(&["results", "ls", "--json"]).expect(0).json();
    assert_eq!(listed["job_id"], waited["job_id"]);
    let stats = system.run(&["results", "stats", "--json"]).expect(0).json();
    assert_eq!(stats["records"], 1, "{stats}");
    // What `aws s3api put-bucket-lifecycle-configuration` takes.
    let rules = &stats["details"]["lifecycle_configuration"]["Rules"];
    assert_eq!(rules[0]["Expiration"]["Days"], 7, "{stats}");

    let gated = system.enqueue(&["gated"]);
    system.awaits_status(&gated, "in_progress");
    proxy.go_away();
    system.touch("go");
    // Answered though not stored: its result waits in the spool.
    system.rabbitmq().awaits_ready(&queue, 0);
    worker.logs("store");
    proxy.come_back();
    let job = system.awaits_status(&gated, "completed");
    assert_eq!(job["result"], "went");
    system.run(&["results", "purge", "--yes"]).expect(0);
    eventually_true("nothing is left", || system.job(&gated).is_none());
    let dead_letters = system.dead_letters();
    system.rabbitmq().delete(&[queue, dead_letters]);
}

#[test]
fn wrong_credentials_are_said_by_seaweedfs_and_not_shown() {
    let service = S3Service::seaweedfs();
    let system = system_on(&service.endpoint(), "");
    let secret = "result_store.config.secret_access_key=another-secret";
    let ran = system.run(&["results", "ls", "--set", secret]);
    assert_ne!(ran.code, 0);
    assert!(
        ran.stderr.contains("SignatureDoesNotMatch"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("access_key_id"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("another-secret"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(S3_SECRET_ACCESS_KEY), "{}", ran.stderr);
}
