//! Clean release builds: of the host alone, and of each plugin alone.

use std::{path::Path, process::Command, time::Instant};

use crate::{
    error::BenchError,
    figures::{Measure, Unit},
    plugins,
};

/// Builds everything once, each in an empty folder.
pub(crate) fn measure() -> Result<Vec<Measure>, BenchError> {
    let mut packages = vec!["warren-host".to_owned()];
    packages.extend(plugins::packages()?);
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    let mut building =
        Measure::new("clean release build", Unit::Milliseconds, &names).not_compared();
    let target = plugins::target_folder()?.join("bench-build");
    for (side, package) in packages.iter().enumerate() {
        eprintln!("build: {package}");
        remove(&target)?;
        let began = Instant::now();
        run(cargo()
            .args(["build", "--release", "--locked", "--quiet", "-p", package])
            .arg("--target-dir")
            .arg(&target))?;
        building.add(side, began.elapsed().as_secs_f64() * 1e3);
        building.note(side, format!("{} crates", crates(package)?));
    }
    remove(&target)?;
    Ok(vec![building])
}

/// How many crates a package is built of. The host must not be built of a store's.
fn crates(package: &str) -> Result<usize, BenchError> {
    let output = cargo()
        .args(["tree", "--locked", "--prefix", "none", "--edges", "normal"])
        .args(["--format", "{p}", "-p", package])
        .output()
        .map_err(BenchError::Process)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut crates: Vec<&str> = text
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    crates.sort_unstable();
    crates.dedup();
    let is_store = |line: &&&str| line.starts_with("warren-store-");
    if package == "warren-host"
        && let Some(store) = crates.iter().find(is_store)
    {
        let reason = format!("the host depends on {store}");
        return Err(BenchError::Build { reason });
    }
    Ok(crates.len())
}

fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn run(command: &mut Command) -> Result<(), BenchError> {
    if command.status().map_err(BenchError::Process)?.success() {
        return Ok(());
    }
    Err(BenchError::Build {
        reason: "cargo build has failed; see above".to_owned(),
    })
}

fn remove(folder: &Path) -> Result<(), BenchError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BenchError::Process(error))
        }
        _ => Ok(()),
    }
}
