//! The tables within a composition's configuration.

use serde_json::Value;

use super::{MemberConfig, StoreRegistry};
use crate::store::{ConfigProblem, OpenError};

/// How deep compositions may be within each other.
const MOST_LEVELS: usize = 4;

/// Everything that is wrong with the members' tables, each by its own store's schema.
pub(super) fn problems(
    registry: &StoreRegistry,
    members: &[(String, &MemberConfig)],
) -> Vec<ConfigProblem> {
    let problem = |key: String, problem: String, suggestion| ConfigProblem {
        key,
        problem,
        suggestion,
    };
    let mut found = Vec::new();
    for (path, member) in members {
        if levels(&Value::Object(member.config.clone())) >= MOST_LEVELS {
            let text = format!("stores are nested more than {MOST_LEVELS} deep");
            found.push(problem(path.clone(), text, None));
            continue;
        }
        match registry.choose(&member.store_type, &[]) {
            Ok(store_type) => {
                let inner = store_type.config_problems(&Value::Object(member.config.clone()));
                found.extend(inner.into_iter().map(|inner| ConfigProblem {
                    key: match inner.key.as_str() {
                        "" => format!("{path}.config"),
                        key => format!("{path}.config.{key}"),
                    },
                    ..inner
                }));
            }
            Err(OpenError::UnknownType {
                name,
                registered,
                nearest,
                ..
            }) => {
                let text = format!(
                    "unknown result store type {name:?}; registered: {}; `warren plugins ls` says \
                     which plugins are refused",
                    registered.join(", ")
                );
                found.push(problem(format!("{path}.type"), text, nearest));
            }
            Err(error) => found.push(problem(format!("{path}.type"), error.to_string(), None)),
        }
    }
    found
}

/// The members' tables in a composition's configuration: whatever has a `type` and a `config`.
fn members_in(config: &Value) -> impl Iterator<Item = &Value> {
    let fields = config
        .as_object()
        .into_iter()
        .flat_map(|table| table.values());
    fields
        .flat_map(|field| match field {
            Value::Array(items) => items.iter().collect(),
            single => vec![single],
        })
        .filter(|field| field["type"].is_string() && field["config"].is_object())
}

fn levels(config: &Value) -> usize {
    members_in(config)
        .map(|member| 1 + levels(&member["config"]))
        .max()
        .unwrap_or_default()
}

/// How many single stores are in a member: 1, unless it is a composition itself.
pub(super) fn stores_in(member: &MemberConfig) -> u32 {
    count(&Value::Object(member.config.clone()))
}

fn count(config: &Value) -> u32 {
    let stores: u32 = members_in(config)
        .map(|member| count(&member["config"]))
        .sum();
    stores.clamp(1, 16)
}
