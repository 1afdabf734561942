//! Why a run of a function failed.

use std::{error::Error, fmt, time::Duration};

/// What a failed run says about being run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAdvice {
    /// The function's retry policy decides.
    Policy,
    /// Run again after this wait, if the policy's limit allows another run.
    After(Duration),
    /// Running again is useless.
    Never,
}

/// Why a run of a function failed. Any [`std::error::Error`] converts into it with `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// The kind of error, as a type's name: `ConnectionError`.
    pub kind: String,
    /// What happened.
    pub message: String,
    /// More for whoever looks for the fault: what a command wrote to stderr.
    pub detail: Option<String>,
    /// Whether to run again.
    pub retry: RetryAdvice,
}

impl JobError {
    /// An error of some kind; the function's policy decides whether it is tried again.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            detail: None,
            retry: RetryAdvice::Policy,
        }
    }

    /// The same error, not to be tried again.
    #[must_use]
    pub fn never_retry(self) -> Self {
        Self {
            retry: RetryAdvice::Never,
            ..self
        }
    }

    /// The same error with more to look at.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl<E: Error> From<E> for JobError {
    /// The kind is the error's type; the message is the error's, then each source's.
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self::new(short_type_name::<E>(), message)
    }
}

/// `std::io::error::Error` is `Error`, `my::Wrapped<other::Type>` is `Wrapped`.
fn short_type_name<T>() -> &'static str {
    let whole = std::any::type_name::<T>();
    let plain = whole.split('<').next().unwrap_or(whole);
    plain.rsplit("::").next().unwrap_or(plain)
}

/// What a function returns, as an error, to be run again: `return Err(Retry::after(...).into())`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    after: Duration,
}

impl Retry {
    /// Run again after this wait. Zero is at once; more than ten years counts as ten.
    pub const fn after(wait: Duration) -> Self {
        Self { after: wait }
    }
}

impl From<Retry> for JobError {
    fn from(retry: Retry) -> Self {
        let message = format!("asked to be run again after {:?}", retry.after);
        Self {
            retry: RetryAdvice::After(retry.after),
            ..Self::new("Retry", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("upstream is down")]
    struct ConnectionError(#[source] std::io::Error);

    #[test]
    fn any_error_becomes_a_job_error_with_its_sources() {
        let error = ConnectionError(std::io::Error::other("no route"));
        let job_error = JobError::from(error);
        assert_eq!(
            job_error.to_string(),
            "ConnectionError: upstream is down: no route"
        );
        assert_eq!(job_error.retry, RetryAdvice::Policy);
    }

    #[test]
    fn a_retry_says_when() {
        let wait = Duration::from_secs(3);
        assert_eq!(
            JobError::from(Retry::after(wait)).retry,
            RetryAdvice::After(wait)
        );
    }
}
