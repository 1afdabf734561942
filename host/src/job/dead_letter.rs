//! Why a message went to the dead-letter queue, as its headers say it.

use warren_plugin_api::Timestamp;

use super::{
    error_text::{MAX_HEADER_ERROR_BYTES, shorten},
    header,
};

/// Whether another attempt could have helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCategory {
    /// The error is of a retried kind; the attempts are used up.
    Retriable,
    /// Another attempt would not help.
    NonRetriable,
}

impl ErrorCategory {
    /// The word in the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retriable => "retriable",
            Self::NonRetriable => "non_retriable",
        }
    }
}

/// Why a job failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The error's type, such as `JobTimeout`.
    pub error_type: String,
    /// The error's text, without the type.
    pub message: String,
    /// Whether another attempt could have helped.
    pub category: ErrorCategory,
    /// When it failed.
    pub failed_at: Timestamp,
    /// The job; `unknown` or `parse_failed` when the message does not say.
    pub job_id: String,
}

impl Reason {
    /// The headers to add to the incoming ones. Each value is cut to a length that keeps all of
    /// them together far below one AMQP frame.
    pub fn headers(&self) -> [(&'static str, String); 5] {
        const MAX_NAME_BYTES: usize = 256;
        [
            (
                header::ERROR_TYPE,
                shorten(&self.error_type, MAX_NAME_BYTES).into_owned(),
            ),
            (
                header::ERROR_MESSAGE,
                shorten(&self.message, MAX_HEADER_ERROR_BYTES).into_owned(),
            ),
            (header::ERROR_CATEGORY, self.category.as_str().to_owned()),
            (header::FAILED_AT, self.failed_at.to_string()),
            (
                header::JOB_ID,
                shorten(&self.job_id, super::JobId::MAX_BYTES).into_owned(),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_error_gives_small_headers() {
        let reason = Reason {
            error_type: "T".repeat(200_000),
            message: "中".repeat(200_000),
            category: ErrorCategory::NonRetriable,
            failed_at: Timestamp::from_unix_us(0),
            job_id: "j".repeat(200_000),
        };
        let bytes: usize = reason
            .headers()
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(bytes < 4096, "{bytes}");
    }
}
