//! A Python with rabbitmq-arq, in a virtual environment of the tests' own.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::venv::python_with;

/// The interpreter. Made on first use and kept in the target folder; needs a package index then.
///
/// # Panics
/// When it cannot be made, with what to do about it.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| python_with(&program("requirements.txt"), "interop-python"))
}

/// A program of `tests/interop`.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("interop")
        .join(name)
}
