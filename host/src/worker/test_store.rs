//! A store for tests: a map whose behaviour can be changed while it is used.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use warren_plugin_api::{
    Capabilities, ErrorClass, Health, HostContext, Record, ResultStore, Status, StoreError,
    StoreObject, StoreResult, Text, Timestamp, Write, WriteMode, WriteOutcome,
};

use crate::store::{Store, StorePolicy};

/// How the store behaves from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Works,
    /// Calls wait until the mode changes.
    Holds,
    Fails(ErrorClass),
    Panics,
    /// Health checks succeed, writes do not.
    OnlyAnswers,
}

#[derive(Debug, Clone)]
pub(super) struct TestStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mode: watch::Sender<Mode>,
    records: Mutex<HashMap<Text, Record>>,
    log: Mutex<Vec<Record>>,
    batches: Mutex<Vec<usize>>,
    max_result_bytes: Mutex<usize>,
    poison: Mutex<Option<Text>>,
    cleanups: watch::Sender<u32>,
    is_durable: AtomicBool,
    reads: AtomicU32,
}

impl TestStore {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                mode: watch::channel(Mode::Works).0,
                records: Mutex::default(),
                log: Mutex::default(),
                batches: Mutex::default(),
                max_result_bytes: Mutex::new(usize::MAX),
                poison: Mutex::default(),
                cleanups: watch::channel(0).0,
                is_durable: AtomicBool::new(false),
                reads: AtomicU32::new(0),
            }),
        }
    }

    /// The store behind the host's guard.
    pub(super) fn open(&self, deadline: Duration) -> Store {
        self.open_with(StorePolicy {
            deadline,
            ..StorePolicy::default()
        })
    }

    pub(super) fn open_with(&self, policy: StorePolicy) -> Store {
        Store::new("test", StoreObject::from_store(self.clone()), policy).unwrap()
    }

    pub(super) fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    pub(super) fn limit_results(&self, max_bytes: usize) {
        *self.shared.max_result_bytes.lock().unwrap() = max_bytes;
    }

    /// Says, when it is opened from now on, that it keeps what it is told.
    pub(super) fn be_durable(&self) {
        self.shared.is_durable.store(true, Ordering::Relaxed);
    }

    /// Panics whenever this job's record is in a batch.
    pub(super) fn panic_on(&self, job_id: &str) {
        *self.shared.poison.lock().unwrap() = Some(Text::from(job_id));
    }

    pub(super) fn record(&self, job_id: &str) -> Option<Record> {
        self.shared.records.lock().unwrap().get(job_id).cloned()
    }

    pub(super) fn insert(&self, record: Record) {
        self.shared
            .records
            .lock()
            .unwrap()
            .insert(record.job_id.clone(), record);
    }

    pub(super) fn remove(&self, job_id: &str) {
        self.shared.records.lock().unwrap().remove(job_id);
    }

    /// The statuses of `job_id` in the order in which they were stored.
    pub(super) fn history(&self, job_id: &str) -> Vec<Status> {
        let log = self.shared.log.lock().unwrap();
        log.iter()
            .filter(|record| record.job_id == job_id)
            .map(|record| record.status)
            .collect()
    }

    /// How many records each call of `put_many` brought.
    pub(super) fn batches(&self) -> Vec<usize> {
        self.shared.batches.lock().unwrap().clone()
    }

    /// How often a record was asked for.
    pub(super) fn reads(&self) -> u32 {
        self.shared.reads.load(Ordering::Relaxed)
    }

    /// Waits until `cleanup_expired` was called.
    pub(super) async fn cleaned_up(&self) {
        let mut cleanups = self.shared.cleanups.subscribe();
        cleanups.wait_for(|count| *count > 0).await.unwrap();
    }

    /// Waits until `job_id` has this status.
    pub(super) async fn wait_for(&self, job_id: &str, status: Status) -> Record {
        let waiting = async {
            loop {
                if let Some(record) = self.record(job_id).filter(|record| record.status == status) {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), waiting).await {
            Ok(record) => record,
            Err(_) => panic!("{job_id} is not {status}: {:?}", self.record(job_id)),
        }
    }

    async fn behave(&self, is_write: bool) -> StoreResult<()> {
        let mut mode = self.shared.mode.subscribe();
        loop {
            let now = *mode.borrow_and_update();
            match now {
                Mode::Works => return Ok(()),
                Mode::OnlyAnswers if !is_write => return Ok(()),
                Mode::OnlyAnswers => return Err(StoreError::unavailable("read-only")),
                Mode::Fails(class) => return Err(StoreError::new(class, "as told")),
                Mode::Panics => panic!("as told"),
                Mode::Holds => mode.changed().await.unwrap(),
            }
        }
    }

    fn write(&self, write: Write) -> StoreResult<WriteOutcome> {
        let Write { record, mode } = write;
        let found = record.result.len() + record.args.len();
        if found > *self.shared.max_result_bytes.lock().unwrap() {
            return Err(StoreError::too_large(format!("{found} bytes")));
        }
        let mut records = self.shared.records.lock().unwrap();
        let stored = records
            .get(&record.job_id)
            .filter(|old| !old.is_expired(Timestamp::now()));
        let takes_effect = match (mode, stored) {
            (WriteMode::Always, _) | (_, None) => true,
            (WriteMode::IfAbsent, Some(_)) => false,
            (WriteMode::IfNewer, Some(old)) => record.version().replaces(old.version()),
        };
        if !takes_effect {
            return Ok(WriteOutcome::Stale);
        }
        self.shared.log.lock().unwrap().push(record.clone());
        records.insert(record.job_id.clone(), record);
        Ok(WriteOutcome::Written)
    }
}

impl ResultStore for TestStore {
    type Config = ();
    const CAPABILITIES: Capabilities = Capabilities::NONE;

    async fn open((): (), _: HostContext) -> StoreResult<Self> {
        Ok(Self::new())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable: self.shared.is_durable.load(Ordering::Relaxed),
            ..Self::CAPABILITIES
        }
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        self.put_many(vec![write]).await?.remove(0)
    }

    async fn put_many(&self, writes: Vec<Write>) -> StoreResult<Vec<StoreResult<WriteOutcome>>> {
        self.shared.batches.lock().unwrap().push(writes.len());
        self.behave(true).await?;
        let poison = self.shared.poison.lock().unwrap().clone();
        if writes
            .iter()
            .any(|write| Some(&write.record.job_id) == poison.as_ref())
        {
            panic!("poison");
        }
        Ok(writes.into_iter().map(|write| self.write(write)).collect())
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        self.behave(false).await?;
        Ok(self.record(&job_id))
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        self.behave(true).await?;
        Ok(self
            .shared
            .records
            .lock()
            .unwrap()
            .remove(&job_id)
            .is_some())
    }

    async fn cleanup_expired(&self, _: Timestamp, _: u32) -> StoreResult<u64> {
        self.shared.cleanups.send_modify(|count| *count += 1);
        Ok(0)
    }

    async fn health_check(&self) -> StoreResult<Health> {
        self.behave(false).await?;
        Ok(Health::default())
    }
}
