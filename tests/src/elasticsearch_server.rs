//! osmem-server, an emulator of OpenSearch 3.8.0, for the tests of the Elasticsearch store where
//! the environment names no cluster. What passes on it was proved on it alone: documents are found
//! by a search at once, it has no shards, no users and no TLS.

use std::{
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use crate::{eventually_true, free_port, venv::python_with};

/// The cluster of `WARREN_TEST_ELASTICSEARCH_URL`, `https://user:password@host:9200`, or an
/// emulator that is started now and ends with this process.
///
/// # Panics
/// When the emulator cannot be installed or started.
pub fn elasticsearch_url() -> String {
    static STARTED: OnceLock<Osmem> = OnceLock::new();
    std::env::var("WARREN_TEST_ELASTICSEARCH_URL")
        .unwrap_or_else(|_| STARTED.get_or_init(Osmem::start).url())
}

/// A running emulator, which keeps its documents in memory. It ends with its owner, or with this
/// process.
#[derive(Debug)]
pub struct Osmem {
    port: u16,
    process: Child,
}

impl Osmem {
    /// Installs it on first use, and starts it.
    ///
    /// # Panics
    /// When it cannot be installed or does not start, with what to do about it.
    pub fn start() -> Self {
        let port = free_port();
        let this = Self {
            port,
            process: spawn(port),
        };
        this.wait();
        this
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills it, with everything that it holds.
    ///
    /// # Panics
    /// When the system does not let a process kill its child.
    pub fn kill(&mut self) {
        self.process.kill().expect("a child can be killed");
        self.process.wait().expect("it is a child");
    }

    /// Starts it again on its port, empty.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_again(&mut self) {
        self.process = spawn(self.port);
        self.wait();
    }

    fn wait(&self) {
        eventually_true("osmem-server answers", || {
            TcpStream::connect_timeout(&([127, 0, 0, 1], self.port).into(), Duration::from_secs(1))
                .is_ok()
        });
    }
}

impl Drop for Osmem {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// It ends when its input does, and that ends with this process.
fn spawn(port: u16) -> Child {
    Command::new(program())
        .args(["-addr", &format!("127.0.0.1:{port}"), "-no-ja"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("osmem-server was installed")
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<std::path::PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let requirements =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("elasticsearch/requirements.txt");
        let python = python_with(&requirements, "osmem-python");
        let folder = Command::new(python)
            .args(["-c", "import osmem_server; print(osmem_server.__path__[0])"])
            .output()
            .expect("a Python that was made can be started");
        let folder = String::from_utf8_lossy(&folder.stdout).trim().to_owned();
        Path::new(&folder).join("bin/osmem-server")
    })
}
