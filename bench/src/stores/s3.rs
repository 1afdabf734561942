//! object_store alone, with the objects of the S3 store: for each record its beginning is read, the
//! three entries of the lists are written, and then the record, unless another one came meanwhile.

use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use object_store::{
    ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    RetryConfig, UpdateVersion,
    aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut},
    client::{HttpClient, HttpConnector},
    limit::LimitStore,
    path::Path,
};
use warren_plugin_api::{Record, Text, Timestamp, WriteMode};
use warren_tests::{S3_ACCESS_KEY_ID, S3_BUCKET, S3_SECRET_ACCESS_KEY};

use super::{
    Driver, Place, http,
    s3_object::{self as object, HEAD_BYTES, Listed},
};
use crate::error::{BenchError, ensure};

/// Requests under way, as the store has them.
const REQUESTS_AT_ONCE: usize = 32;

pub(super) struct Bare {
    bucket: LimitStore<AmazonS3>,
    prefix: String,
}

/// What lies under a record's key.
struct Stored {
    listed: Listed,
    etag: Option<String>,
}

impl Bare {
    pub(super) fn connect(place: &Place) -> Result<Self, BenchError> {
        let once = RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        };
        let client = http::client()?
            .http1_only()
            .pool_max_idle_per_host(REQUESTS_AT_ONCE)
            .build()?;
        let bucket = AmazonS3Builder::new()
            .with_endpoint(&place.url)
            .with_allow_http(true)
            .with_bucket_name(S3_BUCKET)
            .with_access_key_id(S3_ACCESS_KEY_ID)
            .with_secret_access_key(S3_SECRET_ACCESS_KEY)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(once)
            .with_http_connector(Connector(client))
            .build()?;
        Ok(Self {
            bucket: LimitStore::new(bucket, REQUESTS_AT_ONCE),
            prefix: place.name.clone(),
        })
    }

    fn key(&self, job: &str) -> Path {
        Path::from(format!("{}/records/{job}", self.prefix))
    }

    async fn write_one(&self, record: &Record) -> Result<(), BenchError> {
        let job = object::job(&record.job_id);
        let stored = self.stored(&job, record).await?;
        let listed = Listed::new(record);
        let entries = listed.keys(&self.prefix, &job);
        let puts = entries
            .iter()
            .map(|entry| self.bucket.put(entry, PutPayload::new()));
        try_join_all(puts).await?;
        let bytes = object::write(record, &listed)?;
        let mode = match &stored {
            None => PutMode::Create,
            Some(stored) => PutMode::Update(UpdateVersion {
                e_tag: stored.etag.clone(),
                version: None,
            }),
        };
        self.bucket
            .put_opts(&self.key(&job), PutPayload::from(bytes), mode.into())
            .await?;
        if let Some(stored) = stored {
            self.unlist(stored.listed.keys(&self.prefix, &job)).await?;
        }
        Ok(())
    }

    /// What the record will take the place of.
    async fn stored(&self, job: &str, record: &Record) -> Result<Option<Stored>, BenchError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(0..HEAD_BYTES)),
            ..GetOptions::default()
        };
        let found = match self.bucket.get_opts(&self.key(job), options).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        let etag = found.meta.e_tag.clone();
        let bytes = found.bytes().await?;
        let head = object::read_head(&bytes)?;
        let (new, stored) = (record.version(), Some(head.version_and_expiry()));
        let may = WriteMode::IfNewer.may_replace(new, stored, Timestamp::now());
        ensure("whether a record may be written", may, true)?;
        let listed = head.listed;
        Ok(Some(Stored { listed, etag }))
    }

    /// Removes entries that lead nowhere any longer.
    async fn unlist(&self, entries: [Path; 3]) -> Result<(), BenchError> {
        let entries = stream::iter(entries.map(Ok)).boxed();
        self.bucket
            .delete_stream(entries)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(())
    }

    async fn read_one(&self, id: &Text) -> Result<Option<Record>, BenchError> {
        let key = self.key(&object::job(id));
        let bytes = match self.bucket.get(&key).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found?.bytes().await?,
        };
        let record = object::read(&bytes)?;
        Ok((!record.is_expired(Timestamp::now())).then_some(record))
    }
}

impl Driver for Bare {
    async fn write(&mut self, records: &[Record]) -> Result<(), BenchError> {
        let writes: Vec<_> = records
            .iter()
            .map(|record| self.write_one(record))
            .collect();
        stream::iter(writes)
            .buffer_unordered(REQUESTS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn read(&mut self, ids: &[Text]) -> Result<Vec<Record>, BenchError> {
        let reads: Vec<_> = ids.iter().map(|id| self.read_one(id)).collect();
        let found: Vec<Option<Record>> = stream::iter(reads)
            .buffered(REQUESTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// Gives the driver a client.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}
