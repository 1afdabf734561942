//! What all calls of one opened store have in common.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard, OnceCell};
use warren_plugin_api::{HostContext, Record, StoreError, StoreResult, Text};

use crate::{
    address::Address,
    bucket::{Bucket, Object, Part},
    config::S3Config,
    keys::{self, Keys},
    object::{self, Decoded, Head, RecordHead, Removal, Stored},
};

/// One opened store.
pub(crate) struct Shared {
    pub(crate) config: S3Config,
    pub(crate) address: Address,
    pub(crate) bucket: Bucket,
    pub(crate) keys: Keys,
    pub(crate) host: HostContext,
    /// Set once the service is known to keep preconditions, or need not.
    pub(crate) ready: OnceCell<()>,
}

/// What lies under a record's key, read to its end.
pub(crate) enum Whole {
    Absent,
    /// Expired or not.
    Record(RecordHead, Box<Record>),
    Removing {
        removal: Removal,
        etag: String,
    },
}

/// What stands for preconditions where there is one writer: a lock for each job in this process.
const LOCKS: usize = 256;
static ONE_AT_A_TIME: [Mutex<()>; LOCKS] = [const { Mutex::const_new(()) }; LOCKS];

impl Shared {
    pub(crate) fn new(config: S3Config, host: HostContext) -> StoreResult<Self> {
        let (address, keys) = config.checked()?;
        Ok(Self {
            bucket: Bucket::new(&config, &address)?,
            config,
            address,
            keys,
            host,
            ready: OnceCell::new(),
        })
    }

    /// How many requests are worth being begun at once.
    pub(crate) fn at_once(&self) -> usize {
        self.config.concurrent_requests.into()
    }

    /// Held while one job is read and written. Locks nothing where the service does.
    pub(crate) async fn one_at_a_time(&self, job: &str) -> Option<MutexGuard<'static, ()>> {
        if !self.config.single_writer {
            return None;
        }
        let place = job
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let lock = ONE_AT_A_TIME.get(usize::from(place.unwrap_or_default()))?;
        Some(lock.lock().await)
    }

    /// What lies under a job's key, without its record.
    pub(crate) async fn stored(&self, job: &str) -> StoreResult<Stored> {
        let found = self
            .bucket
            .get(&self.keys.record(job), Part::Beginning)
            .await?;
        let Some(Object { bytes, etag }) = found else {
            return Ok(Stored::Absent);
        };
        Ok(match object::decode_head(&bytes) {
            Ok(Head::Record(head)) => Stored::Record { head, etag },
            Ok(Head::Removing(removal)) => Stored::Removing { removal, etag },
            Err(why) => Stored::Unreadable { etag, why },
        })
    }

    /// What lies under a job's key, with its record.
    pub(crate) async fn whole(&self, job: &str) -> StoreResult<Whole> {
        let found = self.bucket.get(&self.keys.record(job), Part::Whole).await?;
        let Some(Object { bytes, etag }) = found else {
            return Ok(Whole::Absent);
        };
        match object::decode(&bytes)? {
            Decoded::Removing(removal) => Ok(Whole::Removing { removal, etag }),
            Decoded::Record(_, record) if keys::job(&record.job_id) != job => {
                Err(StoreError::corrupt_data(
                    "what is stored under this job's key is the record of another job",
                ))
            }
            Decoded::Record(head, record) => Ok(Whole::Record(head, record)),
        }
    }
}

/// Runs to its end even if whoever asked for it has gone: a job's objects are not left half done.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = StoreResult<T>> + Send + 'static,
) -> StoreResult<T> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(StoreError::unavailable("the store was closed")),
    }
}

/// The jobs without repetitions, and for each id that was asked for where its answer is.
pub(crate) fn distinct(job_ids: &[Text]) -> (Vec<String>, Vec<usize>) {
    let mut places = std::collections::HashMap::with_capacity(job_ids.len());
    let mut once = Vec::with_capacity(job_ids.len());
    let answers = job_ids.iter().map(|job_id| {
        *places.entry(job_id).or_insert_with(|| {
            once.push(keys::job(job_id));
            once.len() - 1
        })
    });
    let answers = answers.collect();
    (once, answers)
}

pub(crate) type SharedStore = Arc<Shared>;
