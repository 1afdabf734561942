//! The alias that records go through, and the index behind it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use warren_plugin_api::{StoreError, StoreResult};

use crate::{
    client::{Body, Client, Kind, Request},
    config::ElasticsearchConfig,
    error::Failure,
    mapping::{self, create_body},
};

/// What follows the alias in the name of the first index.
const FIRST: &str = "-v1";
/// The servers take 255 bytes for a name.
const MOST_NAME_BYTES: usize = 200;
/// How often looking and making are begun anew when others make it too.
const ROUNDS: u32 = 4;
/// A busy cluster takes its time over an index. The host gives opening 30 s, and every other call
/// less.
const MADE_WITHIN: Duration = Duration::from_secs(20);

/// One alias on one cluster.
pub(crate) struct Index {
    pub(crate) client: Client,
    alias: String,
    create: Vec<u8>,
    /// Whether it is there, as far as is known.
    is_ready: AtomicBool,
    making_ready: Mutex<()>,
}

/// The answer to `GET /{alias}/_mapping`, by the index's own name.
type Mappings = BTreeMap<String, IndexMapping>;

#[derive(Deserialize)]
struct IndexMapping {
    mappings: Value,
}

impl Index {
    pub(crate) fn new(config: &ElasticsearchConfig, client: Client) -> Self {
        Self {
            client,
            alias: config.index.clone(),
            create: create_body(config).to_string().into_bytes(),
            is_ready: AtomicBool::new(false),
            making_ready: Mutex::new(()),
        }
    }

    pub(crate) fn alias(&self) -> &str {
        &self.alias
    }

    pub(crate) fn store_error(&self, failure: &Failure) -> StoreError {
        self.client.store_error(failure)
    }

    /// Sends a request to `/{alias}/{endpoint}`; once more when the index was gone.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        kind: Kind,
        method: &Method,
        endpoint: &str,
        body: Body<'_>,
    ) -> Result<T, Failure> {
        let path = format!("{}/{endpoint}", self.alias);
        let request = Request {
            kind,
            method,
            path: &path,
            body,
        };
        self.make_ready().await?;
        match self.client.send(request).await {
            Err(failure) if failure.is_missing_index() => {
                self.is_gone();
                self.make_ready().await?;
                self.client.send(request).await
            }
            answered => answered,
        }
    }

    /// Somebody was told that there is no such index.
    pub(crate) fn is_gone(&self) {
        self.is_ready.store(false, Ordering::Release);
    }

    /// Makes the index where it is not there, whoever else does so at the same time.
    pub(crate) async fn make_ready(&self) -> Result<(), Failure> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one_at_a_time = self.making_ready.lock().await;
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        for round in 0..ROUNDS {
            match self.look().await {
                Ok(()) => {
                    self.is_ready.store(true, Ordering::Release);
                    return Ok(());
                }
                Err(failure) if failure.is_missing_index() || failure.status() == Some(404) => {
                    self.make(round > 0).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(StoreError::unavailable(format!(
            "index {}: others make and remove it at the same time",
            self.alias
        ))
        .into())
    }

    async fn look(&self) -> Result<(), Failure> {
        let path = format!("{}/_mapping", self.alias);
        let found: Mappings = self
            .client
            .send(Request {
                kind: Kind::Read,
                method: &Method::GET,
                path: &path,
                body: Body::None,
            })
            .await?;
        Ok(self.check(&found)?)
    }

    fn check(&self, found: &Mappings) -> StoreResult<()> {
        let invalid = |text: String| Err(StoreError::invalid_config(text));
        let alias = &self.alias;
        let (name, index) = match found.iter().collect::<Vec<_>>().as_slice() {
            [(name, index)] => (*name, *index),
            several => {
                return invalid(format!(
                    "alias {alias} leads to {} indices, expected one",
                    several.len()
                ));
            }
        };
        if name == alias {
            return invalid(format!(
                "{alias} is an index, expected an alias or nothing: choose another index, or \
                 reindex it and name the alias {alias}"
            ));
        }
        let version = index.mappings.pointer("/_meta/warren/version");
        match version.and_then(Value::as_u64) {
            Some(1..=mapping::VERSION) => Ok(()),
            Some(later @ 1..) => invalid(format!(
                "index {name} was made by a later Warren (version {later}), expected at most {}",
                mapping::VERSION
            )),
            Some(0) | None => invalid(format!(
                "index {name} behind alias {alias} is not Warren's: choose another index"
            )),
        }
    }

    /// The index and its alias appear in one step; who comes second is told that it is there.
    async fn make(&self, is_there: bool) -> Result<(), Failure> {
        let first = format!("{}{FIRST}", self.alias);
        let request = Request {
            kind: Kind::Write,
            method: &Method::PUT,
            path: &first,
            body: Body::Json(&self.create),
        };
        let made: Result<Value, Failure> = self.client.send_within(MADE_WITHIN, request).await;
        match made {
            Ok(_) => Ok(()),
            Err(Failure::Refused(refusal))
                if matches!(
                    refusal.kind.as_str(),
                    "resource_already_exists_exception" | "index_already_exists_exception"
                ) =>
            {
                // Seen twice, it lost its alias: a restored snapshot, for example.
                if is_there {
                    self.name(&first).await?;
                }
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn name(&self, index: &str) -> Result<(), Failure> {
        let body = json!({"actions": [{"add": {"index": index, "alias": self.alias}}]});
        let request = Request {
            kind: Kind::Write,
            method: &Method::POST,
            path: "_aliases",
            body: Body::Json(&body.to_string().into_bytes()),
        };
        self.client.send::<Value>(request).await.map(|_| ())
    }
}

/// Lower case letters, digits, and `-`, `_`, `.` within: no server refuses that, and no path or
/// pattern can be made of it.
///
/// # Errors
/// `invalid_config`
pub(crate) fn check_name(name: &str) -> StoreResult<()> {
    let is_plain = name
        .starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
        });
    if is_plain && name.len() <= MOST_NAME_BYTES {
        return Ok(());
    }
    Err(StoreError::invalid_config(format!(
        "index is {:?}, expected 1 to {MOST_NAME_BYTES} of a-z, 0-9, -, _ and ., the first a \
         letter or a digit",
        name.chars().take(MOST_NAME_BYTES).collect::<String>()
    )))
}
