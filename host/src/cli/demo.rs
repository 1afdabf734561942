//! `warren demo`: real jobs through a real worker and a store loaded from a file, all in this
//! process.

use std::{path::Path, time::Duration};

use serde_json::json;
use warren_plugin_api::Record;

use super::{
    arguments::{DemoCommand, GlobalArguments},
    error::{CliError, Exit},
    output::{Output, RECORD_COLUMNS, record_json, record_row},
    session::{DEFAULT_FILE, named_plugin_folders, plugin_folders, start_log},
};
use crate::{
    broker::{Broker, BrokerSettings, QueueName},
    client::{Client, IfExists, JobRequest},
    config::LogConfig,
    function::{FunctionPolicy, FunctionRegistry, JobContext, JobError, Retry},
    job::RetryPolicy,
    store::{Origin, Store, StorePolicy, StoreRegistry, StoreType, plugins::load_folders},
    worker::{Shutdown, Worker},
};

const QUEUE: &str = "demo";
const LONGEST: Duration = Duration::from_secs(120);
/// The table shows no more than this.
const SHOWN: usize = 24;

pub(super) async fn run(
    global: &GlobalArguments,
    command: &DemoCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    let level = global
        .log_level
        .clone()
        .unwrap_or_else(|| "error".to_owned());
    start_log(&LogConfig {
        level,
        ..LogConfig::default()
    })?;
    let store = open_store(global, command.store.as_deref()).await?;
    let look_again = second_terminal(global, &store);
    let broker = Broker::connect(&BrokerSettings::new("memory://demo".parse()?)).await?;
    let queue = super::queue::queue_name(QUEUE)?;
    broker.declare(&queue).await?;
    let client = Client::new(broker.clone(), store.clone());
    let worker = worker(broker, store, queue)?;
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let working = tokio::spawn(async move { worker.run(shutdown).await });
    let records = send_and_wait(&client, command.jobs, output).await;
    stop.stop();
    working
        .await
        .map_err(|error| CliError::new(Exit::Failure, error.to_string()))??;
    let records = records?;
    print(&records, output);
    match (look_again, records.first()) {
        (Some(command), Some(record)) => eprintln!(
            "the results stay; look at them from another terminal:\n  {command} job get {}",
            record.job_id
        ),
        (Some(_), None) => {}
        (None, _) => eprintln!("the results go with this process"),
    }
    Ok(Exit::Ok)
}

/// How another process finds what this one has stored; `None` when it cannot.
fn second_terminal(global: &GlobalArguments, store: &Store) -> Option<String> {
    if !store.capabilities().durable {
        return None;
    }
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        path.display().to_string()
    };
    let program = std::env::args().next()?;
    // A bare name was found on the path, and will be.
    let mut words = vec![match program.contains('/') {
        true => absolute(Path::new(&program)),
        false => program,
    }];
    // The demo reads no configuration; one that lies here may be for another store.
    if global.config.is_some() || Path::new(DEFAULT_FILE).exists() {
        words.extend(["--config".to_owned(), "/dev/null".to_owned()]);
    }
    for folder in named_plugin_folders(&global.plugin_dirs) {
        words.extend(["--plugin-dir".to_owned(), absolute(&folder)]);
    }
    let store_type = format!("result_store.type={}", store.name());
    words.extend(["--set".to_owned(), store_type]);
    let words: Vec<String> = words.iter().map(|word| for_a_shell(word)).collect();
    Some(words.join(" "))
}

/// The word as a shell must be given it.
fn for_a_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The store is a plugin here as everywhere: nothing of it is linked into this program.
async fn open_store(global: &GlobalArguments, wanted: Option<&str>) -> Result<Store, CliError> {
    let registry = StoreRegistry::global();
    let report = load_folders(registry, &plugin_folders(&global.plugin_dirs, &[]));
    let mut candidates = match wanted {
        Some(name) => vec![registry.choose(name, &report.searched)?],
        None => registry.types(),
    };
    if wanted.is_none() {
        // What is made of other stores cannot do without a configuration.
        candidates.retain(|store_type| store_type.origin != Origin::Combinator);
    }
    // What needs no server, and first what another process can read afterwards.
    candidates.sort_by_key(|store_type| {
        let it = store_type.capabilities();
        (!it.embedded, !it.durable)
    });
    let mut last_error = None;
    for store_type in candidates {
        match open_and_ask(&store_type).await {
            Ok(store) => {
                eprintln!("store {:?} loaded from {}", store.name(), store_type.origin);
                return Ok(store);
            }
            Err(error) => last_error = Some(error),
        }
    }
    Err(last_error.unwrap_or_else(|| {
        let folders: Vec<_> = report
            .searched
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        let text = format!("no store plugin was found in {}", folders.join(", "));
        CliError::new(Exit::StoreUnusable, text).with_hint(
            "build the plugins first: cargo build --release --workspace, or name their folder with --plugin-dir",
        )
    }))
}

async fn open_and_ask(store_type: &StoreType) -> Result<Store, CliError> {
    let object = store_type.open(&json!({})).await?;
    let name = store_type.manifest.name.as_str();
    let store = Store::new(name, object, StorePolicy::default())?;
    store.health_check().await?;
    Ok(store)
}

fn worker(broker: Broker, store: Store, queue: QueueName) -> Result<Worker, CliError> {
    Ok(Worker::builder(broker, store)
        .queues([queue])
        .functions(functions()?)
        .concurrency(8)
        .name("demo")
        .build()?)
}

fn functions() -> Result<FunctionRegistry, CliError> {
    let taken = |error: crate::function::RegisterFunctionError| {
        CliError::new(Exit::Failure, error.to_string())
    };
    let mut functions = FunctionRegistry::new();
    functions
        .register("add", |_job: JobContext, (a, b): (i64, i64)| async move {
            Ok::<_, JobError>(a + b)
        })
        .map_err(taken)?;
    functions
        .register(
            "slow_square",
            |_job: JobContext, (number,): (i64,)| async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok::<_, JobError>(number * number)
            },
        )
        .map_err(taken)?;
    functions
        .register("flaky", |job: JobContext, (): ()| async move {
            if job.attempt() < 2 {
                return Err(JobError::from(Retry::after(Duration::from_millis(200))));
            }
            Ok(format!("worked at attempt {}", job.attempt()))
        })
        .map_err(taken)?;
    let once = FunctionPolicy {
        retry: RetryPolicy::none(),
        ..FunctionPolicy::default()
    };
    functions
        .register_with(
            "divide",
            once,
            |_job: JobContext, (a, b): (i64, i64)| async move {
                a.checked_div(b)
                    .ok_or_else(|| JobError::new("DivisionByZero", format!("{a} / {b}")))
            },
        )
        .map_err(taken)?;
    Ok(functions)
}

fn request(number: usize) -> JobRequest {
    let request = match number % 6 {
        0 | 1 => JobRequest::new("add").arg(number).arg(1),
        2 => JobRequest::new("slow_square").arg(number),
        3 => JobRequest::new("flaky"),
        4 => JobRequest::new("divide").arg(number).arg(number % 4),
        _ => JobRequest::new("add")
            .arg(number)
            .arg(-1)
            .delay(Duration::from_millis(500)),
    };
    request
        .queue(QUEUE)
        .id(format!("demo-{number:03}"))
        // A durable store still has those of the last demo.
        .if_exists(IfExists::Replace)
}

async fn send_and_wait(
    client: &Client,
    jobs: usize,
    output: &Output,
) -> Result<Vec<Record>, CliError> {
    let mut ids = Vec::with_capacity(jobs);
    for answer in client.enqueue_many((0..jobs).map(request).collect()).await {
        ids.push(answer?.job_id);
    }
    let bar = output.progress_bar(jobs as u64, "jobs ended");
    let waits = ids.iter().map(|job_id| {
        let bar = bar.clone();
        async move {
            let ended = client.wait(job_id, LONGEST).await;
            bar.inc(1);
            ended
        }
    });
    let ended = futures_util::future::join_all(waits).await;
    bar.finish_and_clear();
    ended.into_iter().map(|record| Ok(record?)).collect()
}

fn print(records: &[Record], output: &Output) {
    if output.json {
        records
            .iter()
            .for_each(|record| output.print_json(&record_json(record)));
        return;
    }
    let rows = records.iter().take(SHOWN).map(record_row).collect();
    output.print_table(&RECORD_COLUMNS, rows);
    if records.len() > SHOWN {
        eprintln!("and {} more", records.len() - SHOWN);
    }
}
