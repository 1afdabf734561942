//! `tiered`: a fast store in front of any other.
//!
//! The back decides everything. The front keeps copies of ended jobs for a while, each marked
//! with the state of its fence: see [`Fences`].

mod copy;
mod fences;

use std::{collections::HashMap, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_plugin_api::{
    BatchResult, Capabilities, CompletionSink, Cursor, ErrorClass, Filter, Health, HostContext,
    Page, Record, ResultStore, Stats, Status, StoreResult, Text, Timestamp, Write, WriteMode,
    WriteOutcome,
};

use self::fences::{Fences, Seal};
use super::{
    Combinator, MOST, StoreRegistry, joined_health,
    member::{Member, MemberConfig},
    scan_order_of, shared,
};
use crate::duration_text;

/// Options of a tiered store.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TieredConfig {
    /// The fast store, usually `memory`.
    front: MemberConfig,
    /// The store that decides, and keeps everything.
    back: MemberConfig,
    /// How long an ended job may be read from the front without asking the back, such as `30s`;
    /// `0s` reads everything from the back. Default: `30s`.
    #[serde(default = "usual_front_ttl", with = "duration_text")]
    #[schemars(with = "String")]
    front_ttl: Duration,
}

const fn usual_front_ttl() -> Duration {
    Duration::from_secs(30)
}

/// A fast store in front of another.
pub(super) struct Tiered {
    front: Member,
    back: Member,
    front_ttl: Duration,
    fences: Arc<Fences>,
    capabilities: Capabilities,
}

impl Combinator for Tiered {
    const NAME: &'static str = "tiered";
    const DESCRIPTION: &'static str = "A fast store in front of another";

    fn members(config: &TieredConfig) -> Vec<(String, &MemberConfig)> {
        vec![
            ("front".to_owned(), &config.front),
            ("back".to_owned(), &config.back),
        ]
    }

    async fn open_in(registry: StoreRegistry, config: TieredConfig) -> StoreResult<Self> {
        let fences = shared::of_configuration(Self::NAME, &config);
        let (front, back) = tokio::try_join!(
            Member::open_now_or_later(&registry, "front", &config.front),
            // Its capabilities are those of the whole.
            Member::open_now(&registry, "back", &config.back),
        )?;
        let of_back = back.capabilities();
        let capabilities = Capabilities {
            embedded: false,
            scan_order: scan_order_of(of_back),
            ..of_back.clone()
        };
        Ok(Self {
            front,
            back,
            front_ttl: config.front_ttl,
            fences,
            capabilities,
        })
    }

    fn opened_members(&self) -> Vec<&Member> {
        vec![&self.front, &self.back]
    }
}

impl Tiered {
    /// The copies of these jobs that may be believed, by their place in the list.
    async fn copies(&self, job_ids: &[Text]) -> HashMap<usize, Record> {
        if self.front_ttl.is_zero() {
            return HashMap::new();
        }
        let asked = self.front.store().get_many(job_ids.to_vec());
        let Ok(found) = self.front.call(asked).await else {
            return HashMap::new();
        };
        let copies = found.into_iter().enumerate().filter_map(|(at, found)| {
            let (record, seal) = copy::open(found.ok()??)?;
            // Judged after it was read: what was written meanwhile has broken the seal.
            let holds = self.fences.holds(&record.job_id, seal);
            (holds && !record.is_expired(Timestamp::now())).then_some((at, record))
        });
        copies.collect()
    }

    /// Puts copies into the front. It may fail: then the back is asked again.
    async fn keep(&self, copies: Vec<(Record, Seal)>) {
        let now = Timestamp::now();
        let until = now.saturating_add(self.front_ttl);
        let copies: Vec<Write> = copies
            .into_iter()
            .filter(|(record, _)| record.status.is_terminal() && !record.is_expired(now))
            .map(|(record, seal)| Write {
                record: copy::sealed(record, seal, until),
                mode: WriteMode::Always,
            })
            .collect();
        if !copies.is_empty() {
            let kept = self.front.store().put_many(copies);
            if let Err(error) = self.front.call(kept).await {
                tracing::debug!(%error, "no copies are kept");
            }
        }
    }

    /// The records of a batch, for copies of those that are written.
    fn to_keep(&self, writes: &[Write]) -> Vec<Record> {
        // Most batches of a busy client hold no ending.
        if self.front_ttl.is_zero() || !writes.iter().any(|write| write.record.status.is_terminal())
        {
            return Vec::new();
        }
        writes.iter().map(|write| write.record.clone()).collect()
    }
}

/// The jobs that the back is asked about.
fn without_a_copy(job_ids: &[Text], copies: &HashMap<usize, Record>) -> Vec<Text> {
    job_ids
        .iter()
        .enumerate()
        .filter(|(at, _)| !copies.contains_key(at))
        .map(|(_, job_id)| job_id.clone())
        .collect()
}

/// Whether this answer leaves no doubt about what is stored now.
fn is_certain<T>(answer: &StoreResult<T>) -> bool {
    match answer {
        Ok(_) => true,
        Err(error) => matches!(
            error.class(),
            ErrorClass::TooLarge | ErrorClass::Unsupported
        ),
    }
}

fn is_certain_batch<T>(answers: &BatchResult<T>) -> bool {
    answers
        .as_ref()
        .is_ok_and(|answers| answers.iter().all(is_certain))
}

impl ResultStore for Tiered {
    type Config = TieredConfig;
    const CAPABILITIES: Capabilities = MOST;

    /// With members from the registry of the whole process.
    async fn open(config: TieredConfig, _host: HostContext) -> StoreResult<Self> {
        Self::open_in(StoreRegistry::global().clone(), config).await
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        let mut answers = self.put_many(vec![write]).await?;
        super::only(answers.pop())
    }

    async fn put_many(&self, writes: Vec<Write>) -> BatchResult<WriteOutcome> {
        let records = self.to_keep(&writes);
        let job_ids = writes.iter().map(|write| &*write.record.job_id);
        let fence = self.fences.raise(job_ids, self.front_ttl);
        let answers = self
            .back
            .call_many(self.back.store().put_many(writes))
            .await;
        let seals = fence.lower(is_certain_batch(&answers));
        let answers = answers?;
        // Of several writes of one job in a batch the last one that was written is what is stored.
        let mut copies: HashMap<Text, (Record, Seal)> = HashMap::new();
        for (answer, record) in answers.iter().zip(records) {
            if matches!(answer, Ok(WriteOutcome::Written))
                && let Some(seal) = seals.of(&record.job_id)
            {
                copies.insert(record.job_id.clone(), (record, seal));
            }
        }
        self.keep(copies.into_values().collect()).await;
        Ok(answers)
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        let mut answers = self.get_many(vec![job_id]).await?;
        super::only(answers.pop())
    }

    async fn get_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Record>> {
        let mut copies = self.copies(&job_ids).await;
        let missing = without_a_copy(&job_ids, &copies);
        let mut found = Vec::new().into_iter();
        if !missing.is_empty() {
            let seals = self.fences.seals(missing.iter().map(|job_id| &**job_id));
            let answers = self
                .back
                .call_many(self.back.store().get_many(missing))
                .await?;
            if !self.front_ttl.is_zero() {
                let records = answers
                    .iter()
                    .filter_map(|answer| answer.as_ref().ok()?.as_ref());
                let copies = records
                    .filter(|record| record.status.is_terminal())
                    .filter_map(|record| Some((record.clone(), seals.of(&record.job_id)?)));
                self.keep(copies.collect()).await;
            }
            found = answers.into_iter();
        }
        let answers = (0..job_ids.len()).map(|at| match copies.remove(&at) {
            Some(copy) => Ok(Some(copy)),
            None => super::only(found.next()),
        });
        Ok(answers.collect())
    }

    async fn status(&self, job_id: Text) -> StoreResult<Option<Status>> {
        let mut answers = self.status_many(vec![job_id]).await?;
        super::only(answers.pop())
    }

    async fn status_many(&self, job_ids: Vec<Text>) -> BatchResult<Option<Status>> {
        let copies = self.copies(&job_ids).await;
        let missing = without_a_copy(&job_ids, &copies);
        let mut found = Vec::new().into_iter();
        if !missing.is_empty() {
            let asked = self.back.store().status_many(missing);
            found = self.back.call_many(asked).await?.into_iter();
        }
        let answers = (0..job_ids.len()).map(|at| match copies.get(&at) {
            Some(copy) => Ok(Some(copy.status)),
            None => super::only(found.next()),
        });
        Ok(answers.collect())
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        let mut answers = self.delete_many(vec![job_id]).await?;
        super::only(answers.pop())
    }

    async fn delete_many(&self, job_ids: Vec<Text>) -> BatchResult<bool> {
        let fence = self
            .fences
            .raise(job_ids.iter().map(|job_id| &**job_id), self.front_ttl);
        let asked = self.back.store().delete_many(job_ids.clone());
        let answers = self.back.call_many(asked).await;
        fence.lower(is_certain_batch(&answers));
        // Nobody believes the copies any more; they need not lie about either.
        let copies = self.front.store().delete_many(job_ids);
        if let Err(error) = self.front.call(copies).await {
            tracing::debug!(%error, "copies of deleted records stay until they expire");
        }
        answers
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        let page = self.back.store().scan(filter, cursor, limit);
        self.back.call(page).await
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        // Of a time to come it removes records that are live by the clock.
        let fence = (now > Timestamp::now()).then(|| self.fences.raise_all());
        let removed = self.back.store().cleanup_expired(now, limit);
        let removed = self.back.call(removed).await;
        drop(fence);
        let copies = self.front.store().cleanup_expired(now, limit);
        if let Err(error) = self.front.call(copies).await {
            tracing::debug!(%error, "expired copies stay for now");
        }
        removed
    }

    async fn health_check(&self) -> StoreResult<Health> {
        let (front, back) = tokio::join!(self.front.health(), self.back.health());
        let (front_label, back_label) = (self.front.label(), self.back.label());
        Ok(joined_health(vec![
            (front_label, front),
            (back_label, Ok(back?)),
        ]))
    }

    async fn stats(&self) -> StoreResult<Stats> {
        let mut stats = self.back.call(self.back.store().stats()).await?;
        if self.front.capabilities().stats
            && let Ok(front) = self.front.call(self.front.store().stats()).await
            && let Ok(front) = serde_json::to_value(front)
        {
            stats.details.insert("front".to_owned(), front);
        }
        Ok(stats)
    }

    async fn subscribe(&self, sink: CompletionSink) -> StoreResult<()> {
        let fences = Arc::clone(&self.fences);
        let (to, is_ready, wants) = (sink.clone(), sink.clone(), sink);
        // Who is told of an ending must not read of an earlier one from the front.
        let sink = CompletionSink::with_records(
            move || is_ready.ready(),
            move |job_id| wants.wants_record(job_id),
            move |completion| {
                fences.break_seal(&completion.job_id);
                match completion.record {
                    Some(record) => to.completed_with(*record),
                    None => to.completed(completion.job_id, completion.status),
                }
            },
        );
        let ended = self.back.store().subscribe(sink).await;
        ended.map_err(|error| self.back.labelled(&error))
    }

    async fn close(&self) -> StoreResult<()> {
        let (front, back) = tokio::join!(self.front.store().close(), self.back.store().close());
        if let Err(error) = front {
            tracing::debug!(%error, "the front did not close");
        }
        back.map_err(|error| self.back.labelled(&error))
    }
}
