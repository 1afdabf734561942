//! A clock that jumps. The worker's only: those of the servers and of the client stay right.

use std::{fs, path::PathBuf};

use warren_tests::{
    WorkerProcess,
    fault::{Counts, Mix, Repeats, Round, Scenario},
};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "jumps_by_an_hour_both_ways",
    Repeats::Never,
    jumps,
)];

/// The library that Debian's `faketime` preloads.
fn libfaketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime is installed: `apt-get install faketime`")
}

fn jumps(round: &mut Round) -> Counts {
    let offset = round.system.path("offset");
    let set = |to: &str| {
        // Read at each look at the clock: never half of it.
        let new = offset.with_extension("new");
        fs::write(&new, to).unwrap();
        fs::rename(&new, &offset).unwrap();
    };
    set("+0");
    let mut command = round.system.command(&["worker"]);
    command
        .env("LD_PRELOAD", libfaketime())
        .env("FAKETIME_TIMESTAMP_FILE", &offset)
        .env("FAKETIME_NO_CACHE", "1")
        // As on a real machine, only the wall clock jumps.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut worker = WorkerProcess::spawn(command);
    worker.logs("worker started");
    round.load(Mix::All);
    for _ in 0..4 {
        round.pause(100..800);
        round.broke();
        set(["+3600", "-3600", "+0"][round.random(0..3) as usize]);
    }
    round.count(vec![worker])
}
