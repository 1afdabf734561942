//! Sending jobs: the record first, then the message, so that nobody who knows the id ever finds
//! nothing. Only where nobody else can know the id yet are both on their way at once, or the record
//! follows unless the job has ended meanwhile; a fast worker's result is not overwritten then, since
//! the record of an earlier state is refused as stale.

use std::{task::Poll, time::Duration};

use futures_util::{StreamExt, stream::FuturesOrdered};
use warren_plugin_api::{
    Record, Status, StoreError, StoreResult, Text, Timestamp, Write, WriteMode, WriteOutcome,
};

use super::{Client, EnqueueError, IfExists, JobRequest, RunError, request::Checked};
use crate::{
    broker::{BrokerError, HeaderValue, Headers, Publish, QueueName},
    job::{JobMessage, header},
};

/// Jobs that are prepared, recorded and sent together, while those before are on their way.
const PORTION: usize = 128;
/// Portions that may be on their way at once: each message is copied for its frames.
const PORTIONS_UNDER_WAY: usize = 8;
/// How long a job that is waited for has to end before its `queued` record is written.
const RECORDED_AFTER: Duration = Duration::from_millis(2);

/// A job that was sent, or that existed and was to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// Its id.
    pub job_id: Text,
    /// Whether a message was sent; not when the job existed and was to be kept.
    pub sent: bool,
    /// The store did not take the `queued` record. The job runs all the same; until a worker has
    /// it, its id is unknown to the store.
    pub unrecorded: Option<StoreError>,
}

impl Client {
    /// Sends a job. It is in the store as `queued` when the call returns; under an id that the
    /// caller has chosen it is there before the broker has the message.
    ///
    /// # Errors
    /// The job was not sent.
    ///
    /// # Cancel safety
    /// A dropped call may have sent the job, or have left only a `queued` record behind.
    pub async fn enqueue(&self, request: JobRequest) -> Result<Enqueued, EnqueueError> {
        let jobs = self.prepare(&[request]).await;
        let answer = self.send(jobs, Duration::ZERO).await.pop();
        answer.unwrap_or_else(|| {
            Err(EnqueueError::Store(StoreError::internal(
                "no answer for a job",
            )))
        })
    }

    /// Sends a job and waits until it has ended; returns its record, whatever its end.
    ///
    /// Sooner than [`enqueue`](Self::enqueue) and then [`wait`](Self::wait): the broker's
    /// confirmation is not waited for once the job has ended, which tells the same, and a job
    /// whose id was not chosen by the caller is recorded as `queued` only when it has not ended
    /// within 2 ms.
    ///
    /// # Errors
    /// The job was not sent, or has not ended within `timeout`.
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue).
    pub async fn run(&self, request: JobRequest, timeout: Duration) -> Result<Record, RunError> {
        let jobs = self.prepare(&[request]).await;
        let (job_id, exists) = match &jobs[..] {
            [Ok(job)] => (job.job_id.clone(), job.exists),
            _ => (Text::new(), true),
        };
        let mut sending = std::pin::pin!(self.send(jobs, RECORDED_AFTER));
        if exists {
            check_sent(sending.await)?;
            return Ok(self.wait(&job_id, timeout).await?);
        }
        // It is listened for the end before the message is on its way.
        let mut waiting = std::pin::pin!(self.waiters.wait_for_unsent(&job_id, timeout));
        tokio::select! {
            biased;
            ended = &mut waiting => return Ok(ended?),
            sent = &mut sending => check_sent(sent)?,
        }
        Ok(waiting.await?)
    }

    /// Sends many jobs with few round trips. Answers in their order; each job is sent or not by
    /// itself. Records are written while messages are on their way: those of the same jobs where the
    /// ids are random, else those of the next.
    pub async fn enqueue_many(
        &self,
        requests: Vec<JobRequest>,
    ) -> Vec<Result<Enqueued, EnqueueError>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut sending = FuturesOrdered::new();
        for requests in requests.chunks(PORTION) {
            let mut preparing = std::pin::pin!(self.prepare(requests));
            let jobs = loop {
                tokio::select! {
                    biased;
                    jobs = &mut preparing => break jobs,
                    Some(sent) = sending.next() => answers.extend(sent),
                }
            };
            sending.push_back(self.send(jobs, Duration::ZERO));
            // They are on their way from here on, while the next are prepared.
            if let Poll::Ready(Some(sent)) = futures_util::poll!(sending.next()) {
                answers.extend(sent);
            }
            if sending.len() >= PORTIONS_UNDER_WAY
                && let Some(sent) = sending.next().await
            {
                answers.extend(sent);
            }
        }
        while let Some(sent) = sending.next().await {
            answers.extend(sent);
        }
        answers
    }

    /// Checks requests, makes sure of their queues, and writes the records that must come first.
    async fn prepare(&self, requests: &[JobRequest]) -> Vec<Result<Job, EnqueueError>> {
        let job = |request: &JobRequest| self.job(request, &request.checked()?);
        let mut jobs = requests.iter().map(job).collect::<Vec<_>>();
        self.declare_queues(&mut jobs).await;
        self.record(&mut jobs).await;
        jobs
    }

    fn job(&self, request: &JobRequest, checked: &Checked) -> Result<Job, EnqueueError> {
        let now = Timestamp::now();
        let ttl = request.result_ttl.unwrap_or(self.options.result_ttl);
        let message = JobMessage {
            args: checked.args.clone(),
            kwargs: checked.kwargs.clone(),
            enqueue_time: now,
            expires: request.expires_at,
            ..JobMessage::new(
                checked.job_id.clone(),
                request.function.as_str(),
                checked.queue.as_str(),
            )
        };
        let mode = match request.if_exists {
            IfExists::Replace => WriteMode::Always,
            // A random id is nobody else's: the plain guard is cheaper for some stores.
            _ if !checked.is_named => WriteMode::IfNewer,
            IfExists::Refuse | IfExists::Keep => WriteMode::IfAbsent,
        };
        let record = Record {
            job_id: checked.job_id.as_text().clone(),
            status: Status::Queued,
            attempt: 1,
            queue: checked.queue.as_str().into(),
            function: request.function.as_str().into(),
            enqueued_at: Some(now),
            updated_at: Some(now),
            // The record must outlive the wait for a worker, however long the delay.
            expires_at: Some(now.saturating_add(request.delay).saturating_add(ttl)),
            args: checked.args.clone(),
            kwargs: checked.kwargs.clone(),
            ..Record::default()
        };
        Ok(Job {
            job_id: record.job_id.clone(),
            publish: Publish {
                queue: checked.queue.clone(),
                body: message.to_body(),
                headers: headers(request),
                delay: request.delay,
                priority: request.priority,
                from_warren: true,
            },
            mode,
            write: Some(Box::new(Write { record, mode })),
            if_exists: request.if_exists,
            unrecorded: None,
            exists: false,
        })
    }

    /// A queue that is missing would return the message; declaring it is idempotent.
    async fn declare_queues(&self, jobs: &mut [Result<Job, EnqueueError>]) {
        let mut queues: Vec<QueueName> = jobs
            .iter()
            .flatten()
            .map(|job| job.publish.queue.clone())
            .collect();
        queues.sort();
        queues.dedup();
        for queue in queues {
            if self.declared.contains(&queue) {
                continue;
            }
            match Box::pin(self.broker.declare(&queue)).await {
                Ok(()) => self.declared.insert(queue),
                Err(error) => {
                    for job in jobs.iter_mut() {
                        if job.as_ref().is_ok_and(|job| job.publish.queue == queue) {
                            *job = Err(error.clone().into());
                        }
                    }
                }
            }
        }
    }

    /// Writes the `queued` records that must be there before their messages. What the store refuses
    /// as a duplicate is not sent; what it cannot take is sent all the same, unless that could make
    /// a duplicate.
    async fn record(&self, jobs: &mut [Result<Job, EnqueueError>]) {
        let first = |job: &&mut Job| !job.has_random_id();
        let writes = jobs.iter_mut().flatten().filter(first);
        let writes = writes
            .filter_map(|job| job.write.take())
            .map(|write| *write)
            .collect();
        let answers = self.write(writes).await;
        let pending = jobs.iter_mut();
        let pending = pending.filter(|job| job.as_ref().is_ok_and(|job| !job.has_random_id()));
        for (slot, answer) in pending.zip(answers) {
            let Ok(job) = slot else { continue };
            match answer {
                Ok(WriteOutcome::Written) => {}
                Ok(WriteOutcome::Stale) if job.if_exists == IfExists::Keep => job.exists = true,
                Ok(WriteOutcome::Stale) => {
                    let job_id = job.job_id.to_string();
                    *slot = Err(EnqueueError::Duplicate { job_id });
                }
                Err(error) if job.mode == WriteMode::IfAbsent => {
                    *slot = Err(EnqueueError::Store(error));
                }
                Err(error) => {
                    warn_of_unrecorded(&job.job_id, &error);
                    job.unrecorded = Some(error);
                }
            }
        }
    }

    /// Writes records, a single one together with those of other callers; answers in their order.
    async fn write(&self, writes: Vec<Write>) -> Vec<StoreResult<WriteOutcome>> {
        match <[Write; 1]>::try_from(writes) {
            Ok([write]) => vec![self.recorder.put(write.into()).await],
            Err(none) if none.is_empty() => Vec::new(),
            Err(writes) => {
                let count = writes.len();
                let answers = self.store.put_many(writes).await;
                answers.unwrap_or_else(|error| vec![Err(error); count])
            }
        }
    }

    /// Sends jobs, and writes meanwhile, or a while later, the records that have not been written
    /// before.
    async fn send(
        &self,
        jobs: Vec<Result<Job, EnqueueError>>,
        recorded_after: Duration,
    ) -> Vec<Result<Enqueued, EnqueueError>> {
        let mut publishes = Vec::with_capacity(jobs.len());
        let mut answers = Vec::with_capacity(jobs.len());
        let mut queues = Vec::with_capacity(jobs.len());
        let (mut unwritten, mut unrecorded) = (Vec::new(), Vec::new());
        for job in jobs {
            answers.push(job.map(|job| {
                if let Some(write) = job.write {
                    unrecorded.push(answers.len());
                    unwritten.push(*write);
                }
                if !job.exists {
                    queues.push((answers.len(), job.publish.queue.clone()));
                    publishes.push(job.publish);
                }
                Enqueued {
                    job_id: job.job_id,
                    sent: !job.exists,
                    unrecorded: job.unrecorded,
                }
            }));
        }
        let recording = async {
            if !unwritten.is_empty() && !recorded_after.is_zero() {
                tokio::time::sleep(recorded_after).await;
            }
            self.write(unwritten).await
        };
        let (sent, recorded) = tokio::join!(self.broker.publish_many(publishes), recording);
        for (place, recorded) in unrecorded.into_iter().zip(recorded) {
            if let (Ok(enqueued), Err(error)) = (&mut answers[place], recorded) {
                warn_of_unrecorded(&enqueued.job_id, &error);
                enqueued.unrecorded = Some(error);
            }
        }
        for ((place, queue), sent) in queues.into_iter().zip(sent) {
            let Err(error) = sent else { continue };
            self.declared.remove(&queue);
            let answer = std::mem::replace(&mut answers[place], Err(error.clone().into()));
            if let (Ok(enqueued), false) = (answer, may_have_been_sent(&error)) {
                self.forget(enqueued.job_id).await;
            }
        }
        answers
    }

    /// The job was not sent: its record must not say that it is queued.
    async fn forget(&self, job_id: Text) {
        if let Err(error) = self.store.delete(job_id.clone()).await {
            tracing::warn!(%job_id, %error, "the record of a job that was not sent remains");
        } else {
            self.announcer.deleted(vec![job_id]);
        }
    }
}

fn check_sent(sent: Vec<Result<Enqueued, EnqueueError>>) -> Result<(), EnqueueError> {
    sent.into_iter().try_for_each(|sent| sent.map(drop))
}

/// Whether the broker may have taken the message all the same: a worker may have run the job, and
/// its record is then not to be deleted.
const fn may_have_been_sent(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Unavailable { .. } | BrokerError::Closed)
}

fn warn_of_unrecorded(job_id: &Text, error: &StoreError) {
    tracing::warn!(
        %job_id, %error,
        "the store did not take the record of a job that is sent all the same"
    );
}

/// A job on its way.
struct Job {
    job_id: Text,
    publish: Publish,
    mode: WriteMode,
    /// Until it is written.
    write: Option<Box<Write>>,
    if_exists: IfExists,
    unrecorded: Option<StoreError>,
    exists: bool,
}

impl Job {
    /// Nobody else knows its id before it is sent, so that its record need not be there first.
    fn has_random_id(&self) -> bool {
        self.mode == WriteMode::IfNewer
    }
}

fn headers(request: &JobRequest) -> Headers {
    let mut headers = Headers::new();
    headers.insert(header::RETRY_COUNT, HeaderValue::Int(0));
    if !request.delay.is_zero() {
        headers.insert(header::CLIENT_DELAYED, HeaderValue::Text("true".to_owned()));
    }
    if let Some(retries) = request.retries {
        headers.insert(header::MAX_RETRIES, HeaderValue::Int(retries.into()));
    }
    if let Some(ttl) = request.result_ttl {
        headers.insert(header::RESULT_TTL_MS, HeaderValue::Int(milliseconds(ttl)));
    }
    headers
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
