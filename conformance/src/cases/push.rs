//! Announcements of jobs that have ended.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use warren_plugin_api::{
    Completion, CompletionSink, ErrorClass, Payload, Record, Status, StoreResult, Text, WriteMode,
};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, Failure, ensure, expect_class, expect_eq, expect_record},
    handle::Handle,
    records::{full, with_mode},
};

pub(crate) const CASES: &[Case] = &[
    case!("push", every_ending_is_announced, ["RS-100"], [Push]),
    case!("push", endings_through_another_handle, ["RS-101"], [Push]),
    case!("push", nothing_else_is_announced, ["RS-102"], [Push]),
    case!("push", an_announced_ending_can_be_read, ["RS-103"], [Push]),
    case!("push", every_subscriber_is_told, ["RS-104"], [Push]),
    case!("push", a_dropped_subscription_is_silent, ["RS-105"], [Push]),
    case!("push", closing_ends_a_subscription, ["RS-106"], [Push]),
    case!(
        "push",
        a_record_comes_along_as_it_is_stored,
        ["RS-107"],
        [Push]
    ),
];

/// How long an announcement may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

struct Subscription {
    task: JoinHandle<StoreResult<()>>,
    announced: UnboundedReceiver<Completion>,
}

impl Subscription {
    /// Subscribes, and waits until announcements flow.
    async fn start(store: &Handle) -> Checked<Self> {
        let (ready_sender, mut ready) = unbounded_channel();
        let (sender, announced) = unbounded_channel();
        let sink = CompletionSink::with_records(
            move || {
                let _ = ready_sender.send(());
            },
            |_| true,
            move |completion| drop(sender.send(completion)),
        );
        let object = store.raw().clone();
        let mut task = tokio::spawn(async move { object.subscribe(sink).await });
        tokio::select! {
            waited = tokio::time::timeout(PATIENCE, ready.recv()) => match waited {
                Ok(Some(())) => Ok(Self { task, announced }),
                Ok(None) => Err(Failure::Broken(
                    "subscribe: expected ready, found the sink dropped".to_owned(),
                )),
                Err(_elapsed) => Err(Failure::Broken(format!(
                    "subscribe: expected ready within {PATIENCE:?}, found nothing"
                ))),
            },
            ended = &mut task => Err(Failure::Broken(format!(
                "subscribe: expected it to go on, found its end: {ended:?}"
            ))),
        }
    }

    async fn next(&mut self, what: &str) -> Checked<Completion> {
        let next = tokio::time::timeout(PATIENCE, self.announced.recv()).await;
        match next {
            Ok(Some(completion)) => Ok(completion),
            Ok(None) => Err(Failure::Broken(format!(
                "{what}: expected an announcement, found the subscription at its end"
            ))),
            Err(_elapsed) => Err(Failure::Broken(format!(
                "{what}: expected an announcement within {PATIENCE:?}, found none"
            ))),
        }
    }

    /// What is announced until all of `expected` was; others' jobs are left out.
    async fn until_all(
        &mut self,
        context: &Context,
        what: &str,
        expected: &BTreeMap<Text, Status>,
    ) -> Checked {
        let mut found = BTreeMap::new();
        while found.len() < expected.len() {
            let completion = self.next(what).await?;
            if !completion.job_id.starts_with(context.prefix()) {
                continue;
            }
            match expected.get(&completion.job_id) {
                Some(status) => expect_eq(what, &completion.status, status)?,
                None => ensure!(
                    false,
                    "{what}: expected no other announcement, found {completion:?}"
                ),
            }
            found.insert(completion.job_id, completion.status);
        }
        Ok(())
    }

    fn end(self) {
        self.task.abort();
    }
}

fn ended(context: &Context, status: Status) -> Record {
    full(context.id(status.as_str()), status, 1)
}

fn expected(records: &[Record]) -> BTreeMap<Text, Status> {
    records
        .iter()
        .map(|record| (record.job_id.clone(), record.status))
        .collect()
}

/// Ended jobs, written one by one and as a batch, new and over an earlier status.
async fn write_endings(context: &Context, store: &Handle) -> Checked<Vec<Record>> {
    let endings = Status::ALL
        .into_iter()
        .filter(|status| status.is_terminal());
    let mut written = Vec::new();
    for status in endings {
        for earlier in [None, Some(Status::Queued), Some(Status::InProgress)] {
            let (singly, in_batch) = (ended(context, status), ended(context, status));
            if let Some(earlier) = earlier {
                for record in [&singly, &in_batch] {
                    store
                        .written(full(record.job_id.clone(), earlier, 1))
                        .await?;
                }
            }
            store.written(singly.clone()).await?;
            store.all_written(std::slice::from_ref(&in_batch)).await?;
            written.extend([singly, in_batch]);
        }
        let always = ended(context, status);
        store
            .written(with_mode(always.clone(), WriteMode::Always))
            .await?;
        let claimed = ended(context, status);
        store
            .written(with_mode(claimed.clone(), WriteMode::IfAbsent))
            .await?;
        written.extend([always, claimed]);
    }
    let many: Vec<Record> = (0..context.scaled(50, 300))
        .map(|_| ended(context, Status::Completed))
        .collect();
    store.all_written(&many).await?;
    written.extend(many);
    Ok(written)
}

async fn every_ending_is_announced(context: &Context) -> Checked {
    let mut subscription = Subscription::start(&context.store).await?;
    let written = write_endings(context, &context.store).await?;
    subscription
        .until_all(context, "an ending", &expected(&written))
        .await?;
    // A later attempt ends once more.
    let again = Record {
        attempt: 2,
        status: Status::Failed,
        ..written[0].clone()
    };
    context.store.written(again.clone()).await?;
    subscription
        .until_all(context, "a second ending", &expected(&[again]))
        .await?;
    subscription.end();
    Ok(())
}

async fn endings_through_another_handle(context: &Context) -> Checked {
    let other = context.second_handle().await?;
    let mut subscription = Subscription::start(&context.store).await?;
    let written = write_endings(context, &other).await?;
    subscription
        .until_all(context, "an ending elsewhere", &expected(&written))
        .await?;
    subscription.end();
    other.close().await
}

async fn nothing_else_is_announced(context: &Context) -> Checked {
    let store = &context.store;
    let before = ended(context, Status::Completed);
    store.written(before.clone()).await?;
    let mut subscription = Subscription::start(store).await?;
    for status in [Status::Queued, Status::InProgress, Status::Retrying] {
        store.written(ended(context, status)).await?;
        store.all_written(&[ended(context, status)]).await?;
    }
    let stale = full(before.job_id.clone(), Status::Failed, 1);
    for mode in [WriteMode::IfNewer, WriteMode::IfAbsent] {
        store.put(with_mode(stale.clone(), mode)).await?;
        store.put_many(vec![with_mode(stale.clone(), mode)]).await?;
    }
    store.get(&before.job_id).await?;
    store.delete(&before.job_id).await?;
    // What was announced wrongly has come by the time that three more announcements have.
    for _ in 0..3 {
        let last = ended(context, Status::Aborted);
        store.written(last.clone()).await?;
        subscription
            .until_all(context, "an ending after other writes", &expected(&[last]))
            .await?;
    }
    subscription.end();
    Ok(())
}

async fn an_announced_ending_can_be_read(context: &Context) -> Checked {
    let reader = context.open_again().await?;
    let mut subscription = Subscription::start(&context.store).await?;
    let sees_all = context.second_handle().await.is_ok();
    let reader = if sees_all { &reader } else { &context.store };
    for _ in 0..context.scaled(10, 50) {
        let record = ended(context, Status::Completed);
        let running = full(record.job_id.clone(), Status::InProgress, 1);
        context.store.written(running).await?;
        let (store, write) = (context.store.clone(), record.clone());
        let writing = tokio::spawn(async move { store.written(write).await });
        subscription
            .until_all(
                context,
                "an ending",
                &expected(std::slice::from_ref(&record)),
            )
            .await?;
        let status = reader.status(&record.job_id).await?;
        expect_eq("status of an announced job", &status, &Some(record.status))?;
        writing
            .await
            .unwrap_or_else(|error| Err(Failure::Broken(format!("put: {error}"))))?;
    }
    subscription.end();
    Ok(())
}

async fn every_subscriber_is_told(context: &Context) -> Checked {
    let mut first = Subscription::start(&context.store).await?;
    let mut second = Subscription::start(&context.store).await?;
    let records = [
        ended(context, Status::Completed),
        ended(context, Status::Failed),
    ];
    context.store.all_written(&records).await?;
    for subscription in [&mut first, &mut second] {
        subscription
            .until_all(context, "each subscriber", &expected(&records))
            .await?;
    }
    first.end();
    let last = ended(context, Status::Aborted);
    context.store.written(last.clone()).await?;
    second
        .until_all(context, "the remaining subscriber", &expected(&[last]))
        .await?;
    second.end();
    Ok(())
}

async fn a_dropped_subscription_is_silent(context: &Context) -> Checked {
    let mut dropped = Subscription::start(&context.store).await?;
    let first = ended(context, Status::Completed);
    context.store.written(first.clone()).await?;
    dropped
        .until_all(context, "before it is dropped", &expected(&[first]))
        .await?;
    dropped.task.abort();
    let _ = (&mut dropped.task).await;
    let mut kept = Subscription::start(&context.store).await?;
    for _ in 0..3 {
        let record = ended(context, Status::Completed);
        context.store.written(record.clone()).await?;
        kept.until_all(context, "the kept subscription", &expected(&[record]))
            .await?;
    }
    while let Ok(completion) = dropped.announced.try_recv() {
        ensure!(
            !completion.job_id.starts_with(context.prefix()),
            "a dropped subscription: expected silence, found {completion:?}"
        );
    }
    kept.end();
    Ok(())
}

async fn closing_ends_a_subscription(context: &Context) -> Checked {
    let store = context.open_again().await?;
    let subscription = Subscription::start(&store).await?;
    store.close().await?;
    let ended = tokio::time::timeout(PATIENCE, subscription.task).await;
    match ended {
        Ok(Ok(ended)) => expect_class(
            "a subscription whose store is closed",
            &ended,
            ErrorClass::Unavailable,
        ),
        Ok(Err(error)) => Err(Failure::Broken(format!("subscribe: {error}"))),
        Err(_elapsed) => Err(Failure::Broken(format!(
            "a subscription whose store is closed: expected its end within {PATIENCE:?}, found none"
        ))),
    }
}

async fn a_record_comes_along_as_it_is_stored(context: &Context) -> Checked {
    let mut subscription = Subscription::start(&context.store).await?;
    let mut single = ended(context, Status::Completed);
    single.result = Payload::from(format!("\"{}\"", "x".repeat(8 * 1024)));
    context.store.written(single.clone()).await?;
    let mut written = vec![single];
    written.extend((0..context.scaled(50, 300)).map(|_| ended(context, Status::Failed)));
    context.store.all_written(&written[1..]).await?;
    let mut left: BTreeMap<Text, Record> = written
        .into_iter()
        .map(|record| (record.job_id.clone(), record))
        .collect();
    while !left.is_empty() {
        let completion = subscription.next("an ending").await?;
        let Some(stored) = left.remove(&completion.job_id) else {
            continue;
        };
        if let Some(record) = completion.record {
            expect_record("what came along", Some(&record), &stored)?;
        }
    }
    subscription.end();
    Ok(())
}
