//! The headers of a message.

use crate::job::{HeaderRef, JobHeaders, ReplayedFrom, header};

/// A header's value: the AMQP kinds that Warren reads and writes.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue {
    /// An integer of any AMQP width.
    Int(i64),
    /// A string.
    Text(String),
    /// A boolean.
    Bool(bool),
    /// A double, or a float read as one.
    Float(f64),
    /// Anything else, shown as text; copied to nowhere.
    Other(String),
}

/// Message headers, each name once. Their order means nothing.
///
/// A list, because every job in flight has one and few have more than five headers: a map's first
/// node alone takes 0.7 KB.
#[derive(Debug, Clone, Default)]
pub struct Headers(Vec<(Box<str>, HeaderValue)>);

impl Headers {
    /// No headers; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// No headers, and room for `count` of them.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    /// The value of the header `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.iter()
            .find_map(|(other, value)| (other == name).then_some(value))
    }

    /// Adds a header in place of any of the same name.
    pub fn insert(&mut self, name: impl Into<Box<str>>, value: HeaderValue) {
        let name = name.into();
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Keeps those for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &HeaderValue) -> bool) {
        self.0.retain(|(name, value)| keep(name, value));
    }

    /// A copy of those for which `keep` is true.
    #[must_use]
    pub fn copy_of(&self, mut keep: impl FnMut(&str, &HeaderValue) -> bool) -> Self {
        let kept = self.0.iter().filter(|(name, value)| keep(name, value));
        Self(kept.cloned().collect())
    }

    /// Names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// What they say about the job.
    #[must_use]
    pub fn of_job(&self) -> JobHeaders {
        JobHeaders::read(|name| {
            self.get(name).map(|value| match value {
                HeaderValue::Int(number) => HeaderRef::Int(*number),
                HeaderValue::Text(text) => HeaderRef::Text(text),
                HeaderValue::Bool(_) | HeaderValue::Float(_) | HeaderValue::Other(_) => {
                    HeaderRef::Other
                }
            })
        })
    }

    /// What they say of an earlier run, whose dead letter was sent again.
    #[must_use]
    pub fn replayed_from(&self) -> Option<ReplayedFrom> {
        match self.get(header::REPLAYED_FROM) {
            Some(HeaderValue::Text(text)) => ReplayedFrom::from_header(text),
            _ => None,
        }
    }

    /// Adds a header whose name is known to be new: unlike `insert`, many of them take no time
    /// that grows with their square.
    pub(super) fn push_new(&mut self, name: &str, value: HeaderValue) {
        self.0.push((name.into(), value));
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self
                .iter()
                .all(|(name, value)| other.get(name) == Some(value))
    }
}

impl<const N: usize> From<[(&str, HeaderValue); N]> for Headers {
    fn from(headers: [(&str, HeaderValue); N]) -> Self {
        let mut list = Self::with_capacity(N);
        for (name, value) in headers {
            list.insert(name, value);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_once_with_its_last_value() {
        let mut headers = Headers::from([
            ("a", HeaderValue::Int(1)),
            ("b", HeaderValue::Bool(true)),
            ("a", HeaderValue::Int(2)),
        ]);
        assert_eq!(headers.get("a"), Some(&HeaderValue::Int(2)));
        assert_eq!(headers.iter().len(), 2);
        headers.retain(|name, _| name != "a");
        assert_eq!(headers.get("a"), None);
        assert_eq!(headers, Headers::from([("b", HeaderValue::Bool(true))]));
    }
}
