//! A store's configuration held against the schema that the store publishes.

use std::fmt;

use serde_json::Value;

/// One thing that is wrong with a store's configuration. Shows keys and types, never a value:
/// a value may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where, as `tls.ca_file`; empty for the whole table.
    pub key: String,
    /// What was found and what was expected.
    pub problem: String,
    /// The key that was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.problem)?;
        } else {
            write!(f, "{}: {}", self.key, self.problem)?;
        }
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean {suggestion:?}?"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with `config` by `schema`. A schema that is itself wrong passes
/// everything: the store's own reading of its configuration comes after this.
pub(crate) fn problems(schema: &Value, config: &Value) -> Vec<ConfigProblem> {
    let Ok(validator) = jsonschema::validator_for(schema) else {
        return Vec::new();
    };
    validator
        .iter_errors(config)
        .flat_map(|error| {
            let path = error.instance_path().as_str().to_owned();
            match error.kind() {
                jsonschema::error::ValidationErrorKind::AdditionalProperties { unexpected } => {
                    unexpected
                        .iter()
                        .map(|key| unknown_key(schema, &path, key))
                        .collect()
                }
                _ => vec![ConfigProblem {
                    key: dotted(&path),
                    problem: error.masked().to_string(),
                    suggestion: None,
                }],
            }
        })
        .collect()
}

fn unknown_key(schema: &Value, table_path: &str, key: &str) -> ConfigProblem {
    let known = known_keys(schema, table_path);
    let table = dotted(table_path);
    let whole_key = if table.is_empty() {
        key.to_owned()
    } else {
        format!("{table}.{key}")
    };
    let problem = if known.is_empty() {
        "this store has no such key".to_owned()
    } else {
        format!("this store has no such key; it has {}", known.join(", "))
    };
    ConfigProblem {
        key: whole_key,
        problem,
        suggestion: nearest(key, known.iter().map(String::as_str)),
    }
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// The keys that the schema allows in the table at `pointer`.
fn known_keys(schema: &Value, pointer: &str) -> Vec<String> {
    let mut here = schema;
    for step in pointer.split('/').filter(|step| !step.is_empty()) {
        let table = resolve(schema, here);
        let next = match step.parse::<usize>() {
            // A place in a list.
            Ok(_) => table.get("items"),
            Err(_) => table.get("properties").and_then(|all| all.get(step)),
        };
        let Some(next) = next else {
            return Vec::new();
        };
        here = next;
    }
    resolve(schema, here)
        .get("properties")
        .and_then(Value::as_object)
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// Follows a reference within the schema, also where an optional table makes it one of several.
fn resolve<'schema>(root: &'schema Value, here: &'schema Value) -> &'schema Value {
    let reference = here.get("$ref").or_else(|| {
        let choices = here.get("anyOf")?.as_array()?;
        choices.iter().find_map(|choice| choice.get("$ref"))
    });
    reference
        .and_then(Value::as_str)
        .and_then(|reference| root.pointer(reference.trim_start_matches('#')))
        .unwrap_or(here)
}

/// The candidate that `word` was probably meant to be, if one is close enough.
pub(crate) fn nearest<'word>(
    word: &str,
    candidates: impl Iterator<Item = &'word str>,
) -> Option<String> {
    const CLOSE_ENOUGH: f64 = 0.75;
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= CLOSE_ENOUGH)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "redis_url": { "type": "string" },
                "pool": { "anyOf": [{ "$ref": "#/$defs/Pool" }, { "type": "null" }] },
                "pools": { "type": "array", "items": { "$ref": "#/$defs/Pool" } }
            },
            "$defs": {
                "Pool": {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": { "max_connections": { "type": "integer" } }
                }
            }
        })
    }

    #[test]
    fn a_wrong_key_is_named_with_the_one_that_was_meant() {
        let found = problems(&schema(), &json!({ "redis_ulr": "redis://" }));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key, "redis_ulr");
        assert_eq!(found[0].suggestion.as_deref(), Some("redis_url"));
    }

    #[test]
    fn a_wrong_key_in_a_list_of_tables_is_named_too() {
        let found = problems(
            &schema(),
            &json!({ "pools": [{}, { "max_conections": 1 }] }),
        );
        assert_eq!(found[0].key, "pools.1.max_conections");
        assert_eq!(found[0].suggestion.as_deref(), Some("max_connections"));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_shown() {
        let found = problems(&schema(), &json!({ "redis_url": 123_456 }));
        assert_eq!(found[0].key, "redis_url");
        assert!(!found[0].to_string().contains("123456"), "{}", found[0]);
        assert!(found[0].to_string().contains("string"), "{}", found[0]);
    }

    #[test]
    fn what_fits_passes() {
        assert_eq!(
            problems(&schema(), &json!({ "pool": { "max_connections": 3 } })),
            []
        );
        assert_eq!(problems(&schema(), &json!({})), []);
    }
}
