//! The SQLite store under the suite, and what looks into its file meanwhile.
//!
//! That is a process of its own, this test run anew: the plugin has a copy of SQLite, the test
//! another one, and two copies in one process undo each other's locks.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

use rusqlite::Connection;
use serde_json::json;
use warren::store::{StoreType, plugins::load_one};
use warren_conformance::Suite;
use warren_plugin_api::Text;
use warren_tests::{plugin, unique};

use super::{MAX_RECORD_BYTES, open, suite_of};

/// Says to the process what to do; its arguments say with which file.
const ERRAND: &str = "WARREN_TEST_SQLITE_ERRAND";

static SQLITE: LazyLock<StoreType> = LazyLock::new(|| load_one(&plugin("sqlite")).unwrap());

fn file(unique: &str) -> PathBuf {
    env::temp_dir().join(unique).join("results.db")
}

pub(crate) fn suite(name: String) -> Suite {
    let config = json!({ "path": file(&name), "max_record_bytes": MAX_RECORD_BYTES });
    suite_of(&SQLITE, config)
        .unreachable(|| async {
            let elsewhere = unique("locked");
            let path = file(&elsewhere);
            fs::create_dir(path.parent().unwrap()).unwrap();
            let mut lock = errand("lock", &[path.to_str().unwrap()]);
            let mut locked = String::new();
            let stdout = lock.stdout.take().unwrap();
            BufReader::new(stdout).read_line(&mut locked).unwrap();
            assert_eq!(locked, "locked\n");
            let config = json!({ "path": path, "busy_timeout": "100ms" });
            let opened = open(&SQLITE, config).await;
            lock.kill().unwrap();
            lock.wait().unwrap();
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
            opened
        })
        .damage(move |job_id: Text| {
            let path = file(&name);
            async move {
                let damaged = finished(errand("damage", &[path.to_str().unwrap(), &job_id]));
                assert_eq!(damaged, "1");
            }
        })
}

/// The ids that are still in the file, which goes with its folder.
pub(crate) fn left_over(unique: &str) -> Vec<String> {
    let path = file(unique);
    let left = finished(errand("list", &[path.to_str().unwrap()]));
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    left.lines().map(str::to_owned).collect()
}

fn errand(errand: &str, arguments: &[&str]) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(arguments)
        .env(ERRAND, errand)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What it printed.
fn finished(errand: Child) -> String {
    let output = errand.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Whether this process was started for an errand, which is then done.
pub(crate) fn run_errand() -> bool {
    let Ok(errand) = env::var(ERRAND) else {
        return false;
    };
    let arguments: Vec<String> = env::args().skip(1).collect();
    let connection = Connection::open(&arguments[0]).unwrap();
    match errand.as_str() {
        "damage" => {
            let sql = "UPDATE records SET extra = x'c1' WHERE job_id = ?1";
            print!("{}", connection.execute(sql, [&arguments[1]]).unwrap());
        }
        "list" => {
            let mut statement = connection.prepare("SELECT job_id FROM records").unwrap();
            let ids = statement.query_map([], |row| row.get::<_, String>(0));
            ids.unwrap().for_each(|id| println!("{}", id.unwrap()));
        }
        // As a backup that wants the file for itself, until it is told to stop or killed.
        "lock" => {
            let lock = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE";
            connection.execute_batch(lock).unwrap();
            println!("locked");
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        other => panic!("expected an errand, found {other}"),
    }
    true
}
