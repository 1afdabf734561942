//! Counts the jobs that have run.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::Outcome;

const PATIENCE: Duration = Duration::from_secs(150);
/// How often it is looked whether all have: short beside the time of them all.
const LOOK_EVERY: Duration = Duration::from_millis(1);

static COUNT: AtomicUsize = AtomicUsize::new(0);
static FIRST: OnceLock<Instant> = OnceLock::new();

/// One more.
pub(crate) fn one() {
    FIRST.get_or_init(Instant::now);
    COUNT.fetch_add(1, Ordering::Relaxed);
}

/// Until so many have run; how long after the first that was.
pub(crate) async fn all_of(jobs: usize) -> Outcome<Duration> {
    let began = Instant::now();
    while COUNT.load(Ordering::Relaxed) < jobs {
        if began.elapsed() > PATIENCE {
            return Err(format!("not done within {PATIENCE:?}").into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(FIRST.get_or_init(Instant::now).elapsed())
}
