//! What the servers and the HTTP client report, as a class and a sentence.

use std::{error::Error, io};

use serde::Deserialize;
use serde_json::Value;
use warren_plugin_api::{ErrorClass, StoreError};

use crate::address::Address;

/// What to do about a server that takes too long.
pub(crate) const SLOW: &str =
    "look why the server is slow or away, or raise request_timeout and the host's deadline";

/// How much of what somebody else wrote is repeated.
const MOST_REPEATED_CHARS: usize = 300;

/// Why a request was not answered as it should be.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection, so that nothing was sent.
    NotSent(String),
    /// The TLS handshake was refused by either side.
    Tls(String),
    /// The connection broke or the time was over: it may have been done or not.
    Lost(String),
    /// The server says why.
    Refused(Refusal),
    /// It does not answer as either product does.
    Strange(String),
    /// Already put into words.
    Store(StoreError),
}

/// An answer with an error, or an item of an answer that has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// Such as `version_conflict_engine_exception`; empty when somebody else answered.
    pub(crate) kind: String,
    pub(crate) reason: String,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The address is told by whoever shows the failure.
        let error = error.without_url();
        let text = chain(&error);
        if is_tls(&error) {
            return Self::Tls(text);
        }
        if error.is_connect() {
            return Self::NotSent(text);
        }
        if error.is_builder() {
            return Self::Store(StoreError::internal(format!("no request: {text}")));
        }
        if error.is_timeout() {
            return Self::Lost(format!("no answer in time: {SLOW}"));
        }
        Self::Lost(text)
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    shortened(&text)
}

/// Whether somebody objects to a certificate: that does not pass by itself.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    // An I/O error names what its content comes from, and not its content.
    let content = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    content.is_some_and(|content| is_tls(content)) || error.source().is_some_and(is_tls)
}

impl Failure {
    /// Whether the request may be sent again without being done twice.
    pub(crate) const fn was_not_sent(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Tls(_))
    }

    /// Whether another node may answer.
    pub(crate) const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    pub(crate) fn is_missing_index(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_missing_index())
    }

    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// The contract's error.
    pub(crate) fn to_store_error(&self, address: &Address) -> StoreError {
        use ErrorClass::{InvalidConfig, Unavailable};
        let (class, text, advice) = match self {
            Self::Store(error) => return error.clone(),
            Self::NotSent(text) | Self::Lost(text) => (Unavailable, text.clone(), ""),
            Self::Tls(text) => (
                InvalidConfig,
                text.clone(),
                "check https:// and the tls_ options against the server's",
            ),
            Self::Strange(text) => (
                Unavailable,
                text.clone(),
                "what answers there is not Elasticsearch or OpenSearch, or a proxy garbles it",
            ),
            Self::Refused(refusal) => {
                let (class, advice) = refusal.class();
                (class, refusal.to_string(), advice)
            }
        };
        let mut text = format!("Elasticsearch at {address}: {text}");
        if !advice.is_empty() {
            text.push_str("; ");
            text.push_str(advice);
        }
        StoreError::new(class, address.without_secrets(text))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.kind.is_empty() {
            write!(f, " {}", self.kind)?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        Ok(())
    }
}

/// `{"error": {"type": …, "reason": …}, "status": …}`; OpenSearch's security plugin and proxies
/// answer otherwise.
#[derive(Deserialize)]
struct ErrorBody {
    error: Value,
}

impl Refusal {
    /// An answer whose status is no success.
    pub(crate) fn of_answer(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(body) => Self::of_error(status, &body.error),
            Err(_) => Self {
                status,
                kind: String::new(),
                reason: shortened(&String::from_utf8_lossy(body)),
            },
        }
    }

    /// The `error` of an item or of an answer.
    pub(crate) fn of_error(status: u16, error: &Value) -> Self {
        let text = |of: &Value, name: &str| {
            of.get(name)
                .and_then(Value::as_str)
                .map(shortened)
                .unwrap_or_default()
        };
        if let Some(words) = error.as_str() {
            return Self {
                status,
                kind: String::new(),
                reason: shortened(words),
            };
        }
        // "all shards failed" says nothing: the first root cause does.
        let cause = error
            .get("root_cause")
            .and_then(|causes| causes.get(0))
            .filter(|_| text(error, "type") == "search_phase_execution_exception")
            .unwrap_or(error);
        Self {
            status,
            kind: text(cause, "type"),
            reason: text(cause, "reason"),
        }
    }

    /// "version conflict, document already exists", "required seqNo […]": somebody was faster.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status == 409
    }

    /// "no such index […]"
    pub(crate) fn is_missing_index(&self) -> bool {
        self.kind == "index_not_found_exception"
    }

    /// The class, and what to do.
    pub(crate) fn class(&self) -> (ErrorClass, &'static str) {
        use ErrorClass::{Conflict, Internal, InvalidConfig, TooLarge, Unavailable};
        match self.kind.as_str() {
            // "rejected execution of …": a queue is full.
            "es_rejected_execution_exception" | "rejected_execution_exception"
            | "opensearch_rejected_execution_exception"
            // "[parent] Data too large": the server is short of memory.
            | "circuit_breaking_exception" => return (Unavailable, "the cluster is overloaded"),
            // "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage
            // watermark, index has read-only-allow-delete block]", or no master, or an operator.
            "cluster_block_exception" | "index_create_block_exception" => return (
                Unavailable,
                "make room on the cluster's disks, or remove the block that is named",
            ),
            "master_not_discovered_exception" | "cluster_manager_not_discovered_exception"
            | "unavailable_shards_exception" | "no_shard_available_action_exception"
            | "node_closed_exception" | "node_disconnected_exception"
            | "process_cluster_event_timeout_exception" => return (Unavailable, ""),
            "index_not_found_exception" => {
                return (Unavailable, "the index is gone, the next call makes it anew");
            }
            // "failed to parse field", "mapping set to strict, dynamic introduction of […]"
            "mapper_parsing_exception" | "document_parsing_exception"
            | "strict_dynamic_mapping_exception" => return (
                InvalidConfig,
                "the index has another mapping, choose another index",
            ),
            _ => {}
        }
        match self.status {
            // "security_exception: missing authentication credentials", "unable to authenticate"
            401 => (InvalidConfig, "check username and password, or api_key"),
            // "action [indices:…] is unauthorized for user"
            403 => (
                InvalidConfig,
                "give the user the rights that the README lists",
            ),
            407 => (InvalidConfig, "a proxy asks for credentials"),
            300..=399 => (
                InvalidConfig,
                "the address leads elsewhere, write the one it leads to into elasticsearch_urls",
            ),
            404 | 405 | 406 | 415 => (
                InvalidConfig,
                "check elasticsearch_urls: it must lead to Elasticsearch 7.10 or later, or \
                 OpenSearch",
            ),
            409 => (Conflict, ""),
            413 => (
                TooLarge,
                "lower max_record_bytes or raise http.max_content_length, or a proxy's limit",
            ),
            408 | 429 => (Unavailable, "the cluster is overloaded"),
            500..=599 => (Unavailable, ""),
            _ => (Internal, ""),
        }
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(MOST_REPEATED_CHARS)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    if text.chars().nth(MOST_REPEATED_CHARS).is_some() {
        short.push('…');
    }
    short.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_and_type_has_its_class() {
        use ErrorClass::{Conflict, Internal, InvalidConfig, TooLarge, Unavailable};
        for (status, kind, class) in [
            (400, "illegal_argument_exception", Internal),
            (400, "mapper_parsing_exception", InvalidConfig),
            (400, "strict_dynamic_mapping_exception", InvalidConfig),
            (401, "security_exception", InvalidConfig),
            (403, "security_exception", InvalidConfig),
            (403, "cluster_block_exception", Unavailable),
            (404, "index_not_found_exception", Unavailable),
            (404, "", InvalidConfig),
            (406, "media_type_header_exception", InvalidConfig),
            (409, "version_conflict_engine_exception", Conflict),
            (413, "", TooLarge),
            (429, "es_rejected_execution_exception", Unavailable),
            (429, "cluster_block_exception", Unavailable),
            (429, "circuit_breaking_exception", Unavailable),
            (429, "", Unavailable),
            (302, "", InvalidConfig),
            (500, "null_pointer_exception", Unavailable),
            (502, "", Unavailable),
            (503, "cluster_block_exception", Unavailable),
            (504, "", Unavailable),
        ] {
            let refusal = Refusal {
                status,
                kind: kind.into(),
                reason: String::new(),
            };
            assert_eq!(refusal.class().0, class, "{status} {kind}");
        }
    }

    #[test]
    fn errors_of_every_form_are_told() {
        for (body, told) in [
            (
                r#"{"error":{"root_cause":[],"type":"t","reason":"r"},"status":400}"#,
                "400 t: r",
            ),
            (
                r#"{"error":{"root_cause":[{"type":"a","reason":"b"}],
                   "type":"search_phase_execution_exception","reason":"all shards failed"}}"#,
                "400 a: b",
            ),
            // "Incorrect HTTP method for uri …", and old versions
            (r#"{"error":"no handler","status":400}"#, "400: no handler"),
            // OpenSearch's security plugin
            ("Unauthorized", "400: Unauthorized"),
            ("", "400"),
            ("<html>\r\n\u{7}</html>", "400: <html>   </html>"),
        ] {
            let refusal = Refusal::of_answer(400, body.as_bytes());
            assert_eq!(refusal.to_string(), told);
        }
        let long = Refusal::of_answer(500, "é".repeat(100_000).as_bytes());
        assert!(long.to_string().len() < 700);
    }
}
