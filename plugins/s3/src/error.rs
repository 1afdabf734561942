//! What the service and the client report, as a class and a sentence.

use std::error::Error as _;

use object_store::{
    Error,
    client::{HttpError, HttpErrorKind},
};
use warren_plugin_api::{ErrorClass, StoreError};

/// The most of a service's own words that is repeated.
const MOST_WORDS: usize = 300;

/// What an error says: a status and a code of S3, or what kept the request from being answered.
#[derive(Debug, PartialEq, Eq, Default)]
struct Answer {
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
}

/// The contract's error, for a request to the service at `address`.
pub(crate) fn store_error(address: &str, error: &Error) -> StoreError {
    let text = error.to_string();
    let answer = Answer::of(&text);
    let (class, said, advice) = match (&answer.status, http_error(error)) {
        (Some(_), _) => answer.described(),
        (None, Some(http)) => transport(http, &text),
        (None, None) => other(error, &text),
    };
    let mut sentence = format!("S3 at {address}: {said}");
    if !advice.is_empty() {
        sentence.push_str(": ");
        sentence.push_str(advice);
    }
    StoreError::new(class, sentence)
}

/// Whether the object is not there, and its bucket is.
pub(crate) fn is_missing_object(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. })
        && Answer::of(&error.to_string()).code.as_deref() != Some("NoSuchBucket")
}

/// Whether a precondition refused the write.
pub(crate) const fn is_refused(error: &Error) -> bool {
    matches!(
        error,
        Error::AlreadyExists { .. } | Error::Precondition { .. }
    )
}

impl Answer {
    /// The client's errors are no public types; their sentences are.
    fn of(text: &str) -> Self {
        let status = ["status code: ", "error response: "]
            .iter()
            .find_map(|mark| text.split_once(mark))
            .and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let between = |tag: &str| {
            let (_, rest) = text.split_once(&format!("<{tag}>"))?;
            let (found, _) = rest.split_once(&format!("</{tag}>"))?;
            Some(found.trim().to_owned())
        };
        let one_of_many = || {
            let (_, rest) = text.split_once("(code: ")?;
            Some(rest.split_once(')')?.0.to_owned())
        };
        let code = between("Code").or_else(one_of_many);
        Self {
            // DeleteObjects is answered 200, with an error for each object.
            status: status.or_else(|| code.as_ref().map(|_| 200)),
            message: between("Message"),
            code,
        }
    }

    fn described(&self) -> (ErrorClass, String, &'static str) {
        let status = self.status.unwrap_or_default();
        let code = self.code.as_deref().unwrap_or_default();
        let (class, advice) = classify(status, code);
        let mut said = format!("answered {status}");
        if !code.is_empty() {
            said = format!("{said} {}", cut(code));
        }
        // What a signature was made of stands in these.
        let is_about_secrets = code.contains("Signature") || code.contains("AccessKey");
        if let Some(message) = self.message.as_deref().filter(|_| !is_about_secrets) {
            said = format!("{said} ({})", cut(message));
        }
        (class, said, advice)
    }
}

fn cut(text: &str) -> String {
    let text: String = text.chars().filter(|found| !found.is_control()).collect();
    text.chars().take(MOST_WORDS).collect()
}

const CREDENTIALS: &str =
    "check access_key_id and secret_access_key, or where else the credentials come from";
const RIGHTS: &str = "give the credentials the rights that the store's README lists";
const BUCKET: &str = "make the bucket, or set bucket, region and endpoint to where it is";
const REGION: &str = "set region and endpoint to those of the bucket";

/// The class of a status and a code, and what to do.
fn classify(status: u16, code: &str) -> (ErrorClass, &'static str) {
    use ErrorClass::{Conflict, Internal, InvalidConfig, TooLarge, Unavailable};
    match code {
        "NoSuchBucket" | "InvalidBucketName" | "AllAccessDisabled" => (InvalidConfig, BUCKET),
        "AuthorizationHeaderMalformed"
        | "PermanentRedirect"
        | "TemporaryRedirect"
        | "Redirect"
        | "IllegalLocationConstraintException" => (InvalidConfig, REGION),
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "ExpiredToken"
        | "TokenRefreshRequired"
        | "NotSignedUp"
        | "MissingSecurityHeader"
        | "InvalidClientTokenId" => (InvalidConfig, CREDENTIALS),
        "RequestTimeTooSkewed" | "RequestExpired" => {
            (InvalidConfig, "set this machine's clock, or the service's")
        }
        "AccessDenied"
        | "AccountProblem"
        | "KMS.DisabledException"
        | "KMS.AccessDeniedException" => (InvalidConfig, RIGHTS),
        "EntityTooLarge" | "KeyTooLongError" => (TooLarge, "lower max_record_bytes"),
        "OperationAborted" | "ConditionalRequestConflict" | "PreconditionFailed" => (Conflict, ""),
        "NotImplemented" | "MethodNotAllowed" => (
            InvalidConfig,
            "the service lacks what the store needs: see bulk_delete, lifecycle_days and \
             single_writer",
        ),
        "SlowDown"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests" => (Unavailable, "lower concurrent_requests if it goes on"),
        "InternalError"
        | "RequestTimeout"
        | "XMinioStorageFull"
        | "QuotaExceeded"
        | "InsufficientStorage"
        | "XMinioServerNotInitialized" => (Unavailable, ""),
        _ => match status {
            301 | 302 | 307 | 308 => (InvalidConfig, REGION),
            401 | 403 => (InvalidConfig, RIGHTS),
            409 | 412 => (Conflict, ""),
            413 => (TooLarge, "lower max_record_bytes"),
            408 | 429 | 500 | 502..=599 => (Unavailable, ""),
            501 => (InvalidConfig, "the service lacks what the store needs"),
            404 | 405 => (
                InvalidConfig,
                "check endpoint and addressing: what answers there may not be S3",
            ),
            _ => (Internal, ""),
        },
    }
}

/// No answer, or no whole one.
fn transport(error: &HttpError, text: &str) -> (ErrorClass, String, &'static str) {
    if let Some(described) = no_credentials(text) {
        return described;
    }
    let mut said = "no answer".to_owned();
    let mut cause = error.source();
    while let Some(found) = cause {
        let words = found.to_string();
        if !said.contains(&words) {
            said = format!("{said}: {}", cut(&words));
        }
        cause = found.source();
    }
    if error.kind() == HttpErrorKind::Timeout {
        return (ErrorClass::Unavailable, said, "");
    }
    if said.contains("certificate") || said.contains("HandshakeFailure") {
        let advice = "set tls_ca_file to the authority that signed the service's certificate";
        return (ErrorClass::InvalidConfig, said, advice);
    }
    // What rustls says of an answer that is not TLS.
    let advice = if said.contains("received corrupt message") {
        "endpoint begins with https://: does the service speak plain http://?"
    } else {
        ""
    };
    (ErrorClass::Unavailable, said, advice)
}

/// Without any, the client asks the metadata of the machine, which is there on AWS only.
fn no_credentials(text: &str) -> Option<(ErrorClass, String, &'static str)> {
    let asked = text.contains("169.254.169.254") || text.contains("/latest/api/token");
    asked.then(|| {
        (
            ErrorClass::InvalidConfig,
            "no credentials: none in the options, the environment or a shared file, and the \
             machine's metadata gives none"
                .to_owned(),
            CREDENTIALS,
        )
    })
}

fn http_error(error: &Error) -> Option<&HttpError> {
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(http) = found.downcast_ref::<HttpError>() {
            return Some(http);
        }
        cause = found.source();
    }
    None
}

fn other(error: &Error, text: &str) -> (ErrorClass, String, &'static str) {
    if let Some(described) = no_credentials(text) {
        return described;
    }
    if text.contains("Received redirect") {
        let said = "answered with a redirect that leads nowhere".to_owned();
        return (ErrorClass::InvalidConfig, said, REGION);
    }
    let class = match error {
        Error::NotFound { .. } => ErrorClass::InvalidConfig,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => ErrorClass::Conflict,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ErrorClass::InvalidConfig,
        // An answer that cannot be read: something else than S3, or a proxy that garbles it.
        Error::Generic { .. } => ErrorClass::Unavailable,
        _ => ErrorClass::Internal,
    };
    (class, cut(text), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_class() {
        use ErrorClass::{Conflict, Internal, InvalidConfig, TooLarge, Unavailable};
        for (answers, class) in [
            (
                &[
                    (503, "SlowDown"),
                    (503, ""),
                    (500, "InternalError"),
                    (429, ""),
                    (408, "RequestTimeout"),
                    (507, "XMinioStorageFull"),
                    (400, "RequestTimeout"),
                ][..],
                Unavailable,
            ),
            (
                &[
                    (412, "PreconditionFailed"),
                    (409, "ConditionalRequestConflict"),
                    (409, "OperationAborted"),
                ],
                Conflict,
            ),
            (&[(400, "EntityTooLarge"), (413, "")], TooLarge),
            (
                &[
                    (404, "NoSuchBucket"),
                    (403, "AccessDenied"),
                    (403, "SignatureDoesNotMatch"),
                    (400, "ExpiredToken"),
                    (403, "RequestTimeTooSkewed"),
                    (301, "PermanentRedirect"),
                    (400, "AuthorizationHeaderMalformed"),
                    (501, "NotImplemented"),
                    (405, ""),
                    (401, ""),
                ],
                InvalidConfig,
            ),
            (&[(400, "InvalidDigest"), (416, "InvalidRange")], Internal),
        ] {
            for (status, code) in answers {
                assert_eq!(classify(*status, code).0, class, "{status} {code}");
            }
        }
    }

    #[test]
    fn the_service_s_words_are_found() {
        let text = "Generic S3 error: Error performing PUT http://h/b/k in 1ms - Server returned \
                    non-2xx status code: 503 Service Unavailable: <?xml?><Error><Code>SlowDown\
                    </Code><Message>Reduce your rate</Message></Error>";
        let answer = Answer::of(text);
        assert_eq!(answer.status, Some(503));
        assert_eq!(answer.code.as_deref(), Some("SlowDown"));
        assert_eq!(answer.message.as_deref(), Some("Reduce your rate"));
        let one = "DeleteObjects request failed for key k: Access Denied (code: AccessDenied)";
        assert_eq!(Answer::of(one).code.as_deref(), Some("AccessDenied"));
    }
}
