//! What a caller asks to be run.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use warren_plugin_api::{Payload, Timestamp};

use crate::{
    broker::{InvalidQueueName, QueueName},
    job::{InvalidJobId, JobId},
};

/// What to do when a job with the same id exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfExists {
    /// Refuse: [`EnqueueError::Duplicate`](super::EnqueueError::Duplicate).
    #[default]
    Refuse,
    /// Send nothing and answer with the id: the job is the one that exists.
    Keep,
    /// Forget the record that exists and send the job. One that is queued or runs still runs.
    Replace,
}

/// A request that cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// An argument that JSON cannot hold, such as a map with numbers for keys.
    #[error("argument {argument}: cannot be written as JSON: {reason}")]
    Argument {
        /// Its number, counted from 0, or its name.
        argument: String,
        /// Why not.
        reason: String,
    },
    /// The id cannot be used.
    #[error(transparent)]
    JobId(#[from] InvalidJobId),
    /// The queue's name cannot be used.
    #[error(transparent)]
    Queue(#[from] InvalidQueueName),
}

/// A job to be sent.
///
/// ```
/// use std::time::Duration;
/// use warren::client::JobRequest;
///
/// let request = JobRequest::new("add")
///     .arg(1)
///     .arg(2)
///     .queue("mail")
///     .id("order-17")
///     .delay(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone)]
pub struct JobRequest {
    pub(super) function: String,
    args: Vec<Value>,
    kwargs: Map<String, Value>,
    queue: String,
    id: Option<String>,
    pub(super) if_exists: IfExists,
    pub(super) delay: Duration,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) result_ttl: Option<Duration>,
    pub(super) retries: Option<u32>,
    pub(super) priority: u8,
    invalid: Option<InvalidRequest>,
}

/// The queue of a request that names none.
pub const DEFAULT_QUEUE: &str = "default";

impl JobRequest {
    /// A job that runs `function`, on the queue `default`, with a random id.
    pub fn new(function: impl Into<String>) -> Self {
        Self {
            function: function.into(),
            args: Vec::new(),
            kwargs: Map::new(),
            queue: DEFAULT_QUEUE.to_owned(),
            id: None,
            if_exists: IfExists::default(),
            delay: Duration::ZERO,
            expires_at: None,
            result_ttl: None,
            retries: None,
            priority: 0,
            invalid: None,
        }
    }

    /// Adds a positional argument. One that JSON cannot hold is reported when the job is sent.
    #[must_use]
    pub fn arg(mut self, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => self.args.push(value),
            Err(error) => self.refuse_argument(self.args.len().to_string(), &error),
        }
        self
    }

    /// Adds a named argument.
    #[must_use]
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Serialize) -> Self {
        let name = name.into();
        match serde_json::to_value(value) {
            Ok(value) => {
                self.kwargs.insert(name, value);
            }
            Err(error) => self.refuse_argument(name, &error),
        }
        self
    }

    /// The queue to send it to.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// The job's id, which no other job has.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// What to do when a job with this id exists.
    #[must_use]
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// Run it no earlier than this from now; at most ten years.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Run it no earlier than this time.
    #[must_use]
    pub fn run_at(self, time: Timestamp) -> Self {
        self.delay(time.saturating_duration_since(Timestamp::now()))
    }

    /// Do not run it later than this from now: it ends `aborted` instead.
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_at = Some(Timestamp::now().saturating_add(time));
        self
    }

    /// How long its record is kept, counted anew from each step of the job.
    #[must_use]
    pub fn result_ttl(mut self, time: Duration) -> Self {
        self.result_ttl = Some(time);
        self
    }

    /// How often it may be repeated, instead of what the function's policy says.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Its priority, on queues that have priorities.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    fn refuse_argument(&mut self, argument: String, error: &serde_json::Error) {
        let reason = error.to_string();
        self.invalid
            .get_or_insert(InvalidRequest::Argument { argument, reason });
    }

    /// The parts that have to be checked.
    pub(super) fn checked(&self) -> Result<Checked, InvalidRequest> {
        if let Some(invalid) = &self.invalid {
            return Err(invalid.clone());
        }
        let job_id = match &self.id {
            Some(id) => JobId::new(id.as_str())?,
            None => JobId::random(),
        };
        let to_json = |argument: &str, value: Result<Vec<u8>, serde_json::Error>| {
            value
                .map(Payload::from)
                .map_err(|error| InvalidRequest::Argument {
                    argument: argument.to_owned(),
                    reason: error.to_string(),
                })
        };
        Ok(Checked {
            job_id,
            queue: QueueName::new(&self.queue)?,
            args: to_json("args", serde_json::to_vec(&self.args))?,
            kwargs: to_json("kwargs", serde_json::to_vec(&self.kwargs))?,
            is_named: self.id.is_some(),
        })
    }
}

pub(super) struct Checked {
    pub(super) job_id: JobId,
    pub(super) queue: QueueName,
    pub(super) args: Payload,
    pub(super) kwargs: Payload,
    /// The caller chose the id, so that another job may have it.
    pub(super) is_named: bool,
}
