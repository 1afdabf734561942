//! Where a function's program is.

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::CommandError;

/// The program's file, looked up as a shell in `working_dir` would.
///
/// The path is absolute, because a process changes to its folder before it starts the program.
pub(super) fn find_program(
    function: &str,
    program: &str,
    working_dir: Option<&Path>,
) -> Result<PathBuf, CommandError> {
    let found = if program.contains('/') {
        let path = working_dir.map_or_else(|| PathBuf::from(program), |dir| dir.join(program));
        if path.is_file() && !is_executable(&path) {
            return Err(CommandError::NotExecutable {
                function: function.to_owned(),
                program: path,
            });
        }
        is_executable(&path).then_some(path)
    } else {
        search(program, &std::env::var_os("PATH").unwrap_or_default())
    };
    found
        .and_then(|path| std::path::absolute(path).ok())
        .ok_or_else(|| CommandError::NoSuchProgram {
            function: function.to_owned(),
            program: program.to_owned(),
        })
}

fn search(program: &str, folders: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(folders)
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// `path` as it is seen from the current folder.
    fn relative(path: &Path) -> PathBuf {
        let here = std::env::current_dir().unwrap();
        let to_the_root: PathBuf = here.components().skip(1).map(|_| "..").collect();
        to_the_root.join(path.canonicalize().unwrap().strip_prefix("/").unwrap())
    }

    fn folder_with_a_shell() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        symlink("/bin/sh", folder.path().join("run")).unwrap();
        folder
    }

    #[test]
    fn a_program_beside_a_relative_folder_can_be_started_in_that_folder() {
        let folder = folder_with_a_shell();
        let working_dir = relative(folder.path());
        let program = find_program("f", "./run", Some(&working_dir)).unwrap();
        let output = std::process::Command::new(&program)
            .args(["-c", "pwd"])
            .current_dir(&working_dir)
            .output()
            .unwrap();
        let ran_in = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            Path::new(ran_in.trim_end()),
            folder.path().canonicalize().unwrap()
        );
    }

    #[test]
    fn a_program_of_a_relative_folder_of_the_path_is_found_by_its_whole_path() {
        let folder = folder_with_a_shell();
        let folders = std::env::join_paths([Path::new("no-such-folder"), &relative(folder.path())]);
        let found = search("run", &folders.unwrap()).unwrap();
        assert!(found.is_file(), "{}", found.display());
        let program = find_program("f", found.to_str().unwrap(), None).unwrap();
        assert!(program.is_absolute(), "{}", program.display());
    }

    #[test]
    fn a_file_that_may_not_be_executed_is_refused_before_any_job() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes"), "").unwrap();
        let error = find_program("f", "./notes", Some(folder.path())).unwrap_err();
        assert!(
            matches!(error, CommandError::NotExecutable { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("chmod +x"), "{error}");
        assert_eq!(search("notes", folder.path().as_os_str()), None);
    }

    #[test]
    fn a_program_that_is_nowhere_is_found_out_before_any_job() {
        for program in ["no-such-program", "./no-such-program", ""] {
            let error = find_program("f", program, None).unwrap_err();
            assert!(
                matches!(error, CommandError::NoSuchProgram { .. }),
                "{error}"
            );
        }
    }
}
