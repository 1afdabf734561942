//! A message of a dead-letter queue, and what is known of it.

use serde_json::{Value, json};
use warren_plugin_api::Timestamp;

use super::super::{arguments::DlqFilter, output::Output};
use crate::{
    broker::{Delivery, HeaderValue},
    job::{JobMessage, ReplayedFrom, attempt, header},
};

/// A message of a dead-letter queue, and what is known of it.
pub(super) struct DeadLetter {
    pub(super) delivery: Delivery,
    pub(super) job_id: String,
    function: String,
    error_type: String,
    error_message: String,
    failed_at: String,
    pub(super) message: Option<JobMessage>,
}

/// The error of a message that no worker brought here, but the broker itself, or somebody by hand.
/// RabbitMQ says why from 3.13 on.
fn by_the_broker(reason: &str) -> (String, String) {
    let why = match reason {
        "" => "no worker says why".to_owned(),
        reason => format!("by the broker: {reason}"),
    };
    ("DeadLettered".to_owned(), why)
}

impl DeadLetter {
    pub(super) fn read(delivery: Delivery) -> Self {
        let text = |name: &str| match delivery.headers.get(name) {
            Some(HeaderValue::Text(text)) => text.clone(),
            _ => String::new(),
        };
        let message = JobMessage::parse(&delivery.body, Timestamp::now()).ok();
        let job_id = match &message {
            Some(message) => message.job_id.as_str().to_owned(),
            None => text(header::JOB_ID),
        };
        let (mut error_type, mut error_message) =
            (text(header::ERROR_TYPE), text(header::ERROR_MESSAGE));
        if error_type.is_empty() && error_message.is_empty() {
            (error_type, error_message) = by_the_broker(&text("x-last-death-reason"));
        }
        Self {
            job_id,
            function: message
                .as_ref()
                .map_or_else(String::new, |it| it.function.to_string()),
            error_type,
            error_message,
            failed_at: text(header::FAILED_AT),
            message,
            delivery,
        }
    }

    pub(super) fn passes(&self, filter: &DlqFilter) -> bool {
        (filter.job_ids.is_empty() || filter.job_ids.contains(&self.job_id))
            && filter
                .function
                .as_ref()
                .is_none_or(|function| *function == self.function)
            && filter
                .error
                .as_ref()
                .is_none_or(|part| self.error().to_lowercase().contains(&part.to_lowercase()))
            && self.failed_in_time(filter)
    }

    /// What does not say when it failed passes no limit.
    fn failed_in_time(&self, filter: &DlqFilter) -> bool {
        let age = || {
            let failed_at = Timestamp::parse_rfc3339(&self.failed_at).ok()?;
            Some(Timestamp::now().saturating_duration_since(failed_at))
        };
        filter
            .since
            .is_none_or(|since| age().is_some_and(|age| age <= since))
            && filter
                .until
                .is_none_or(|until| age().is_some_and(|age| age > until))
    }

    /// What the new run is to say of the one that failed, when this is sent again for the
    /// `replays`th time.
    pub(super) fn replayed_from(&self, message: &JobMessage, replays: u32) -> ReplayedFrom {
        ReplayedFrom {
            failed_at: Timestamp::parse_rfc3339(&self.failed_at).ok(),
            error_type: self.error_type.clone(),
            error_message: self.error_message.clone(),
            attempts: attempt(message.job_try, &self.delivery.headers.of_job()),
            dead_letter_queue: self.delivery.queue.to_string(),
            replays,
        }
    }

    fn error(&self) -> String {
        format!("{}: {}", self.error_type, self.error_message)
    }

    /// How often it had been sent again before it failed.
    pub(super) fn earlier_replays(&self) -> u32 {
        let from = self.delivery.headers.replayed_from();
        from.map_or(0, |from| from.replays)
    }

    pub(super) fn row(&self) -> Vec<String> {
        vec![
            self.job_id.clone(),
            self.function.clone(),
            self.error().chars().take(80).collect(),
            self.failed_at.clone(),
        ]
    }

    pub(super) fn print_json(&self, output: &Output) {
        output.print_json(&json!({
            "job_id": self.job_id,
            "function": self.function,
            "error": self.error(),
            "failed_at": self.failed_at,
            "replays": self.earlier_replays(),
        }));
    }

    pub(super) fn to_full_json(&self) -> Value {
        let headers: serde_json::Map<_, _> = self
            .delivery
            .headers
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    HeaderValue::Text(text) => json!(text),
                    HeaderValue::Int(number) => json!(number),
                    HeaderValue::Bool(is) => json!(is),
                    HeaderValue::Float(number) => json!(number),
                    HeaderValue::Other(_) => Value::Null,
                };
                (name.to_owned(), value)
            })
            .collect();
        json!({
            "job_id": self.job_id,
            "function": self.function,
            "error": self.error(),
            "failed_at": self.failed_at,
            "replays": self.earlier_replays(),
            "headers": headers,
            "body": String::from_utf8_lossy(&self.delivery.body),
        })
    }
}
