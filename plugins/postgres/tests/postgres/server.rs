//! A PostgreSQL server of a test's own. Only the programs need to be installed.

use std::{
    ffi::OsString,
    fs, iter,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

const POOLER_STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Stopped when dropped, or when the tests' process ends, however it does.
pub(crate) struct PrivateServer {
    pub(crate) port: u16,
    folder: TempDir,
    /// Ends with the process that holds it.
    guard: Option<Child>,
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The newest server that is installed: Debian keeps the programs out of the path.
fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let version = folder.file_name()?.to_str()?.parse().ok()?;
            Some((version, folder.join("bin")))
        })
        .filter(|(_, programs)| programs.join("initdb").exists())
        .collect();
    found.sort();
    match found.pop() {
        Some((_, programs)) => programs,
        None => {
            let found = Command::new("pg_config").arg("--bindir").output();
            let found = found.expect("the tests need a server: `apt-get install postgresql`");
            PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
        }
    }
}

/// Runs a shell line; PostgreSQL refuses to be root.
fn shell(line: &str) -> Command {
    static IS_ROOT: OnceLock<bool> = OnceLock::new();
    let asked = || Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let mut command;
    if *IS_ROOT.get_or_init(asked) {
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

fn run(line: &str) -> Output {
    shell(line).output().unwrap()
}

fn run_well(line: &str) {
    let output = run(line);
    assert!(
        output.status.success(),
        "{line}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

impl PrivateServer {
    /// Starts a server with `settings`, as in `postgresql.conf`, that trusts everybody.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let server = Self::prepare(settings);
        server.start_again();
        server
    }

    /// One for all tests that need no other.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<PrivateServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["max_connections = 300"]))
    }

    fn in_new_folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(folder.path(), everybody).unwrap();
        let mut server = Self {
            port: free_port(),
            folder,
            guard: None,
        };
        let guard = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "cat; $0 \"$@\"; rm -rf {}",
                server.folder.path().display()
            ))
            .args(parts(&shell(&format!(
                "{}; kill $(cat {})",
                server.pg_ctl_line("-m immediate stop"),
                server.pooler_file("pid").display()
            ))))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        server.guard = Some(guard.unwrap());
        server
    }

    pub(crate) fn prepare(settings: &[&str]) -> Self {
        let server = Self::in_new_folder();
        let outside = server.folder.path().display();
        run_well(&format!(
            "{}/initdb -D {} -U postgres -A trust -E UTF8 --locale=C --no-sync",
            programs().display(),
            server.data().display()
        ));
        let mut lines = vec![
            format!("port = {}", server.port),
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("unix_socket_directories = '{outside}'"),
            "fsync = off".to_owned(),
            "shared_buffers = 16MB".to_owned(),
        ];
        lines.extend(settings.iter().map(|&setting| setting.to_owned()));
        server.set(&lines.join("\n"));
        server
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// More settings; later ones count.
    pub(crate) fn set(&self, settings: &str) {
        self.append("postgresql.conf", settings);
    }

    /// Who may log in how, instead of everybody.
    pub(crate) fn allow(&self, rules: &str) {
        run_well(&format!(
            "printf '%s\\n' '{rules}' > {}/pg_hba.conf",
            self.data().display()
        ));
    }

    /// A file of the server's own, which only it may read.
    pub(crate) fn keep(&self, name: &str, content: &str) -> PathBuf {
        let path = self.data().join(name);
        run_well(&format!(
            "umask 077; printf '%s' '{content}' > {}",
            path.display()
        ));
        path
    }

    fn append(&self, file: &str, lines: &str) {
        let lines = lines.replace('\'', "'\\''");
        run_well(&format!(
            "printf '%s\\n' '{lines}' >> {}/{file}",
            self.data().display()
        ));
    }

    pub(crate) fn url(&self) -> String {
        self.url_as("postgres", "postgres")
    }

    pub(crate) fn url_as(&self, login: &str, database: &str) -> String {
        format!("postgresql://{login}@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn start_again(&self) {
        self.pg_ctl("-w -t 60 start");
    }

    /// At once, as after a crash.
    pub(crate) fn stop(&self) {
        self.pg_ctl("-w -m immediate stop");
    }

    pub(crate) fn reload(&self) {
        self.pg_ctl("reload");
    }

    fn pg_ctl(&self, what: &str) {
        run_well(&self.pg_ctl_line(what));
    }

    fn pg_ctl_line(&self, what: &str) -> String {
        format!(
            "{}/pg_ctl -D {} -l {}/log {what}",
            programs().display(),
            self.data().display(),
            self.folder.path().display()
        )
    }

    fn pooler_file(&self, ending: &str) -> PathBuf {
        self.folder.path().join(format!("pgbouncer.{ending}"))
    }

    /// Starts a pooler before the server, whose clients share connections between transactions.
    /// It ends with the server.
    pub(crate) fn pooler(&self) -> String {
        let port = free_port();
        let ini = format!(
            "[databases]\npostgres = user=postgres host=127.0.0.1 port={}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 200\n\
             unix_socket_dir =\nlogfile = {}\npidfile = {}\n",
            self.port,
            self.pooler_file("log").display(),
            self.pooler_file("pid").display()
        );
        fs::write(self.pooler_file("ini"), ini).unwrap();
        run_well(&format!(
            "PATH=$PATH:/usr/sbin; command -v pgbouncer >/dev/null || \
             {{ echo 'the tests need a pooler: apt-get install pgbouncer'; exit 1; }}; \
             pgbouncer -d {}",
            self.pooler_file("ini").display()
        ));
        // It returns before it listens.
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < POOLER_STARTS_WITHIN, "no pooler starts");
            sleep(Duration::from_millis(20));
        }
        format!("postgresql://postgres@127.0.0.1:{port}/postgres")
    }

    /// To a process of the server.
    pub(crate) fn signal(&self, signal: &str, process: i32) {
        run_well(&format!("kill {signal} {process}"));
    }

    /// A second server that follows this one, and may be promoted.
    pub(crate) fn standby(&self) -> Self {
        let standby = Self::in_new_folder();
        run_well(&format!(
            "{}/pg_basebackup -h 127.0.0.1 -p {} -U postgres -D {} -R --no-sync -c fast",
            programs().display(),
            self.port,
            standby.data().display()
        ));
        standby.set(&format!(
            "port = {}\nunix_socket_directories = '{}'",
            standby.port,
            standby.folder.path().display()
        ));
        standby.start_again();
        standby
    }

    pub(crate) fn promote(&self) {
        self.pg_ctl("-w promote");
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}
