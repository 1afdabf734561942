//! A store in this process whose backend can be switched off, made to hang, and looked into.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use schemars::JsonSchema;
use serde::Deserialize;
use warren_plugin_api::{
    Capabilities, Cursor, Filter, Health, HostContext, Page, Record, ResultStore, StoreError,
    StoreResult, Text, Timestamp, Write, WriteOutcome,
};

static BACKENDS: LazyLock<Mutex<HashMap<String, Arc<State>>>> = LazyLock::new(Mutex::default);
static NAMES: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct State {
    records: Mutex<BTreeMap<Text, Record>>,
    is_away: AtomicBool,
    hangs: AtomicBool,
    reads: AtomicU64,
}

/// The backend of one test.
pub(crate) struct Backend {
    pub(crate) name: String,
    state: Arc<State>,
}

impl Backend {
    pub(crate) fn new() -> Self {
        let name = format!("backend-{}", NAMES.fetch_add(1, Ordering::SeqCst));
        let state = Arc::<State>::default();
        BACKENDS
            .lock()
            .unwrap()
            .insert(name.clone(), Arc::clone(&state));
        Self { name, state }
    }

    pub(crate) fn go_away(&self) {
        self.state.is_away.store(true, Ordering::SeqCst);
    }

    pub(crate) fn come_back(&self) {
        self.state.is_away.store(false, Ordering::SeqCst);
    }

    /// Answers nothing any more.
    pub(crate) fn hang(&self) {
        self.state.hangs.store(true, Ordering::SeqCst);
    }

    /// How many records were asked for.
    pub(crate) fn reads(&self) -> u64 {
        self.state.reads.load(Ordering::SeqCst)
    }

    /// What is there, behind the composition's back.
    pub(crate) fn has(&self, job_id: &str) -> Option<Record> {
        self.state.records.lock().unwrap().get(job_id).cloned()
    }

    /// Puts a record there as another process would.
    pub(crate) fn set(&self, record: Record) {
        let mut records = self.state.records.lock().unwrap();
        records.insert(record.job_id.clone(), record);
    }

    /// Loses a record.
    pub(crate) fn lose(&self, job_id: &str) {
        self.state.records.lock().unwrap().remove(job_id);
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The backend.
    name: String,
    /// Does nothing.
    #[serde(default)]
    #[allow(dead_code, reason = "it is there to be misspelt")]
    colour: String,
    /// Whether it can list its records.
    #[serde(default = "yes")]
    lists: bool,
}

const fn yes() -> bool {
    true
}

pub(crate) struct Switchable {
    state: Arc<State>,
    lists: bool,
}

impl Switchable {
    async fn reach(&self) -> StoreResult<()> {
        if self.state.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.state.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("switched off"));
        }
        Ok(())
    }
}

impl ResultStore for Switchable {
    type Config = Config;
    const CAPABILITIES: Capabilities = Capabilities {
        durable: true,
        scan: true,
        ..Capabilities::NONE
    };

    async fn open(config: Config, _host: HostContext) -> StoreResult<Self> {
        let backends = BACKENDS.lock().unwrap();
        let state = Arc::clone(&backends[&config.name]);
        if state.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("switched off"));
        }
        Ok(Self {
            state,
            lists: config.lists,
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            scan: self.lists,
            ..Self::CAPABILITIES
        }
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        self.reach().await?;
        let mut records = self.state.records.lock().unwrap();
        let stored = records.get(&write.record.job_id);
        if !write.may_replace(stored.map(Record::version_and_expiry), Timestamp::now()) {
            return Ok(WriteOutcome::Stale);
        }
        records.insert(write.record.job_id.clone(), write.record);
        Ok(WriteOutcome::Written)
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        self.reach().await?;
        self.state.reads.fetch_add(1, Ordering::SeqCst);
        let records = self.state.records.lock().unwrap();
        let found = records.get(&job_id).cloned();
        Ok(found.filter(|record| !record.is_expired(Timestamp::now())))
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        self.reach().await?;
        let removed = self.state.records.lock().unwrap().remove(&job_id);
        Ok(removed.is_some_and(|record| !record.is_expired(Timestamp::now())))
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        self.reach().await?;
        if !self.lists {
            return Err(StoreError::unsupported("it cannot list"));
        }
        let from = cursor.map_or(Bound::Unbounded, |Cursor(id)| {
            Bound::Excluded(Text::from(id))
        });
        let records = self.state.records.lock().unwrap();
        let mut rest = records
            .range((from, Bound::Unbounded))
            .map(|(_, record)| record)
            .filter(|record| filter.matches(record));
        let page: Vec<Record> = rest.by_ref().take(limit as usize).cloned().collect();
        let next = rest
            .next()
            .and(page.last())
            .map(|last| Cursor(last.job_id.to_string()));
        Ok(Page {
            records: page,
            next,
        })
    }

    async fn health_check(&self) -> StoreResult<Health> {
        self.reach().await?;
        Ok(Health {
            detail: "switched on".to_owned(),
            ..Health::default()
        })
    }
}
