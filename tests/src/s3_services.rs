//! Services with the API of S3, for the tests of the S3 store: SeaweedFS, a real server, and moto,
//! an emulator that takes any signature. Started on ports of their own.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{DEADLINE, eventually, free_port, venv::python_with};

/// The bucket that is there.
pub const S3_BUCKET: &str = "warren-jobs";
/// What SeaweedFS knows; moto asks for nothing.
pub const S3_ACCESS_KEY_ID: &str = "warren-key";
/// Belongs to [`S3_ACCESS_KEY_ID`].
pub const S3_SECRET_ACCESS_KEY: &str = "open-sesame";

const SEAWEEDFS_STARTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(50);

/// A running service, which ends with its owner, or with this process.
#[derive(Debug)]
pub struct S3Service {
    port: u16,
    folder: TempDir,
    /// Kills the server when its input ends.
    guard: Child,
}

impl S3Service {
    /// Installs SeaweedFS on first use and starts it, with [`S3_BUCKET`].
    ///
    /// # Panics
    /// When it cannot be installed or does not start.
    pub fn seaweedfs() -> Self {
        // Of its eight ports another program may take one before it does; it then ends.
        let mut seen = String::new();
        for _ in 0..SEAWEEDFS_STARTS {
            match Self::start_seaweedfs() {
                Ok(this) => return this,
                Err(instead) => seen = instead,
            }
        }
        panic!("SeaweedFS takes no requests: {seen}");
    }

    fn start_seaweedfs() -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let identities = format!(
            r#"{{"identities": [{{"name": "warren", "actions": ["Admin"], "credentials": [{{
                "accessKey": "{S3_ACCESS_KEY_ID}", "secretKey": "{S3_SECRET_ACCESS_KEY}"}}]}}]}}"#
        );
        let known = folder.path().join("identities.json");
        fs::write(&known, identities).expect("the folder can be written to");
        let [master, master_grpc, volume, volume_grpc, filer, filer_grpc] =
            std::array::from_fn(|_| free_port());
        let [port, port_grpc] = std::array::from_fn(|_| free_port());
        let mut server = Command::new(program("weed"));
        server
            .args(["-logtostderr=false", "server", "-ip=127.0.0.1"])
            .args(["-ip.bind=127.0.0.1", "-filer", "-s3", "-volume.max=20"])
            .args([
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-master.volumeSizeLimitMB=64",
            ])
            .args(["-s3.allowDeleteBucketNotEmpty=false", "-metricsPort=0"])
            .arg(format!("-dir={}", folder.path().display()))
            .arg(format!("-s3.config={}", known.display()))
            .arg(format!("-master.port={master}"))
            .arg(format!("-master.port.grpc={master_grpc}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-volume.port.grpc={volume_grpc}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-filer.port.grpc={filer_grpc}"))
            .arg(format!("-s3.port={port}"))
            .arg(format!("-s3.port.grpc={port_grpc}"));
        let this = Self {
            port,
            folder,
            guard: guarded(server),
        };
        // A bucket is a folder of the server's files.
        answers_with(" 201", || {
            ask(filer, "POST", &format!("/buckets/{S3_BUCKET}/"))
        })?;
        // Without a signature.
        answers_with(" 403", || ask(port, "GET", &format!("/{S3_BUCKET}")))?;
        Ok(this)
    }

    /// Installs moto on first use and starts it, with [`S3_BUCKET`].
    ///
    /// # Panics
    /// When it cannot be installed or does not start.
    pub fn moto() -> Self {
        let port = free_port();
        let mut server = Command::new(program("moto_server"));
        server.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let this = Self {
            port,
            folder: tempfile::tempdir().expect("a folder can be made"),
            guard: guarded(server),
        };
        eventually("moto makes a bucket", || {
            let line = ask(port, "PUT", &format!("/{S3_BUCKET}"))?;
            if line.contains(" 200") {
                Ok(())
            } else {
                Err(line)
            }
        });
        this
    }

    /// `127.0.0.1:12345`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:12345`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for S3Service {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The server ends when the guard's input does: SeaweedFS takes half a minute to stop when asked.
fn guarded(server: Command) -> Child {
    Command::new("sh")
        .args(["-c", "\"$0\" \"$@\" & server=$!; cat; kill -9 $server"])
        .arg(server.get_program())
        .args(server.get_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell can be started")
}

fn program(name: &str) -> PathBuf {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    let python = INSTALLED.get_or_init(|| {
        let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("s3/requirements.txt");
        python_with(&requirements, "s3-python")
    });
    python.with_file_name(name)
}

/// Asks until the first line of the answer has this in it; the line that was seen last when it is
/// given up.
fn answers_with(
    wanted: &str,
    mut ask: impl FnMut() -> Result<String, String>,
) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let line = ask().unwrap_or_else(|error| error);
        if line.contains(wanted) {
            return Ok(());
        }
        if started.elapsed() > DEADLINE {
            return Err(line);
        }
        sleep(PAUSE);
    }
}

/// The first line of an answer.
fn ask(port: u16, method: &str, path: &str) -> Result<String, String> {
    let asked = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = asked().map_err(|error: std::io::Error| error.to_string())?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
