//! A Redis server of the test's own, to be stopped and started at will.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::eventually;

/// A Redis server that keeps all that it confirmed when it is stopped. Killed when dropped.
#[derive(Debug)]
pub struct PrivateRedis {
    port: u16,
    folder: TempDir,
    server: Option<Child>,
}

/// A port that nobody listens on at this moment.
///
/// # Panics
/// When the system has none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

impl PrivateRedis {
    /// Starts a server.
    ///
    /// # Panics
    /// When `redis-server` is not installed.
    pub fn start() -> Self {
        let mut this = Self {
            port: free_port(),
            folder: tempfile::tempdir().expect("a folder can be made"),
            server: None,
        };
        this.start_again();
        this
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends one command, such as `CONFIG SET maxmemory 1`, words split at spaces.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn command(&self, words: &str) {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        for word in words {
            command.arg(word);
        }
        let client = redis::Client::open(self.url()).expect("the address is one");
        let mut connection = client.get_connection().expect("the private Redis answers");
        command.exec(&mut connection).expect("Redis takes it");
    }

    /// How many keys it holds.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn keys(&self) -> u64 {
        let client = redis::Client::open(self.url()).expect("the address is one");
        let mut connection = client.get_connection().expect("the private Redis answers");
        let size = redis::cmd("DBSIZE").query(&mut connection);
        size.expect("it says how many")
    }

    /// Starts it again after [`stop`](Self::stop), with the data that it had.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        let server = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "yes"])
            // By default a slow disk lets a killed server forget two seconds of what it confirmed.
            .args(["--appendfsync", "always"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: `apt-get install redis-server`");
        self.server = Some(server);
        eventually("the private redis-server answers", || {
            let mut connection = redis::Client::open(self.url())?.get_connection()?;
            redis::cmd("PING").exec(&mut connection)
        });
    }

    /// Stops it; nobody listens on its port any more.
    ///
    /// # Panics
    /// When it is not running.
    pub fn stop(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.kill().expect("it runs");
        server.wait().expect("it is a child");
    }

    /// Makes it accept connections and never answer.
    pub fn hang(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Ends [`hang`](Self::hang).
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("it runs");
        let pid = i32::try_from(server.id()).expect("process ids are small");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
