//! Values that cross the plugin boundary without being copied.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    ops::Deref,
    ops::Range,
};

use abi_stable::{
    StableAbi,
    std_types::{RArc, ROption, RString, RVec},
};
use base64::{Engine, prelude::BASE64_STANDARD};

/// Opaque payload bytes: job arguments, results, progress.
///
/// Cheap to clone and to slice: every clone shares one allocation, on either side of the plugin
/// boundary. Nobody between the producer and the reader parses or copies the bytes.
/// An empty payload means "there is none"; a JSON `null` is the four bytes `null`.
#[repr(C)]
#[derive(StableAbi, Clone)]
pub struct Payload {
    owner: ROption<RArc<RVec<u8>>>,
    start: usize,
    len: usize,
}

impl Payload {
    /// The empty payload, which means "there is none". Does not allocate.
    pub const fn empty() -> Self {
        Self {
            owner: ROption::RNone,
            start: 0,
            len: 0,
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.owner {
            ROption::RSome(owner) => owner
                .get(self.start..self.start.saturating_add(self.len))
                .unwrap_or_default(),
            ROption::RNone => &[],
        }
    }

    /// A part of this payload that shares its allocation.
    ///
    /// Returns the empty payload when `range` is empty, reversed or reaches past the end.
    pub fn slice(&self, range: Range<usize>) -> Self {
        if range.start >= range.end || range.end > self.len {
            return Self::empty();
        }
        Self {
            owner: self.owner.clone(),
            start: self.start + range.start,
            len: range.end - range.start,
        }
    }

    /// Bytes that this payload keeps allocated, which is more than its length when it is a slice.
    pub fn retained_bytes(&self) -> usize {
        match &self.owner {
            ROption::RSome(owner) => owner.capacity(),
            ROption::RNone => 0,
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return Self::empty();
        }
        let len = bytes.len();
        Self {
            owner: ROption::RSome(RArc::new(RVec::from(bytes))),
            start: 0,
            len,
        }
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    /// Shows text as text and cuts it short: a payload can be many megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_BYTES: usize = 64;
        let bytes = self.as_slice();
        let head = &bytes[..bytes.len().min(SHOWN_BYTES)];
        write!(f, "{:?}", String::from_utf8_lossy(head))?;
        if bytes.len() > SHOWN_BYTES {
            write!(f, "… ({} bytes)", bytes.len())?;
        }
        Ok(())
    }
}

/// How a payload is written in a text format: as it is where it is text, else in base64.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum WrittenPayload<'a> {
    Text(Cow<'a, str>),
    Bytes { base64: Cow<'a, str> },
}

impl serde::Serialize for Payload {
    /// In a binary format the bytes; in a text format a string, or `{"base64": …}` for bytes that
    /// are no UTF-8.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(self);
        }
        let written = match std::str::from_utf8(self) {
            Ok(text) => WrittenPayload::Text(text.into()),
            Err(_) => WrittenPayload::Bytes {
                base64: BASE64_STANDARD.encode(&**self).into(),
            },
        };
        written.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Payload {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return deserializer.deserialize_byte_buf(BytesVisitor);
        }
        match WrittenPayload::deserialize(deserializer)? {
            WrittenPayload::Text(text) => Ok(Self::from(text.into_owned())),
            WrittenPayload::Bytes { base64 } => BASE64_STANDARD
                .decode(&*base64)
                .map(Self::from)
                .map_err(serde::de::Error::custom),
        }
    }
}

struct BytesVisitor;

impl serde::de::Visitor<'_> for BytesVisitor {
    type Value = Payload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Payload, E> {
        Ok(Payload::from(bytes))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Payload, E> {
        Ok(Payload::from(bytes))
    }
}

/// A short piece of text: a job id, a queue, a function, a worker.
///
/// Reads like a `&str`, and moves over the plugin boundary without a copy.
#[repr(transparent)]
#[derive(StableAbi, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(RString);

impl Text {
    /// The empty text.
    pub const fn new() -> Self {
        Self(RString::new())
    }

    /// The text as a string slice.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(RString::from(text))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(RString::from(text))
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Self(RString::from(text.as_str()))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.into_string()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_shares_the_allocation_and_stays_in_bounds() {
        let whole = Payload::from("hello world");
        let part = whole.slice(6..11);
        assert_eq!(part.as_slice(), b"world");
        assert_eq!(part.slice(1..3).as_slice(), b"or");
        assert_eq!(part.as_slice().as_ptr(), whole.as_slice()[6..].as_ptr());
        assert_eq!(part.slice(3..6), Payload::empty());
        let reversed = Range { start: 3, end: 2 };
        assert_eq!(part.slice(reversed), Payload::empty());
    }

    #[test]
    fn an_empty_vector_is_the_empty_payload() {
        assert_eq!(Payload::from(Vec::new()).retained_bytes(), 0);
    }

    #[test]
    fn text_is_written_as_text_and_bytes_are_not_lost() {
        for (bytes, written) in [
            (&b"[1, \"a\"]"[..], r#""[1, \"a\"]""#),
            (b"", r#""""#),
            (b"\xff\x00", r#"{"base64":"/wA="}"#),
        ] {
            let payload = Payload::from(bytes);
            let json = serde_json::to_string(&payload).unwrap();
            assert_eq!(json, written);
            assert_eq!(serde_json::from_str::<Payload>(&json).unwrap(), payload);
        }
        assert!(serde_json::from_str::<Payload>(r#"{"base64":"*"}"#).is_err());
    }

    #[test]
    fn debug_cuts_a_long_payload_short() {
        let shown = format!("{:?}", Payload::from(vec![b'x'; 1000]));
        assert!(shown.len() < 120, "{shown}");
        assert!(shown.contains("1000 bytes"));
    }
}
