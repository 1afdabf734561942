//! `warren plugins check`: everything that can be said of a plugin file.

use std::time::Duration;

use serde_json::{Value, json};
use warren_conformance::CaseInfo;

use super::{
    arguments::CheckCommand,
    bench, capabilities,
    own_process::{self, Progress},
    store_json,
    suite::{self, chosen_cases, opener, suite_over},
    verdicts,
};
use crate::{
    cli::{
        arguments::GlobalArguments,
        error::{CliError, Exit},
        output::Output,
        session::{Session, json_config},
    },
    store::{StoreType, plugins::load_one},
};

/// How long a store may take to open, to answer and to close.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) async fn run(
    global: &GlobalArguments,
    command: &CheckCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    let Some(progress) = Progress::of_second_process() else {
        return own_process::run(&command.file).await;
    };
    let checked = check(global, command, &progress, output).await;
    progress.done();
    checked
}

async fn check(
    global: &GlobalArguments,
    command: &CheckCommand,
    progress: &Progress,
    output: &Output,
) -> Result<Exit, CliError> {
    let cases = chosen_cases(&command.only)?;
    progress.say("loading it");
    let store = load_one(&command.file)
        .map_err(|error| CliError::new(Exit::StoreUnusable, error.to_string()))?;
    let mut report = store_json(&store);
    let mut exit = Exit::Ok;
    if let Some(config) = config_to_check(global, command, &store)? {
        check_config(&store, &config)?;
        progress.say("opening it");
        open_and_ask(&store, &config, &mut report).await?;
        print_described(command, &store, output);
        print_health(&report, output);
        exit = try_out(
            command,
            &store,
            &config,
            cases,
            &mut report,
            progress,
            output,
        )
        .await?;
    } else if let Some(flag) = command.needs_a_configuration() {
        let text = format!("{flag} needs a store: give --config FILE or --store-config JSON");
        return Err(CliError::new(Exit::Usage, text));
    } else {
        print_described(command, &store, output);
    }
    if output.json {
        output.print_json(&report);
    }
    Ok(exit)
}

/// Runs what was asked for over the store: the suite, measurements, both.
async fn try_out(
    command: &CheckCommand,
    store: &StoreType,
    config: &Value,
    cases: Vec<CaseInfo>,
    report: &mut Value,
    progress: &Progress,
    output: &Output,
) -> Result<Exit, CliError> {
    let mut exit = Exit::Ok;
    if !command.no_suite {
        let faults = Faults::given(command)?;
        warn(command);
        let suite = suite_over(store, config, faults, command);
        let open = opener(store, config, command.timeout);
        let ran = suite::run(&suite, open, cases, command, progress, output).await;
        if !ran.report.passed() {
            exit = Exit::StoreUnusable;
        }
        if output.json {
            report["suite"] = verdicts::to_json(&ran);
        } else {
            output.print_line("");
            verdicts::print(&ran, output);
        }
    }
    if let Some(time) = command.bench {
        progress.say("measuring its calls");
        let measured = bench::run(store, config, time, command.timeout, output).await?;
        if measured.iter().any(|it| it.figures.is_err()) {
            exit = Exit::StoreUnusable;
        }
        if output.json {
            report["bench"] = measured.iter().map(bench::Measured::to_json).collect();
        } else {
            bench::print(&measured, time, output);
        }
    }
    Ok(exit)
}

/// Configurations whose backends fail.
pub(super) struct Faults {
    pub(super) unreachable: Option<Value>,
    pub(super) unresponsive: Option<Value>,
    pub(super) wrong_credentials: Option<Value>,
    pub(super) no_room: Option<Value>,
}

impl Faults {
    fn given(command: &CheckCommand) -> Result<Self, CliError> {
        let read = |flag: &str, text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| json_argument(flag, text)).transpose()
        };
        Ok(Self {
            unreachable: read("--unreachable", &command.unreachable)?,
            unresponsive: read("--unresponsive", &command.unresponsive)?,
            wrong_credentials: read("--wrong-credentials", &command.wrong_credentials)?,
            no_room: read("--no-room", &command.no_room)?,
        })
    }
}

/// On stderr, in every mode: what is about to be done to the store.
fn warn(command: &CheckCommand) {
    eprintln!(
        "note: the suite writes to this store, under ids and queues of its own, and deletes what \
         it wrote"
    );
    eprintln!(
        "{}",
        if command.alone {
            "warning: --alone cleans up as if two hours had passed: any other record that expires \
             by then goes"
        } else {
            "note: its calls of cleanup_expired may remove other records that have expired"
        }
    );
}

fn check_config(store: &StoreType, config: &Value) -> Result<(), CliError> {
    let problems = store.config_problems(config);
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Err(CliError::new(Exit::Usage, lines.join("\nerror: ")))
}

/// Opens the store, asks what it says of itself, and closes it: a store may allow one handle only.
async fn open_and_ask(
    store: &StoreType,
    config: &Value,
    report: &mut Value,
) -> Result<(), CliError> {
    let object = store.open_within(DEADLINE, config).await?;
    let asked = suite::on_own_threads(async move {
        let health = object.health_check().await?;
        let capabilities = object.capabilities()?;
        object.close().await?;
        Ok::<_, CliError>((health, capabilities))
    });
    let (health, capabilities) = match tokio::time::timeout(DEADLINE, asked).await {
        Ok(Some(asked)) => asked?,
        Ok(None) => return Err(CliError::new(Exit::Failure, "no thread to check it on")),
        Err(_elapsed) => {
            let text = format!("its health check took longer than {DEADLINE:?}");
            return Err(CliError::new(Exit::StoreUnusable, text));
        }
    };
    report["health"] = json!(health);
    report["capabilities"] = json!(capabilities);
    Ok(())
}

fn json_argument(flag: &str, text: &str) -> Result<Value, CliError> {
    serde_json::from_str(text)
        .map_err(|error| CliError::new(Exit::Usage, format!("{flag} is not JSON: {error}")))
}

/// The configuration to open the store with, if one was given.
fn config_to_check(
    global: &GlobalArguments,
    command: &CheckCommand,
    store: &StoreType,
) -> Result<Option<Value>, CliError> {
    if let Some(text) = &command.store_config {
        return json_argument("--store-config", text).map(Some);
    }
    let Some(file) = &global.config else {
        return Ok(None);
    };
    let settings = Session::start(global)?.loaded.config.result_store;
    let name = &store.manifest.name;
    match &settings.store_type {
        Some(chosen) if chosen != name => {
            let text = format!(
                "{} chooses store {chosen:?}, this plugin is store {name:?}",
                file.display()
            );
            Err(CliError::new(Exit::Usage, text))
        }
        _ => json_config(&settings.config).map(Some),
    }
}

fn print_described(command: &CheckCommand, store: &StoreType, output: &Output) {
    if output.json {
        return;
    }
    let (major, minor) = store.contract;
    output.print_line(&format!(
        "{}: store {:?} {}",
        command.file.display(),
        store.manifest.name,
        store.manifest.version
    ));
    output.print_line(&format!(
        "built against contract {major}.{minor}; can do: {}",
        capabilities(store.capabilities())
    ));
}

fn print_health(report: &Value, output: &Output) {
    if output.json {
        return;
    }
    if let Some(detail) = report["health"]["detail"].as_str() {
        output.print_line(&format!("opens, and is healthy: {detail}"));
    }
    let warnings = report["health"]["warnings"].as_array();
    for warning in warnings.into_iter().flatten() {
        let warning = warning.as_str().unwrap_or_default();
        output.print_line(&format!("warning: {warning}"));
    }
}
