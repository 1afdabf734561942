//! Where this program was built.

use std::path::PathBuf;

/// The target folder that this program was built into.
///
/// # Panics
/// When it does not run from one.
pub fn target_folder() -> PathBuf {
    profile_folder()
        .parent()
        .expect("a profile is within a target folder")
        .to_owned()
}

/// `target/<profile>`
pub(crate) fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    // A test is target/<profile>/deps/<test>, a program target/<profile>/<program>.
    let folder = program.parent().expect("it is in a folder");
    let is_test = folder.ends_with("deps");
    let folder = if is_test {
        folder.parent()
    } else {
        Some(folder)
    };
    folder.expect("both are in a target folder").to_owned()
}
