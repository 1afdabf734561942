//! The spool, when it is needed most: the store is away, and the disk is in a bad way too.
//!
//! Mounts file systems of its own, which takes root, or `unshare --mount --map-root-user` before
//! the command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use warren_tests::{
    eventually,
    fault::{Counts, Mix, Repeats, Round, Scenario},
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_redis("disk_full", Repeats::Never, disk_full),
    Scenario::of_redis("disk_read_only", Repeats::Never, disk_read_only),
    Scenario::of_redis(
        "two_workers_on_one_folder",
        Repeats::Allowed,
        two_workers_on_one_folder,
    ),
];

/// A file system in memory. Unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn at(path: &Path, options: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(path));
        Self(path.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the command is there");
    assert!(
        output.status.success(),
        "{command:?} takes root, or `unshare --mount --map-root-user`: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn disk_full(round: &mut Round) -> Counts {
    let spool = round.system.path("spool");
    let _disk = Mount::at(&spool, "size=128k");
    let worker = round.worker();
    round.load(Mix::All);
    for _ in 0..2 {
        round.pause(100..600);
        round.broke();
        let filler = spool.join("filler");
        round.redis.stop();
        // Until there is no room, after a while in which there is some.
        round.pause(0..500);
        let _ = fs::write(&filler, vec![0; 128 * 1024]);
        round.pause(500..2_000);
        // Either comes back first.
        if round.random(0..2) == 0 {
            fs::remove_file(&filler).unwrap();
            round.pause(0..500);
            round.redis.start_again();
        } else {
            round.redis.start_again();
            round.pause(0..500);
            fs::remove_file(&filler).unwrap();
        }
    }
    round.count(vec![worker])
}

fn disk_read_only(round: &mut Round) -> Counts {
    let worker = round.worker();
    let slot = slot(&round.system.path("spool"));
    round.load(Mix::All);
    for _ in 0..2 {
        round.pause(100..600);
        round.broke();
        round.redis.stop();
        // Over the folder, since what a process has open cannot be made read-only.
        let read_only = Mount::at(&slot, "ro");
        round.pause(500..2_000);
        drop(read_only);
        round.pause(0..500);
        round.redis.start_again();
    }
    round.count(vec![worker])
}

/// The folder that the worker has locked.
fn slot(spool: &Path) -> PathBuf {
    eventually("the worker has a folder in the spool", || {
        let stores = fs::read_dir(spool).map_err(|error| error.to_string())?;
        let mut slots = stores.flatten().map(|store| store.path().join("0"));
        slots
            .find(|slot| slot.join("lock").exists())
            .ok_or_else(|| "none".to_owned())
    })
}

fn two_workers_on_one_folder(round: &mut Round) -> Counts {
    let (first, second) = (round.worker(), round.worker());
    round.load(Mix::All);
    round.pause(100..600);
    round.broke();
    round.redis.stop();
    round.awaits_ends(4);
    round.pause(0..1_500);
    first.kill();
    round.pause(0..300);
    // This one takes over what the first left, while the second has its own.
    let third = round.worker();
    round.pause(0..500);
    second.kill();
    round.redis.start_again();
    let fourth = round.worker();
    round.count(vec![third, fourth])
}
