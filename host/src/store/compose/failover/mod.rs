//! `failover`: a primary store, and a secondary for as long as the primary is away.
//!
//! The secondary holds nothing but what could not be written to the primary. When the primary is
//! back, that is brought to it and removed from the secondary, before anything else is done with
//! the same job.

mod bring_back;
mod side;
mod watch;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, ErrorClass, Filter, Health, HostContext,
    Page, Record, ResultStore, Stats, Status, StoreError, StoreResult, Text, Timestamp, Write,
    WriteOutcome,
};

use self::side::Side;
use super::{
    Combinator, MOST, StoreRegistry,
    job_locks::JobLocks,
    joined_health, least_limit,
    member::{Member, MemberConfig, all_available},
    only, scan_order_of, shared, to_its_end,
};
use crate::store::{Store, size_limit::SizeLimit};

/// Options of a failover store.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FailoverConfig {
    /// The store that keeps everything.
    primary: MemberConfig,
    /// The store that takes over while the primary is away. It holds nothing else, and must be
    /// able to list its records.
    secondary: MemberConfig,
}

/// A primary and a secondary store.
pub(super) struct Failover {
    shared: Arc<Shared>,
}

struct Shared {
    primary: Member,
    secondary: Member,
    side: Side,
    locks: Arc<JobLocks>,
    capabilities: Capabilities,
}

impl Combinator for Failover {
    const NAME: &'static str = "failover";
    const DESCRIPTION: &'static str = "A second store while the first is away";

    fn members(config: &FailoverConfig) -> Vec<(String, &MemberConfig)> {
        vec![
            ("primary".to_owned(), &config.primary),
            ("secondary".to_owned(), &config.secondary),
        ]
    }

    async fn open_in(registry: StoreRegistry, config: FailoverConfig) -> StoreResult<Self> {
        let locks = shared::of_configuration(Self::NAME, &config);
        let (primary, secondary) = tokio::try_join!(
            Member::open_now_or_later(&registry, "primary", &config.primary),
            Member::open_now_or_later(&registry, "secondary", &config.secondary),
        )?;
        let (of_primary, of_secondary) = (primary.capabilities(), secondary.capabilities());
        if !of_secondary.scan {
            return Err(StoreError::invalid_config(format!(
                "{} cannot list its records, so they could not be brought back",
                secondary.label()
            )));
        }
        let capabilities = Capabilities {
            durable: of_primary.durable && of_secondary.durable,
            embedded: false,
            scan_order: scan_order_of(of_primary),
            max_record_bytes: least_limit([of_primary, of_secondary].into_iter()),
            ..of_primary.clone()
        };
        let shared = Arc::new(Shared {
            side: Side::of(primary.breaker()),
            primary,
            secondary,
            locks,
            capabilities,
        });
        watch::start(&shared).await;
        Ok(Self { shared })
    }

    fn opened_members(&self) -> Vec<&Member> {
        vec![&self.shared.primary, &self.shared.secondary]
    }
}

/// Asks one member about many jobs.
type Ask<T> = for<'a> fn(&'a Store, Vec<Text>) -> BoxFuture<'a, BatchResult<Option<T>>>;

impl Shared {
    /// Makes a call of the primary, unless it is away. `unavailable`: it is away now.
    async fn ask_primary<T>(&self, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        if let Some(error) = self.side.primary_is_away() {
            return Err(error);
        }
        let answer = call.await.map_err(|error| self.primary.labelled(&error));
        if let Err(error) = &answer
            && error.class() == ErrorClass::Unavailable
        {
            self.side.primary_went(error);
        }
        answer
    }

    /// As [`ask_primary`](Self::ask_primary), for many items.
    async fn ask_primary_many<T>(
        &self,
        call: impl Future<Output = BatchResult<T>>,
    ) -> BatchResult<T> {
        let mut answers = self.ask_primary(call).await?;
        for answer in &mut answers {
            if let Err(error) = answer {
                *error = self.primary.labelled(error);
                if error.class() == ErrorClass::Unavailable {
                    self.side.primary_went(error);
                }
            }
        }
        Ok(answers)
    }

    /// As [`ask_primary_many`](Self::ask_primary_many), where one item that is `unavailable` is
    /// reason enough to ask the secondary.
    async fn ask_primary_for_all<T>(
        &self,
        call: impl Future<Output = BatchResult<T>>,
    ) -> BatchResult<T> {
        all_available(self.ask_primary_many(call).await?)
    }

    /// Writes to the primary, and to the secondary what the primary cannot take now.
    async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let limit = SizeLimit {
            store: Failover::NAME,
            max_record_bytes: self.capabilities.max_record_bytes,
        };
        let (writes, refused) = limit.split(writes);
        let job_ids: Vec<Text> = writes
            .iter()
            .map(|write| write.record.job_id.clone())
            .collect();
        let _held = self.locks.lock(job_ids.iter()).await;
        let mut answers = self.put_to_primary(&job_ids, &writes).await?;
        let missed: Vec<usize> = (0..writes.len())
            .filter(|at| is_unavailable(&answers[*at]))
            .collect();
        if missed.is_empty() {
            return Ok(refused.merge(answers));
        }
        let batch = missed.iter().map(|at| writes[*at].clone()).collect();
        let owing = self.side.writing_to_secondary();
        let taken = self.secondary.store().put_many(batch);
        let taken = self.secondary.call_many(taken).await;
        drop(owing);
        match taken {
            Ok(taken) => {
                for (at, taken) in missed.into_iter().zip(taken) {
                    answers[at] = match (&answers[at], taken) {
                        (Err(primary), Err(secondary)) => Err(failed_by_both(primary, secondary)),
                        (_, taken) => taken,
                    };
                }
            }
            Err(secondary) => {
                for at in missed {
                    if let Err(primary) = &answers[at] {
                        answers[at] = Err(both(primary, &secondary));
                    }
                }
            }
        }
        Ok(refused.merge(answers))
    }

    /// `unavailable` for what the primary cannot take now.
    async fn put_to_primary(
        &self,
        job_ids: &[Text],
        writes: &[Write],
    ) -> BatchResult<WriteOutcome> {
        let away = |error: StoreError| Ok(writes.iter().map(|_| Err(error.clone())).collect());
        if let Some(error) = self.side.primary_is_away() {
            return away(error);
        }
        match self.settle(job_ids).await {
            Ok(()) => {}
            Err(error) => match self.side.primary_is_away() {
                Some(error) => return away(error),
                None => return Err(error),
            },
        }
        let put = self.primary.store().put_many(writes.to_vec());
        match self.ask_primary_many(put).await {
            Err(error) if error.class() == ErrorClass::Unavailable => away(error),
            answered => answered,
        }
    }

    /// What is known of these jobs: by the primary, after everything that waits for it in the
    /// secondary was brought to it; by the secondary while the primary is away.
    async fn read<T: Send>(
        self: &Arc<Self>,
        job_ids: Vec<Text>,
        ask: Ask<T>,
    ) -> BatchResult<Option<T>> {
        match self.read_from_primary(&job_ids, ask).await {
            Err(error) if error.class() == ErrorClass::Unavailable => {}
            answered => return answered,
        }
        // An outage that this call has found, or one that is known.
        let Some(away) = self.side.primary_is_away() else {
            return self.read_from_primary(&job_ids, ask).await;
        };
        let asked = ask(self.secondary.store(), job_ids);
        match self.secondary.call_many(asked).await {
            Ok(found) => Ok(found.into_iter().map(|found| known(found, &away)).collect()),
            Err(secondary) => Err(both(&away, &secondary)),
        }
    }

    async fn read_from_primary<T: Send>(
        self: &Arc<Self>,
        job_ids: &[Text],
        ask: Ask<T>,
    ) -> BatchResult<Option<T>> {
        if let Some(error) = self.side.primary_is_away() {
            return Err(error);
        }
        if self.side.may_owe() {
            self.settle_in_turn(job_ids.to_vec()).await?;
        }
        let asked = ask(self.primary.store(), job_ids.to_vec());
        let mut answers = self.ask_primary_for_all(asked).await?;
        // Another process may have put it into the secondary.
        let unknown: Vec<usize> = (0..answers.len())
            .filter(|at| matches!(answers[*at], Ok(None)))
            .collect();
        if unknown.is_empty() {
            return Ok(answers);
        }
        let ids: Vec<Text> = unknown.iter().map(|at| job_ids[*at].clone()).collect();
        let asked = self.secondary.store().status_many(ids.clone());
        let Ok(there) = self.secondary.call_many(asked).await else {
            return Ok(answers);
        };
        let there: Vec<(usize, Text)> = unknown
            .into_iter()
            .zip(ids)
            .zip(there)
            .filter(|(_, there)| matches!(there, Ok(Some(_))))
            .map(|(place, _)| place)
            .collect();
        if there.is_empty() {
            return Ok(answers);
        }
        self.side.found_in_secondary();
        let ids: Vec<Text> = there.iter().map(|(_, job_id)| job_id.clone()).collect();
        self.settle_in_turn(ids.clone()).await?;
        let asked = ask(self.primary.store(), ids);
        for ((at, _), answer) in there
            .into_iter()
            .zip(self.ask_primary_for_all(asked).await?)
        {
            answers[at] = answer;
        }
        Ok(answers)
    }

    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        let needs = |error: &StoreError| {
            let text = error.message();
            StoreError::unavailable(format!("a delete needs the primary: {text}"))
        };
        let _held = self.locks.lock(job_ids.iter()).await;
        if let Some(error) = self.side.primary_is_away() {
            return Err(needs(&error));
        }
        self.settle(&job_ids).await?;
        let deleted = self.primary.store().delete_many(job_ids.clone());
        let deleted = self.ask_primary_many(deleted).await;
        let mut answers = deleted.map_err(|error| match error.class() {
            ErrorClass::Unavailable => needs(&error),
            _ => error,
        })?;
        // What another process may have put there must not come back.
        let deleted = self.secondary.store().delete_many(job_ids);
        match self.secondary.call_many(deleted).await {
            Ok(deleted) => {
                for (answer, deleted) in answers.iter_mut().zip(deleted) {
                    if let (Ok(any), Ok(deleted)) = (answer, deleted) {
                        *any |= deleted;
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "a delete did not reach the secondary"),
        }
        Ok(answers)
    }
}

impl Drop for Failover {
    fn drop(&mut self) {
        self.shared.side.close();
    }
}

fn is_unavailable<T>(answer: &StoreResult<T>) -> bool {
    matches!(answer, Err(error) if error.class() == ErrorClass::Unavailable)
}

/// The secondary's own error, unless it is away as well.
fn failed_by_both(primary: &StoreError, secondary: StoreError) -> StoreError {
    match secondary.class() {
        ErrorClass::Unavailable => both(primary, &secondary),
        _ => secondary,
    }
}

fn both(primary: &StoreError, secondary: &StoreError) -> StoreError {
    StoreError::unavailable(format!("{}; {}", primary.message(), secondary.message()))
}

/// What the secondary does not know, the primary may.
fn known<T>(found: StoreResult<Option<T>>, away: &StoreError) -> StoreResult<Option<T>> {
    match found {
        Ok(None) => Err(StoreError::unavailable(format!(
            "{}; the secondary has no record of it",
            away.message()
        ))),
        Err(secondary) => Err(failed_by_both(away, secondary)),
        found => found,
    }
}

impl ResultStore for Failover {
    type Config = FailoverConfig;
    const CAPABILITIES: Capabilities = MOST;

    /// With members from the registry of the whole process.
    async fn open(config: FailoverConfig, _host: HostContext) -> StoreResult<Self> {
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
        self.shared.read(job_ids, ask).await
    }

    async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        only(self.status_many(vec![job_id]).await?.pop())
    }

    async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        let ask: Ask<Status> = |store, job_ids| Box::pin(store.status_many(job_ids));
        self.shared.read(job_ids, ask).await
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        only(self.delete_many(vec![job_id]).await?.pop())
    }

    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        let shared = Arc::clone(&self.shared);
        to_its_end(async move { shared.delete_many(job_ids).await }).await
    }

    /// Of the primary alone: half a list would pass for a whole one.
    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        let shared = &self.shared;
        if cursor.is_none() && shared.side.may_owe() {
            let shared = Arc::clone(shared);
            to_its_end(async move { shared.bring_back_all().await }).await?;
        }
        let page = shared.primary.store().scan(filter, cursor, limit);
        shared.ask_primary(page).await
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        let shared = &self.shared;
        let of_secondary = shared.secondary.store().cleanup_expired(now, limit);
        let of_secondary = shared.secondary.call(of_secondary).await;
        let of_primary = shared.primary.store().cleanup_expired(now, limit);
        match shared.ask_primary(of_primary).await {
            Err(error) if error.class() == ErrorClass::Unavailable => of_secondary,
            answered => answered,
        }
    }

    /// It serves calls while one of the two does.
    async fn health_check(&self) -> StoreResult<Health> {
        let shared = &self.shared;
        let (primary, secondary) = tokio::join!(
            shared.primary.store().health_check(),
            shared.secondary.health()
        );
        let primary = primary.map_err(|error| shared.primary.labelled(&error));
        match (&primary, &secondary) {
            (Ok(_), _) => shared.side.look_again(),
            (Err(primary), Ok(_)) => shared.side.primary_went(primary),
            (Err(primary), Err(secondary)) => return Err(both(primary, secondary)),
        }
        let mut health = joined_health(vec![
            (shared.primary.label(), primary),
            (shared.secondary.label(), secondary),
        ]);
        if shared.side.owes() {
            health.warnings.push(format!(
                "{} holds records that are to be brought to the primary",
                shared.secondary.label()
            ));
        }
        Ok(health)
    }

    async fn stats(&self) -> StoreResult<Stats> {
        let shared = &self.shared;
        let asked = shared.primary.store().stats();
        let mut stats = shared.ask_primary(asked).await?;
        let waiting = shared
            .secondary
            .call(shared.secondary.store().stats())
            .await;
        if let Ok(waiting) = waiting {
            let key = format!("records in {}", shared.secondary.label());
            stats.details.insert(key, json!(waiting.records));
        }
        Ok(stats)
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        let shared = &self.shared;
        let mut changes = shared.side.changes();
        let away = shared.side.primary_is_away();
        let member = match &away {
            None => &shared.primary,
            Some(_) if shared.secondary.capabilities().push => &shared.secondary,
            Some(error) => return Err(error.clone()),
        };
        tokio::select! {
            ended = member.store().subscribe(sink) => {
                ended.map_err(|error| member.labelled(&error))
            }
            // Endings are announced by the other one now.
            _ = changes.wait_for(|is_away| *is_away != away.is_some()) => Err(
                StoreError::unavailable(format!("{} is used no longer", member.label())),
            ),
        }
    }

    async fn close(&self) -> StoreResult<()> {
        let shared = &self.shared;
        shared.side.close();
        let (primary, secondary) = tokio::join!(
            shared.primary.store().close(),
            shared.secondary.store().close()
        );
        primary
            .map_err(|error| shared.primary.labelled(&error))
            .and(secondary.map_err(|error| shared.secondary.labelled(&error)))
    }
}
