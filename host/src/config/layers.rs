//! Putting the layers over one another, and saying which layer a value comes from.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// This flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why there is no configuration. Shows no value but that of a wrong key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// A layer is not well-formed, or holds an unknown key or a value of the wrong type.
    #[error("{origin}: {reason}")]
    Invalid {
        /// The layer.
        origin: String,
        /// What is wrong, and where.
        reason: String,
        /// The key that was probably meant.
        suggestion: Option<String>,
    },
    /// A reference to a secret that is not there.
    #[error("{key}: {reason}")]
    Secret {
        /// The key that refers to it.
        key: String,
        /// Why it cannot be had.
        reason: String,
    },
}

/// The layers that have been put over one another so far.
#[derive(Debug, Default)]
pub struct Layers {
    table: Table,
    origins: BTreeMap<String, Origin>,
}

/// The whole configuration.
#[derive(Debug)]
pub struct Loaded {
    /// Typed, with defaults.
    pub config: Config,
    /// Where each value that is not a default comes from, by dotted key.
    pub origins: BTreeMap<String, Origin>,
}

/// Short names for what is set most often.
const SHORT_VARIABLES: [(&str, &str); 4] = [
    ("WARREN_BROKER_URL", "broker.url"),
    ("WARREN_RESULT_STORE_TYPE", "result_store.type"),
    ("WARREN_WORKER_NAME", "worker.name"),
    ("WARREN_LOG", "log.level"),
];

impl Layers {
    /// Adds a configuration file.
    ///
    /// # Errors
    /// It cannot be read, or does not fit.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        self.add_text(&text, path)
    }

    fn add_text(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let invalid = |error: toml::de::Error| {
            let (line, column) = error
                .span()
                .map_or((1, 1), |span| position(text, span.start));
            let origin = format!("{}:{line}:{column}", path.display());
            invalid(origin, error.message())
        };
        // Read alone first: its errors then carry line and column.
        let table = toml::from_str::<Table>(text).map_err(invalid)?;
        toml::from_str::<Config>(text).map_err(invalid)?;
        let origin = Origin::File(path.to_owned());
        for key in leaves(&table) {
            self.origins.insert(key, origin.clone());
        }
        merge(&mut self.table, table);
        Ok(())
    }

    /// Adds environment variables: the short ones, and `WARREN__SECTION__KEY` for everything.
    ///
    /// # Errors
    /// A value does not fit.
    pub fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, text) in variables {
            let key = match SHORT_VARIABLES.iter().find(|(short, _)| *short == name) {
                Some((_, key)) => (*key).to_owned(),
                None => match name.strip_prefix("WARREN__") {
                    Some(path) => path.to_lowercase().replace("__", "."),
                    None => continue,
                },
            };
            self.set(&key, &text, Origin::Environment(name))?;
        }
        Ok(())
    }

    /// Sets one dotted key. The text is read as TOML if it is TOML that fits, else as a string.
    ///
    /// # Errors
    /// The key is unknown or the value does not fit.
    pub fn set(&mut self, key: &str, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let as_toml = toml::from_str::<Table>(&format!("value = {text}"))
            .ok()
            .and_then(|mut table| table.remove("value"));
        let as_text = Value::String(text.to_owned());
        let mut last_error = None;
        for value in as_toml.into_iter().chain([as_text]) {
            let mut alone = Table::new();
            insert(&mut alone, key, value);
            match Config::deserialize(alone.clone()) {
                Ok(_) => {
                    merge(&mut self.table, alone);
                    self.origins.insert(key.to_owned(), origin);
                    return Ok(());
                }
                // The first reading is the likelier one, so its error is the better one.
                Err(error) => {
                    last_error.get_or_insert(error);
                }
            }
        }
        let reason = last_error.map_or_else(String::new, |error| error.message().to_owned());
        Err(invalid(format!("{origin} ({key})"), &reason))
    }

    /// The configuration that all layers make together.
    ///
    /// # Errors
    /// A secret that is referred to is not there, or does not fit where it stands.
    pub fn finish(mut self) -> Result<Loaded, ConfigError> {
        resolve_secrets("", &mut self.table)?;
        let config = Config::deserialize(self.table)
            .map_err(|error| invalid("configuration".to_owned(), error.message()))?;
        Ok(Loaded {
            config,
            origins: self.origins,
        })
    }
}

/// serde names the wrong key and all right ones; the nearest of them is the suggestion.
fn invalid(origin: String, message: &str) -> ConfigError {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let suggestion = match quoted.split_first() {
        Some((wrong, right)) if message.starts_with("unknown") => right
            .iter()
            .map(|word| (strsim::jaro_winkler(wrong, word), word))
            .filter(|(likeness, _)| *likeness > 0.75)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, word)| (*word).to_owned()),
        _ => None,
    };
    ConfigError::Invalid {
        origin,
        reason: message.trim().to_owned(),
        suggestion,
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before.len() - line_start + 1,
    )
}

fn leaves(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                keys.extend(
                    leaves(inner)
                        .into_iter()
                        .map(|leaf| format!("{key}.{leaf}")),
                );
            }
            _ => keys.push(key.clone()),
        }
    }
    keys
}

fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn insert(table: &mut Table, dotted: &str, value: Value) {
    match dotted.split_once('.') {
        None => {
            table.insert(dotted.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = table
                .entry(head)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// `${env:NAME}` and `${file:/path}` stand for a secret that is kept elsewhere.
fn resolve_secrets(prefix: &str, table: &mut Table) -> Result<(), ConfigError> {
    for (key, value) in table.iter_mut() {
        let key = if prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            Value::String(text) => *text = resolve_text(&key, text)?,
            Value::Table(inner) => resolve_secrets(&key, inner)?,
            // Tables in a list are configuration; texts in a list may be a command for a shell.
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    if let Value::Table(inner) = item {
                        resolve_secrets(&format!("{key}.{at}"), inner)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn resolve_text(key: &str, text: &str) -> Result<String, ConfigError> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let missing = |reason: String| ConfigError::Secret {
            key: key.to_owned(),
            reason,
        };
        let Some(length) = rest[start..].find('}') else {
            return Err(missing("\"${\" without a closing \"}\"".to_owned()));
        };
        resolved.push_str(&rest[..start]);
        let reference = &rest[start + 2..start + length];
        resolved.push_str(&match reference.split_once(':') {
            Some(("env", name)) => std::env::var(name)
                .map_err(|_| missing(format!("the environment variable {name} is not set")))?,
            Some(("file", path)) => fs::read_to_string(path)
                .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                .map_err(|error| missing(format!("{path}: {error}")))?,
            _ => {
                return Err(missing(format!(
                    "unknown reference ${{{reference}}}; expected ${{env:NAME}} or ${{file:/path}}"
                )));
            }
        });
        rest = &rest[start + length + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(text: &str) -> Result<Layers, ConfigError> {
        let mut layers = Layers::default();
        layers.add_text(text, Path::new("warren.toml"))?;
        Ok(layers)
    }

    #[test]
    fn each_layer_goes_over_the_one_before() {
        let mut layers = layers("[worker]\nconcurrency = 5\nname = \"file\"").unwrap();
        let variables = [
            ("WARREN__WORKER__CONCURRENCY", "6"),
            ("WARREN_WORKER_NAME", "7"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        layers.add_environment(variables.into_iter()).unwrap();
        layers
            .set(
                "worker.queues",
                "[\"a\", \"b\"]",
                Origin::Flag("--queue".to_owned()),
            )
            .unwrap();
        let loaded = layers.finish().unwrap();
        assert_eq!(loaded.config.worker.concurrency, 6);
        assert_eq!(loaded.config.worker.name.as_deref(), Some("7"));
        assert_eq!(loaded.config.worker.queues.len(), 2);
        assert_eq!(
            loaded.origins["worker.name"].to_string(),
            "$WARREN_WORKER_NAME"
        );
        assert_eq!(loaded.origins["worker.queues"].to_string(), "--queue");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
        let error = layers("[worker]\nconcurency = 5").unwrap_err();
        let ConfigError::Invalid {
            origin,
            reason,
            suggestion,
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!(origin, "warren.toml:2:1");
        assert!(reason.contains("concurency"), "{reason}");
        assert_eq!(suggestion.as_deref(), Some("concurrency"));
    }

    #[test]
    fn a_wrong_value_is_an_error_in_every_layer() {
        assert!(layers("[worker]\nconcurrency = \"many\"").is_err());
        assert!(layers("[worker]\nshutdown_grace = \"soon\"").is_err());
        let mut none = Layers::default();
        assert!(
            none.set("worker.concurrency", "many", Origin::Flag("-c".to_owned()))
                .is_err()
        );
        assert!(
            none.set("worker.nothing", "1", Origin::Flag("-c".to_owned()))
                .is_err()
        );
    }

    #[test]
    fn secrets_come_from_where_they_are_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret\n").unwrap();
        let text = format!(
            "[result_store.config]\nredis_url = \"redis://:${{file:{}}}@host/0\"",
            file.path().display()
        );
        let loaded = layers(&text).unwrap().finish().unwrap();
        let url = loaded.config.result_store.config["redis_url"].as_str();
        assert_eq!(url, Some("redis://:s3cret@host/0"));
        let listed = format!(
            "[[result_store.config.members]]\nurl = \"${{file:{}}}\"",
            file.path().display()
        );
        let loaded = layers(&listed).unwrap().finish().unwrap();
        let members = loaded.config.result_store.config["members"].as_array();
        assert_eq!(members.unwrap()[0]["url"].as_str(), Some("s3cret"));
        let error = layers("[broker]\nurl = \"${env:WARREN_NOT_THERE}\"")
            .unwrap()
            .finish();
        assert!(error.unwrap_err().to_string().contains("WARREN_NOT_THERE"));
    }
}
