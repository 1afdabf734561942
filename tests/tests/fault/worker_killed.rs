//! Workers that are killed with `kill -9`.

use warren_tests::{
    WorkerProcess,
    fault::{Counts, Mix, Repeats, Round, Scenario},
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("at_any_moment", Repeats::Allowed, at_any_moment),
    Scenario::new("before_a_job_runs", Repeats::Allowed, before_a_job_runs),
    Scenario::new("while_jobs_run", Repeats::Allowed, while_jobs_run),
    Scenario::of_redis(
        "after_a_run_and_before_it_is_stored",
        Repeats::Allowed,
        after_a_run_and_before_it_is_stored,
    ),
    Scenario::new(
        "after_it_is_stored_and_before_it_is_acknowledged",
        Repeats::Allowed,
        after_it_is_stored_and_before_it_is_acknowledged,
    ),
    Scenario::of_redis(
        "while_it_drains_its_spool",
        Repeats::Allowed,
        while_it_drains_its_spool,
    ),
];

/// A job that is there each time is taken for the one that kills workers at the third.
const KILLS: usize = 2;

fn kill(round: &mut Round, worker: WorkerProcess) {
    round.broke();
    worker.kill();
}

fn at_any_moment(round: &mut Round) -> Counts {
    let mut worker = round.worker();
    round.load(Mix::All);
    for _ in 0..KILLS {
        round.pause(50..1_000);
        kill(round, worker);
        worker = round.worker();
    }
    round.count(vec![worker])
}

fn before_a_job_runs(round: &mut Round) -> Counts {
    round.load(Mix::All);
    for _ in 0..KILLS {
        // Deliveries come with the start.
        let worker = round.worker();
        round.pause(0..80);
        kill(round, worker);
    }
    let worker = round.worker();
    round.count(vec![worker])
}

fn while_jobs_run(round: &mut Round) -> Counts {
    round.load(Mix::Slow);
    for _ in 0..KILLS {
        let worker = round.worker();
        let before = round.ledger().begun();
        round.awaits("jobs begin", |ledger| ledger.begun() > before);
        round.pause(0..200);
        kill(round, worker);
    }
    let worker = round.worker();
    round.count(vec![worker])
}

fn after_a_run_and_before_it_is_stored(round: &mut Round) -> Counts {
    let mut worker = round.worker();
    round.load(Mix::All);
    for _ in 0..KILLS {
        round.awaits_ends(1);
        round.redis.hang();
        round.awaits_ends(1);
        // Before the store's deadline, or after it, when it is the spool that knows.
        round.pause(0..1_500);
        kill(round, worker);
        round.redis.go_on();
        worker = round.worker();
    }
    round.count(vec![worker])
}

fn after_it_is_stored_and_before_it_is_acknowledged(round: &mut Round) -> Counts {
    round.load(Mix::All);
    for _ in 0..KILLS {
        let worker = round.worker();
        round.pause(0..500);
        // Nothing that the worker says reaches the broker any more.
        round.broker.fall_silent();
        round.pause(100..800);
        kill(round, worker);
        round.broker.come_back();
    }
    let worker = round.worker();
    round.count(vec![worker])
}

fn while_it_drains_its_spool(round: &mut Round) -> Counts {
    let mut worker = round.worker();
    round.load(Mix::Quick);
    for _ in 0..2 {
        round.redis.stop();
        round.pause(500..1_500);
        round.redis.start_again();
        round.pause(0..600);
        kill(round, worker);
        worker = round.worker();
    }
    round.count(vec![worker])
}
