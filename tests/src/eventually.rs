//! Waiting for something that other processes bring about.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

/// Long enough for the slowest machine; no test that passes waits for it.
pub const DEADLINE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(25);

/// Looks until there is something to see.
///
/// # Panics
/// When there still is nothing at the deadline, with what was seen last.
pub fn eventually<T, E: Display>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => panic!("{what}: still {seen}"),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Looks until it is true.
///
/// # Panics
/// When it still is not at the deadline.
pub fn eventually_true(what: &str, mut look: impl FnMut() -> bool) {
    eventually(what, || if look() { Ok(()) } else { Err("not so") });
}
