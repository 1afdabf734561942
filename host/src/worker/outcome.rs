//! What follows from how an attempt ended: its record, and what is to be sent.

use std::time::Duration;

use warren_plugin_api::{Payload, Status, Text};

use crate::{
    function::{JobError, RetryAdvice},
    job::{
        ErrorCategory, JobHeaders, MAX_ERROR_BYTES, MessageError, RetryPolicy, UnreadableMessage,
        shorten,
    },
};

/// The longest delay that brokers keep, just below 10 years.
const MAX_DELAY: Duration = Duration::from_secs(315_000_000);

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The function returned this value.
    Completed(Payload),
    /// The function failed, panicked or took too long.
    Failed(JobError),
    /// It cannot be run here, now or later.
    Unfit(JobError),
    /// It is not to be run any more.
    Aborted(JobError),
}

/// What is stored and sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) status: Status,
    /// `Type: message`
    pub(super) error: Option<Text>,
    /// More about the error, such as a process's standard error.
    pub(super) detail: Option<Text>,
    pub(super) result: Payload,
    /// Run again after this time.
    pub(super) retry: Option<Retry>,
    /// Send to the dead-letter queue, for this reason.
    pub(super) dead_letter: Option<DeadLetter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) after: Duration,
    /// The function asked for it, rather than failed.
    pub(super) is_asked_for: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeadLetter {
    pub(super) error_type: String,
    pub(super) message: String,
    pub(super) category: ErrorCategory,
    /// What stands for the job's id when there is none.
    pub(super) without_id: &'static str,
}

/// Decides about the attempt with this `number`. Without a `policy` nothing is tried again.
pub(super) fn decide(
    verdict: Verdict,
    number: u32,
    headers: &JobHeaders,
    policy: Option<&RetryPolicy>,
) -> Outcome {
    match verdict {
        Verdict::Completed(result) => Outcome {
            result,
            ..Outcome::of(Status::Completed)
        },
        Verdict::Aborted(error) => Outcome::of(Status::Aborted).with_error(&error),
        Verdict::Unfit(error) => failed(&error, ErrorCategory::NonRetriable),
        Verdict::Failed(error) => match policy {
            Some(policy) => failed_or_retrying(&error, number, headers, policy),
            None => failed(&error, ErrorCategory::NonRetriable),
        },
    }
}

fn failed_or_retrying(
    error: &JobError,
    number: u32,
    headers: &JobHeaders,
    policy: &RetryPolicy,
) -> Outcome {
    let (after, is_asked_for) = match error.retry {
        RetryAdvice::Never => return failed(error, ErrorCategory::NonRetriable),
        RetryAdvice::Policy if !policy.retries(&error.kind) => {
            return failed(error, ErrorCategory::NonRetriable);
        }
        RetryAdvice::Policy => (policy.delay(number), false),
        RetryAdvice::After(after) => (after, true),
    };
    // The first attempt is no retry.
    if number.saturating_sub(1) >= headers.max_retries.unwrap_or(policy.limit) {
        return failed(error, ErrorCategory::Retriable);
    }
    let retry = Some(Retry {
        after: after.min(MAX_DELAY),
        is_asked_for,
    });
    Outcome {
        retry,
        ..Outcome::of(Status::Retrying).with_error(error)
    }
}

fn failed(error: &JobError, category: ErrorCategory) -> Outcome {
    let dead_letter = DeadLetter {
        error_type: error.kind.clone(),
        message: error.message.clone(),
        category,
        without_id: "unknown",
    };
    Outcome {
        dead_letter: Some(dead_letter),
        ..Outcome::of(Status::Failed).with_error(error)
    }
}

impl Outcome {
    /// A message that is no job.
    pub(super) fn unreadable(unreadable: &UnreadableMessage) -> Self {
        let error = &unreadable.error;
        let job_error = JobError::new(MessageError::ERROR_TYPE, error.to_string());
        let mut outcome = failed(&job_error, ErrorCategory::NonRetriable);
        if let Some(dead_letter) = &mut outcome.dead_letter
            && error.is_syntax()
        {
            dead_letter.without_id = "parse_failed";
        }
        outcome
    }

    fn of(status: Status) -> Self {
        Self {
            status,
            error: None,
            detail: None,
            result: Payload::empty(),
            retry: None,
            dead_letter: None,
        }
    }

    fn with_error(self, error: &JobError) -> Self {
        let text = format!("{}: {}", error.kind, error.message);
        let detail = error.detail.as_deref().filter(|detail| !detail.is_empty());
        Self {
            error: Some(Text::from(&*shorten(&text, MAX_ERROR_BYTES))),
            detail: detail.map(|detail| Text::from(&*shorten(detail, MAX_ERROR_BYTES))),
            ..self
        }
    }
}
