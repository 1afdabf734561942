//! The stores as plugin files, as a user of Warren has them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use serde_json::{Value, json};
use warren::store::{Store, StorePolicy, plugins::load_one};
use warren_plugin_api::StoreObject;

use crate::{error::BenchError, options::StoreKind, servers::Servers};

const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// Opens the store of a plugin file, for this run's keys.
pub(crate) async fn open(kind: StoreKind, servers: &Servers) -> Result<StoreObject, BenchError> {
    let config = match kind {
        StoreKind::Redis => json!({
            "redis_url": servers.redis_url(),
            "key_prefix": servers.key_prefix(),
        }),
        StoreKind::Memory => memory_config(),
    };
    open_with(kind, &config).await
}

/// Room for everything that one round makes.
pub(crate) fn memory_config() -> Value {
    json!({ "max_records": 1_000_000, "max_bytes": 2_u64 << 30 })
}

/// Opens the store of a plugin file with this configuration.
pub(crate) async fn open_with(kind: StoreKind, config: &Value) -> Result<StoreObject, BenchError> {
    open_named(kind.name(), config).await
}

/// Opens the store that a plugin file registers by this name.
pub(crate) async fn open_named(name: &str, config: &Value) -> Result<StoreObject, BenchError> {
    let store_type = load_one(&file(name)?)?;
    Ok(store_type.open_within(OPEN_DEADLINE, config).await?)
}

/// The store under the host's guard, as worker and client hold it.
pub(crate) async fn open_guarded(kind: StoreKind, servers: &Servers) -> Result<Store, BenchError> {
    let object = open(kind, servers).await?;
    Ok(Store::new(kind.name(), object, StorePolicy::default())?)
}

fn file(name: &str) -> Result<PathBuf, BenchError> {
    let name = format!(
        "{}warren_store_{}{}",
        std::env::consts::DLL_PREFIX,
        name,
        std::env::consts::DLL_SUFFIX
    );
    let file = folder()?.join(name);
    if file.exists() {
        Ok(file)
    } else {
        Err(BenchError::NoPlugin { file })
    }
}

/// The folder of this program. Under `cargo run` the plugins are built into it first: cargo builds
/// what a program links, and nothing links a plugin.
fn folder() -> Result<&'static Path, BenchError> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER
        .get_or_init(|| build_beside_this_program().map_err(|error| error.to_string()))
        .as_deref()
        .map_err(|reason| BenchError::Build {
            reason: reason.clone(),
        })
}

fn build_beside_this_program() -> std::io::Result<PathBuf> {
    build(&[
        "-p",
        "warren-store-elasticsearch",
        "-p",
        "warren-store-memory",
        "-p",
        "warren-store-mongodb",
        "-p",
        "warren-store-postgres",
        "-p",
        "warren-store-redis",
        "-p",
        "warren-store-s3",
        "-p",
        "warren-store-sqlite",
    ])
}

/// Builds packages into this program's folder, under `cargo run`; returns the folder.
fn build(packages: &[&str]) -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().unwrap_or(Path::new(".")).to_owned();
    let Some(cargo) = std::env::var_os("CARGO") else {
        return Ok(folder);
    };
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked"]);
    build.args(packages);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if let Some(target) = folder.parent() {
        build.arg("--target-dir").arg(target);
    }
    if folder.ends_with("release") {
        build.arg("--release");
    }
    if build.status()?.success() {
        Ok(folder)
    } else {
        Err(std::io::Error::other("cargo build has failed; see above"))
    }
}

/// The `warren` program, with every plugin of this repository beside it.
pub(crate) fn program_with_all_plugins() -> Result<PathBuf, BenchError> {
    let failed = |error: std::io::Error| BenchError::Build {
        reason: error.to_string(),
    };
    let mut packages = vec!["-p".to_owned(), "warren-host".to_owned()];
    for package in self::packages()? {
        packages.extend(["-p".to_owned(), package]);
    }
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let program = build(&packages).map_err(failed)?.join("warren");
    if program.exists() {
        Ok(program)
    } else {
        Err(BenchError::NoPlugin { file: program })
    }
}

/// How many plugin files lie beside a program.
pub(crate) fn count_beside(program: &Path) -> usize {
    let is_plugin =
        |name: &str| name.contains("warren_store_") && name.ends_with(std::env::consts::DLL_SUFFIX);
    let entries = program.parent().and_then(|it| std::fs::read_dir(it).ok());
    let names = entries.into_iter().flatten().flatten();
    names
        .filter(|entry| is_plugin(&entry.file_name().to_string_lossy()))
        .count()
}

/// The packages of all plugins.
pub(crate) fn packages() -> Result<Vec<String>, BenchError> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let entries = std::fs::read_dir(plugins).map_err(BenchError::Process)?;
    let mut packages: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| format!("warren-store-{}", entry.file_name().to_string_lossy()))
        .collect();
    packages.sort();
    Ok(packages)
}

/// Where what a run needs may be kept for the next one.
pub(crate) fn target_folder() -> Result<PathBuf, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::Process)?;
    let target = program.parent().and_then(Path::parent);
    Ok(target.unwrap_or(Path::new("target")).to_owned())
}
