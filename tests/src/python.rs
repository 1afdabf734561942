//! A Python with rabbitmq-arq, in a virtual environment of the tests' own.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use crate::target_folder;

/// The interpreter. Made on first use and kept in the target folder; needs a package index then.
///
/// # Panics
/// When it cannot be made, with what to do about it.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let folder = target_folder().join("interop-python");
        fs::create_dir_all(&folder).expect("the target folder can be written to");
        let lock = File::create(folder.join("lock")).expect("the target folder can be written to");
        // Another test program may be making it.
        lock.lock().expect("files can be locked");
        make(&folder);
        folder.join("bin/python")
    })
}

/// A program of `tests/interop`.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("interop")
        .join(name)
}

fn make(folder: &Path) {
    let wanted = fs::read_to_string(program("requirements.txt")).expect("it is checked in");
    let installed = folder.join("installed");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return;
    }
    ran(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(folder)
            .output(),
        "python3 with venv is needed: `apt-get install python3-venv`",
    );
    ran(
        Command::new(folder.join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(program("requirements.txt"))
            .output(),
        "the packages of tests/interop/requirements.txt are needed: is there a package index?",
    );
    fs::write(installed, wanted).expect("the target folder can be written to");
}

fn ran(output: io::Result<Output>, otherwise: &str) {
    let output = output.unwrap_or_else(|error| panic!("{otherwise}\n{error}"));
    assert!(
        output.status.success(),
        "{otherwise}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
