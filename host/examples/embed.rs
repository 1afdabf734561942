//! A program with a worker and a client of its own: `cargo run -p warren-host --example embed`.
//!
//! The broker is inside the process, the store is the memory plugin of the build folder
//! (`cargo build --workspace` makes it); with `amqp://` and another store nothing else changes.

use std::time::Duration;

use serde_json::json;
use warren::{
    broker::{Broker, BrokerSettings, QueueName},
    client::{Client, JobRequest},
    function::{FunctionRegistry, JobContext, JobError},
    store::{
        Store, StorePolicy, StoreRegistry,
        plugins::{PluginFolder, load_folders},
    },
    worker::{Shutdown, Worker},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::current_exe()?.with_file_name("..");

    let registry = StoreRegistry::new();
    let report = load_folders(&registry, &[PluginFolder::named(folder)]);
    let store_type = registry.choose("memory", &report.searched)?;
    let store = Store::open_now_or_later(store_type, json!({}), StorePolicy::default()).await?;
    let broker = Broker::connect(&BrokerSettings::new("memory://".parse()?)).await?;

    let mut functions = FunctionRegistry::new();
    functions.register("add", |_job: JobContext, (a, b): (i64, i64)| async move {
        Ok::<_, JobError>(a + b)
    })?;
    let worker = Worker::builder(broker.clone(), store.clone())
        .queues([QueueName::new("default")?])
        .functions(functions)
        .build()?;
    let shutdown = Shutdown::new();
    let running = tokio::spawn(worker.run(shutdown.clone()));

    let client = Client::new(broker, store);
    let job = client.enqueue(JobRequest::new("add").arg(1).arg(2)).await?;
    let record = client.wait(&job.job_id, Duration::from_secs(10)).await?;
    println!("{} {:?}", record.status, record.result);

    shutdown.stop();
    running.await??;
    Ok(())
}
