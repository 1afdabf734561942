//! A folder with a store in it, and this test as a process beside it.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use warren_plugin_api::{
    HostContext, Record, ResultStore, Status, StoreError, StoreResult, Timestamp,
};
use warren_store_sqlite::SqliteStore;

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn open(config: Value) -> StoreResult<SqliteStore> {
    let config = serde_json::from_value(config).unwrap();
    SqliteStore::open(config, HostContext::silent()).await
}

pub(crate) async fn open_at(path: &Path) -> StoreResult<SqliteStore> {
    open(json!({"path": path})).await
}

/// Why the file at `path` does not open.
pub(crate) async fn refusal(path: &Path) -> StoreError {
    open_at(path).await.err().expect("it must not open")
}

/// A folder, and the path of a store in it.
pub(crate) fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.db");
    (folder, path)
}

pub(crate) fn record(job_id: impl AsRef<str>) -> Record {
    Record {
        job_id: job_id.as_ref().into(),
        status: Status::Completed,
        attempt: 1,
        queue: "default".into(),
        function: "add".into(),
        enqueued_at: Some(Timestamp::now()),
        result: "3".into(),
        ..Record::default()
    }
}

/// Names the file that a process started by a test works on.
const FILE: &str = "WARREN_TEST_SQLITE_FILE";

/// A process that runs one test of this file that is ignored otherwise, its part of a larger one.
pub(crate) struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(part: &str, path: &Path) -> Self {
        Self::of(Command::new(std::env::current_exe().unwrap()), part, path)
    }

    pub(crate) fn of(mut command: Command, part: &str, path: &Path) -> Self {
        let mut child = command
            .args(["--exact", part, "--ignored", "--nocapture"])
            .env(FILE, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// What follows `what` in the next line that begins with it; none at the end.
    pub(crate) fn next(&mut self, what: &str) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                return None;
            }
            // The harness begins the line of a test that prints.
            if let Some((_, said)) = line.trim_end().split_once(what) {
                return Some(said.to_owned());
            }
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    pub(crate) fn succeeds(mut self) {
        while self.next("\n").is_some() {}
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file that this process is to work on.
pub(crate) fn file_of_part() -> PathBuf {
    std::env::var_os(FILE).expect("started by a test").into()
}
