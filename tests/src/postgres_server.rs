//! A PostgreSQL server for the tests, where the environment names none. Only the programs need to
//! be installed.

use std::{
    ffi::OsString,
    fs, iter,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use nix::unistd::Uid;
use tempfile::TempDir;

use crate::free_port;

/// The database of `WARREN_TEST_POSTGRES_URL`, or that of a server which is started now and ends
/// with this process.
///
/// # Panics
/// When PostgreSQL is not installed.
pub fn postgres_url() -> String {
    static STARTED: OnceLock<PrivatePostgres> = OnceLock::new();
    std::env::var("WARREN_TEST_POSTGRES_URL").unwrap_or_else(|_| {
        let started = STARTED.get_or_init(PrivatePostgres::start);
        format!("postgresql://postgres@127.0.0.1:{}/postgres", started.port)
    })
}

struct PrivatePostgres {
    port: u16,
    _folder: TempDir,
    /// Stops the server when its input ends, and that ends with this process.
    _guard: Child,
}

impl PrivatePostgres {
    fn start() -> Self {
        let (programs, port) = (programs(), free_port());
        let folder = tempfile::tempdir().expect("a folder can be made");
        // The server may be another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))
            .expect("the folder is ours");
        let at = folder.path().display();
        let pg_ctl = format!("{}/pg_ctl -D {at}/data", programs.display());
        let guard = Command::new("sh")
            .arg("-c")
            .arg(format!("cat; $0 \"$@\"; rm -rf {at}"))
            .args(parts(&shell(&format!("{pg_ctl} -m immediate stop"))))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        let started = shell(&format!(
            "{}/initdb -D {at}/data -U postgres -A trust -E UTF8 --locale=C --no-sync && \
             {pg_ctl} -l {at}/log -w -t 60 start -o '-p {port} -c listen_addresses=127.0.0.1 \
             -c unix_socket_directories={at} -c fsync=off -c max_connections=300'",
            programs.display()
        ))
        .output()
        .expect("a shell can be started");
        assert!(
            started.status.success(),
            "no PostgreSQL: {}{}",
            String::from_utf8_lossy(&started.stdout),
            String::from_utf8_lossy(&started.stderr)
        );
        Self {
            port,
            _folder: folder,
            _guard: guard,
        }
    }
}

/// A line of shell, not as root: PostgreSQL refuses that.
fn shell(line: &str) -> Command {
    let mut command;
    if Uid::effective().is_root() {
        command = Command::new("su");
        command.args(["postgres", "-s", "/bin/sh"]);
    } else {
        command = Command::new("sh");
    }
    command.args(["-c", line]).current_dir("/");
    command
}

/// A command as the words it consists of.
fn parts(command: &Command) -> Vec<OsString> {
    iter::once(command.get_program())
        .chain(command.get_args())
        .map(ToOwned::to_owned)
        .collect()
}

/// The newest that is installed: Debian keeps the server's programs out of the path.
fn programs() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = installed
        .filter_map(|entry| {
            let programs = entry.ok()?.path().join("bin");
            let version: u32 = programs.parent()?.file_name()?.to_str()?.parse().ok()?;
            programs
                .join("initdb")
                .is_file()
                .then_some((version, programs))
        })
        .max();
    if let Some((_, programs)) = newest {
        return programs;
    }
    let asked = Command::new("pg_config").arg("--bindir").output();
    let asked = asked.expect("PostgreSQL is installed: `apt-get install postgresql`");
    Path::new(String::from_utf8_lossy(&asked.stdout).trim()).to_owned()
}
