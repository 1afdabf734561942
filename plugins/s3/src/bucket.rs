//! The requests that the store makes of its bucket.

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    GetOptions, GetRange, ObjectStore, PutMode, PutOptions, PutPayload, RetryConfig, TagSet,
    UpdateVersion,
    aws::{AmazonS3, S3ConditionalPut},
    list::{PaginatedListOptions, PaginatedListStore},
    path::Path,
};
use warren_plugin_api::{StoreError, StoreResult, Timestamp};

use crate::{
    address::Address,
    config::S3Config,
    credentials,
    error::{is_missing_object, is_refused, store_error},
    http::Connector,
    object::HEAD_BYTES,
};

/// What one request lists or deletes.
pub(crate) const MOST_KEYS: usize = 1_000;

/// A bucket of a service.
#[derive(Debug)]
pub(crate) struct Bucket {
    client: AmazonS3,
    address: String,
    /// Whether writes go without preconditions.
    is_unguarded: bool,
}

/// An object, or its beginning.
pub(crate) struct Object {
    pub(crate) bytes: Vec<u8>,
    pub(crate) etag: String,
}

/// How much of an object is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    Beginning,
}

/// What must lie under a key for a write to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    /// The object with this ETag.
    Object(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutAnswer {
    Done,
    /// Something else lies there.
    Refused,
}

/// A page of a list.
pub(crate) struct Names {
    pub(crate) names: Vec<Name>,
    /// Whether there are more.
    pub(crate) is_cut: bool,
}

/// An object in a list.
pub(crate) struct Name {
    /// What follows the prefix that was asked for.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) written_at: Timestamp,
}

/// Tells a lifecycle rule which objects it may remove: those of so many days.
pub(crate) const TAG: &str = "warren-expires-within-days";

impl Bucket {
    pub(crate) fn new(config: &S3Config, address: &Address) -> StoreResult<Self> {
        // Our client sends again, without a line in the log each time.
        let once = RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        };
        let mut builder = credentials::builder(config)?
            .with_bucket_name(&address.bucket)
            .with_region(&address.region)
            .with_virtual_hosted_style_request(address.is_virtual_host)
            .with_allow_http(config.allow_http)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(!config.bulk_delete)
            .with_retry(once)
            .with_http_connector(Connector::new(config)?);
        if let Some(endpoint) = &address.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let client = builder.build().map_err(|error| {
            StoreError::invalid_config(format!("S3 at {address} cannot be set up: {error}"))
        })?;
        Ok(Self {
            client,
            address: address.to_string(),
            is_unguarded: config.single_writer,
        })
    }

    pub(crate) fn error(&self, error: &object_store::Error) -> StoreError {
        store_error(&self.address, error)
    }

    /// Reads an object; `None` where there is none.
    pub(crate) async fn get(&self, key: &str, part: Part) -> StoreResult<Option<Object>> {
        let options = GetOptions {
            range: (part == Part::Beginning).then_some(GetRange::Bounded(0..HEAD_BYTES)),
            ..GetOptions::default()
        };
        let found = match self.client.get_opts(&Path::from(key), options).await {
            Ok(found) => found,
            Err(error) if is_missing_object(&error) => return Ok(None),
            Err(error) => return Err(self.error(&error)),
        };
        let etag = found.meta.e_tag.clone().ok_or_else(|| {
            StoreError::invalid_config(format!(
                "S3 at {}: an object has no ETag, expected one for every object",
                self.address
            ))
        })?;
        let bytes = found.bytes().await.map_err(|error| self.error(&error))?;
        Ok(Some(Object {
            bytes: bytes.to_vec(),
            etag,
        }))
    }

    /// Writes an object if `expected` is what lies there.
    pub(crate) async fn put_if(
        &self,
        key: &str,
        bytes: Vec<u8>,
        expected: &Expected,
        lifecycle_days: Option<u16>,
    ) -> StoreResult<PutAnswer> {
        let mode = match expected {
            _ if self.is_unguarded => PutMode::Overwrite,
            Expected::Nothing => PutMode::Create,
            Expected::Object(etag) => PutMode::Update(UpdateVersion {
                e_tag: Some(etag.clone()),
                version: None,
            }),
        };
        self.send(key, bytes, mode, lifecycle_days).await
    }

    /// Writes an object, whatever lies there.
    pub(crate) async fn put(
        &self,
        key: &str,
        bytes: Vec<u8>,
        lifecycle_days: Option<u16>,
    ) -> StoreResult<()> {
        self.send(key, bytes, PutMode::Overwrite, lifecycle_days)
            .await
            .map(|_| ())
    }

    async fn send(
        &self,
        key: &str,
        bytes: Vec<u8>,
        mode: PutMode,
        lifecycle_days: Option<u16>,
    ) -> StoreResult<PutAnswer> {
        let mut tags = TagSet::default();
        if let Some(days) = lifecycle_days {
            tags.push(TAG, &days.to_string());
        }
        let options = PutOptions {
            mode,
            tags,
            ..PutOptions::default()
        };
        let sent = self
            .client
            .put_opts(&Path::from(key), PutPayload::from(bytes), options)
            .await;
        match sent {
            Ok(_) => Ok(PutAnswer::Done),
            Err(error) if is_refused(&error) => Ok(PutAnswer::Refused),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Deletes objects, in this order; one that is not there is as good as deleted.
    pub(crate) async fn delete(&self, keys: Vec<String>) -> StoreResult<()> {
        let paths = stream::iter(keys.into_iter().map(|key| Ok(Path::from(key))));
        self.client
            .delete_stream(paths.boxed())
            .or_else(|error| async {
                match error {
                    object_store::Error::NotFound { path, .. } => Ok(Path::from(path)),
                    error => Err(error),
                }
            })
            .try_for_each(|_| async { Ok(()) })
            .await
            .map_err(|error| self.error(&error))
    }

    /// Lists up to `most` objects whose keys begin with `prefix`, from behind the one whose name
    /// is `after`.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> StoreResult<Names> {
        let options = PaginatedListOptions {
            offset: after.map(|after| format!("{prefix}{after}")),
            max_keys: Some(most.min(MOST_KEYS)),
            ..PaginatedListOptions::default()
        };
        let listed = self
            .client
            .list_paginated(Some(prefix), options)
            .await
            .map_err(|error| self.error(&error))?;
        let mut names = Vec::with_capacity(listed.result.objects.len());
        for object in listed.result.objects {
            if let Some(name) = object.location.as_ref().strip_prefix(prefix) {
                names.push(Name {
                    name: name.to_owned(),
                    bytes: object.size,
                    written_at: Timestamp::from_unix_us(object.last_modified.timestamp_micros()),
                });
            }
        }
        Ok(Names {
            names,
            is_cut: listed.page_token.is_some(),
        })
    }
}
