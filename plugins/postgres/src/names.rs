//! The names of what is in the database, quoted.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use warren_plugin_api::{StoreError, StoreResult};

/// Bytes of a name that PostgreSQL keeps; it cuts off the rest without an error.
const MOST_NAME_BYTES: usize = 63;
/// The longest that follows the prefix: `results_enqueued_at`.
const MOST_PREFIX_BYTES: usize = MOST_NAME_BYTES - 19;

const VERSIONS: &str = "schema_version";

/// Schema, tables and channel of a store.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The schema as it is, for the catalogue.
    pub(crate) raw_schema: String,
    /// The schema, quoted.
    pub(crate) schema: String,
    /// The table of records, qualified and quoted.
    pub(crate) results: String,
    /// The table of versions as it is, for the catalogue.
    pub(crate) raw_versions: String,
    /// The table of versions, qualified and quoted.
    pub(crate) versions: String,
    /// The channel on which completions are announced; an ordinary name.
    pub(crate) channel: String,
    prefix: String,
}

impl Names {
    pub(crate) fn new(schema: &str, prefix: &str) -> StoreResult<Self> {
        check("schema", schema, 1, MOST_NAME_BYTES)?;
        check("table_prefix", prefix, 0, MOST_PREFIX_BYTES)?;
        let quoted = quote(schema);
        let table = |name: &str| format!("{quoted}.{}", quote(&format!("{prefix}{name}")));
        Ok(Self {
            raw_schema: schema.to_owned(),
            raw_versions: format!("{prefix}{VERSIONS}"),
            results: table("results"),
            versions: table(VERSIONS),
            channel: channel(schema, prefix),
            prefix: prefix.to_owned(),
            schema: quoted,
        })
    }

    /// An index of the table of records, quoted. It lies in the table's schema.
    pub(crate) fn index(&self, of: &str) -> String {
        quote(&format!("{}results_{of}", self.prefix))
    }
}

fn check(option: &str, name: &str, least: usize, most: usize) -> StoreResult<()> {
    let bytes = name.len();
    if !(least..=most).contains(&bytes) {
        return Err(StoreError::invalid_config(format!(
            "{option} has {bytes} bytes, expected {least} to {most}"
        )));
    }
    if name.contains('\0') {
        return Err(StoreError::invalid_config(format!(
            "{option} has a NUL, which no name in PostgreSQL may have"
        )));
    }
    Ok(())
}

/// A name as an SQL identifier, whatever characters it has.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A channel is a name of at most 63 bytes, which schema and prefix together may exceed.
fn channel(schema: &str, prefix: &str) -> String {
    let digest = Sha256::digest(format!("{schema}\0{prefix}"));
    let mut name = String::from("warren_completed_");
    for byte in digest.iter().take(16) {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_name_whatever_is_in_it() {
        let names = Names::new("My \"Schema\"; --", "x\".y\\").unwrap();
        assert_eq!(
            names.results,
            "\"My \"\"Schema\"\"; --\".\"x\"\".y\\results\""
        );
        assert_eq!(names.index("queue"), "\"x\"\".y\\results_queue\"");
    }

    #[test]
    fn no_name_is_longer_than_the_server_keeps() {
        let names = Names::new(&"s".repeat(63), &"p".repeat(MOST_PREFIX_BYTES)).unwrap();
        for (index, _) in crate::schema::INDEXES {
            assert!(names.index(index).len() - 2 <= MOST_NAME_BYTES, "{index}");
        }
        assert!(names.versions.len() - "\"\".\"\"".len() <= 2 * MOST_NAME_BYTES);
        assert!(names.channel.len() <= MOST_NAME_BYTES);
    }

    #[test]
    fn other_tables_have_other_channels() {
        let channel = |schema, prefix| Names::new(schema, prefix).unwrap().channel;
        assert_ne!(channel("ab", "c"), channel("a", "bc"));
        assert_eq!(channel("ab", "c"), channel("ab", "c"));
    }
}
