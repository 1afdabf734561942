//! What a job is known by.

use std::fmt;

use serde::{Deserialize, Serialize};
use warren_plugin_api::Text;

/// A job's id: any text of 1 to 1,024 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(Text);

/// Text that cannot be a job's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job id has 1 to 1024 bytes, this one has {found_bytes}")]
pub struct InvalidJobId {
    found_bytes: usize,
}

impl JobId {
    /// The longest id that is taken, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Checks and takes `id`.
    ///
    /// # Errors
    /// An empty or too long id.
    pub fn new(id: impl Into<Text>) -> Result<Self, InvalidJobId> {
        let id = id.into();
        if id.is_empty() || id.len() > Self::MAX_BYTES {
            return Err(InvalidJobId {
                found_bytes: id.len(),
            });
        }
        Ok(Self(id))
    }

    /// A fresh id: 32 random hexadecimal digits, as the Python client makes them.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string().into())
    }

    /// The id as a string slice.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The id as the text that stores take.
    pub fn as_text(&self) -> &Text {
        &self.0
    }

    /// The id as the text that stores take.
    pub fn into_text(self) -> Text {
        self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl AsRef<str> for JobId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(id: String) -> Result<Self, InvalidJobId> {
        Self::new(id)
    }
}

impl std::str::FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(id: &str) -> Result<Self, InvalidJobId> {
        Self::new(id)
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0.into()
    }
}

impl From<JobId> for Text {
    fn from(id: JobId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_1_to_1024_bytes() {
        assert!(JobId::new("").is_err());
        assert!(JobId::new("é".repeat(512)).is_ok());
        let error = JobId::new("x".repeat(1025)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a job id has 1 to 1024 bytes, this one has 1025"
        );
    }

    #[test]
    fn random_ids_differ_and_are_32_hex_digits() {
        let (one, other) = (JobId::random(), JobId::random());
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 32);
        assert!(one.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
