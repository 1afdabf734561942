//! A worker whose results go to the Elasticsearch store, here on osmem-server, an emulator of
//! OpenSearch.

use warren_tests::{Osmem, System, amqp_url, eventually_true, unique};

use super::{echo, gated};

/// A queue and an index of the test's own.
fn system_on(server: &Osmem) -> System {
    let queue = unique("elasticsearch");
    let mut system = System::with_config(&format!(
        "[broker]\nurl = {:?}\n\n[worker]\nqueues = [{queue:?}]\n\n\
         [result_store]\ntype = \"elasticsearch\"\n\n\
         [result_store.config]\nelasticsearch_urls = [{:?}]\n\n{}{}",
        amqp_url(),
        server.url(),
        echo(),
        gated()
    ));
    system.queue = queue;
    system
}

#[test]
fn results_are_found_by_every_command_and_survive_in_the_spool_what_the_server_does_not() {
    let mut server = Osmem::start();
    let system = system_on(&server);
    let mut worker = system.worker(&["--set", "result_store.deadline=500ms"]);
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

    let gated = system.enqueue(&["gated"]);
    system.awaits_status(&gated, "in_progress");
    server.kill();
    system.touch("go");
    // Answered though not stored: its result waits in the spool.
    system.rabbitmq().awaits_ready(&queue, 0);
    worker.logs("store");
    // It comes back empty: the index is made anew.
    server.start_again();
    let job = system.awaits_status(&gated, "completed");
    assert_eq!(job["result"], "went");
    let purged = system.run(&["results", "purge", "--yes"]);
    purged.expect(0);
    eventually_true("nothing is left", || system.job(&gated).is_none());
    let dead_letters = system.dead_letters();
    system.rabbitmq().delete(&[queue, dead_letters]);
}
