//! Stores made of stores, as a user configures them: real members, one of which goes away.

use std::fs;

use warren_tests::{PrivateRedis, System, amqp_url, eventually, eventually_true};

use super::echo;

const SECRET: &str = "s3cret-pa55word";

/// The file `redis.toml` is the primary alone, `warren.toml` memory before Redis before SQLite.
fn composed(redis: &PrivateRedis) -> System {
    let system = System::on(&amqp_url(), &redis.url(), &echo());
    let alone = fs::read_to_string(system.path("warren.toml")).unwrap();
    fs::write(system.path("redis.toml"), &alone).unwrap();
    let (head, tail) = alone.split_once("[result_store]").unwrap();
    let (_, functions) = tail.split_once("[functions").unwrap();
    let composed = format!(
        "{head}[result_store]\ntype = \"tiered\"\n\n\
         [result_store.config.front]\ntype = \"memory\"\n\n\
         [result_store.config.back]\ntype = \"failover\"\n\n\
         [result_store.config.back.config.primary]\ntype = \"redis\"\ndeadline = \"1s\"\n\n\
         [result_store.config.back.config.primary.config]\n\
         redis_url = {:?}\nkey_prefix = {:?}\n\n\
         [result_store.config.back.config.secondary]\ntype = \"sqlite\"\n\n\
         [result_store.config.back.config.secondary.config]\npath = \"meanwhile.db\"\n\n\
         [functions{functions}",
        redis.url(),
        system.queue,
    );
    fs::write(system.path("warren.toml"), composed).unwrap();
    system
}

fn in_redis_alone(system: &System, job_id: &str) -> bool {
    let asked = ["job", "get", job_id, "--json", "--config", "redis.toml"];
    let ran = system.run(&asked);
    ran.code == 0 && ran.json()["status"] == "completed"
}

#[test]
fn jobs_are_sent_run_and_read_over_an_outage_of_the_primary() {
    let mut redis = PrivateRedis::start();
    let system = composed(&redis);
    system.run(&["config", "check"]).expect(0);
    let mut worker = system.worker(&[]);
    let before = system.enqueue(&["echo"]);
    system.awaits_status(&before, "completed");
    assert!(in_redis_alone(&system, &before));

    redis.stop();
    let during = system.enqueue(&["echo"]);
    system.awaits_status(&during, "completed");
    worker.logs("the primary store is away");
    let ran = system.run(&["job", "get", &before]).expect(4);
    assert!(ran.stderr.contains("primary (redis)"), "{}", ran.stderr);
    // The store works, so nothing waits in the spool.
    let checked = system.run(&["worker", "--check"]).expect(0);
    assert!(checked.stderr.contains("primary (redis)"), "{checked:?}");

    redis.start_again();
    eventually_true("Redis has the job of the outage", || {
        in_redis_alone(&system, &during)
    });
    let after = system.enqueue(&["echo"]);
    system.awaits_status(&after, "completed");
    let listed = eventually("all three are listed", || {
        let listed = system.run(&["results", "ls", "--json"]).expect(0);
        match listed.json_lines().len() {
            3 => Ok(listed),
            _ => Err(listed.stdout),
        }
    });
    assert!(listed.stdout.contains(&during));
}

#[test]
fn a_wrong_key_of_a_member_is_named_and_its_secrets_are_not_shown() {
    let system = System::with_config(&format!(
        "[broker]\nurl = \"memory://\"\n\n\
         [result_store]\ntype = \"fanout\"\n\n\
         [[result_store.config.members]]\ntype = \"memory\"\n\n\
         [[result_store.config.members]]\ntype = \"redis\"\n\n\
         [result_store.config.members.config]\n\
         redis_ulr = \"redis://:{SECRET}@localhost/0\"\npassword = \"{SECRET}\"\n"
    ));
    let ran = system.run(&["config", "check"]).expect(2);
    for said in ["members.1.config.redis_ulr", "did you mean \"redis_url\"?"] {
        assert!(
            ran.stderr.contains(said),
            "{said:?} is not in {}",
            ran.stderr
        );
    }
    assert!(!ran.stderr.contains(SECRET), "{}", ran.stderr);
    for shown in [
        system.run(&["config", "show"]).expect(0),
        system.run(&["config", "show", "--json"]).expect(0),
    ] {
        assert!(shown.stdout.contains("***"), "{}", shown.stdout);
        assert!(!shown.stdout.contains(SECRET), "{}", shown.stdout);
    }
}
