//! One delivery, from its arrival to its answer.

use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;
use tracing::Instrument;
use warren_plugin_api::{Status, Text, Timestamp, Write};

use super::{
    admission::{Admission, admit},
    attempt::{Attempt, Ending, LiveRecord},
    functions::CountedFunction,
    hand_over::hand_over,
    hooks::{JobEnd, JobInfo},
    outcome::{Outcome, Verdict, decide},
    put_back,
    resend::{self, Times},
    run::{Run, call},
    shared::Shared,
};
use crate::{
    broker::{Acker, Delivery, HeaderValue, Publish, Settle},
    job::{JobHeaders, JobId, JobMessage, UnreadableMessage, attempt, header},
};

/// What is sent again so that its lost runs can be counted comes back only when the broker has the
/// answer to what it was: a worker that dies before would leave both, and each of them makes two.
const SENT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A delivery that is being handled.
///
/// Boxed, like its message and like what seldom happens to it: a job's future is copied whole when
/// its task is spawned, stays as long as the job runs, and each layer of it has room for what it is
/// given.
pub(super) struct Job {
    shared: Arc<Shared>,
    delivery: Delivery,
    headers: JobHeaders,
    number: u32,
    received: Timestamp,
}

impl Job {
    pub(super) fn new(shared: Arc<Shared>, delivery: Delivery) -> Box<Self> {
        let headers = delivery.headers.of_job();
        Box::new(Self {
            shared,
            delivery,
            headers,
            number: attempt(1, &headers),
            received: Timestamp::now(),
        })
    }

    /// Handles the delivery and answers it; the answer may come later, from the result writer.
    pub(super) async fn execute(mut self: Box<Self>) {
        match self.read() {
            Ok((message, span)) => self.handle(message).instrument(span).await,
            Err(unreadable) => Box::pin(self.refuse(unreadable)).await,
        }
    }

    fn read(&mut self) -> Result<(Box<JobMessage>, tracing::Span), Box<UnreadableMessage>> {
        let message = self.message()?;
        self.number = attempt(message.job_try, &self.headers);
        let span = tracing::info_span!(
            "job",
            job_id = message.job_id.as_str(),
            function = message.function.as_str(),
            queue = self.delivery.queue.as_str(),
            attempt = self.number,
        );
        Ok((message, span))
    }

    fn message(&self) -> Result<Box<JobMessage>, Box<UnreadableMessage>> {
        let max_bytes = self.shared.options.max_body_bytes;
        JobMessage::parse_limited(&self.delivery.body, self.received, max_bytes).map(Box::new)
    }

    async fn handle(self: Box<Self>, message: Box<JobMessage>) {
        let admission = admit(
            &self.shared,
            &message,
            self.number,
            &self.headers,
            self.delivery.redelivered,
            self.received,
        )
        .await;
        match admission {
            Admission::Run {
                function,
                lost_runs,
                needs_start_record,
            } => {
                self.run(message, function, lost_runs, needs_start_record)
                    .await;
            }
            Admission::GiveBack => self.requeue(),
            Admission::Defer(delay) => Box::pin(self.defer(message, delay)).await,
            Admission::SendAgain { hand_overs } => {
                Box::pin(self.send_again(message, hand_overs)).await;
            }
            Admission::AlreadyEnded(status) => {
                tracing::info!(%status, "not run again: the store says that this attempt has ended");
                self.shared.stats.0.already_ended.increment();
                settle(self.delivery.acker, Settle::Ack);
            }
            Admission::Abort(error) => {
                Box::pin(self.end_without_run(message, Verdict::Aborted(error))).await;
            }
            Admission::Fail(error) => {
                Box::pin(self.end_without_run(message, Verdict::Unfit(error))).await;
            }
        }
    }

    /// Runs `function`, and brings the outcome where it belongs.
    async fn run(
        self: Box<Self>,
        message: Box<JobMessage>,
        counted: Arc<CountedFunction>,
        lost_runs: u32,
        needs_start_record: bool,
    ) {
        let function = &counted.function;
        let shared = Arc::clone(&self.shared);
        let started_at = Timestamp::now();
        let stop = shared.cancel_jobs.child_token();
        let enqueued_at = Some(message.enqueue_time);
        let job_id = message.job_id.as_text().clone();
        let held = shared.in_hand.hold(job_id, enqueued_at, stop.clone());
        if shared.aborts.is_requested(&message) {
            // Between the first look and now.
            stop.cancel();
        }
        let attempt = Arc::new(Attempt {
            lost_runs,
            started_at: Some(started_at),
            _held: Some(held),
            ..self.attempt_of(&message, function.policy.result_ttl)
        });
        // Read again should it be sent again: most are not, and many may run for long.
        drop(message);
        if needs_start_record {
            // Should this run take the worker down, the next one must know that it began.
            let record = attempt.running_record(&shared.options.worker);
            if let Err(error) = Box::pin(shared.store.put(Write::from(record))).await {
                tracing::debug!(%error, "the start of a job that was lost before is not stored");
            }
        } else {
            shared.results.running(&attempt);
        }
        let info = shared.hooks.wants_jobs().then(|| self.info(&attempt));
        if let Some(info) = &info {
            Box::pin(shared.hooks.job_start(info)).await;
        }

        let began = Instant::now();
        shared.stats.0.running.increment();
        let run = call(&shared, &self.delivery.queue, &attempt, function, stop).await;
        shared.stats.0.running.decrement();
        let duration = began.elapsed();

        match run {
            Run::Ended(verdict) => {
                let outcome = decide(
                    verdict,
                    self.number,
                    &self.headers,
                    Some(&function.policy.retry),
                );
                let ran = Some((counted, duration));
                if let Some(rest) = self.conclude(outcome, attempt, ran, info) {
                    rest.await;
                }
            }
            Run::Interrupted => self.give_back(attempt),
        }
    }

    /// Sends the message again, to come back when its time has come.
    async fn defer(self: Box<Self>, message: Box<JobMessage>, delay: Duration) {
        let publish = resend::deferred(&self.delivery, *message, self.number, delay);
        let is_sent = self.send(publish).await;
        self.answer_deferred(is_sent);
    }

    async fn send_again(self: Box<Self>, message: Box<JobMessage>, hand_overs: u32) {
        let delay = SENT_AGAIN_AFTER;
        let mut publish = resend::deferred(&self.delivery, *message, self.number, delay);
        if hand_overs > 0 {
            let count = HeaderValue::Int(hand_overs.into());
            publish.headers.insert(header::HAND_OVERS, count);
        }
        let at_once = Publish {
            delay: Duration::ZERO,
            ..publish.clone()
        };
        // Rather at once than not at all, on a broker that cannot delay.
        let is_sent = self.send(publish).await || self.send(at_once).await;
        if is_sent {
            self.shared.retry_sent(delay);
        }
        self.answer_deferred(is_sent);
    }

    fn answer_deferred(self, is_sent: bool) {
        if is_sent {
            self.shared.stats.0.deferred.increment();
            settle(self.delivery.acker, Settle::Ack);
        } else {
            self.requeue();
        }
    }

    async fn end_without_run(self: Box<Self>, message: Box<JobMessage>, verdict: Verdict) {
        let outcome = decide(verdict, self.number, &self.headers, None);
        let attempt = Arc::new(self.attempt_of(&message, None));
        let info = self.shared.hooks.wants_jobs().then(|| self.info(&attempt));
        if let Some(rest) = self.conclude(outcome, attempt, None, info) {
            rest.await;
        }
    }

    /// A message that is no job: to the dead-letter queue, and a record if it has an id.
    async fn refuse(self: Box<Self>, unreadable: Box<UnreadableMessage>) {
        let unreadable = *unreadable;
        let outcome = Outcome::unreadable(&unreadable);
        let queue = unreadable
            .queue_name
            .unwrap_or_else(|| self.delivery.queue.as_str().into());
        let attempt = Arc::new(Attempt {
            job_id: unreadable.job_id.map(Text::from).unwrap_or_default(),
            queue,
            function: unreadable.function.unwrap_or_default(),
            args: Default::default(),
            kwargs: Default::default(),
            number: self.number,
            enqueued_at: None,
            started_at: None,
            may_be_written_over: false,
            result_ttl: self
                .headers
                .result_ttl
                .unwrap_or(self.shared.options.result_ttl),
            lost_runs: 0,
            replayed_from: self.delivery.headers.replayed_from().map(Box::new),
            progress: Mutex::default(),
            live: LiveRecord::default(),
            _held: None,
        });
        tracing::warn!(
            job_id = attempt.job_id.as_str(),
            queue = self.delivery.queue.as_str(),
            error = %unreadable.error,
            "a message cannot be read and goes to the dead-letter queue"
        );
        let info = self.shared.hooks.wants_jobs().then(|| self.info(&attempt));
        if let Some(rest) = self.conclude(outcome, attempt, None, info) {
            rest.await;
        }
    }

    /// Sends what the outcome asks to be sent, stores it, and answers the delivery: in this order,
    /// so that a failure in between repeats work and never loses it. Returns what cannot be done at
    /// once, which for most jobs is nothing.
    fn conclude(
        self: Box<Self>,
        outcome: Outcome,
        attempt: Arc<Attempt>,
        ran: Option<Ran>,
        info: Option<Arc<JobInfo>>,
    ) -> Option<BoxFuture<'static, ()>> {
        let finished_at = Timestamp::now();
        let times = Times {
            started_at: attempt.started_at,
            finished_at,
        };
        let publish = match self.to_send(&outcome, &attempt, times) {
            Ok(Some(publish)) => publish,
            Ok(None) => return (*self).finish(outcome, attempt, ran, info, finished_at),
            // It was read before. Whatever changed its mind must not cost the job.
            Err(error) => {
                tracing::error!(%error, "a message that has to be sent again cannot be read again");
                self.give_back(attempt);
                return None;
            }
        };
        let sent_first = async move {
            if !self.send(publish).await {
                return self.give_back(attempt);
            }
            if let Some(rest) = (*self).finish(outcome, attempt, ran, info, finished_at) {
                rest.await;
            }
        };
        Some(sent_first.boxed())
    }

    /// What follows when everything is sent. Returns the call of the hook, if there is one.
    fn finish(
        self,
        outcome: Outcome,
        attempt: Arc<Attempt>,
        ran: Option<Ran>,
        info: Option<Arc<JobInfo>>,
        finished_at: Timestamp,
    ) -> Option<BoxFuture<'static, ()>> {
        self.count(&outcome);
        let duration = ran.as_ref().map(|(_, duration)| *duration);
        match ran {
            Some((counted, _)) => counted.jobs.count(outcome.status, duration),
            None => {
                let functions = &self.shared.live.functions;
                functions.count_unrun(&attempt.function, outcome.status);
            }
        }
        let end = info.map(|job| JobEnd {
            job,
            status: outcome.status,
            result: outcome.result.clone(),
            error: outcome.error.clone(),
            duration,
        });
        let ending = Ending {
            status: outcome.status,
            error: outcome.error,
            detail: outcome.detail,
            result: outcome.result,
            finished_at,
            duration,
            delay: outcome.retry.map_or(Duration::ZERO, |retry| retry.after),
        };
        let Self {
            shared, delivery, ..
        } = self;
        let was_started = attempt.started_at.is_some();
        if attempt.job_id.is_empty() {
            // No id, no record: the dead letter is all that remains of it.
            settle(delivery.acker, Settle::Ack);
        } else {
            shared.results.ended(attempt, ending, delivery.acker);
        }
        let end = end?;
        Some(async move { shared.hooks.job_end(end, was_started).await }.boxed())
    }

    /// The message that an outcome asks to be sent, if any.
    fn to_send(
        &self,
        outcome: &Outcome,
        attempt: &Attempt,
        times: Times,
    ) -> Result<Option<Publish>, Box<dyn Error>> {
        if let Some(why) = &outcome.dead_letter {
            let queue = self.shared.broker.dead_letter_queue(&self.delivery.queue);
            let failed_at = times.finished_at;
            let id = &attempt.job_id;
            return Ok(Some(resend::dead_letter(
                &self.delivery,
                queue,
                id,
                why,
                failed_at,
            )));
        }
        let Some(retry) = outcome.retry else {
            return Ok(None);
        };
        let mut message = self.message()?;
        if !message.is_identified {
            // It was given an id when it was read.
            message.job_id = JobId::new(attempt.job_id.clone())?;
        }
        Ok(Some(resend::retry(
            &self.delivery,
            *message,
            self.number,
            retry,
            outcome,
            times,
        )))
    }

    /// Sends `publish` and waits until the broker has it. Tries for a few seconds; `false` when
    /// the broker did not take it, or the worker stops at once.
    async fn send(&self, publish: Publish) -> bool {
        tokio::select! {
            sent = hand_over(&self.shared.broker, &self.delivery.queue, publish) => sent,
            () = self.shared.shutdown.stopping_now() => false,
        }
    }

    /// The message goes back to its queue: what followed from it could not be sent.
    fn requeue(self) {
        self.shared.stats.0.requeued.increment();
        settle(self.delivery.acker, Settle::Requeue);
    }

    /// As [`requeue`](Self::requeue). If the job has run, whoever runs it again is not to think that
    /// this worker died of it.
    fn give_back(self, attempt: Arc<Attempt>) {
        if attempt.started_at.is_none() {
            return self.requeue();
        }
        tracing::info!("given back to its queue");
        self.shared.stats.0.requeued.increment();
        self.shared.results.given_back(attempt, self.delivery.acker);
    }

    fn attempt_of(&self, message: &JobMessage, function_ttl: Option<Duration>) -> Attempt {
        let ttl = self.headers.result_ttl.or(function_ttl);
        Attempt {
            job_id: message.job_id.as_text().clone(),
            queue: message.queue_name.clone(),
            function: message.function.clone(),
            args: message.args.clone(),
            kwargs: message.kwargs.clone(),
            number: self.number,
            enqueued_at: Some(message.enqueue_time),
            started_at: None,
            may_be_written_over: !self.delivery.from_warren
                && put_back::is_young(message.enqueue_time, self.received),
            result_ttl: ttl.unwrap_or(self.shared.options.result_ttl),
            lost_runs: 0,
            replayed_from: self.delivery.headers.replayed_from().map(Box::new),
            progress: Mutex::default(),
            live: LiveRecord::default(),
            _held: None,
        }
    }

    fn info(&self, attempt: &Attempt) -> Arc<JobInfo> {
        Arc::new(JobInfo {
            job_id: attempt.job_id.clone(),
            function: attempt.function.clone(),
            queue: self.delivery.queue.to_string(),
            worker: self.shared.options.worker.clone(),
            attempt: attempt.number,
            enqueued_at: attempt.enqueued_at,
        })
    }

    /// Counts and logs an outcome whose message was sent.
    fn count(&self, outcome: &Outcome) {
        let counters = &self.shared.stats.0;
        let error = outcome.error.as_ref().map(Text::as_str);
        match outcome.status {
            Status::Completed => {
                counters.completed.increment();
                tracing::debug!("completed");
            }
            Status::Retrying => {
                let after = outcome.retry.map_or(Duration::ZERO, |retry| retry.after);
                counters.retried.increment();
                self.shared.retry_sent(after);
                tracing::info!(error, ?after, "failed, to be run again");
            }
            Status::Aborted => {
                counters.aborted.increment();
                tracing::info!(error, "aborted");
            }
            Status::Failed | Status::Queued | Status::InProgress => {
                counters.failed.increment();
                tracing::warn!(error, "failed for good");
            }
        }
        if outcome.dead_letter.is_some() {
            counters.dead_lettered.increment();
        }
    }
}

/// The function that was run, and how long that took.
type Ran = (Arc<CountedFunction>, Duration);

fn settle(acker: Acker, answer: Settle) {
    // An answer that comes too late is no loss: the broker has put the message back already.
    let _ = acker.settle(answer);
}
