//! `warren worker`

use std::sync::Arc;

use super::{
    arguments::WorkerCommand,
    error::{CliError, Exit},
    output::Output,
    session::Session,
    spool,
};
use crate::{
    store::Store,
    worker::{Burst, DiskSpool, Shutdown, Worker, WorkerReport, signals},
};

pub(super) async fn run(
    session: Session,
    command: &WorkerCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    let functions = session.functions()?;
    if functions.is_empty() {
        tracing::warn!("no functions are configured: every job will fail as unknown");
    }
    if command.check {
        let (store, _broker) = (session.store().await?, session.broker().await?);
        return check(&store, output).await;
    }
    let store = session.store_now_or_later().await?;
    let broker = session.broker().await?;
    let settings = &session.loaded.config.worker;
    let mut builder = Worker::builder(broker.clone(), store)
        .queues(settings.queues.iter().cloned())
        .functions(functions)
        .concurrency(settings.concurrency.into())
        .grace(settings.shutdown_grace)
        .when_spool_full(settings.spool.when_full)
        .result_ttl(session.loaded.config.result_store.ttl);
    if settings.spool.durable {
        let folder = spool::folder(&session.loaded.config)?;
        let spool = DiskSpool::open(&folder, settings.spool.max_bytes)?;
        spool::warn_of_others(&folder);
        builder = builder.spool(Arc::new(spool));
    }
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
    let shutdown = Shutdown::new();
    let listener = signals::listen(shutdown.clone()).map_err(|error| {
        CliError::new(Exit::Failure, format!("cannot listen to signals: {error}"))
    })?;
    let report = worker.run(shutdown.clone()).await?;
    // The last answers are on their way.
    broker.close().await;
    print(&report, output);
    Ok(match listener.received() {
        Some(signal) if shutdown.is_stopping_now() => Exit::Signalled(signal),
        _ => Exit::Ok,
    })
}

async fn check(store: &Store, output: &Output) -> Result<Exit, CliError> {
    let health = store.health_check().await?;
    if output.json {
        output.print_json(&serde_json::json!({ "broker": "ok", "store": health }));
    } else {
        println!("broker: ok");
        println!("store {}: {}", store.name(), health.detail);
    }
    Ok(Exit::Ok)
}

fn print(report: &WorkerReport, output: &Output) {
    if output.json {
        output.print_json(report);
    } else {
        output.print_line(&format!(
            "{} completed, {} failed, {} retried, {} aborted, {} given back",
            report.completed, report.failed, report.retried, report.aborted, report.requeued
        ));
    }
}
