//! The result store and the way to it. No job may run twice for it.

use warren_tests::fault::{Counts, Mix, Repeats, Round, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_redis("stopped_and_started", Repeats::Never, stopped_and_started),
    Scenario::of_redis("hangs", Repeats::Never, hangs),
    Scenario::of_redis("hangs_for_a_minute", Repeats::Never, hangs_for_a_minute).long(),
    Scenario::of_redis(
        "connection_reset_mid_reply",
        Repeats::Never,
        reset_mid_reply,
    ),
    Scenario::of_redis("garbage_replies", Repeats::Never, garbage),
    Scenario::of_redis("access_revoked", Repeats::Never, access_revoked),
    Scenario::of_redis("read_only_replica", Repeats::Never, read_only),
    Scenario::of_redis("out_of_memory", Repeats::Never, out_of_memory),
    Scenario::of_redis("flushall", Repeats::Never, flushall),
];

/// Breaks the store twice under load, for a random time each.
fn broken(round: &mut Round, break_it: fn(&mut Round), mend_it: fn(&mut Round)) -> Counts {
    let worker = round.worker();
    round.load(Mix::All);
    for _ in 0..2 {
        round.pause(100..1_000);
        round.broke();
        break_it(round);
        round.pause(200..2_500);
        mend_it(round);
    }
    round.count(vec![worker])
}

fn stopped_and_started(round: &mut Round) -> Counts {
    broken(
        round,
        |round| round.redis.stop(),
        |round| round.redis.start_again(),
    )
}

fn hangs(round: &mut Round) -> Counts {
    broken(
        round,
        |round| round.redis.hang(),
        |round| round.redis.go_on(),
    )
}

/// Its breaker opens, and what runs meanwhile is spooled.
fn hangs_for_a_minute(round: &mut Round) -> Counts {
    let worker = round.worker();
    round.load(Mix::All);
    round.pause(100..1_000);
    round.broke();
    round.redis.hang();
    round.load(Mix::All);
    round.pause(60_000..60_001);
    round.redis.go_on();
    round.count(vec![worker])
}

fn reset_mid_reply(round: &mut Round) -> Counts {
    broken(
        round,
        |round| round.store.reset_mid_reply(),
        |round| round.store.come_back(),
    )
}

fn garbage(round: &mut Round) -> Counts {
    broken(
        round,
        |round| round.store.speak_garbage(),
        |round| round.store.come_back(),
    )
}

fn access_revoked(round: &mut Round) -> Counts {
    broken(
        round,
        |round| {
            round
                .redis
                .command("ACL SETUSER admin on nopass +@all ~* &*");
            round
                .redis
                .command("ACL SETUSER default resetkeys -@all +auth +hello +acl +ping");
        },
        |round| round.redis.command("ACL SETUSER default allkeys +@all"),
    )
}

fn read_only(round: &mut Round) -> Counts {
    broken(
        round,
        |round| round.redis.command("REPLICAOF 127.0.0.1 1"),
        |round| round.redis.command("REPLICAOF NO ONE"),
    )
}

fn out_of_memory(round: &mut Round) -> Counts {
    broken(
        round,
        |round| round.redis.command("CONFIG SET maxmemory 1"),
        |round| round.redis.command("CONFIG SET maxmemory 0"),
    )
}

/// What Redis alone held is gone: results of jobs that had ended, the `queued` of those that had
/// not. Whatever ends afterwards has its result, and nothing runs again that had run.
fn flushall(round: &mut Round) -> Counts {
    let worker = round.worker();
    round.load(Mix::All);
    round.pause(300..2_000);
    round.broke();
    round.redis.command("FLUSHALL");
    round.ledger().mark();
    let mut counts = round.count(vec![worker]);
    counts.store_was_emptied();
    counts
}
