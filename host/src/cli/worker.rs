//! `warren worker`

use super::{
    arguments::WorkerCommand,
    error::{CliError, Exit},
    output::Output,
    session::Session,
};
use crate::worker::{Burst, Shutdown, Worker, WorkerReport, signals};

pub(super) async fn run(
    session: Session,
    command: &WorkerCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    let functions = session.functions()?;
    if functions.is_empty() {
        tracing::warn!("no functions are configured: every job will fail as unknown");
    }
    let store = session.store().await?;
    let broker = session.broker().await?;
    if command.check {
        return check(&session, &store, output).await;
    }
    let settings = &session.loaded.config.worker;
    let mut builder = Worker::builder(broker, store)
        .queues(settings.queues.iter().cloned())
        .functions(functions)
        .concurrency(settings.concurrency.into())
        .grace(settings.shutdown_grace)
        .result_ttl(session.loaded.config.result_store.ttl);
    if let Some(prefetch) = settings.prefetch {
        builder = builder.prefetch(prefetch);
    }
    if let Some(name) = &settings.name {
        builder = builder.name(name.as_str());
    }
    if command.burst {
        builder = builder.burst(Burst {
            timeout: command.burst_timeout,
            ..Burst::default()
        });
    }
    let worker = builder.build()?;
    announce(&session, worker.id());
    let shutdown = Shutdown::new();
    let listener = signals::listen(shutdown.clone()).map_err(|error| {
        CliError::new(Exit::Failure, format!("cannot listen to signals: {error}"))
    })?;
    let report = worker.run(shutdown).await?;
    print(&report, output);
    drop(listener);
    Ok(Exit::Ok)
}

fn announce(session: &Session, worker: &str) {
    let config = &session.loaded.config;
    let queues: Vec<&str> = config.worker.queues.iter().map(AsRef::as_ref).collect();
    let functions: Vec<&str> = config.functions.keys().map(String::as_str).collect();
    tracing::info!(
        worker,
        queues = queues.join(","),
        functions = functions.join(","),
        concurrency = config.worker.concurrency,
        store = config.result_store.store_type,
        "worker is ready"
    );
}

async fn check(
    session: &Session,
    store: &crate::store::Store,
    output: &Output,
) -> Result<Exit, CliError> {
    let health = store.health_check().await?;
    if output.json {
        output.print_json(&serde_json::json!({ "broker": "ok", "store": health }));
    } else {
        println!("broker: ok");
        println!(
            "store {}: {}",
            session.loaded.config.result_store.store_type, health.detail
        );
    }
    Ok(Exit::Ok)
}

fn print(report: &WorkerReport, output: &Output) {
    if output.json {
        output.print_json(report);
    } else {
        println!(
            "{} completed, {} failed, {} retried, {} aborted, {} given back",
            report.completed, report.failed, report.retried, report.aborted, report.requeued
        );
    }
}
