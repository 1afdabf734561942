//! A RabbitMQ node of the test's own, to be stopped, blocked and asked things.

use std::{
    fs,
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::free_port;

/// Debian's place for the scripts that do not change the user first.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
const START_DEADLINE: Duration = Duration::from_secs(120);

/// A node that keeps its data over a restart. Killed when dropped.
#[derive(Debug)]
pub struct PrivateRabbitMq {
    name: String,
    port: u16,
    distribution_port: u16,
    folder: TempDir,
    server: Option<Child>,
}

impl PrivateRabbitMq {
    /// Starts a node.
    ///
    /// # Panics
    /// When RabbitMQ is not installed or does not start.
    pub fn start() -> Self {
        let port = free_port();
        let mut this = Self {
            name: format!("warren-test-{}-{port}@localhost", std::process::id()),
            port,
            distribution_port: free_port(),
            folder: tempfile::tempdir().expect("a folder can be made"),
            server: None,
        };
        this.start_again();
        this
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address())
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again after [`stop`](Self::stop), with the data that it had.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        let mut command = self.script("rabbitmq-server");
        let server = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The script starts others: they are stopped together.
            .process_group(0)
            .spawn()
            .expect("RabbitMQ is installed: `apt-get install rabbitmq-server`");
        self.server = Some(server);
        let deadline = Instant::now() + START_DEADLINE;
        while TcpStream::connect(self.address()).is_err() {
            assert!(
                Instant::now() < deadline,
                "the private RabbitMQ does not answer; its log: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Stops it: `SIGTERM` lets it finish, `SIGKILL` does not. Nobody listens on its port any more.
    ///
    /// # Panics
    /// When it is not running.
    pub fn stop(&mut self, signal: Signal) {
        let mut server = self.server.take().expect("it runs");
        signal_group(&server, signal);
        server.wait().expect("it is a child");
    }

    /// `rabbitmqctl` on this node.
    ///
    /// # Panics
    /// When it fails.
    pub fn control(&self, arguments: &[&str]) -> String {
        let output = self
            .script("rabbitmqctl")
            .args(["--node", &self.name, "--quiet"])
            .args(arguments)
            .output()
            .expect("rabbitmqctl is beside rabbitmq-server");
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(Path::new(SCRIPTS).join(name));
        command
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", self.path("data"))
            .env("RABBITMQ_LOG_BASE", self.path("log"))
            .env("RABBITMQ_PID_FILE", self.path("pid"))
            .env("RABBITMQ_CONFIG_FILE", self.path("rabbitmq"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.path("plugins"))
            // Idle schedulers sleep: the node shares the machine with what it is tested with.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none")
            // Where the cookie of its own is.
            .env("HOME", self.folder.path());
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        let files = fs::read_dir(self.path("log")).into_iter().flatten();
        let texts = files.flatten().map(|file| {
            let text = fs::read(file.path()).unwrap_or_default();
            String::from_utf8_lossy(&text).into_owned()
        });
        texts.collect()
    }
}

fn signal_group(server: &Child, signal: Signal) {
    let pid = i32::try_from(server.id()).expect("process ids are small");
    // It may have ended already.
    let _ = killpg(Pid::from_raw(pid), signal);
}

impl Drop for PrivateRabbitMq {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal_group(&server, Signal::SIGKILL);
            let _ = server.wait();
        }
    }
}
