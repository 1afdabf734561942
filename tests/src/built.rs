//! The program and its plugins, built on first use as `cargo test` would build them.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::target_folder::{profile_folder, target_folder};

/// The `warren` program. It finds the plugins next to it.
///
/// # Panics
/// When it does not build.
pub fn warren() -> &'static Path {
    &built().warren
}

/// The folder of the built plugins.
///
/// # Panics
/// When they do not build.
pub fn plugin_folder() -> &'static Path {
    &built().folder
}

/// The file of a store plugin: `memory`, `redis`.
///
/// # Panics
/// When it does not build.
pub fn plugin(name: &str) -> PathBuf {
    plugin_folder().join(format!("{DLL_PREFIX}warren_store_{name}{DLL_SUFFIX}"))
}

struct Built {
    folder: PathBuf,
    warren: PathBuf,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = profile_folder();
        build(&folder);
        let warren = folder.join("warren");
        assert!(
            warren.is_file(),
            "{} was built and is not there",
            warren.display()
        );
        Built { folder, warren }
    })
}

/// What the tests need as files. Naming this package and one of its tests makes cargo choose the
/// same features of dependencies as for `cargo test`, so that it builds little anew.
const PACKAGES: &[&str] = &[
    "warren-host",
    "warren-store-elasticsearch",
    "warren-store-memory",
    "warren-store-mongodb",
    "warren-store-postgres",
    "warren-store-redis",
    "warren-store-s3",
    "warren-store-sqlite",
    "warren-tests",
];

fn build(profile_folder: &Path) {
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // What cargo says of this test's own package: build scripts that look at it (`ring`'s) would
    // run anew each time.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&name);
        }
    }
    let built = build
        .args(["build", "--locked", "--profile", profile])
        .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
        .args(["--lib", "--bins", "--test", "loader"])
        .arg("--target-dir")
        .arg(target_folder())
        .current_dir(workspace)
        // Cargo's own lines are seen: a build takes minutes, or waits for another one.
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the program does not build; see above");
}
