//! Sending jobs: the record first, then the message, so that nobody who knows the id ever finds
//! nothing, and so that a fast worker's result is never overwritten.

use std::time::Duration;

use warren_plugin_api::{
    Record, Status, StoreError, Text, Timestamp, Write, WriteMode, WriteOutcome,
};

use super::{Client, EnqueueError, IfExists, JobRequest, request::Checked};
use crate::{
    broker::{BrokerError, HeaderValue, Headers, Publish, QueueName},
    job::{JobMessage, header},
};

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
    /// Sends a job. It is in the store as `queued` before the broker has it.
    ///
    /// # Errors
    /// The job was not sent.
    ///
    /// # Cancel safety
    /// A dropped call may have sent the job, or have left only a `queued` record behind.
    pub async fn enqueue(&self, request: JobRequest) -> Result<Enqueued, EnqueueError> {
        let answer = self.enqueue_many(vec![request]).await.pop();
        answer.unwrap_or_else(|| {
            Err(EnqueueError::Store(StoreError::internal(
                "no answer for a job",
            )))
        })
    }

    /// Sends many jobs with few round trips. Answers in their order; each job is sent or not by
    /// itself.
    pub async fn enqueue_many(
        &self,
        requests: Vec<JobRequest>,
    ) -> Vec<Result<Enqueued, EnqueueError>> {
        let mut jobs: Vec<Result<Job, EnqueueError>> = requests
            .iter()
            .map(|request| self.job(request, &request.checked()?))
            .collect::<Vec<_>>();
        self.declare_queues(&mut jobs).await;
        self.record(&mut jobs).await;
        self.send(jobs).await
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
            publish: Publish {
                queue: checked.queue.clone(),
                body: message.to_body(),
                headers: headers(request),
                delay: request.delay,
                priority: request.priority,
            },
            write: Write { record, mode },
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
            match self.broker.declare(&queue).await {
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

    /// Writes the `queued` records. What the store refuses as a duplicate is not sent; what it
    /// cannot take is sent all the same, unless that could make a duplicate.
    async fn record(&self, jobs: &mut [Result<Job, EnqueueError>]) {
        let writes: Vec<Write> = jobs.iter().flatten().map(|job| job.write.clone()).collect();
        if writes.is_empty() {
            return;
        }
        let count = writes.len();
        let answers = self
            .store
            .put_many(writes)
            .await
            .unwrap_or_else(|error| vec![Err(error); count]);
        let pending = jobs.iter_mut().filter(|job| job.is_ok());
        for (slot, answer) in pending.zip(answers) {
            let Ok(job) = slot else { continue };
            match answer {
                Ok(WriteOutcome::Written) => {}
                Ok(WriteOutcome::Stale) if job.if_exists == IfExists::Keep => job.exists = true,
                Ok(WriteOutcome::Stale) => {
                    let job_id = job.write.record.job_id.to_string();
                    *slot = Err(EnqueueError::Duplicate { job_id });
                }
                Err(error) if job.write.mode == WriteMode::IfAbsent => {
                    *slot = Err(EnqueueError::Store(error));
                }
                Err(error) => {
                    tracing::warn!(
                        job_id = %job.write.record.job_id, %error,
                        "the store did not take the record of a job that is sent all the same"
                    );
                    job.unrecorded = Some(error);
                }
            }
        }
    }

    async fn send(
        &self,
        jobs: Vec<Result<Job, EnqueueError>>,
    ) -> Vec<Result<Enqueued, EnqueueError>> {
        let publishes: Vec<Publish> = jobs
            .iter()
            .flatten()
            .filter(|job| !job.exists)
            .map(|job| job.publish.clone())
            .collect();
        let mut sent = self.broker.publish_many(publishes).await.into_iter();
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            let job = match job {
                Ok(job) => job,
                Err(error) => {
                    answers.push(Err(error));
                    continue;
                }
            };
            let job_id = job.write.record.job_id;
            let enqueued = Enqueued {
                job_id: job_id.clone(),
                sent: !job.exists,
                unrecorded: job.unrecorded,
            };
            if job.exists {
                answers.push(Ok(enqueued));
                continue;
            }
            answers.push(match sent.next() {
                Some(Err(error)) => {
                    self.declared.remove(&job.publish.queue);
                    if !may_have_been_sent(&error) {
                        self.forget(job_id).await;
                    }
                    Err(error.into())
                }
                _ => Ok(enqueued),
            });
        }
        answers
    }

    /// The job was not sent: its record must not say that it is queued.
    async fn forget(&self, job_id: Text) {
        if let Err(error) = self.store.delete(job_id.clone()).await {
            tracing::warn!(%job_id, %error, "the record of a job that was not sent remains");
        }
    }
}

/// Whether the broker may have taken the message all the same: a worker may have run the job, and
/// its record is then not to be deleted.
const fn may_have_been_sent(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Unavailable { .. } | BrokerError::Closed)
}

/// A job on its way.
struct Job {
    publish: Publish,
    write: Write,
    if_exists: IfExists,
    unrecorded: Option<StoreError>,
    exists: bool,
}

fn headers(request: &JobRequest) -> Headers {
    let mut headers = Headers::new();
    headers.insert(header::RETRY_COUNT.to_owned(), HeaderValue::Int(0));
    if !request.delay.is_zero() {
        headers.insert(
            header::CLIENT_DELAYED.to_owned(),
            HeaderValue::Text("true".to_owned()),
        );
    }
    if let Some(retries) = request.retries {
        headers.insert(
            header::MAX_RETRIES.to_owned(),
            HeaderValue::Int(retries.into()),
        );
    }
    if let Some(ttl) = request.result_ttl {
        headers.insert(
            header::RESULT_TTL_MS.to_owned(),
            HeaderValue::Int(milliseconds(ttl)),
        );
    }
    headers
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
