//! How the cluster is, and what an operator should know.

use std::{collections::BTreeMap, time::Instant};

use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use warren_plugin_api::{Health, StoreError, StoreResult};

use crate::{
    client::{Body, Kind, Request},
    error::Failure,
    index::Index,
};

/// The answer to `GET /`.
#[derive(Deserialize)]
struct Banner {
    version: BannerVersion,
}

#[derive(Deserialize)]
struct BannerVersion {
    number: String,
    /// `opensearch`; Elasticsearch says nothing.
    distribution: Option<String>,
}

#[derive(Deserialize)]
struct ClusterHealth {
    status: String,
}

/// Asks whether the index would be read and written, and by whom.
pub(crate) async fn check(index: &Index) -> StoreResult<Health> {
    let asked = Instant::now();
    let checked = look(index).await;
    let (product, warnings) = checked.map_err(|failure| index.store_error(&failure))?;
    Ok(Health {
        detail: format!(
            "{product} at {}, index {}, answered in {:.1?}",
            index.client.address,
            index.alias(),
            asked.elapsed()
        ),
        warnings,
    })
}

async fn look(index: &Index) -> Result<(String, Vec<String>), Failure> {
    index.make_ready().await?;
    let mut warnings = Vec::new();
    // A document that is not there is read as one that is: the index answers.
    let probe = Body::Json(br#"{"ids":["warren-health"]}"#);
    let _: Value = index
        .send(Kind::Read, &Method::POST, "_mget?_source=false", probe)
        .await?;
    let product = match allowed::<Banner>(get(index, "").await)? {
        Some(banner) => product(&banner),
        None => "Elasticsearch or OpenSearch".to_owned(),
    };
    let path = format!("_cluster/health/{}", index.alias());
    match allowed::<ClusterHealth>(get(index, &path).await)? {
        Some(health) if health.status == "red" => {
            return Err(StoreError::unavailable(format!(
                "{product} at {}: a primary shard of index {} is missing (red)",
                index.client.address,
                index.alias()
            ))
            .into());
        }
        Some(health) if health.status == "yellow" => warnings.push(format!(
            "a replica of index {} is missing (yellow): a lost node may take results with it",
            index.alias()
        )),
        Some(_) | None => {}
    }
    let path = format!("{}/_settings?flat_settings=true", index.alias());
    if let Some(settings) = allowed::<BTreeMap<String, Value>>(get(index, &path).await)? {
        warnings.extend(settings.values().flat_map(setting_warnings));
    }
    if !index.client.address.is_trusted() {
        warnings.push(
            "whoever is on the way to the server can read and change results, and the credentials: \
             use https:// in elasticsearch_urls"
                .to_owned(),
        );
    }
    Ok((product, warnings))
}

fn product(banner: &Banner) -> String {
    let name = match banner.version.distribution.as_deref() {
        Some("opensearch") => "OpenSearch",
        _ => "Elasticsearch",
    };
    let number: String = banner.version.number.chars().take(32).collect();
    format!("{name} {number}")
}

fn setting_warnings(index: &Value) -> Vec<String> {
    let setting = |name: &str| {
        index
            .get("settings")
            .and_then(|settings| settings.get(name))
            .and_then(Value::as_str)
    };
    let mut warnings = Vec::new();
    if setting("index.translog.durability") == Some("async") {
        warnings.push(
            "index.translog.durability is async: a crash loses the last results that were \
             acknowledged"
                .to_owned(),
        );
    }
    for block in [
        "index.blocks.write",
        "index.blocks.read_only",
        "index.blocks.read_only_allow_delete",
    ] {
        if setting(block) == Some("true") {
            warnings.push(format!("{block} is set: the index takes no results"));
        }
    }
    warnings
}

async fn get<T: DeserializeOwned>(index: &Index, path: &str) -> Result<T, Failure> {
    let request = Request {
        kind: Kind::Read,
        method: &Method::GET,
        path,
        body: Body::None,
    };
    index.client.send(request).await
}

/// What this user may not ask for is left out: `None`. Serverless clusters answer some of it
/// with 410.
fn allowed<T>(answered: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answered {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if matches!(failure.status(), Some(403 | 410)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_products_are_told_by_their_banners() {
        for (banner, told) in [
            (
                json!({"version": {"number": "9.1.4", "build_flavor": "default"},
                       "tagline": "You Know, for Search"}),
                "Elasticsearch 9.1.4",
            ),
            (
                json!({"version": {"number": "3.8.0", "distribution": "opensearch"}}),
                "OpenSearch 3.8.0",
            ),
        ] {
            assert_eq!(product(&serde_json::from_value(banner).unwrap()), told);
        }
    }

    #[test]
    fn settings_that_lose_or_refuse_results_are_warned_of() {
        let settings = |name: &str, value: &str| json!({"settings": {name: value}});
        for (settings, warns) in [
            (settings("index.translog.durability", "async"), true),
            (settings("index.translog.durability", "request"), false),
            (
                settings("index.blocks.read_only_allow_delete", "true"),
                true,
            ),
            (settings("index.blocks.write", "false"), false),
            (json!(null), false),
        ] {
            assert_eq!(!setting_warnings(&settings).is_empty(), warns, "{settings}");
        }
    }
}
