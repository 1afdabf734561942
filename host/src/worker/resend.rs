//! The messages that follow from a delivery: a retry, a delayed copy, a dead letter.

use std::time::Duration;

use warren_plugin_api::{Status, Text, Timestamp};

use super::outcome::{DeadLetter, Outcome, Retry};
use crate::{
    broker::{Delivery, HeaderValue, Headers, Publish, QueueName},
    job::{JobMessage, Reason, header},
};

/// When an attempt started and ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Timestamp,
}

/// The next attempt of `message`, whose attempt `number` ended in `outcome`.
pub(super) fn retry(
    delivery: &Delivery,
    message: JobMessage,
    number: u32,
    retry: Retry,
    outcome: &Outcome,
    times: Times,
) -> Publish {
    let message = JobMessage {
        job_try: i64::from(number) + 1,
        start_time: times.started_at,
        end_time: (!retry.is_asked_for).then_some(times.finished_at),
        status: Status::Retrying,
        error: outcome.error.clone(),
        defer_until: None,
        ..message
    };
    let mut headers = job_headers_of(delivery);
    headers.insert(header::RETRY_COUNT, HeaderValue::Int(i64::from(number)));
    publish(delivery, &message, headers, retry.after)
}

/// The same attempt of `message` again, later.
pub(super) fn deferred(
    delivery: &Delivery,
    message: JobMessage,
    number: u32,
    delay: Duration,
) -> Publish {
    let message = JobMessage {
        job_try: i64::from(number),
        defer_until: None,
        ..message
    };
    let mut headers = job_headers_of(delivery);
    let retries = i64::from(number.saturating_sub(1));
    headers.insert(header::RETRY_COUNT, HeaderValue::Int(retries));
    headers.insert(header::CLIENT_DELAYED, HeaderValue::Text("true".to_owned()));
    publish(delivery, &message, headers, delay)
}

/// The message as it came, with the reason why it failed for good.
pub(super) fn dead_letter(
    delivery: &Delivery,
    queue: QueueName,
    job_id: &Text,
    why: &DeadLetter,
    failed_at: Timestamp,
) -> Publish {
    let job_id = if job_id.is_empty() {
        why.without_id
    } else {
        job_id
    };
    let reason = Reason {
        error_type: why.error_type.clone(),
        message: why.message.clone(),
        category: why.category,
        failed_at,
        job_id: job_id.to_owned(),
    };
    let mut headers = sendable(&delivery.headers);
    for (name, value) in reason.headers() {
        headers.insert(name, HeaderValue::Text(value));
    }
    Publish {
        queue,
        body: delivery.body.clone(),
        headers,
        delay: Duration::ZERO,
        priority: delivery.priority,
        from_warren: delivery.from_warren,
    }
}

fn publish(
    delivery: &Delivery,
    message: &JobMessage,
    headers: Headers,
    delay: Duration,
) -> Publish {
    Publish {
        queue: delivery.queue.clone(),
        body: message.to_body(),
        headers,
        delay,
        priority: delivery.priority,
        from_warren: delivery.from_warren,
    }
}

/// The producer's headers, which every attempt keeps.
fn job_headers_of(delivery: &Delivery) -> Headers {
    let mut headers = sendable(&delivery.headers);
    headers.retain(|name, _| !header::is_of_a_delivery(name));
    headers
}

/// Those headers that can be sent again. The broker leaves out what does not fit.
fn sendable(headers: &Headers) -> Headers {
    headers.copy_of(|_, value| !matches!(value, HeaderValue::Other(_)))
}
