//! SecantusDB, a server that speaks MongoDB's protocol, for the tests of the MongoDB store where
//! the environment names no server. It is no MongoDB: what passes on it was proved on it alone.
//!
//! The MongoDB store's own tests take this file in too.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::venv::python_with;

const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// A running server with a folder of its own. It ends with its owner, or with this process.
#[derive(Debug)]
pub struct Secantus {
    port: u16,
    folder: TempDir,
    process: Child,
}

impl Secantus {
    /// Installs it on first use, and starts it with options of `secantusd-py`.
    ///
    /// # Panics
    /// When it cannot be installed or does not start, with what to do about it.
    pub fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let process = spawn(folder.path(), port, options);
        let mut server = Self {
            port,
            folder,
            process,
        };
        server.wait();
        server
    }

    /// Where it listens: `127.0.0.1:12345`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How to reach this one server, whatever replica set it belongs to.
    pub fn url(&self) -> String {
        format!("mongodb://{}/?directConnection=true", self.address())
    }

    /// Kills it, as a power cut would.
    ///
    /// # Panics
    /// When the system does not let a process kill its child.
    pub fn kill(&mut self) {
        self.process.kill().expect("a child can be killed");
        self.process.wait().expect("it is a child");
    }

    /// Starts it again, on its port and with its data.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_again(&mut self, options: &[&str]) {
        self.process = spawn(self.folder.path(), self.port, options);
        self.wait();
    }

    fn wait(&mut self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.try_wait().expect("it is a child");
            assert!(ended.is_none(), "SecantusDB ended: {ended:?}");
            assert!(
                started.elapsed() < STARTS_WITHIN,
                "SecantusDB does not answer on port {}",
                self.port
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Secantus {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &Path, port: u16, options: &[&str]) -> Child {
    Command::new(python_with(&file("requirements.txt"), "secantus-python"))
        .arg(file("server.py"))
        .arg(folder)
        .args(["--port", &port.to_string(), "--cache-size", "256M"])
        .args(["--log-level", "ERROR"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a Python that was made can be started")
}

/// A file of `tests/mongodb`.
fn file(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = here.join("mongodb").join(name);
    if beside.is_file() {
        return beside;
    }
    here.join("../../tests/mongodb").join(name)
}
