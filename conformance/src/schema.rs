//! The JSON Schema that a store publishes of its configuration, as far as rules speak of it.

use std::collections::BTreeSet;

use serde_json::Value;

/// References may lead in a circle.
const DEEPEST: usize = 16;

/// A schema of a table, or of a part of one.
#[derive(Clone, Copy)]
pub(crate) struct Schema<'a> {
    root: &'a Value,
    here: &'a Value,
    depth: usize,
}

impl<'a> Schema<'a> {
    pub(crate) const fn of(root: &'a Value) -> Self {
        Self {
            root,
            here: root,
            depth: 0,
        }
    }

    /// The options without which no configuration passes; of alternatives, those of each.
    pub(crate) fn needed(self) -> Vec<&'a str> {
        let required = self.here["required"].as_array();
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        let mut needed: BTreeSet<&str> = required.collect();
        needed.extend(self.also().flat_map(Self::needed));
        for choice in ["anyOf", "oneOf"] {
            let alternatives: Vec<_> = self.parts(choice).map(Self::needed).collect();
            if alternatives.iter().all(|needed| !needed.is_empty()) {
                needed.extend(alternatives.into_iter().flatten());
            }
        }
        needed.into_iter().collect()
    }

    /// The options that have no description, neither beside their name nor where it leads.
    pub(crate) fn undescribed(self) -> Vec<&'a str> {
        let options = self.here["properties"].as_object();
        let options = options.into_iter().flatten();
        let undescribed = options
            .filter(|(_, option)| {
                self.deeper(option)
                    .is_some_and(|option| !option.is_described())
            })
            .map(|(name, _)| name.as_str());
        let parts = self.also().chain(self.parts("anyOf"));
        let of_parts = parts.chain(self.parts("oneOf")).flat_map(Self::undescribed);
        undescribed.chain(of_parts).collect()
    }

    fn is_described(self) -> bool {
        let described = self.here["description"].as_str();
        described.is_some_and(|text| !text.trim().is_empty()) || self.also().any(Self::is_described)
    }

    /// Whether an option that is not in it makes a configuration wrong.
    pub(crate) fn refuses_unknown_options(self) -> bool {
        let is_no_table = self.here["type"].is_string() && self.here["type"] != "object";
        is_no_table
            || ["additionalProperties", "unevaluatedProperties"]
                .iter()
                .any(|keyword| self.here[keyword] == false)
            || self.also().any(Self::refuses_unknown_options)
            || ["anyOf", "oneOf"].iter().any(|choice| {
                let mut alternatives = self.parts(choice).peekable();
                alternatives.peek().is_some() && alternatives.all(Self::refuses_unknown_options)
            })
    }

    /// What must hold beside what stands here.
    fn also(self) -> impl Iterator<Item = Self> {
        let target = self.here["$ref"].as_str().and_then(|reference| {
            let target = self.root.pointer(reference.strip_prefix('#')?)?;
            self.deeper(target)
        });
        self.parts("allOf").chain(target)
    }

    fn parts(self, keyword: &str) -> impl Iterator<Item = Self> {
        let parts = self.here[keyword].as_array();
        let parts = parts.into_iter().flatten();
        parts.filter_map(move |part| self.deeper(part))
    }

    fn deeper(self, here: &'a Value) -> Option<Self> {
        let depth = self.depth + 1;
        (depth < DEEPEST).then_some(Self {
            here,
            depth,
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_every_configuration_needs_is_found_wherever_it_stands() {
        for (schema, needed) in [
            (json!({}), vec![]),
            (json!(true), vec![]),
            (json!({"required": []}), vec![]),
            (json!({"required": ["path", "size"]}), vec!["path", "size"]),
            (json!({"allOf": [{}, {"required": ["path"]}]}), vec!["path"]),
            (
                json!({"$ref": "#/$defs/C", "$defs": {"C": {"required": ["path"]}}}),
                vec!["path"],
            ),
            (json!({"$ref": "#"}), vec![]),
            (
                json!({"oneOf": [{"required": ["url"]}, {"required": ["path"]}]}),
                vec!["path", "url"],
            ),
            (json!({"anyOf": [{"required": ["url"]}, {}]}), vec![]),
            (
                // Needed only where the table is given.
                json!({"properties": {"tls": {"required": ["ca_file"]}}}),
                vec![],
            ),
        ] {
            assert_eq!(Schema::of(&schema).needed(), needed, "{schema}");
        }
    }

    #[test]
    fn an_option_is_described_beside_its_name_or_where_it_leads() {
        let schema = json!({
            "properties": {
                "path": {"description": "The folder."},
                "size": {"type": "integer", "description": " "},
                "tls": {"$ref": "#/$defs/Tls"},
                "pool": {"$ref": "#/$defs/Pool"},
            },
            "oneOf": [{"properties": {"kind": {"const": "a"}}}],
            "$defs": {"Tls": {"description": "How to encrypt."}, "Pool": {"type": "object"}},
        });
        let mut undescribed = Schema::of(&schema).undescribed();
        undescribed.sort_unstable();
        assert_eq!(undescribed, ["kind", "pool", "size"]);
    }

    #[test]
    fn a_table_says_that_it_takes_no_other_options() {
        for (schema, refuses) in [
            (json!({"type": "object"}), false),
            (json!({"additionalProperties": {"type": "string"}}), false),
            (json!({"additionalProperties": false}), true),
            (json!({"unevaluatedProperties": false}), true),
            (json!({"type": "null"}), true),
            (json!({"allOf": [{"additionalProperties": false}]}), true),
            (
                json!({"oneOf": [{"additionalProperties": false}, {}]}),
                false,
            ),
            (json!({"oneOf": [{"additionalProperties": false}]}), true),
        ] {
            assert_eq!(
                Schema::of(&schema).refuses_unknown_options(),
                refuses,
                "{schema}"
            );
        }
    }
}
