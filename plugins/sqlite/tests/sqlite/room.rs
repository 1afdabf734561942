//! Disks that are full or must not be written to.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use rusqlite::Connection;
use warren_plugin_api::{ErrorClass, Payload, Record, ResultStore, Timestamp, WriteOutcome};

use crate::support::{Process, file_of_part, folder, open_at, record, refusal};

/// What the part prints when it has found what it was to find.
const AS_EXPECTED: &str = "as expected";

/// Starts a part as a user who may do less than root, which tests often run as.
fn start_as_nobody(part: &str, path: &Path) -> Process {
    const NOBODY: u32 = 65_534;
    let folder = path.parent().unwrap();
    let test = folder.join("test");
    fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    let mut command = Command::new(test);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/");
    Process::of(command, part, path)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
#[ignore = "a part of files_and_folders_that_must_not_be_written_are_invalid_config"]
async fn refused() {
    let error = refusal(&file_of_part()).await;
    assert_eq!(error.class(), ErrorClass::InvalidConfig, "{error}");
    println!("{AS_EXPECTED}");
}

#[tokio::test]
async fn files_and_folders_that_must_not_be_written_are_invalid_config() {
    let (folder, path) = folder();
    let refused = || start_as_nobody("room::refused", &path).next(AS_EXPECTED);
    // No file can be made.
    allow(folder.path(), 0o555);
    assert!(refused().is_some(), "no file");
    open_at(&path).await.unwrap().close().await.unwrap();
    // The file cannot even be read.
    assert!(refused().is_some(), "unreadable");
    allow(&path, 0o444);
    assert!(refused().is_some(), "read-only file");
    // No log can be made beside it.
    allow(&path, 0o666);
    assert!(refused().is_some(), "read-only folder");
    allow(folder.path(), 0o755);
}

/// Runs a part on a disk of 16 MiB, which is gone with its process.
fn start_on_small_disk(part: &str, path: &Path) -> Process {
    let mut command = Command::new("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["--mount", "sh", "-ec"])
        .arg("mount -t tmpfs -o size=16m none \"$0\"; exec \"$@\"")
        .arg(path.parent().unwrap())
        .arg(std::env::current_exe().unwrap());
    Process::of(command, part, path)
}

#[test]
fn a_full_disk_is_unavailable_and_keeps_small_records_coming() {
    let (_folder, path) = folder();
    start_on_small_disk("room::on_a_small_disk", &path).succeeds();
}

#[tokio::test]
#[ignore = "a part of a_full_disk_is_unavailable_and_keeps_small_records_coming"]
async fn on_a_small_disk() {
    let path = file_of_part();
    let store = open_at(&path).await.unwrap();
    let filler = path.with_file_name("filler");
    fs::write(&filler, vec![0; 12_000_000]).unwrap();
    let large = |job_id: &str| Record {
        result: Payload::from(vec![b'x'; 8_000_000]),
        ..record(job_id)
    };
    let writes = vec![
        record("first").into(),
        large("large").into(),
        record("second").into(),
        large("larger").into(),
        record("third").into(),
    ];
    let outcomes = store.put_many(writes).await.unwrap();
    for index in [1, 3] {
        let error = outcomes[index].as_ref().unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    }
    for index in [0, 2, 4] {
        assert_eq!(outcomes[index], Ok(WriteOutcome::Written), "{index}");
    }
    // Now for small ones too, until somebody makes room.
    let mut number = 0;
    let error = loop {
        number += 1;
        if let Err(error) = store.put(record(number.to_string()).into()).await {
            break error;
        }
    };
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    assert!(error.message().contains("full"), "{error}");
    assert!(store.get("first".into()).await.unwrap().is_some());
    fs::remove_file(filler).unwrap();
    store.health_check().await.unwrap();
    store.put(record("last").into()).await.unwrap();
    store.close().await.unwrap();
    let sound: String = Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn cleaning_up_gives_pages_back() {
    let (_folder, path) = folder();
    let store = open_at(&path).await.unwrap();
    let writes = (0..300).map(|number| {
        let expired = Record {
            expires_at: Some(Timestamp::now()),
            result: Payload::from(vec![b'x'; 20_000]),
            ..record(number.to_string())
        };
        expired.into()
    });
    store.put_many(writes.collect()).await.unwrap();
    let full = store.stats().await.unwrap().bytes.unwrap();
    assert_eq!(
        store.cleanup_expired(Timestamp::now(), 1_000).await,
        Ok(300)
    );
    let empty = store.stats().await.unwrap().bytes.unwrap();
    assert!(empty < full / 2, "{full} bytes became {empty}");
}
