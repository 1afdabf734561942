//! The rule by which the service removes what has expired.

use serde_json::{Value, json};

use crate::{bucket::TAG, keys::Keys};

/// What `aws s3api put-bucket-lifecycle-configuration --lifecycle-configuration` takes.
///
/// It removes only what has a tag of as many days: a record has one when it expires within them,
/// counted from its last write, and a write anew starts counting anew. The entries that lead to it
/// are written less often, so they stay twice as long.
pub(crate) fn configuration(keys: &Keys, days: u16) -> Value {
    let rule = |what: &str, prefix: String, after: u32| {
        json!({
            "ID": format!("warren {prefix} {what} {days}d"),
            "Status": "Enabled",
            "Filter": {"And": {
                "Prefix": prefix,
                "Tags": [{"Key": TAG, "Value": days.to_string()}],
            }},
            "Expiration": {"Days": after},
        })
    };
    let days_of_entries = u32::from(days) * 2;
    json!({"Rules": [
        rule("records", keys.records(), days.into()),
        rule("index", keys.index(), days_of_entries),
    ]})
}
