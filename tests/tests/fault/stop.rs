//! Workers that are asked to stop while they are busy.

use nix::sys::signal::Signal;
use warren_tests::fault::{Counts, Mix, Repeats, Round, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "sigterm_under_full_load_with_long_jobs",
    Repeats::Allowed,
    sigterm,
)];

/// Stopped by a signal before its jobs were finished.
const INTERRUPTED: i32 = 128 + Signal::SIGTERM as i32;

fn sigterm(round: &mut Round) -> Counts {
    // Too short for the long jobs: they are interrupted and go back.
    let short_grace = &["--set", "worker.shutdown_grace=1s"];
    round.load(Mix::All);
    round.load_of(Mix::Long, 12);
    for _ in 0..3 {
        let worker = round.system.worker(short_grace);
        round.pause(100..2_000);
        round.broke();
        worker.signal(Signal::SIGTERM);
        if round.random(0..3) == 0 {
            round.pause(0..300);
            worker.signal(Signal::SIGTERM);
        }
        let ran = worker.ended();
        assert!([0, INTERRUPTED].contains(&ran.code), "{ran:?}");
    }
    let worker = round.worker();
    round.count(vec![worker])
}
