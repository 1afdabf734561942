//! One test's own corner of the world: a queue, a prefix of keys, a configuration file.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    DEADLINE, PrivateRedis, RabbitMq, Ran, WorkerProcess, eventually, fixtures::files_store_folder,
    warren,
};

/// The RabbitMQ of the tests.
pub fn amqp_url() -> String {
    std::env::var("WARREN_TEST_AMQP_URL")
        .unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// The Redis of the tests.
pub fn redis_url() -> String {
    std::env::var("WARREN_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379/0".to_owned())
}

/// A name that no other test has.
///
/// # Panics
/// When the clock is before 1970.
pub fn unique(name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanoseconds = now.expect("it is after 1970").as_nanos();
    format!("warren-test-{name}-{}-{nanoseconds:x}", std::process::id())
}

/// `[functions.<name>]` for a shell script, run once.
pub fn command(name: &str, script: &str) -> String {
    format!(
        "[functions.{name}]\ncommand = [\"sh\", \"-c\", {script:?}]\nretry = {{ limit = 0 }}\n\n"
    )
}

/// A configuration, and everything that is run with it. Cleans up when dropped.
#[derive(Debug)]
pub struct System {
    folder: TempDir,
    /// The only queue.
    pub queue: String,
    prefix: String,
    rabbitmq: OnceLock<RabbitMq>,
    redis_url: Option<String>,
    has_queue: bool,
}

impl System {
    /// RabbitMQ, Redis and these functions.
    pub fn new(functions: &str) -> Self {
        Self::on(&amqp_url(), &redis_url(), functions)
    }

    /// A broker, a Redis and functions of the test's choice.
    pub fn on(broker_url: &str, redis_url: &str, functions: &str) -> Self {
        let queue = unique("system");
        Self::of(queue.clone(), queue, broker_url, redis_url, functions)
    }

    /// With the prefix of keys that rabbitmq-arq has, on a Redis that is the test's own.
    pub fn beside_python(redis: &PrivateRedis, functions: &str) -> Self {
        let (queue, prefix) = (unique("interop"), "rabbitmq_arq".to_owned());
        Self::of(queue, prefix, &amqp_url(), &redis.url(), functions)
    }

    fn of(
        queue: String,
        prefix: String,
        broker_url: &str,
        redis_url: &str,
        functions: &str,
    ) -> Self {
        let config = format!(
            "[broker]\nurl = {broker_url:?}\n\n\
             [worker]\nqueues = [{queue:?}]\nconcurrency = 4\n\n\
             [result_store]\ntype = \"redis\"\n\n\
             [result_store.config]\nredis_url = {redis_url:?}\nkey_prefix = {prefix:?}\n\n\
             {functions}"
        );
        let mut this = Self::with_config(&config);
        (this.queue, this.prefix) = (queue, prefix);
        this.redis_url = Some(redis_url.to_owned());
        this.has_queue = true;
        this
    }

    /// A broker and a store that announces nothing: records are files in this system's folder.
    pub fn on_files(broker_url: &str, functions: &str) -> Self {
        let queue = unique("files");
        let plugins = files_store_folder();
        let config = format!(
            "[broker]\nurl = {broker_url:?}\n\n\
             [worker]\nqueues = [{queue:?}]\nconcurrency = 4\n\n\
             [result_store]\ntype = \"files\"\n\n\
             [result_store.config]\npath = \"records\"\n\n\
             [plugins]\ndirs = [{plugins:?}]\n\n\
             {functions}"
        );
        let mut this = Self::with_config(&config);
        (this.queue, this.has_queue) = (queue, true);
        this
    }

    /// This configuration file and nothing else. Needs no server.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn with_config(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        fs::write(folder.path().join("warren.toml"), config).expect("it can be written to");
        Self {
            folder,
            queue: unique("system"),
            prefix: String::new(),
            rabbitmq: OnceLock::new(),
            redis_url: None,
            has_queue: false,
        }
    }

    /// The broker, for raw messages.
    pub fn rabbitmq(&self) -> &RabbitMq {
        self.rabbitmq.get_or_init(RabbitMq::connect)
    }

    /// A file in the folder where everything runs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a job wrote into a file of this folder, once it has.
    ///
    /// # Panics
    /// When it does not.
    pub fn awaits_file(&self, name: &str) -> String {
        eventually(&format!("the file {name}"), || {
            match fs::read_to_string(self.path(name)) {
                Ok(text) if text.ends_with('\n') => Ok(text.trim().to_owned()),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// Makes a file, for a job that waits for it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn touch(&self, name: &str) {
        fs::write(self.path(name), "").expect("it can be written");
    }

    /// The program in this folder, with nothing of the test's own environment for it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(warren());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WARREN") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.folder.path())
            // Spools belong to the test too, not to the user's home.
            .env("STATE_DIRECTORY", self.folder.path());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments))
    }

    /// Runs it with these environment variables.
    pub fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        run(command)
    }

    /// Sends a job to the queue and returns its id.
    pub fn enqueue(&self, arguments: &[&str]) -> String {
        let mut all = vec!["enqueue", "--queue", &self.queue];
        all.extend(arguments);
        self.run(&all).expect(0).line().to_owned()
    }

    /// A worker that has begun to consume.
    pub fn worker(&self, arguments: &[&str]) -> WorkerProcess {
        let mut worker = self.start_worker(arguments);
        worker.logs("worker started");
        worker
    }

    /// A worker, however far it comes.
    pub fn start_worker(&self, arguments: &[&str]) -> WorkerProcess {
        let mut all = vec!["worker"];
        all.extend(arguments);
        WorkerProcess::spawn(self.command(&all))
    }

    /// What is known of a job, if anything.
    pub fn job(&self, job_id: &str) -> Option<Value> {
        let ran = self.run(&["job", "get", job_id, "--json"]);
        match ran.code {
            6 => None,
            _ => Some(ran.expect(0).json()),
        }
    }

    /// Waits until a job has a status, and returns its record.
    ///
    /// # Panics
    /// When it does not get there.
    pub fn awaits_status(&self, job_id: &str, status: &str) -> Value {
        eventually(&format!("job {job_id} is {status}"), || {
            match self.job(job_id) {
                Some(job) if job["status"] == status => Ok(job),
                other => Err(other.map_or_else(|| "unknown".to_owned(), |job| job.to_string())),
            }
        })
    }

    /// The dead-letter queue.
    pub fn dead_letters(&self) -> String {
        format!("{}.dlq", self.queue)
    }

    /// Deletes every key that the test has made.
    fn delete_keys(&self) -> redis::RedisResult<()> {
        let Some(redis_url) = &self.redis_url else {
            return Ok(());
        };
        let mut connection = redis::Client::open(redis_url.as_str())?.get_connection()?;
        let pattern = format!("{}:*", self.prefix);
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut connection)?;
        if keys.is_empty() {
            return Ok(());
        }
        redis::cmd("DEL").arg(keys).exec(&mut connection)
    }
}

fn run(command: Command) -> Ran {
    let output = assert_cmd::Command::from_std(command)
        .timeout(2 * DEADLINE)
        .output()
        .expect("the program runs");
    output.into()
}

impl Drop for System {
    fn drop(&mut self) {
        if self.has_queue {
            self.rabbitmq().delete(&[
                self.queue.clone(),
                self.dead_letters(),
                format!("delay.{}", self.queue),
            ]);
        }
        // A private server may be gone, and its keys with it.
        let _ = self.delete_keys();
    }
}
