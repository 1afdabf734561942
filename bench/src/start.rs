//! How soon a started program does its work: `warren worker` and `warren job get`, as processes,
//! with every plugin in their folder.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};
use warren::{
    broker::{Broker, QueueName},
    client::{Client, JobRequest},
};
use warren_plugin_api::Timestamp;

use crate::{
    error::{BenchError, ensure},
    figures::{Measure, Unit},
    options::{Options, StoreKind},
    plugins, scale,
    servers::{self, Servers},
};

const GIVE_UP: Duration = Duration::from_secs(30);

/// Measures `--rounds` starts.
pub(crate) async fn measure(
    options: &Options,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    let warren = plugins::program_with_all_plugins()?;
    let found = plugins::count_beside(&warren);
    let sides = ["warren worker, to its first job", "warren job get"];
    let mut starting = Measure::new("start", Unit::Microseconds, &sides).not_compared();
    starting.note(
        0,
        format!("{found} plugins in the folder; the job waits already"),
    );
    starting.note(1, "from its start to its end");
    let mut memory =
        Measure::new("start: memory", Unit::Kibibytes, &["idle warren worker"]).not_compared();

    let broker = Broker::connect(&servers.broker_settings()?).await?;
    let store = plugins::open_guarded(StoreKind::Redis, servers).await?;
    let client = Client::new(broker.clone(), store.clone());
    let connection = servers.amqp().await?;
    let queue = servers.queue(&connection.create_channel().await?).await?;
    let config = Config::write(servers, &queue)?;
    for round in 1..=options.rounds() {
        eprintln!("start: round {round} of {}", options.rounds());
        let request = JobRequest::new("echo").queue(queue.as_str());
        let job_id = client.enqueue(request).await?.job_id;
        let began = Timestamp::now();
        let worker = Running::start(&warren, &config.0)?;
        let record = client.wait(&job_id, GIVE_UP).await?;
        let started_at = record.started_at.unwrap_or(Timestamp::MAX);
        let took = started_at.saturating_duration_since(began);
        starting.add(0, took.as_secs_f64() * 1e6);
        tokio::time::sleep(Duration::from_millis(200)).await;
        memory.add(0, scale::resident_kib(worker.0.id().unwrap_or_default())?);
        starting.add(1, job_get(&warren, &config.0, &job_id).await?);
        worker.end().await?;
    }
    broker.close().await;
    store.close().await?;
    servers::close(&connection).await;
    servers.delete_queue(&queue).await?;
    servers.delete_keys().await?;
    Ok(vec![starting, memory])
}

async fn job_get(warren: &Path, config: &Path, job_id: &str) -> Result<f64, BenchError> {
    let began = Instant::now();
    let output = Command::new(warren)
        .args(["job", "get", job_id, "--json", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(BenchError::Process)?;
    let took = began.elapsed();
    ensure("the end of `warren job get`", output.status.code(), Some(0))?;
    Ok(took.as_secs_f64() * 1e6)
}

/// A configuration file; deleted when dropped.
struct Config(PathBuf);

impl Config {
    fn write(servers: &Servers, queue: &QueueName) -> Result<Self, BenchError> {
        let file = std::env::temp_dir().join(format!("{}.toml", servers.key_prefix()));
        let text = format!(
            "[broker]\nurl = {:?}\n\n[worker]\nqueues = [{:?}]\n\n[result_store]\ntype = {:?}\n\n\
             [result_store.config]\nredis_url = {:?}\nkey_prefix = {:?}\n\n\
             [functions.echo]\ncommand = [\"cat\"]\n",
            servers.amqp_url(),
            queue.as_str(),
            StoreKind::Redis.name(),
            servers.redis_url(),
            servers.key_prefix(),
        );
        std::fs::write(&file, text).map_err(|error| BenchError::Write {
            file: file.clone(),
            error,
        })?;
        Ok(Self(file))
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // It lies in a folder for what may be deleted.
        let _ = std::fs::remove_file(&self.0);
    }
}

struct Running(Child);

impl Running {
    fn start(warren: &Path, config: &Path) -> Result<Self, BenchError> {
        let child = Command::new(warren)
            .args(["worker", "--config"])
            .arg(config)
            .env("WARREN_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::Process)?;
        Ok(Self(child))
    }

    /// It has nothing to do: killing it loses nothing.
    async fn end(mut self) -> Result<(), BenchError> {
        self.0.kill().await.map_err(BenchError::Process)
    }
}
