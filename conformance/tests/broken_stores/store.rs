//! A store that keeps every rule, unless it is given a defect.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tokio::sync::watch;
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, Filter, Health, HostContext, Page, Payload,
    Record, ResultStore, ScanOrder, Stats, Status, StoreError, StoreResult, Text, Timestamp, Write,
    WriteMode, WriteOutcome,
};

use crate::{
    backing::{Backing, Data, Subscriber},
    defect::Defect,
    mangle::{mangled, mangled_id},
};

pub const LIMIT: u64 = 32 * 1024;
pub const SECRET: &str = "open sesame";

/// How long a defect stays to be seen: a busy machine runs the case that looks for it late.
const SHOWN: Duration = Duration::from_secs(1);

/// What is wrong with the backend, not with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It is not there.
    Absent,
    /// It answers nothing.
    Unresponsive,
    RefusesCredentials,
    Full,
}

/// Keeps records in a map that several handles share.
pub struct MapStore {
    backing: Arc<Backing>,
    defect: Option<Defect>,
    fault: Fault,
    /// `LIMIT` does not apply.
    unlimited: bool,
    /// It says that nobody need clean up.
    native_expiry: bool,
    handle: usize,
    closed: watch::Sender<bool>,
    own_lock: tokio::sync::Mutex<()>,
    cache: Mutex<HashMap<Text, Option<Record>>>,
    cursors: Mutex<Vec<String>>,
}

impl MapStore {
    pub fn new(backing: &Arc<Backing>, defect: Option<Defect>) -> Self {
        Self {
            handle: backing.handles.fetch_add(1, Ordering::SeqCst),
            backing: Arc::clone(backing),
            defect,
            fault: Fault::None,
            unlimited: false,
            native_expiry: matches!(
                defect,
                Some(Defect::ExpiresOnlyWhenCleaned | Defect::TidiesUpMoreThanExpired)
            ),
            closed: watch::Sender::new(false),
            own_lock: tokio::sync::Mutex::default(),
            cache: Mutex::default(),
            cursors: Mutex::default(),
        }
    }

    /// On a backend of its own, with this fault.
    pub fn on_faulty(fault: Fault, defect: Option<Defect>) -> Self {
        let mut store = Self::new(&Arc::default(), defect);
        store.fault = fault;
        store
    }

    pub fn unlimited(backing: &Arc<Backing>) -> Self {
        let mut store = Self::new(backing, None);
        store.unlimited = true;
        store
    }

    pub fn with_native_expiry(backing: &Arc<Backing>) -> Self {
        let mut store = Self::new(backing, None);
        store.native_expiry = true;
        store
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    async fn reach(&self) -> StoreResult<()> {
        match self.fault {
            Fault::None | Fault::Full => Ok(()),
            Fault::Absent if self.has(Defect::AbsentIsInternal) => {
                Err(StoreError::internal("no backend"))
            }
            Fault::Absent => Err(StoreError::unavailable("no backend")),
            Fault::Unresponsive if self.has(Defect::UnansweredIsNone) => Ok(()),
            Fault::Unresponsive => std::future::pending().await,
            Fault::RefusesCredentials if self.has(Defect::RefusedIsUnavailable) => {
                Err(StoreError::unavailable("refused"))
            }
            Fault::RefusesCredentials if self.has(Defect::ShowsRefusedCredentials) => {
                Err(StoreError::invalid_config(format!("{SECRET} is wrong")))
            }
            Fault::RefusesCredentials => Err(StoreError::invalid_config("wrong password")),
        }
    }

    fn find_room(&self) -> StoreResult<()> {
        match self.fault {
            Fault::Full if self.has(Defect::FullIsTooLarge) => {
                Err(StoreError::too_large("no room"))
            }
            Fault::Full if !self.has(Defect::FullWritesAllTheSame) => {
                Err(StoreError::unavailable("no room"))
            }
            _ => Ok(()),
        }
    }

    /// What every call begins with.
    async fn enter(&self) -> StoreResult<()> {
        self.reach().await?;
        if self.has(Defect::CloseEndsAll) && self.backing.lock().defective.closed {
            return Err(StoreError::unavailable("closed elsewhere"));
        }
        if self.has(Defect::FewCallers) {
            let callers = self.backing.calls.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.backing.calls.fetch_sub(1, Ordering::SeqCst);
            if callers >= 8 {
                return Err(StoreError::unavailable("too many callers"));
            }
        }
        if self.has(Defect::CloseBreaksCalls) && self.is_closed_under_the_call().await {
            return Err(StoreError::internal("closed under the call"));
        }
        if self.has(Defect::DroppedReadBlocks) && self.backing.lock().defective.busy {
            return Err(StoreError::conflict("another call is under way"));
        }
        Ok(())
    }

    async fn is_closed_under_the_call(&self) -> bool {
        // Calls on handles that nobody closes go on soon.
        let a_while = Duration::from_millis(500);
        let mut closed = self.closed.subscribe();
        let closing = closed.wait_for(|closed| *closed);
        tokio::time::timeout(a_while, closing).await.is_ok()
    }

    fn is_gone(&self, data: &Data, record: &Record, now: Timestamp) -> bool {
        let expires_at = match self.defect {
            Some(Defect::ReturnsExpired | Defect::ExpiresOnlyWhenCleaned) => None,
            Some(Defect::ExpiresLate) => record
                .expires_at
                .map(|time| time.saturating_add(Duration::from_secs(1))),
            Some(Defect::OneExpiryForAll) => record.expires_at.and(data.defective.last_expiry),
            Some(Defect::KeepsFirstExpiry) => {
                let first = data.defective.first_expiry.get(&record.job_id);
                first.copied().unwrap_or(record.expires_at)
            }
            Some(Defect::FarExpiryOverflows) => record
                .expires_at
                .map(|time| Timestamp::from_unix_us(time.unix_us().wrapping_mul(1_000) / 1_000)),
            _ => record.expires_at,
        };
        expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    fn live(&self, data: &Data, job_id: &Text) -> StoreResult<Option<Record>> {
        if data.damaged.contains(job_id) && !self.has(Defect::DamagedIsAbsent) {
            return Err(StoreError::corrupt_data("not a record"));
        }
        let record = data.records.get(&mangled_id(self.defect, job_id));
        let damaged = data.damaged.contains(job_id);
        let record =
            record.filter(|record| !damaged && !self.is_gone(data, record, Timestamp::now()));
        if record.is_none() && self.has(Defect::UnknownIsAnError) {
            return Err(StoreError::corrupt_data("no such job"));
        }
        Ok(record.cloned())
    }

    fn check_size(&self, record: &Record) -> StoreResult<()> {
        let size = record.size_bytes() as u64;
        let fits = match self.defect {
            Some(Defect::TakesMore | Defect::CutsLargeRecords) => true,
            Some(Defect::TakesLess) => size < LIMIT,
            Some(Defect::CountsPayloadsOnly) => {
                size - (record.error.as_ref().map_or(0, |error| error.len()) as u64) <= LIMIT
            }
            _ => size <= LIMIT || self.unlimited,
        };
        if !fits {
            return Err(StoreError::too_large(format!("{size} bytes")));
        }
        let id = record.job_id.len();
        if (self.has(Defect::RefusesLongIds) && id > 512)
            || (self.has(Defect::RefusesShortIds) && id < 2)
        {
            return Err(StoreError::internal("no such id can be stored"));
        }
        Ok(())
    }

    fn may_write(&self, data: &Data, write: &Write, in_batch: bool) -> bool {
        let id = mangled_id(self.defect, &write.record.job_id);
        let stored = data.records.get(&id);
        let live = stored.filter(|stored| !stored.is_expired(Timestamp::now()));
        match self.defect {
            Some(Defect::IgnoresTheGuard) if write.mode == WriteMode::IfNewer => return true,
            Some(Defect::BatchIgnoresTheGuard) if in_batch => return true,
            Some(Defect::IgnoresIfAbsent) if write.mode == WriteMode::IfAbsent => return true,
            Some(Defect::GuardsAlways) if write.mode == WriteMode::Always => {
                return live.is_none_or(|stored| write.record.version().replaces(stored.version()));
            }
            Some(Defect::ExpiredGuards) => {
                let stored = stored.map(|stored| (stored.version(), None));
                return write.may_replace(stored, Timestamp::now());
            }
            Some(Defect::EndsTwice) if live.is_some() => {
                let ends = |record: &Record| record.status.is_terminal();
                if live.is_some_and(ends) && ends(&write.record) {
                    return true;
                }
            }
            Some(Defect::IgnoresAttempts) => {
                if let (Some(live), WriteMode::IfNewer) = (live, write.mode) {
                    return write.record.status.rank() > live.status.rank();
                }
            }
            Some(Defect::DeleteLeavesTheGuard) => {
                if let Some(guard) = data.defective.guards.get(&id) {
                    return write.record.version().replaces(*guard);
                }
            }
            Some(Defect::IgnoresExpiredWrites) if write.record.is_expired(Timestamp::now()) => {
                return true;
            }
            _ => {}
        }
        write.may_replace(stored.map(Record::version_and_expiry), Timestamp::now())
    }

    /// Check and write in one step, under the lock.
    fn write(&self, data: &mut Data, write: Write, in_batch: bool) -> StoreResult<WriteOutcome> {
        self.check_size(&write.record)?;
        let id = mangled_id(self.defect, &write.record.job_id);
        if !self.may_write(data, &write, in_batch) {
            if self.has(Defect::StaleSetsExpiry)
                && let Some(stored) = data.records.get_mut(&id)
            {
                stored.expires_at = write.record.expires_at;
            }
            if self.has(Defect::AnnouncesStale) {
                self.announce(data, &write.record);
            }
            return Ok(WriteOutcome::Stale);
        }
        if self.has(Defect::IgnoresExpiredWrites) && write.record.is_expired(Timestamp::now()) {
            return Ok(WriteOutcome::Written);
        }
        self.insert(data, id, write.record, in_batch);
        Ok(WriteOutcome::Written)
    }

    fn insert(&self, data: &mut Data, id: Text, record: Record, in_batch: bool) {
        let mut stored = mangled(self.defect, record.clone());
        if self.has(Defect::MergesRecords)
            && stored.result.is_empty()
            && let Some(old) = data.records.get(&id)
        {
            stored.result = old.result.clone();
        }
        data.damaged.remove(&id);
        let defective = &mut data.defective;
        defective.writes += 1;
        defective.last_expiry = record.expires_at.or(defective.last_expiry);
        defective
            .first_expiry
            .entry(id.clone())
            .or_insert(record.expires_at);
        defective
            .first_status
            .entry(id.clone())
            .or_insert(record.status);
        data.records.insert(id, stored);
        if !(in_batch && self.has(Defect::ForgetsBatches)) {
            self.announce(data, &record);
        }
    }

    fn announce(&self, data: &mut Data, record: &Record) {
        if !record.status.is_terminal() {
            return;
        }
        let first = data.defective.announced.insert(record.job_id.clone());
        if self.has(Defect::AnnouncesOnce) && !first {
            return;
        }
        let status = match self.defect {
            Some(Defect::AnnouncesTheEarlierStatus) => Status::Completed,
            _ => record.status,
        };
        for subscriber in &data.subscribers {
            if self.has(Defect::AnnouncesToItself) && subscriber.handle != self.handle {
                continue;
            }
            if self.has(Defect::AnnouncesWithoutTheResult) {
                let poor = Record {
                    result: Payload::empty(),
                    ..record.clone()
                };
                subscriber.sink.completed_with(poor);
            } else {
                subscriber.sink.completed(record.job_id.clone(), status);
            }
        }
    }

    /// `put` as stores with a defect in its steps do it.
    async fn put_in_steps(&self, write: Write) -> StoreResult<WriteOutcome> {
        let id = write.record.job_id.clone();
        let _own = match self.defect {
            Some(Defect::AtomicPerHandle) => Some(self.own_lock.lock().await),
            _ => None,
        };
        if !self.may_write(&self.backing.lock(), &write, false) {
            return Ok(WriteOutcome::Stale);
        }
        let mut reads = self.backing.reads.subscribe();
        let mut shows_too_much = false;
        match self.defect {
            Some(Defect::AnnouncesEarly) => {
                self.announce(&mut self.backing.lock(), &write.record);
                shows_too_much = write.record.status.is_terminal();
            }
            Some(Defect::WritesInSteps) => {
                let mut data = self.backing.lock();
                if let Some(stored) = data.records.get_mut(&id) {
                    stored.attempt = write.record.attempt;
                    stored.status = write.record.status;
                    shows_too_much = true;
                }
            }
            Some(Defect::ClaimsInSteps) => {
                let half = Record {
                    job_id: id.clone(),
                    attempt: write.record.attempt,
                    ..Record::default()
                };
                self.backing.lock().records.insert(id.clone(), half);
            }
            _ => {}
        }
        if self.has(Defect::LandsLate) {
            let dropped = LandsAtTheNextRead {
                backing: &self.backing,
                record: Some(write.record),
            };
            tokio::task::yield_now().await;
            if let Some(record) = dropped.record() {
                self.insert(&mut self.backing.lock(), id, record, false);
            }
            return Ok(WriteOutcome::Written);
        }
        if shows_too_much {
            let _ = tokio::time::timeout(SHOWN, reads.changed()).await;
        }
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.insert(&mut self.backing.lock(), id, write.record, false);
        Ok(WriteOutcome::Written)
    }

    fn deletes(&self, data: &mut Data, job_id: &Text) -> bool {
        let id = mangled_id(self.defect, job_id);
        data.damaged.remove(&id);
        let Some(record) = data.records.remove(&id) else {
            return self.has(Defect::DeleteIsAlwaysTrue);
        };
        data.defective.ghosts.push(record.clone());
        data.defective.guards.insert(id.clone(), record.version());
        data.defective.first_expiry.remove(&id);
        if self.has(Defect::AnnouncesDeletes) {
            let ended = Record {
                status: Status::Aborted,
                ..record.clone()
            };
            self.announce(data, &ended);
        }
        self.has(Defect::DeleteIsAlwaysTrue)
            || self.has(Defect::DeletesExpired)
            || !record.is_expired(Timestamp::now())
    }

    /// A record's place in the order of scans.
    fn place(&self, record: &Record) -> (i128, Text) {
        let time = record
            .enqueued_at
            .map_or(i128::MIN, |time| i128::from(time.unix_us()));
        (time, record.job_id.clone())
    }

    fn listed(&self, data: &Data, filter: &Filter) -> Vec<Record> {
        let now = Timestamp::now();
        let ghosts =
            data.defective.ghosts.iter().filter(|_| {
                self.has(Defect::ListsDeleted) || self.has(Defect::CleanupLeavesTheIndex)
            });
        let shows_expired = self.has(Defect::ListsExpired);
        let live = data
            .records
            .values()
            .filter(|record| shows_expired || !self.is_gone(data, record, now));
        let mut records: Vec<Record> = live
            .chain(ghosts)
            .filter(|record| self.passes(filter, record))
            .cloned()
            .collect();
        records.sort_by_key(|record| self.place(record));
        if !self.has(Defect::OldestFirst) {
            records.reverse();
        }
        records
    }

    fn passes(&self, filter: &Filter, record: &Record) -> bool {
        let mut filter = filter.clone();
        match self.defect {
            Some(Defect::IgnoresFunction) => filter.function = None,
            Some(Defect::EdgesAreOut) if filter.enqueued_from == record.enqueued_at => {
                return filter.enqueued_from.is_none() && filter.matches(record);
            }
            Some(Defect::QueueIsAPrefix) => {
                if let Some(queue) = filter.queue.take()
                    && !record.queue.starts_with(queue.as_str())
                {
                    return false;
                }
            }
            Some(Defect::TimesNeedAQueue) if filter.queue.is_none() => filter.enqueued_from = None,
            _ => {}
        }
        filter.matches(record)
    }

    fn to_cursor(&self, offset: usize, last: &Record) -> Cursor {
        let (time, id) = self.place(last);
        let id: String = id.bytes().map(|byte| format!("{byte:02x}")).collect();
        Cursor(match self.defect {
            Some(Defect::CursorIsAnOffset) => format!("map:{offset}:"),
            Some(Defect::BinaryCursor) => format!("map:{time}:{id}\n"),
            Some(Defect::CursorPerHandle) => {
                let mut cursors = self.cursors.lock().unwrap();
                cursors.push(format!("map:{time}:{id}"));
                format!("map:{}:", cursors.len() - 1)
            }
            _ => format!("map:{time}:{id}"),
        })
    }

    /// How many of `records` lie before the cursor.
    fn seen(&self, records: &[Record], cursor: &Cursor) -> StoreResult<usize> {
        let text = match self.defect {
            Some(Defect::CursorPerHandle) => {
                let number = cursor.0.trim_start_matches("map:").trim_end_matches(':');
                let cursors = self.cursors.lock().unwrap();
                number
                    .parse::<usize>()
                    .ok()
                    .and_then(|number| cursors.get(number).cloned())
                    .unwrap_or_default()
            }
            _ => cursor.0.trim_end_matches('\n').to_owned(),
        };
        let foreign = || StoreError::invalid_config("not a cursor of this store");
        let Some((time, id)) = text
            .strip_prefix("map:")
            .and_then(|text| text.split_once(':'))
        else {
            return if self.has(Defect::AcceptsAnyCursor) {
                Ok(0)
            } else {
                Err(foreign())
            };
        };
        let time: i128 = time.parse().map_err(|_| foreign())?;
        if self.has(Defect::CursorIsAnOffset) {
            return Ok((time as usize).min(records.len()));
        }
        let bytes: Option<Vec<u8>> = (0..id.len() / 2)
            .map(|at| u8::from_str_radix(id.get(2 * at..2 * at + 2)?, 16).ok())
            .collect();
        let id: Text = bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(foreign)?
            .into();
        let is_behind = |record: &&Record| {
            let place = self.place(record);
            let last = (time, id.clone());
            match self.defect {
                Some(Defect::SkipsSameTime) => place.0 >= time,
                Some(Defect::ListsTwice) => place > last,
                Some(Defect::OldestFirst) => place <= last,
                _ => place >= last,
            }
        };
        Ok(records.iter().take_while(is_behind).count())
    }
}

impl ResultStore for MapStore {
    type Config = ();

    const CAPABILITIES: Capabilities = Capabilities {
        durable: true,
        embedded: true,
        native_expiry: false,
        push: true,
        scan: true,
        scan_order: ScanOrder::NewestFirst,
        stats: true,
        max_record_bytes: Some(LIMIT),
    };

    async fn open(_config: (), _host: HostContext) -> StoreResult<Self> {
        Err(StoreError::internal("opened through MapStore::new"))
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Self::CAPABILITIES;
        capabilities.native_expiry = self.native_expiry;
        if self.unlimited {
            capabilities.max_record_bytes = None;
        }
        match self.defect {
            Some(Defect::CutsLargeRecords) => capabilities.max_record_bytes = None,
            Some(Defect::Changes) => capabilities.durable = self.backing.lock().records.is_empty(),
            Some(Defect::ClaimsMore) => capabilities.native_expiry = true,
            Some(Defect::EmptyInsteadOfUnsupported) => {
                capabilities.scan = false;
                capabilities.scan_order = ScanOrder::Unordered;
            }
            _ => {}
        }
        capabilities
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        self.enter().await?;
        self.find_room()?;
        self.check_size(&write.record)?;
        match self.defect {
            Some(
                Defect::ClaimIsNotAtomic
                | Defect::AtomicPerHandle
                | Defect::AnnouncesEarly
                | Defect::WritesInSteps
                | Defect::ClaimsInSteps
                | Defect::LandsLate,
            ) => self.put_in_steps(write).await,
            _ => self.write(&mut self.backing.lock(), write, false),
        }
    }

    async fn put_many(&self, mut writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        self.enter().await?;
        self.find_room()?;
        match self.defect {
            Some(Defect::RefusesEmptyBatches) if writes.is_empty() => {
                return Err(StoreError::internal("nothing to do"));
            }
            Some(Defect::RefusesLargeBatches) if writes.len() > 500 => {
                return Err(StoreError::too_large("too many items"));
            }
            Some(Defect::BadItemSpoilsAll) => {
                for write in &writes {
                    self.check_size(&write.record)?;
                }
            }
            Some(Defect::WritesInSteps | Defect::BatchClaimIsNotAtomic) => {
                let mut outcomes = Vec::new();
                for write in writes {
                    outcomes.push(self.put_in_steps(write).await);
                }
                return Ok(outcomes);
            }
            Some(Defect::WritesBackwards) => writes.reverse(),
            _ => {}
        }
        let mut data = self.backing.lock();
        let mut outcomes: Vec<_> = writes
            .into_iter()
            .map(|write| self.write(&mut data, write, true))
            .collect();
        if self.has(Defect::OutcomesBackwards) || self.has(Defect::WritesBackwards) {
            outcomes.reverse();
        }
        Ok(outcomes)
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        self.enter().await?;
        if self.has(Defect::DroppedReadBlocks) {
            self.backing.lock().defective.busy = true;
            tokio::task::yield_now().await;
            self.backing.lock().defective.busy = false;
        }
        if self.has(Defect::LandsLate) {
            let data = &mut *self.backing.lock();
            for late in data.defective.late.drain(..) {
                data.records.insert(late.job_id.clone(), late);
            }
        }
        let found = self.live(&self.backing.lock(), &job_id)?;
        self.backing.reads.send_modify(|reads| *reads += 1);
        if self.has(Defect::CachesReads) {
            let mut cache = self.cache.lock().unwrap();
            return Ok(cache.entry(job_id).or_insert(found).clone());
        }
        Ok(found)
    }

    async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        self.enter().await?;
        let data = self.backing.lock();
        let mut seen = std::collections::HashSet::new();
        let mut answers = Vec::new();
        for job_id in &job_ids {
            let first = seen.insert(job_id);
            answers.push(match self.defect {
                Some(Defect::AnswersOnce) if !first => Ok(None),
                Some(Defect::DamagedSpoilsAll) => Ok(self.live(&data, job_id)?),
                _ => self.live(&data, job_id),
            });
        }
        if self.has(Defect::AnswersBackwards) {
            answers.reverse();
        }
        Ok(answers)
    }

    async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        self.enter().await?;
        let data = self.backing.lock();
        let live = self.live(&data, &job_id)?.map(|record| record.status);
        let stored = data.records.get(&job_id).map(|record| record.status);
        self.backing.reads.send_modify(|reads| *reads += 1);
        Ok(match self.defect {
            Some(Defect::UnknownIsQueued) => live.or(Some(Status::Queued)),
            Some(Defect::StatusOfExpired) => stored,
            Some(Defect::StatusIsOld) => live.map(|_| Status::Queued),
            Some(Defect::DeleteLeavesTheStatus) => {
                data.defective.first_status.get(&job_id).copied()
            }
            _ => live,
        })
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        self.enter().await?;
        if self.has(Defect::DeletesInSteps) {
            if let Some(record) = self.backing.lock().records.get_mut(&job_id) {
                record.args = "[]".into();
                record.expires_at = None;
            }
            tokio::task::yield_now().await;
        }
        Ok(self.deletes(&mut self.backing.lock(), &job_id))
    }

    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        self.enter().await?;
        let mut data = self.backing.lock();
        if self.has(Defect::DeletesAtOnce) {
            let there = job_ids.iter().map(|id| data.records.contains_key(id));
            let answers: Vec<_> = there.map(Ok).collect();
            job_ids.iter().for_each(|id| drop(data.records.remove(id)));
            return Ok(answers);
        }
        Ok(job_ids
            .iter()
            .map(|id| Ok(self.deletes(&mut data, id)))
            .collect())
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        self.enter().await?;
        if self.has(Defect::EmptyInsteadOfUnsupported) {
            return Ok(Page::default());
        }
        let records = self.listed(&self.backing.lock(), &filter);
        let seen = match &cursor {
            Some(_) if self.has(Defect::ForgetsTheCursor) => 0,
            Some(cursor) => self.seen(&records, cursor)?,
            None => 0,
        };
        let limit = match self.defect {
            Some(Defect::PagesTooLong) => limit as usize + 1,
            _ => limit as usize,
        };
        let mut page: Vec<Record> = records.iter().skip(seen).take(limit).cloned().collect();
        let end = seen + page.len();
        let next = page
            .last()
            .filter(|_| end < records.len())
            .map(|last| self.to_cursor(end, last));
        if !self.has(Defect::KeepsPayloads) {
            page.iter_mut().for_each(|record| filter.trim(record));
        }
        Ok(Page {
            records: page,
            next,
        })
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        self.enter().await?;
        let mut data = self.backing.lock();
        let an_hour = Duration::from_secs(3_600);
        let now = match self.defect {
            Some(Defect::CleansLive) => now.saturating_add(an_hour),
            Some(Defect::CleansByItsClock) => Timestamp::now(),
            Some(Defect::CleansOneMore) => now.saturating_add(Duration::from_micros(1)),
            _ => now,
        };
        let limit = match self.defect {
            Some(Defect::CleansOverTheLimit) => usize::MAX,
            _ => limit as usize,
        };
        let expired: Vec<Text> = data
            .records
            .iter()
            .filter(|(_, record)| record.is_expired(now))
            .map(|(id, _)| id.clone())
            .take(limit)
            .collect();
        for id in &expired {
            if let Some(record) = data.records.remove(id) {
                data.defective.ghosts.push(record);
            }
        }
        Ok(match self.defect {
            Some(Defect::CountsWrong) => (expired.len() as u64).min(3),
            Some(Defect::TidiesUpMoreThanExpired) => (expired.len() + 2).min(limit) as u64,
            _ => expired.len() as u64,
        })
    }

    async fn health_check(&self) -> StoreResult<Health> {
        self.enter().await?;
        Ok(Health {
            detail: match self.defect {
                Some(Defect::SaysNothing) => String::new(),
                Some(Defect::ShowsTheSecret) => format!("a map, password {SECRET}"),
                Some(Defect::Panics) => panic!("told to panic"),
                Some(Defect::Hangs) => std::future::pending().await,
                _ => "a map".to_owned(),
            },
            warnings: Vec::new(),
        })
    }

    async fn stats(&self) -> StoreResult<Stats> {
        self.enter().await?;
        let data = self.backing.lock();
        let counts_expired = self.has(Defect::StatsCountExpired);
        let mut by_status = BTreeMap::new();
        for record in data.records.values() {
            if counts_expired || !record.is_expired(Timestamp::now()) {
                *by_status.entry(record.status).or_insert(0) += 1;
            }
        }
        let mut records = by_status.values().sum();
        match self.defect {
            Some(Defect::StatsDoNotAddUp) => records += 1,
            Some(Defect::StatsCountWrites) => {
                by_status.clear();
                records = data.defective.writes;
            }
            _ => {}
        }
        Ok(Stats {
            records: Some(records),
            by_status,
            ..Stats::default()
        })
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        self.enter().await?;
        if self.has(Defect::ClaimsPush) {
            return Err(StoreError::unsupported("not yet"));
        }
        let number = {
            let mut data = self.backing.lock();
            data.subscribed += 1;
            if self.has(Defect::OneSubscriber) {
                data.subscribers.clear();
            }
            let number = data.subscribed;
            data.subscribers.push(Subscriber {
                number,
                handle: self.handle,
                sink: sink.clone(),
            });
            number
        };
        let _subscription = (!self.has(Defect::NeverUnsubscribes)).then(|| Unsubscribe {
            backing: &self.backing,
            number,
        });
        if !self.has(Defect::NeverReady) {
            sink.ready();
        }
        if self.has(Defect::SubscriptionStays) {
            return std::future::pending().await;
        }
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
        Err(StoreError::unavailable("the store was closed"))
    }

    async fn close(&self) -> StoreResult<()> {
        self.closed.send_replace(true);
        match self.defect {
            Some(Defect::CloseFails) => Err(StoreError::unavailable("will not close")),
            Some(Defect::CloseEndsAll) => {
                self.backing.lock().defective.closed = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Drop for MapStore {
    fn drop(&mut self) {
        if self.has(Defect::IsNotDurable) {
            self.backing.lock().records.clear();
        }
    }
}

struct Unsubscribe<'a> {
    backing: &'a Backing,
    number: usize,
}

impl Drop for Unsubscribe<'_> {
    fn drop(&mut self) {
        self.backing
            .lock()
            .subscribers
            .retain(|subscriber| subscriber.number != self.number);
    }
}

/// The write of a dropped call, which no later one stops.
struct LandsAtTheNextRead<'a> {
    backing: &'a Backing,
    record: Option<Record>,
}

impl LandsAtTheNextRead<'_> {
    /// The call was not dropped.
    fn record(mut self) -> Option<Record> {
        self.record.take()
    }
}

impl Drop for LandsAtTheNextRead<'_> {
    fn drop(&mut self) {
        let mut data = self.backing.lock();
        data.defective.late.extend(self.record.take());
    }
}
