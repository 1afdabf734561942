//! `warren config init`: a file to begin with, with every option of the chosen store in it.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use serde_json::Value;

use super::{
    arguments::GlobalArguments,
    error::{CliError, Exit},
    session::{DEFAULT_FILE, plugin_folders},
};
use crate::store::{Origin, StoreRegistry, StoreType, plugins::load_folders};

const HEAD: &str = "\
# Every key, and what may be left out: docs/configuration.md of Warren.

[broker]
# Or memory://, a broker within the process.
url = \"amqp://guest:guest@localhost:5672/%2f\"

[worker]
queues = [\"default\"]
concurrency = 100

# Health for probes and metrics for Prometheus, to whoever asks.
# [worker.health]
# listen = \"127.0.0.1:9090\"

# What jobs may call by name: warren enqueue hello
[functions.hello]
command = [\"sh\", \"-c\", \"read job; echo '\\\"hello\\\"'\"]

[result_store]
";

pub(super) fn run(
    global: &GlobalArguments,
    store: Option<&str>,
    force: bool,
) -> Result<Exit, CliError> {
    let path = global.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    let text = format!("{HEAD}{}", store_section(&choose(global, store)?));
    let failed = |error: io::Error| {
        let this = CliError::new(Exit::Usage, format!("{}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::AlreadyExists => this.with_hint("--force writes over it"),
            _ => this,
        }
    };
    let mut options = File::options();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(failed)?;
    println!("{} written; next: warren config check", path.display());
    Ok(Exit::Ok)
}

fn choose(global: &GlobalArguments, wanted: Option<&str>) -> Result<StoreType, CliError> {
    let registry = StoreRegistry::with_combinators();
    let report = load_folders(&registry, &plugin_folders(&global.plugin_dirs, &[]));
    if let Some(name) = wanted {
        return Ok(registry.choose(name, &report.searched)?);
    }
    let types = registry.types().into_iter();
    let plugins = types.filter(|store_type| store_type.origin != Origin::Combinator);
    let best = plugins.max_by_key(|store_type| {
        let it = store_type.capabilities();
        (it.embedded && it.durable, it.durable)
    });
    best.ok_or_else(|| {
        CliError::new(Exit::StoreUnusable, "no store plugin was found")
            .with_hint("`warren plugins ls` shows where plugins are looked for")
    })
}

/// The store's type, and its options as comments.
fn store_section(store: &StoreType) -> String {
    let manifest = &store.manifest;
    let mut text = format!(
        "# {}\ntype = {:?}\n# How long results are kept.\nttl = \"24h\"\n\n[result_store.config]\n",
        manifest.description, manifest.name
    );
    let properties = manifest.config_schema["properties"].as_object();
    for (key, schema) in properties.into_iter().flatten() {
        for line in schema["description"].as_str().unwrap_or_default().lines() {
            text.push_str(format!("# {line}").trim_end());
            text.push('\n');
        }
        text.push_str(&format!("# {key} = {}\n", example(schema)));
    }
    text
}

/// The default as TOML, or what stands for a value that has none.
fn example(schema: &Value) -> String {
    match &schema["default"] {
        Value::Null | Value::Object(_) => "…".to_owned(),
        default => default.to_string(),
    }
}
