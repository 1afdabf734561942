//! The plugins of `tests/fixtures`, built on first use.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::target_folder;

/// Where the fixture plugins are.
#[derive(Debug)]
pub struct Fixtures {
    /// Misbehaves as its configuration says; registers as `fixture`.
    pub store: PathBuf,
    /// Built against contract 1.0; registers as `old`.
    pub store_1_0: PathBuf,
    /// Built against a contract whose types were changed.
    pub changed_layout: PathBuf,
    /// A library without an entry symbol.
    pub not_a_store: PathBuf,
}

/// Builds the fixture plugins, once per test binary.
///
/// # Panics
/// When they do not build.
pub fn fixtures() -> &'static Fixtures {
    static FIXTURES: OnceLock<Fixtures> = OnceLock::new();
    FIXTURES.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let target = target_folder().join("fixtures");
        let (today, old, changed) = (
            target.join("today"),
            target.join("1-0"),
            target.join("changed-layout"),
        );
        build(&source, &today, &[]);
        build(&source.join("store-1-0"), &old, &[]);
        build(
            &source.join("store-1-0"),
            &changed,
            &["--features", "changed-layout"],
        );
        Fixtures {
            store: library(&today, "fixture_store"),
            not_a_store: library(&today, "fixture_not_a_store"),
            store_1_0: library(&old, "fixture_store_1_0"),
            changed_layout: library(&changed, "fixture_store_1_0"),
        }
    })
}

/// The folder of the example store, which keeps records in files and announces nothing; registers
/// as `files`.
///
/// # Panics
/// When it does not build.
pub fn files_store_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/store-files");
        let target = target_folder().join("examples");
        build(&example, &target, &[]);
        target.join("debug")
    })
}

fn build(package: &Path, target: &Path, arguments: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--locked"])
        .args(arguments)
        .arg("--target-dir")
        .arg(target)
        .current_dir(package)
        .status()
        .expect("cargo runs");
    assert!(
        status.success(),
        "the fixtures in {} do not build",
        package.display()
    );
}

fn library(target: &Path, name: &str) -> PathBuf {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    target
        .join("debug")
        .join(format!("{DLL_PREFIX}{name}{DLL_SUFFIX}"))
}
