//! The guide "Write a store": its code is the example's, and the example is a store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use warren_tests::{fixtures::files_store_folder, target_folder, warren};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn example() -> PathBuf {
    repository().join("examples/store-files")
}

/// The fenced blocks of `text` in `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    text.split(&opening)
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap().to_owned())
        .collect()
}

fn run_cargo(arguments: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ran = Command::new(cargo)
        .args(arguments)
        .args(["--quiet", "--locked", "--target-dir"])
        .arg(target_folder().join("examples"))
        .current_dir(example())
        .output()
        .expect("cargo runs");
    assert!(
        ran.status.success(),
        "cargo {arguments:?} in {}:\n{}{}",
        example().display(),
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn every_piece_of_code_in_the_guide_is_the_example_s() {
    let guide = fs::read_to_string(repository().join("docs/write-a-store.md")).unwrap();
    let sources: Vec<String> = ["src/lib.rs", "src/folder.rs"]
        .map(|file| fs::read_to_string(example().join(file)).unwrap())
        .into();
    let shown = blocks(&guide, "rust");
    assert!(shown.len() >= 9, "the guide has {} blocks", shown.len());
    for block in shown {
        assert!(
            sources.iter().any(|source| source.contains(&block)),
            "this is not in the example:\n{block}"
        );
    }
    let manifest = fs::read_to_string(example().join("Cargo.toml")).unwrap();
    for line in blocks(&guide, "toml")[0].lines() {
        assert!(manifest.contains(line), "not in its Cargo.toml: {line}");
    }
}

#[test]
fn the_code_in_the_readme_is_a_program_s() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let program = fs::read_to_string(repository().join("host/examples/embed.rs")).unwrap();
    let program: Vec<&str> = program.lines().map(str::trim).collect();
    for block in blocks(&readme, "rust") {
        let block: Vec<&str> = block.lines().map(str::trim).collect();
        assert!(
            program.windows(block.len()).any(|lines| lines == block),
            "this is not in the program:\n{block:#?}"
        );
    }
}

#[test]
fn the_example_passes_the_suite_and_is_a_plugin() {
    run_cargo(&["test"]);
    let plugin = files_store_folder().join(format!("{DLL_PREFIX}warren_store_files{DLL_SUFFIX}"));
    let folder = tempfile::tempdir().unwrap();
    let config = format!(r#"{{"path": "{}"}}"#, folder.path().display());
    let checked = Command::new(warren())
        .args(["plugins", "check"])
        .arg(&plugin)
        .args(["--store-config", &config])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}{checked:?}");
    assert!(said.contains("store \"files\" 0.1.0"), "{said}");
    assert!(said.contains("opens, and is healthy"), "{said}");
    assert!(said.contains(" rules passed, 0 failed,"), "{said}");
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "lock")
        .collect();
    assert!(left.is_empty(), "the suite deletes what it wrote: {left:?}");
}
