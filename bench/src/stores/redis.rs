//! redis-rs alone: the keys and indexes of the Redis store, each record unless a later one is
//! there, by a script of its own that is called in one pipeline for each batch.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Pipeline, Script, aio::MultiplexedConnection};
use warren_plugin_api::{Record, Text, Timestamp};

use super::{Driver, Place, json_record};
use crate::{
    error::{BenchError, ensure},
    servers::delete_keys,
};

/// Records of one call of the script: other clients of the server wait no longer than the store
/// makes them.
const RECORDS_AT_ONCE: usize = 128;

pub(super) struct Bare {
    connection: MultiplexedConnection,
    script: Script,
    prefix: String,
}

impl Bare {
    pub(super) async fn connect(place: &Place) -> Result<Self, BenchError> {
        let client = redis::Client::open(place.url.as_str())?;
        // The driver's own limit is half a second, the store's this.
        let config =
            AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let script = Script::new(include_str!("put.lua"));
        script.load_async(&mut connection).await?;
        Ok(Self {
            connection,
            script,
            prefix: place.name.clone(),
        })
    }

    /// The check, the record, its status, both indexes, its queue's set, and the announcement.
    fn add(&self, pipeline: &mut Pipeline, records: &[Record]) -> Result<(), BenchError> {
        let prefix = &self.prefix;
        let call = pipeline.cmd("EVALSHA");
        call.arg(self.script.get_hash())
            .arg(2 + 3 * records.len())
            .arg(format!("{prefix}:scan"))
            .arg(format!("{prefix}:expiry"));
        for record in records {
            let (job_id, queue) = (&record.job_id, &record.queue);
            call.arg(format!("{prefix}:result:{job_id}"))
                .arg(format!("{prefix}:status:{job_id}"))
                .arg(format!("{prefix}:queue:{queue}:results"));
        }
        call.arg(format!("{prefix}:ended"));
        for record in records {
            let (job_id, queue) = (record.job_id.as_str(), record.queue.as_str());
            let enqueued_at = record.enqueued_at.map_or(0, Timestamp::unix_us);
            let member = format!("{enqueued_at:016x}{}:{queue}{job_id}", queue.len());
            call.arg(job_id)
                .arg(record.status.as_str())
                .arg(record.attempt)
                .arg(record.expires_at.map_or(0, |at| at.unix_us() / 1_000))
                .arg(&member)
                .arg(json_record::write(record, &member)?);
        }
        Ok(())
    }
}

impl Driver for Bare {
    async fn write(&mut self, records: &[Record]) -> Result<(), BenchError> {
        let mut pipeline = redis::pipe();
        for records in records.chunks(RECORDS_AT_ONCE) {
            self.add(&mut pipeline, records)?;
        }
        let written: Vec<usize> = pipeline.query_async(&mut self.connection).await?;
        ensure("records written", written.iter().sum(), records.len())
    }

    async fn read(&mut self, ids: &[Text]) -> Result<Vec<Record>, BenchError> {
        let mut get = redis::cmd("MGET");
        for job_id in ids {
            get.arg(format!("{}:result:{job_id}", self.prefix));
        }
        let values: Vec<Option<Vec<u8>>> = get.query_async(&mut self.connection).await?;
        let now = Timestamp::now();
        let mut records = Vec::with_capacity(ids.len());
        for value in values.into_iter().flatten() {
            records.push(json_record::read(value)?);
        }
        records.retain(|record| !record.is_expired(now));
        Ok(records)
    }
}

/// Removes the keys, which would slow down the next measurement.
pub(super) async fn remove(place: &Place) -> Result<(), BenchError> {
    let client = redis::Client::open(place.url.as_str())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    delete_keys(&mut connection, &place.name).await
}
