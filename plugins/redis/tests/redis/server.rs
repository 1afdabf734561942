//! A Redis server of a test's own.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::support::eventually;

/// Killed when dropped.
pub(crate) struct PrivateServer {
    pub(crate) port: u16,
    folder: TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl PrivateServer {
    /// Starts a server with `options`, as in `redis.conf`, over a file that survives restarts.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let mut server = Self::prepare(options);
        server.start_again().await;
        server
    }

    pub(crate) fn prepare(options: &[&str]) -> Self {
        Self {
            port: free_port(),
            folder: tempfile::tempdir().unwrap(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            process: None,
        }
    }

    /// More options; later ones count.
    pub(crate) fn with(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    pub(crate) async fn start_again(&mut self) {
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "always"])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server cannot be started: `apt-get install redis-server`");
        self.process = Some(process);
        eventually("the private redis-server listens", async || {
            if self.options.iter().any(|option| option == "--unixsocket") {
                return std::os::unix::net::UnixStream::connect(self.socket())
                    .ok()
                    .map(drop);
            }
            let tls = self
                .options
                .iter()
                .position(|option| option == "--tls-port");
            let port = tls.map_or(self.port, |at| self.options[at + 1].parse().unwrap());
            std::net::TcpStream::connect(("127.0.0.1", port))
                .ok()
                .map(drop)
        })
        .await;
    }

    pub(crate) fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
