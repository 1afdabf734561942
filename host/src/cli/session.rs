//! What most commands need: configuration, log, broker, store.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tracing_subscriber::EnvFilter;

use super::{
    arguments::GlobalArguments,
    error::{CliError, Exit},
};
use crate::{
    broker::Broker,
    client::{Client, ClientOptions},
    config::{Layers, Loaded, LogConfig, LogFormat, Origin},
    function::FunctionRegistry,
    store::{
        OpenError, Store, StorePolicy, StoreRegistry, StoreType,
        plugins::{LoadReport, PluginFolder, default_folders, load_folders, load_named},
    },
};

/// What commands log that end by themselves. They say themselves why the store failed.
const OF_COMMANDS: &str = "warn,warren::store=error";

/// The file that is read when none is named.
pub(super) const DEFAULT_FILE: &str = "warren.toml";

/// One run of the program with its configuration.
pub(super) struct Session {
    pub(super) loaded: Loaded,
    global: GlobalArguments,
}

impl Session {
    /// Reads the configuration and starts the log, for a command that ends by itself: unless
    /// somebody asked for more, it says only what is wrong.
    pub(super) fn start(global: &GlobalArguments) -> Result<Self, CliError> {
        Self::start_with(global, &[], Some(OF_COMMANDS))
    }

    /// As [`start`](Self::start), for the worker: it says what the configuration asks for, `info`
    /// by default. `flags` are (flag, key, value).
    pub(super) fn start_worker(
        global: &GlobalArguments,
        flags: &[(&str, &str, String)],
    ) -> Result<Self, CliError> {
        Self::start_with(global, flags, None)
    }

    fn start_with(
        global: &GlobalArguments,
        flags: &[(&str, &str, String)],
        usual_level: Option<&str>,
    ) -> Result<Self, CliError> {
        let loaded = load(global, flags)?;
        let mut log = loaded.config.log.clone();
        if let Some(level) = usual_level
            && !loaded.origins.contains_key("log.level")
        {
            log.level = level.to_owned();
        }
        start_log(&log)?;
        Ok(Self {
            loaded,
            global: global.clone(),
        })
    }

    /// The same program with the configuration of this file alone: the environment and `--set`
    /// would make the stores of two files one.
    pub(super) fn of_file(&self, file: &Path) -> Result<Self, CliError> {
        let mut layers = Layers::default();
        layers.add_file(file)?;
        Ok(Self {
            loaded: layers.finish()?,
            global: self.global.clone(),
        })
    }

    pub(super) async fn broker(&self) -> Result<Broker, CliError> {
        Ok(Broker::connect(&self.loaded.config.broker.settings()?).await?)
    }

    /// The broker for a command that can do without, and tells others over it what it has done.
    pub(super) async fn broker_if_there(&self) -> Option<Broker> {
        match self.broker().await {
            Ok(broker) => Some(broker),
            Err(error) => {
                let error = error.message();
                tracing::info!(
                    error,
                    "the broker is not there; clients are told later, or tell themselves"
                );
                None
            }
        }
    }

    pub(super) fn plugin_folders(&self) -> Vec<PluginFolder> {
        plugin_folders(&self.global.plugin_dirs, &self.loaded.config.plugins.dirs)
    }

    /// Loads its plugins and opens the configured store.
    pub(super) async fn store(&self) -> Result<Store, CliError> {
        let (store_type, config, policy) = self.store_type()?;
        let object = store_type.open(&config).await?;
        Ok(Store::new(store_type.manifest.name, object, policy)?)
    }

    /// As [`store`](Self::store), but a store whose backend is away is opened when it is there.
    pub(super) async fn store_now_or_later(&self) -> Result<Store, CliError> {
        let (store_type, config, policy) = self.store_type()?;
        Ok(Store::open_now_or_later(store_type, config, policy).await?)
    }

    /// Loads the plugins that the configured store needs, and finds it among them.
    fn store_type(&self) -> Result<(StoreType, Value, StorePolicy), CliError> {
        let registry = StoreRegistry::global();
        let settings = &self.loaded.config.result_store;
        let Some(name) = &settings.store_type else {
            warn_of_refused(&load_folders(registry, &self.plugin_folders()));
            return Err(no_store_type(registry));
        };
        let mut names = BTreeSet::from([name.clone()]);
        for value in settings.config.values() {
            names_of_types(value, &mut names);
        }
        let report = load_named(registry, &self.plugin_folders(), &names);
        warn_of_refused(&report);
        let store_type = registry
            .choose(name, &report.searched)
            .map_err(|error| explain(error, &report))?;
        let policy = StorePolicy {
            deadline: settings.deadline,
            max_concurrent_calls: settings.max_concurrent_calls,
        };
        Ok((store_type, json_config(&settings.config)?, policy))
    }

    pub(super) async fn client(&self) -> Result<Client, CliError> {
        let (broker, store) = (self.broker().await?, self.store().await?);
        let options = ClientOptions {
            result_ttl: self.loaded.config.result_store.ttl,
            ..ClientOptions::default()
        };
        Ok(Client::with_options(broker, store, options))
    }

    pub(super) fn functions(&self) -> Result<FunctionRegistry, CliError> {
        let mut functions = FunctionRegistry::new();
        functions.register_commands(&self.loaded.config.functions)?;
        Ok(functions)
    }
}

fn load(global: &GlobalArguments, flags: &[(&str, &str, String)]) -> Result<Loaded, CliError> {
    let mut layers = Layers::default();
    match &global.config {
        Some(file) => layers.add_file(file)?,
        None if Path::new(DEFAULT_FILE).exists() => layers.add_file(Path::new(DEFAULT_FILE))?,
        None => {}
    }
    layers.add_environment(std::env::vars())?;
    let flag = |name: &str| Origin::Flag(name.to_owned());
    if let Some(level) = &global.log_level {
        layers.set("log.level", &quoted(level), flag("--log-level"))?;
    }
    if let Some(format) = &global.log_format {
        layers.set("log.format", &quoted(format), flag("--log-format"))?;
    }
    for (name, key, value) in flags {
        layers.set(key, value, flag(name))?;
    }
    for pair in &global.set {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            CliError::new(Exit::Usage, format!("--set {pair:?}: expected KEY=VALUE"))
        })?;
        layers.set(key, value, flag("--set"))?;
    }
    Ok(layers.finish()?)
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Those of flags, else those of `WARREN_PLUGIN_PATH`.
pub(super) fn named_plugin_folders(flags: &[PathBuf]) -> Vec<PathBuf> {
    if !flags.is_empty() {
        return flags.to_vec();
    }
    let path = std::env::var_os("WARREN_PLUGIN_PATH").filter(|path| !path.is_empty());
    path.iter().flat_map(std::env::split_paths).collect()
}

/// Flags before `WARREN_PLUGIN_PATH` before the configuration before the default.
pub(super) fn plugin_folders(flags: &[PathBuf], config: &[PathBuf]) -> Vec<PluginFolder> {
    let named = named_plugin_folders(flags);
    if !named.is_empty() {
        return named.iter().map(PluginFolder::named).collect();
    }
    if !config.is_empty() {
        return config.iter().map(PluginFolder::named).collect();
    }
    default_folders()
}

pub(super) fn json_config(table: &toml::Table) -> Result<Value, CliError> {
    serde_json::to_value(table).map_err(|error| {
        CliError::new(
            Exit::Usage,
            format!("result_store.config cannot be read: {error}"),
        )
    })
}

/// Whatever is called `type` in a store's configuration may be a store that it is made of.
fn names_of_types(value: &toml::Value, names: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            if let Some(name) = table.get("type").and_then(toml::Value::as_str) {
                names.insert(name.to_owned());
            }
            table
                .values()
                .for_each(|value| names_of_types(value, names));
        }
        toml::Value::Array(values) => values.iter().for_each(|value| names_of_types(value, names)),
        _ => {}
    }
}

fn warn_of_refused(report: &LoadReport) {
    for (folder, error) in &report.unreadable_folders {
        tracing::warn!(folder = %folder.display(), %error, "a plugin folder cannot be read");
    }
    for (_, refused) in report.refused() {
        tracing::warn!(error = %refused.error, "a plugin is not loaded");
    }
}

fn no_store_type(registry: &StoreRegistry) -> CliError {
    let registered: Vec<_> = registry
        .types()
        .into_iter()
        .map(|store_type| store_type.manifest.name)
        .collect();
    let text = format!(
        "no result store is chosen: set result_store.type; registered: {}",
        if registered.is_empty() {
            "none".to_owned()
        } else {
            registered.join(", ")
        }
    );
    CliError::new(Exit::Usage, text).with_hint(
        "in warren.toml, or as WARREN_RESULT_STORE_TYPE, or with --set result_store.type=NAME",
    )
}

/// A type that is unknown because its plugin was refused is best explained by the refusal.
fn explain(error: OpenError, report: &LoadReport) -> CliError {
    if let OpenError::UnknownType { name, .. } = &error {
        let refusal = report.refused().find(|(_, refused)| {
            refused
                .described
                .as_ref()
                .is_some_and(|described| described.name == *name)
        });
        if let Some((_, refused)) = refusal {
            let text = format!(
                "result store type {name:?} is not available: {}",
                refused.error
            );
            return CliError::new(Exit::StoreUnusable, text);
        }
    }
    error.into()
}

pub(super) fn start_log(config: &LogConfig) -> Result<(), CliError> {
    // lapin logs as errors what it also returns, and what we mend or expect.
    let quiet = matches!(
        config.level.as_str(),
        "error" | "warn" | "info" | OF_COMMANDS
    );
    let directives = if quiet { ",lapin=off" } else { "" };
    let filter = EnvFilter::try_new(format!("{}{directives}", config.level)).map_err(|error| {
        CliError::new(
            Exit::Usage,
            format!("log.level {:?}: {error}", config.level),
        )
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Nor can it be told on stderr that stderr is gone.
        .log_internal_errors(false);
    let started = match config.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => {
            use std::io::IsTerminal;
            builder
                .with_ansi(std::io::stderr().is_terminal())
                .try_init()
        }
    };
    // A subscriber that exists already is the embedding program's, and as good.
    drop(started);
    Ok(())
}
