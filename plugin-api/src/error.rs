//! Errors of a store: a class for programs, a sentence for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure it is. The host decides by the class alone, never by the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The backend cannot be reached, is overloaded, or did not answer in time.
    /// The same call may succeed later; a write may or may not have been done.
    Unavailable,
    /// Concurrent callers got in each other's way. The same call may succeed at once.
    Conflict,
    /// The record exceeds what the store takes. Repeating is useless; nothing was written.
    TooLarge,
    /// The configuration is wrong: an operator must act. Refused credentials belong here.
    InvalidConfig,
    /// What is stored cannot be read back as a record.
    CorruptData,
    /// The store does not have this operation; see its capabilities.
    Unsupported,
    /// A defect in the store, a panic included.
    Internal,
}

impl ErrorClass {
    /// All classes.
    pub const ALL: [Self; 7] = [
        Self::Unavailable,
        Self::Conflict,
        Self::TooLarge,
        Self::InvalidConfig,
        Self::CorruptData,
        Self::Unsupported,
        Self::Internal,
    ];

    /// The word that is shown and logged.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::InvalidConfig => "invalid_config",
            Self::CorruptData => "corrupt_data",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call can succeed later without anybody changing the call:
    /// `false` for what the store refuses for good.
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Unavailable | Self::Conflict | Self::InvalidConfig | Self::Internal => true,
            Self::TooLarge | Self::CorruptData | Self::Unsupported => false,
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A store's failure. Its text must not contain a secret: it is logged and shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {message}")]
pub struct StoreError {
    class: ErrorClass,
    message: String,
}

impl StoreError {
    /// An error of `class`, explained in one sentence without secrets.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }

    /// [`ErrorClass::Unavailable`]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Unavailable, message)
    }

    /// [`ErrorClass::Conflict`]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Conflict, message)
    }

    /// [`ErrorClass::TooLarge`]
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::TooLarge, message)
    }

    /// [`ErrorClass::InvalidConfig`]
    pub fn invalid_config(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::InvalidConfig, message)
    }

    /// [`ErrorClass::CorruptData`]
    pub fn corrupt_data(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::CorruptData, message)
    }

    /// [`ErrorClass::Unsupported`]
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Unsupported, message)
    }

    /// [`ErrorClass::Internal`]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Internal, message)
    }

    /// What kind of failure it is.
    pub const fn class(&self) -> ErrorClass {
        self.class
    }

    /// The explanation, without the class.
    pub fn message(&self) -> &str {
        &self.message
    }
}
