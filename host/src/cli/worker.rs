//! `warren worker`

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::Serialize;
use tokio_util::task::AbortOnDropHandle;

use super::{
    arguments::WorkerCommand,
    error::{CliError, Exit},
    output::Output,
    session::Session,
    spool,
};
use crate::{
    store::{Store, StoreReport},
    worker::{Burst, DiskSpool, HealthServer, Shutdown, Worker, WorkerReport, signals},
};

const FIGURES_EVERY: Duration = Duration::from_secs(5);

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
    // First: whoever starts the worker is to hear at once that the port is taken, and a probe that
    // comes early gets an answer.
    let health = serve_health(session.loaded.config.worker.health.listen).await?;
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
    if let Some((server, _)) = &health {
        server.show(worker.health());
    }
    let stats = worker.stats();
    let shutdown = Shutdown::new();
    let listener = signals::listen(shutdown.clone()).map_err(|error| {
        CliError::new(Exit::Failure, format!("cannot listen to signals: {error}"))
    })?;
    let figures = AbortOnDropHandle::new(tokio::spawn(log_figures()));
    return_free_memory();
    let report = worker.run(shutdown.clone()).await?;
    drop((figures, health));
    // The last answers are on their way.
    broker.close().await;
    print(&report, stats.store(), output);
    Ok(match listener.received() {
        Some(signal) if shutdown.is_stopping_now() => Exit::Signalled(signal),
        _ => Exit::Ok,
    })
}

/// Reading the command line, the configuration and a store's schema takes memory that the worker
/// never needs again and that glibc would keep: a third of what it has of its own when it is idle.
#[allow(unsafe_code, reason = "libc's functions are all marked unsafe")]
fn return_free_memory() {
    // SAFETY: it takes no pointer, and locks what it works on.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    let _ = unsafe { nix::libc::malloc_trim(0) };
}

/// What a leak would show in, for whoever asks for it with `--log-level warren::runtime=debug`.
async fn log_figures() {
    loop {
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        tracing::debug!(target: "warren::runtime", tasks, "running");
        tokio::time::sleep(FIGURES_EVERY).await;
    }
}

async fn check(store: &Store, output: &Output) -> Result<Exit, CliError> {
    let health = store.health_check().await?;
    if output.json {
        output.print_json(&serde_json::json!({ "broker": "ok", "store": health }));
    } else {
        println!("broker: ok");
        println!("store {}: {}", store.name(), health.detail);
        for warning in &health.warnings {
            eprintln!("warning: {warning}");
        }
    }
    Ok(Exit::Ok)
}

/// Serves health and metrics at `address`, until what is returned is dropped.
async fn serve_health(
    address: Option<SocketAddr>,
) -> Result<Option<(HealthServer, AbortOnDropHandle<()>)>, CliError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let server = HealthServer::bind(address).await?;
    // The system has chosen the port if it was asked to.
    let address = server.address().unwrap_or(address);
    tracing::info!(%address, "health and metrics are served");
    let serving = AbortOnDropHandle::new(tokio::spawn(server.clone().serve()));
    Ok(Some((server, serving)))
}

fn print(report: &WorkerReport, store: Option<StoreReport>, output: &Output) {
    if output.json {
        output.print_json(&Printed { report, store });
        return;
    }
    output.print_line(&format!(
        "{} completed, {} failed, {} retried, {} aborted, {} given back",
        report.completed, report.failed, report.retried, report.aborted, report.requeued
    ));
    if let Some(store) = store {
        print_trouble(&store, &store.store_type, output);
    }
}

/// A line for each store that was in trouble.
fn print_trouble(store: &StoreReport, name: &str, output: &Output) {
    if let Some(breaker) = &store.breaker
        && breaker.opened + store.calls_timed_out + store.calls_busy > 0
    {
        output.print_line(&format!(
            "store {name}: breaker {}; opened: {}, calls refused meanwhile: {}, timed out: {}, not \
             in turn: {}",
            breaker.state.as_str(),
            breaker.opened,
            breaker.refused,
            store.calls_timed_out,
            store.calls_busy
        ));
    }
    for member in &store.members {
        let part = member.part.as_deref().unwrap_or_default();
        let name = format!("{name}/{part} ({})", member.store_type);
        print_trouble(member, &name, output);
    }
}

#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    report: &'a WorkerReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<StoreReport>,
}
