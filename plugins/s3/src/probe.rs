//! Whether the service keeps preconditions, without which a late write could hide a later one.
//!
//! What was found out is kept in an object, so that later openings ask once instead of writing.

use serde::{Deserialize, Serialize};
use warren_plugin_api::{StoreError, StoreResult};

use crate::{
    bucket::{Expected, Part, PutAnswer},
    keys,
    object::FORMAT,
    shared::Shared,
};

/// No object has it.
const FOREIGN_ETAG: &str = "\"00000000000000000000000000000000\"";

/// What is known of the objects of one prefix.
#[derive(Serialize, Deserialize)]
struct Marker {
    warren: u32,
    /// The service that was found to keep preconditions.
    #[serde(default)]
    preconditions_kept_by: String,
}

impl Shared {
    /// Makes sure, once, that writes are guarded.
    ///
    /// # Errors
    /// `invalid_config` for a service that ignores preconditions, and for the objects of a later
    /// Warren.
    pub(crate) async fn make_ready(&self) -> StoreResult<()> {
        self.ready
            .get_or_try_init(|| async {
                let found = self
                    .bucket
                    .get(&self.keys.marker(), Part::Beginning)
                    .await?;
                let found =
                    found.and_then(|found| serde_json::from_slice::<Marker>(&found.bytes).ok());
                if let Some(marker) = &found
                    && marker.warren != FORMAT
                {
                    return Err(StoreError::invalid_config(format!(
                        "S3 at {}: the objects have format {}, expected {FORMAT}: a later Warren \
                         wrote them, choose another prefix",
                        self.address, marker.warren
                    )));
                }
                let service = self.service();
                let is_known = found.is_some_and(|marker| marker.preconditions_kept_by == service);
                if is_known || self.config.single_writer {
                    return Ok(());
                }
                self.probe().await?;
                self.remember(service).await
            })
            .await
            .copied()
    }

    fn service(&self) -> String {
        match &self.address.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("AWS {}", self.address.region),
        }
    }

    async fn remember(&self, service: String) -> StoreResult<()> {
        let marker = Marker {
            warren: FORMAT,
            preconditions_kept_by: service,
        };
        let bytes =
            serde_json::to_vec(&marker).map_err(|error| StoreError::internal(error.to_string()))?;
        self.bucket.put(&self.keys.marker(), bytes, None).await
    }

    async fn probe(&self) -> StoreResult<()> {
        let key = self.keys.probe(&keys::random());
        let found = self.ignored_precondition(&key).await;
        // It says nothing about what was found, and stands in nobody's way.
        let _ = self.bucket.delete(vec![key]).await;
        match found? {
            None => Ok(()),
            Some(ignored) => Err(StoreError::invalid_config(format!(
                "S3 at {}: the service {ignored}, so two processes could overwrite each other's \
                 results: use a service that keeps conditional writes, or set single_writer = true \
                 where one process writes",
                self.address
            ))),
        }
    }

    async fn ignored_precondition(&self, key: &str) -> StoreResult<Option<&'static str>> {
        let put = async |text: &str, expected: Expected| {
            let bytes = text.as_bytes().to_vec();
            self.bucket.put_if(key, bytes, &expected, None).await
        };
        if put("1", Expected::Nothing).await? == PutAnswer::Refused {
            return Ok(Some(
                "refuses If-None-Match for an object that is not there",
            ));
        }
        if put("2", Expected::Nothing).await? == PutAnswer::Done {
            return Ok(Some("ignores If-None-Match"));
        }
        let foreign = Expected::Object(FOREIGN_ETAG.to_owned());
        if put("3", foreign).await? == PutAnswer::Done {
            return Ok(Some("ignores If-Match"));
        }
        let found = self.bucket.get(key, Part::Beginning).await?;
        let Some(found) = found else {
            return Ok(Some("does not find what was just written"));
        };
        if put("4", Expected::Object(found.etag)).await? == PutAnswer::Refused {
            return Ok(Some("refuses If-Match with the object's own ETag"));
        }
        Ok(None)
    }
}
