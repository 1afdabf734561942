//! `fanout`: every record in several stores.
//!
//! The first member judges every write; the others get what it has taken. A read is answered by
//! the first that has the record.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::{BoxFuture, join_all};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, ErrorClass, Filter, Health, HostContext,
    Page, Record, ResultStore, Stats, Status, StoreError, StoreResult, Text, Timestamp, Write,
    WriteMode, WriteOutcome,
};

use super::{
    Combinator, MOST, StoreRegistry,
    job_locks::JobLocks,
    joined_health, least_limit,
    member::{Member, MemberConfig},
    only, scan_order_of, shared, to_its_end,
};
use crate::store::{Store, size_limit::SizeLimit};

/// Options of a fanout store.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FanoutConfig {
    /// The stores, two to eight. The first one decides which writes are stale.
    #[schemars(length(min = 2, max = 8))]
    members: Vec<MemberConfig>,
    /// When a write is acknowledged. Default: `all`.
    #[serde(default)]
    require: Require,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Require {
    /// When every member has it.
    #[default]
    All,
    /// When the first member has it; another one that is away misses it.
    Primary,
}

/// Every record in several stores. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fanout {
    shared: Arc<Shared>,
}

struct Shared {
    first: Member,
    others: Vec<Member>,
    require: Require,
    locks: Arc<JobLocks>,
    capabilities: Capabilities,
}

impl Combinator for Fanout {
    const NAME: &'static str = "fanout";
    const DESCRIPTION: &'static str = "Every record in several stores";

    fn members(config: &FanoutConfig) -> Vec<(String, &MemberConfig)> {
        let members = config.members.iter().enumerate();
        members
            .map(|(at, member)| (format!("members.{at}"), member))
            .collect()
    }

    async fn open_in(registry: StoreRegistry, config: FanoutConfig) -> StoreResult<Self> {
        let locks = shared::of_configuration(Self::NAME, &config);
        let opening = config.members.iter().enumerate().map(|(at, member)| {
            let registry = &registry;
            async move {
                let role = format!("members.{at}");
                Member::open_now_or_later(registry, &role, member).await
            }
        });
        let opened: StoreResult<Vec<Member>> = join_all(opening).await.into_iter().collect();
        let mut others = opened?.into_iter();
        let Some(first) = others.next() else {
            return Err(StoreError::invalid_config("members: expected two or more"));
        };
        let others: Vec<Member> = others.collect();
        let of_first = first.capabilities();
        let of_all = || {
            [of_first]
                .into_iter()
                .chain(others.iter().map(Member::capabilities))
        };
        let capabilities = Capabilities {
            embedded: false,
            scan_order: scan_order_of(of_first),
            // Where one member removes expired records itself, a cleanup only tidies up.
            native_expiry: of_all().any(|member| member.native_expiry),
            max_record_bytes: least_limit(of_all()),
            ..of_first.clone()
        };
        Ok(Self {
            shared: Arc::new(Shared {
                first,
                others,
                require: config.require,
                locks,
                capabilities,
            }),
        })
    }

    fn opened_members(&self) -> Vec<&Member> {
        self.shared.members().collect()
    }
}

/// Asks one member about many jobs.
type Ask<T> = for<'a> fn(&'a Store, Vec<Text>) -> BoxFuture<'a, BatchResult<Option<T>>>;

/// What several members know about many jobs.
struct Found<T> {
    answers: Vec<StoreResult<Option<T>>>,
    /// What a later member has and an earlier one said it has not.
    lacking: Vec<Text>,
}

/// Whether the next member may know better: this one is away, or cannot read what it has.
fn passes_on(error: &StoreError) -> bool {
    matches!(
        error.class(),
        ErrorClass::Unavailable | ErrorClass::CorruptData
    )
}

impl Shared {
    fn members(&self) -> impl Iterator<Item = &Member> {
        [&self.first].into_iter().chain(&self.others)
    }

    /// For each job the answer of the first member that has it. "None" only when all say so: an
    /// error of one that could not be asked stays.
    async fn first_that_has<T>(&self, job_ids: &[Text], ask: Ask<T>) -> StoreResult<Found<T>> {
        let mut answers: Vec<StoreResult<Option<T>>> = job_ids.iter().map(|_| Ok(None)).collect();
        let mut open: Vec<usize> = (0..job_ids.len()).collect();
        let mut lacked = vec![false; job_ids.len()];
        let mut lacking = Vec::new();
        for member in self.members() {
            if open.is_empty() {
                break;
            }
            let asked = open.iter().map(|at| job_ids[*at].clone()).collect();
            let found = match member.call_many(ask(member.store(), asked)).await {
                Ok(found) => found,
                Err(error) if passes_on(&error) => {
                    open.iter().map(|_| Err(error.clone())).collect()
                }
                Err(error) => return Err(error),
            };
            let mut still_open = Vec::new();
            for (at, answer) in open.into_iter().zip(found) {
                match answer {
                    Ok(Some(found)) => {
                        if lacked[at] {
                            lacking.push(job_ids[at].clone());
                        }
                        answers[at] = Ok(Some(found));
                    }
                    Ok(None) => {
                        lacked[at] = true;
                        still_open.push(at);
                    }
                    Err(error) if passes_on(&error) => {
                        if answers[at].is_ok() {
                            answers[at] = Err(error);
                        }
                        still_open.push(at);
                    }
                    Err(error) => answers[at] = Err(error),
                }
            }
            open = still_open;
        }
        Ok(Found { answers, lacking })
    }

    /// Brings records that a later member has to the earlier ones that lack them.
    async fn repair(&self, job_ids: Vec<Text>) -> StoreResult<()> {
        let _held = self.locks.lock(job_ids.iter()).await;
        // Seen under the locks: what was found before may have been deleted since.
        let mut lacking: Vec<(&Member, Text)> = Vec::new();
        for member in self.members() {
            let wanted: Vec<Text> = job_ids.clone();
            let asked = member.store().get_many(wanted);
            let Ok(found) = member.call_many(asked).await else {
                continue;
            };
            for (job_id, answer) in job_ids.iter().zip(found) {
                match answer {
                    Ok(Some(record)) => {
                        let (here, rest) = lacking
                            .into_iter()
                            .partition::<Vec<_>, _>(|(_, lacking)| lacking == job_id);
                        lacking = rest;
                        for (member, _) in here {
                            let write = Write {
                                record: record.clone(),
                                mode: WriteMode::IfAbsent,
                            };
                            member.call(member.store().put(write)).await?;
                        }
                    }
                    Ok(None) => lacking.push((member, job_id.clone())),
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let limit = SizeLimit {
            store: Fanout::NAME,
            max_record_bytes: self.capabilities.max_record_bytes,
        };
        let (writes, refused) = limit.split(writes);
        let _held = self
            .locks
            .lock(writes.iter().map(|write| &write.record.job_id))
            .await;
        let judged = self.first.store().put_many(writes.clone());
        let mut answers = self.first.call_many(judged).await?;
        let mut passed_on = BTreeMap::new();
        for (at, (answer, write)) in answers.iter().zip(&writes).enumerate() {
            if matches!(answer, Ok(WriteOutcome::Written)) {
                passed_on.insert(at, as_follower(write.clone()));
            }
        }
        if self.require == Require::All {
            self.add_repeated(&writes, &mut answers, &mut passed_on)
                .await;
        }
        if !passed_on.is_empty() {
            self.pass_on(passed_on, &mut answers).await;
        }
        Ok(refused.merge(answers))
    }

    /// A write that is stale because it was done before, by a call that failed at a later member,
    /// goes to the others once more.
    async fn add_repeated(
        &self,
        writes: &[Write],
        answers: &mut [StoreResult<WriteOutcome>],
        passed_on: &mut BTreeMap<usize, Write>,
    ) {
        let stale: Vec<usize> = answers
            .iter()
            .enumerate()
            .filter(|(_, answer)| matches!(answer, Ok(WriteOutcome::Stale)))
            .map(|(at, _)| at)
            .collect();
        if stale.is_empty() {
            return;
        }
        let job_ids = stale.iter().map(|at| writes[*at].record.job_id.clone());
        let asked = self.first.store().get_many(job_ids.collect());
        let found = match self.first.call_many(asked).await {
            Ok(found) => found,
            Err(error) => stale.iter().map(|_| Err(error.clone())).collect(),
        };
        for (at, found) in stale.into_iter().zip(found) {
            match found {
                Ok(Some(record)) if record.version() == writes[at].record.version() => {
                    passed_on.insert(at, record.into());
                }
                Ok(_) => {}
                Err(error) => answers[at] = Err(error),
            }
        }
    }

    /// Gives the others what the first has taken, and puts their failures into the answers where
    /// all members are required.
    async fn pass_on(
        &self,
        writes: BTreeMap<usize, Write>,
        answers: &mut [StoreResult<WriteOutcome>],
    ) {
        let given = self.others.iter().map(|member| {
            let batch: Vec<Write> = writes.values().cloned().collect();
            member.call_many(member.store().put_many(batch))
        });
        for (member, taken) in self.others.iter().zip(join_all(given).await) {
            let taken = match taken {
                Ok(taken) => taken,
                Err(error) => writes.iter().map(|_| Err(error.clone())).collect(),
            };
            for (at, taken) in writes.keys().zip(taken) {
                let Err(error) = taken else { continue };
                match self.require {
                    Require::All if answers[*at].is_ok() => answers[*at] = Err(error),
                    Require::All => {}
                    Require::Primary => {
                        tracing::debug!(member = member.label(), %error, "a member missed a record");
                    }
                }
            }
        }
    }

    /// The first member last: until it has deleted a record, nobody reads it from another one as
    /// if the first had lost it.
    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        let _held = self.locks.lock(job_ids.iter()).await;
        let mut answers: Vec<StoreResult<bool>> = vec![Ok(false); job_ids.len()];
        let deleting = self
            .others
            .iter()
            .map(|member| member.call_many(member.store().delete_many(job_ids.clone())));
        for deleted in join_all(deleting).await {
            merge_deleted(&mut answers, 0..job_ids.len(), deleted);
        }
        let left: Vec<usize> = (0..job_ids.len())
            .filter(|at| answers[*at].is_ok())
            .collect();
        if !left.is_empty() {
            let left_ids = left.iter().map(|at| job_ids[*at].clone()).collect();
            let deleted = self
                .first
                .call_many(self.first.store().delete_many(left_ids))
                .await;
            merge_deleted(&mut answers, left.into_iter(), deleted);
        }
        Ok(answers)
    }
}

/// What the first has taken, another one takes unless it has a later version: the writes of
/// several processes may arrive there in another order.
fn as_follower(write: Write) -> Write {
    let mode = match write.mode {
        WriteMode::Always => WriteMode::Always,
        WriteMode::IfNewer | WriteMode::IfAbsent => WriteMode::IfNewer,
    };
    Write { mode, ..write }
}

fn merge_deleted(
    answers: &mut [StoreResult<bool>],
    places: impl Iterator<Item = usize>,
    deleted: BatchResult<bool>,
) {
    match deleted {
        Ok(deleted) => {
            for (at, deleted) in places.zip(deleted) {
                match (&mut answers[at], deleted) {
                    (Ok(any), Ok(deleted)) => *any |= deleted,
                    (Ok(_), Err(error)) => answers[at] = Err(error),
                    (Err(_), _) => {}
                }
            }
        }
        Err(error) => {
            for at in places {
                if answers[at].is_ok() {
                    answers[at] = Err(error.clone());
                }
            }
        }
    }
}

/// A cursor says which member made it: a scan stays with one.
fn read_cursor(cursor: &Cursor) -> Option<(usize, Cursor)> {
    let (member, inner) = cursor.0.split_once('.')?;
    Some((member.parse().ok()?, Cursor(inner.to_owned())))
}

impl ResultStore for Fanout {
    type Config = FanoutConfig;
    const CAPABILITIES: Capabilities = MOST;

    /// With members from the registry of the whole process.
    async fn open(config: FanoutConfig, _host: HostContext) -> StoreResult<Self> {
        Self::open_in(StoreRegistry::global().clone(), config).await
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.capabilities.clone()
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        only(self.put_many(vec![write]).await?.pop())
    }

    async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let shared = Arc::clone(&self.shared);
        to_its_end(async move { shared.put_many(writes).await }).await
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        only(self.get_many(vec![job_id]).await?.pop())
    }

    async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        let ask: Ask<Record> = |store, job_ids| Box::pin(store.get_many(job_ids));
        let found = self.shared.first_that_has(&job_ids, ask).await?;
        if !found.lacking.is_empty() {
            let shared = Arc::clone(&self.shared);
            let repaired = to_its_end(async move { shared.repair(found.lacking).await });
            if let Err(error) = repaired.await {
                tracing::debug!(%error, "a member still lacks records that another one has");
            }
        }
        Ok(found.answers)
    }

    async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        only(self.status_many(vec![job_id]).await?.pop())
    }

    async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        let ask: Ask<Status> = |store, job_ids| Box::pin(store.status_many(job_ids));
        Ok(self.shared.first_that_has(&job_ids, ask).await?.answers)
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        only(self.delete_many(vec![job_id]).await?.pop())
    }

    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        let shared = Arc::clone(&self.shared);
        to_its_end(async move { shared.delete_many(job_ids).await }).await
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        let begun =
            match cursor {
                None => None,
                Some(cursor) => Some(read_cursor(&cursor).ok_or_else(|| {
                    StoreError::invalid_config("the cursor is none of this store's")
                })?),
            };
        let order = self.shared.capabilities.scan_order;
        let mut last_error = None;
        for (at, member) in self.shared.members().enumerate() {
            let inner = match &begun {
                Some((begun_at, _)) if *begun_at != at => continue,
                Some((_, inner)) => Some(inner.clone()),
                None => None,
            };
            let of_member = member.capabilities();
            // Another one may stand in for the first only if it does the same.
            if at > 0 && !(of_member.scan && scan_order_of(of_member) == order) {
                continue;
            }
            let page = member.store().scan(filter.clone(), inner, limit);
            match member.call(page).await {
                Ok(mut page) => {
                    page.next = page.next.map(|Cursor(next)| Cursor(format!("{at}.{next}")));
                    return Ok(page);
                }
                Err(error) if begun.is_none() && error.class() == ErrorClass::Unavailable => {
                    last_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last_error
            .unwrap_or_else(|| StoreError::invalid_config("the cursor is none of this store's")))
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        let cleanups = self
            .shared
            .members()
            .map(|member| member.call(member.store().cleanup_expired(now, limit)));
        let mut most = None;
        let mut first_error = None;
        for removed in join_all(cleanups).await {
            match removed {
                Ok(removed) => most = most.max(Some(removed)),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        // They hold the same records: what one has removed counts once.
        match (most, first_error) {
            (Some(most), _) => Ok(most),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(0),
        }
    }

    async fn health_check(&self) -> StoreResult<Health> {
        let shared = &self.shared;
        let asked = join_all(shared.members().map(Member::health)).await;
        // Whether it would serve a write now.
        let needed = match shared.require {
            Require::All => asked.len(),
            Require::Primary => 1,
        };
        if let Some(error) = asked.iter().take(needed).find_map(|one| one.as_ref().err()) {
            return Err(error.clone());
        }
        let labels = shared.members().map(Member::label);
        Ok(joined_health(labels.zip(asked).collect()))
    }

    async fn stats(&self) -> StoreResult<Stats> {
        let shared = &self.shared;
        let mut stats = shared.first.call(shared.first.store().stats()).await?;
        let others = shared.others.iter().filter(|it| it.capabilities().stats);
        let asked = others.map(|member| async move {
            let stats = member.call(member.store().stats()).await;
            (member.label(), stats.ok().and_then(|stats| stats.records))
        });
        for (label, records) in join_all(asked).await {
            let key = format!("records in {label}");
            stats.details.insert(key, json!(records));
        }
        Ok(stats)
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        let first = &self.shared.first;
        let ended = first.store().subscribe(sink).await;
        ended.map_err(|error| first.labelled(&error))
    }

    async fn close(&self) -> StoreResult<()> {
        let closing = self.shared.members().map(|member| member.store().close());
        let closed: StoreResult<Vec<()>> = join_all(closing).await.into_iter().collect();
        closed.map(drop)
    }
}
