//! Python packages in virtual environments of the tests' own.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::target_folder::target_folder;

/// The interpreter of an environment that has the packages of a file of requirements. Made on
/// first use and kept in the target folder; needs a package index then.
///
/// # Panics
/// When it cannot be made, with what to do about it.
pub(crate) fn python_with(requirements: &Path, name: &str) -> PathBuf {
    let folder = target_folder().join(name);
    fs::create_dir_all(&folder).expect("the target folder can be written to");
    let lock = File::create(folder.join("lock")).expect("the target folder can be written to");
    // Another test program may be making it.
    lock.lock().expect("files can be locked");
    make(&folder, requirements);
    folder.join("bin/python")
}

fn make(folder: &Path, requirements: &Path) {
    let wanted = fs::read_to_string(requirements).expect("it is checked in");
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
            .arg(requirements)
            .output(),
        &format!(
            "the packages of {} are needed: is there a package index?",
            requirements.display()
        ),
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
