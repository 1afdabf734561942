//! How a case says what it expected and what it found.

use std::fmt::Debug;

use warren_plugin_api::{ErrorClass, Record, StoreError, StoreResult};

/// Why a case did not pass.
#[derive(Debug)]
pub(crate) enum Failure {
    Broken(String),
    NotApplicable(String),
}

pub(crate) type Checked<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn unexpected(call: &str, error: &StoreError) -> Self {
        Self::Broken(format!(
            "{call}: expected an answer, found the error {error}"
        ))
    }
}

/// `ensure!(condition, "what was expected, and found {}", …)`
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::expect::Failure::Broken(format!($($text)+)));
        }
    };
}
pub(crate) use ensure;

pub(crate) fn expect_eq<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Checked {
    ensure!(
        found == expected,
        "{what}: expected {}, found {}",
        short(expected),
        short(found)
    );
    Ok(())
}

pub(crate) fn expect_class<T: Debug>(
    what: &str,
    found: &StoreResult<T>,
    expected: ErrorClass,
) -> Checked {
    match found {
        Ok(answer) => Err(Failure::Broken(format!(
            "{what}: expected the error {expected}, found the answer {}",
            short(answer)
        ))),
        Err(error) if error.class() != expected => Err(Failure::Broken(format!(
            "{what}: expected the error {expected}, found {error}"
        ))),
        Err(error) => {
            ensure!(
                !error.message().trim().is_empty(),
                "{what}: expected a sentence with the error {expected}, found none"
            );
            Ok(())
        }
    }
}

/// The record that is expected, found or not, with the fields that differ.
pub(crate) fn expect_record(what: &str, found: Option<&Record>, expected: &Record) -> Checked {
    let Some(found) = found else {
        return Err(Failure::Broken(format!(
            "{what}: expected the record of {}, found none",
            short(&expected.job_id)
        )));
    };
    let differing = differences(found, expected);
    ensure!(
        differing.is_empty(),
        "{what}: the record of {} differs: {}",
        short(&expected.job_id),
        differing.join("; ")
    );
    Ok(())
}

fn differences(found: &Record, expected: &Record) -> Vec<String> {
    let mut differing = Vec::new();
    macro_rules! compare {
        ($($field:ident)+) => {$(
            if found.$field != expected.$field {
                differing.push(format!(
                    "{}: expected {}, found {}",
                    stringify!($field), short(&expected.$field), short(&found.$field)
                ));
            }
        )+};
    }
    compare!(job_id status attempt queue function worker);
    compare!(enqueued_at started_at finished_at updated_at heartbeat_at expires_at duration);
    compare!(error args kwargs result progress extra);
    differing
}

/// A value for people: hostile values are long.
pub(crate) fn short(value: &impl Debug) -> String {
    const SHOWN: usize = 200;
    let text = format!("{value:?}");
    if text.chars().count() <= SHOWN {
        return text;
    }
    let head: String = text.chars().take(SHOWN).collect();
    format!("{head}… ({} characters)", text.chars().count())
}
