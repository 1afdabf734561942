//! `warren plugins new`: the crate of a store that builds and passes the suite.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{arguments::NewCommand, contract_source::ContractSource};
use crate::cli::{
    error::{CliError, Exit},
    output::Output,
};

/// The files of the crate. `STORE_NAME` and the like in them are replaced.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("scaffold/Cargo.toml.template")),
    ("src/lib.rs", include_str!("scaffold/lib.rs")),
    ("README.md", include_str!("scaffold/README.md.template")),
    (CI, include_str!("scaffold/ci")),
    (".github/workflows/ci.yml", include_str!("scaffold/ci.yml")),
    (".gitignore", include_str!("scaffold/gitignore")),
];
/// A program among them.
const CI: &str = "ci";
/// A name is part of a file's name and of a line of code.
const LONGEST_NAME: usize = 40;

pub(super) fn run(command: &NewCommand, output: &Output) -> Result<Exit, CliError> {
    let name = checked_name(&command.name)?;
    let package = format!("warren-store-{name}");
    let folder = match &command.dir {
        Some(folder) => folder.clone(),
        None => PathBuf::from(&package),
    };
    let source = ContractSource::find(command.api.as_deref())?;
    must_be_free(&folder)?;
    let library = package.replace('-', "_");
    let fill = |text: &str| {
        text.replace("API_NOTE\n", &source.note())
            .replace("API_SOURCE", &source.dependency("plugin-api"))
            .replace("CONFORMANCE_SOURCE", &source.dependency("conformance"))
            .replace("STORE_NAME", name)
            .replace(
                "libLIBRARY.so",
                &format!("{DLL_PREFIX}{library}{DLL_SUFFIX}"),
            )
    };
    for (file, text) in FILES {
        write(&folder.join(file), &fill(text), file == CI)?;
    }
    let next = next_commands(&folder, &library);
    if output.json {
        output.print_json(&json!({
            "name": name,
            "package": package,
            "folder": folder,
            "files": FILES.map(|(file, _)| file),
            "contract": source.to_json(),
            "next": next,
        }));
        return Ok(Exit::Ok);
    }
    output.print_line(&format!(
        "{}: a store that keeps records in a map",
        folder.display()
    ));
    if let ContractSource::Unknown = source {
        eprintln!(
            "note: no checkout of Warren was found: set the paths of warren-plugin-api and \
             warren-conformance in {}, or start again with --api PATH",
            folder.join("Cargo.toml").display()
        );
    }
    output.print_line("next:");
    for line in next {
        output.print_line(&format!("  {line}"));
    }
    Ok(Exit::Ok)
}

/// A name that can be a crate's, a library's and a word of a configuration.
fn checked_name(name: &str) -> Result<&str, CliError> {
    if is_good_name(name) {
        return Ok(name);
    }
    let text = format!(
        "the name {name:?}: expected up to {LONGEST_NAME} of a-z, 0-9, - and _, from a letter on \
         to a letter or digit"
    );
    let error = CliError::new(Exit::Usage, text);
    let wanted = name.strip_prefix("warren-store-").unwrap_or(name);
    let similar: String = wanted
        .to_ascii_lowercase()
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() { it } else { '-' })
        .take(LONGEST_NAME)
        .collect();
    let similar = similar.trim_matches(|it: char| !it.is_ascii_alphanumeric());
    Err(if is_good_name(similar) {
        error.with_hint(format!("such as {similar}"))
    } else {
        error
    })
}

fn is_good_name(name: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric())
        && name.bytes().all(fits)
}

/// Nothing of the author's is ever written over.
fn must_be_free(folder: &Path) -> Result<(), CliError> {
    let is_empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(failed("use", folder, &error)),
    };
    if is_empty {
        return Ok(());
    }
    let text = format!("{} is there already and not empty", folder.display());
    Err(CliError::new(Exit::Failure, text).with_hint("name another folder with --dir"))
}

fn write(file: &Path, text: &str, is_program: bool) -> Result<(), CliError> {
    let written = || -> io::Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, text)?;
        if is_program {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    };
    written().map_err(|error| failed("write", file, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> CliError {
    let text = format!("cannot {what} {}: {error}", path.display());
    CliError::new(Exit::Failure, text)
}

/// From here to a plugin that is checked.
fn next_commands(folder: &Path, library: &str) -> [String; 4] {
    let library = format!("target/release/{DLL_PREFIX}{library}{DLL_SUFFIX}");
    [
        format!("cd {}", shell_word(folder)),
        "cargo test".to_owned(),
        "cargo build --release".to_owned(),
        format!("warren plugins check {library} --store-config '{{}}'"),
    ]
}

fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |it: char| it.is_alphanumeric() || "/._-~+".contains(it);
    if text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_a_crate() {
        for good in ["s3", "my-store", "my_store", "a"] {
            assert!(checked_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for bad in [
            "", "S3", "3s", "-a", "a-", "a b", "a/b", "é", "a\"", "..", &long,
        ] {
            assert!(checked_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_name_suggests_a_good_one() {
        let hint = |name| checked_name(name).unwrap_err().hint().map(str::to_owned);
        assert_eq!(hint("My Store"), Some("such as my-store".to_owned()));
        assert_eq!(hint("warren-store-S3"), Some("such as s3".to_owned()));
        assert_eq!(hint("42"), None);
    }

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(shell_word(Path::new("/srv/my-store")), "/srv/my-store");
        assert_eq!(shell_word(Path::new("it's here")), r"'it'\''s here'");
    }
}
