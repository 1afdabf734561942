//! Where a new store's crate takes Warren's crates from, which no registry has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use warren_plugin_api::{CONTRACT_MAJOR, CONTRACT_MINOR};

use crate::cli::error::{CliError, Exit};

/// Where `warren-plugin-api` and `warren-conformance` are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ContractSource {
    /// A checkout of Warren.
    Checkout(PathBuf),
    /// A version, from a registry that has it.
    Version(String),
    /// A git repository.
    Git(String),
    /// Nothing was named or found: the author must.
    Unknown,
}

impl ContractSource {
    /// What `--api` says, else the checkout that this program was built from, where it still is.
    pub(super) fn find(api: Option<&str>) -> Result<Self, CliError> {
        match api {
            None => {
                let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
                Ok(built_from
                    .and_then(|folder| checkout(folder).ok())
                    .map_or(Self::Unknown, Self::Checkout))
            }
            Some(url) if url.contains("://") => Ok(Self::Git(url.to_owned())),
            Some(version) if is_version(version) => Ok(Self::Version(version.to_owned())),
            Some(path) => checkout(Path::new(path))
                .map(Self::Checkout)
                .map_err(|reason| {
                    let text = format!("--api {path:?} is no checkout of Warren: {reason}");
                    CliError::new(Exit::Usage, text)
                        .with_hint("name the folder that has plugin-api and conformance in it")
                }),
        }
    }

    /// The keys of the dependency on the crate in `folder` of Warren's repository.
    pub(super) fn dependency(&self, folder: &str) -> String {
        let text = |text: &str| toml::Value::from(text).to_string();
        match self {
            Self::Checkout(checkout) => {
                let path = checkout.join(folder);
                format!("path = {}", text(&path.to_string_lossy()))
            }
            Self::Version(version) if folder == "plugin-api" => {
                format!("version = {}", text(version))
            }
            Self::Version(_) => format!("version = {}", text(env!("CARGO_PKG_VERSION"))),
            Self::Git(url) => format!("git = {}", text(url)),
            Self::Unknown => format!("path = {}", text(&format!("../warren/{folder}"))),
        }
    }

    /// Comment lines for above the dependencies, each with its line break.
    pub(super) fn note(&self) -> String {
        match self {
            Self::Unknown => {
                "# TO DO: no registry has Warren's crates. Name your checkout of Warren in both\n\
                 # places, or its repository: git = \"https://…\" instead of path.\n"
            }
            Self::Checkout(_) => {
                "# No registry has Warren's crates: these paths are of this machine. For others, and\n\
                 # for CI, name Warren's repository in both places: git = \"https://…\".\n"
            }
            Self::Version(_) | Self::Git(_) => "",
        }
        .to_owned()
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Checkout(path) => json!({ "path": path }),
            Self::Version(version) => json!({ "version": version }),
            Self::Git(url) => json!({ "git": url }),
            Self::Unknown => Value::Null,
        }
    }
}

fn is_version(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// The whole path of a folder that has the two crates, of a contract that this program can load.
fn checkout(folder: &Path) -> Result<PathBuf, String> {
    let folder = fs::canonicalize(folder).map_err(|error| error.to_string())?;
    crate_version(&folder.join("conformance"), "warren-conformance")?;
    let version = crate_version(&folder.join("plugin-api"), "warren-plugin-api")?;
    let ours = (CONTRACT_MAJOR, CONTRACT_MINOR);
    let mut parts = version.split('.').map(|part| part.parse::<u32>());
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return Err(format!("plugin-api has the version {version:?}"));
    };
    if major != ours.0 || minor > ours.1 {
        return Err(format!(
            "it has contract {major}.{minor}, this program loads stores of {}.0 to {}.{}",
            ours.0, ours.0, ours.1
        ));
    }
    Ok(folder)
}

/// The version of the crate `name` in `folder`; empty where it is the workspace's.
fn crate_version(folder: &Path, name: &str) -> Result<String, String> {
    let file = folder.join("Cargo.toml");
    let shown = file.display();
    let text = fs::read_to_string(&file).map_err(|error| format!("{shown}: {error}"))?;
    let manifest: toml::Table = text.parse().map_err(|_| format!("{shown} is not TOML"))?;
    let package = manifest.get("package");
    let key = |key: &str| package.and_then(|package| package.get(key)?.as_str());
    if key("name") != Some(name) {
        return Err(format!("{shown} is not of the crate {name}"));
    }
    Ok(key("version").unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> PathBuf {
        fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
    }

    #[test]
    fn what_is_named_is_told_apart() {
        let find = |api: &str| ContractSource::find(Some(api)).unwrap();
        let path = repository();
        assert_eq!(
            find(path.to_str().unwrap()),
            ContractSource::Checkout(path.clone())
        );
        assert_eq!(find("1.1"), ContractSource::Version("1.1".to_owned()));
        assert_eq!(
            find("https://git.example/warren").dependency("plugin-api"),
            "git = \"https://git.example/warren\""
        );
        assert_eq!(
            ContractSource::find(None).unwrap(),
            ContractSource::Checkout(path)
        );
    }

    #[test]
    fn a_folder_without_the_crates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = ContractSource::find(folder.path().to_str()).unwrap_err();
        assert!(error.message().contains("conformance"), "{error:?}");
        for (name, manifest) in [
            ("conformance", "[package]\nname = \"warren-conformance\"\n"),
            (
                "plugin-api",
                "[package]\nname = \"warren-plugin-api\"\nversion = \"9.0.0\"\n",
            ),
        ] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("Cargo.toml"), manifest).unwrap();
        }
        let error = ContractSource::find(folder.path().to_str()).unwrap_err();
        assert!(error.message().contains("contract 9.0"), "{error:?}");
    }

    #[test]
    fn an_author_without_a_checkout_is_told_what_to_do() {
        assert!(ContractSource::Unknown.note().contains("TO DO"));
        let source = ContractSource::Version("1.1".to_owned());
        assert_eq!(source.dependency("plugin-api"), "version = \"1.1\"");
    }
}
