//! A job's arguments as a Rust value.

use serde::de::{
    DeserializeOwned, Deserializer, Error as _, Visitor,
    value::{MapDeserializer, StringDeserializer},
};
use serde_json::{Map, Value};

use super::JobError;

/// Reads positional (`args`, a JSON array) and named (`kwargs`, a JSON object) arguments.
///
/// A tuple takes positional ones. A struct takes either or both: positional ones fill its fields
/// in their order.
pub(super) fn read<A: DeserializeOwned>(args: &[u8], kwargs: &[u8]) -> Result<A, JobError> {
    let read = match (is_empty(args, b"[]"), is_empty(kwargs, b"{}")) {
        (false, true) => serde_json::from_slice(args),
        (true, false) => serde_json::from_slice(kwargs),
        (true, true) => serde_json::from_slice(b"[]")
            .or_else(|_| serde_json::from_slice(b"null"))
            .or_else(|_| serde_json::from_slice(b"{}")),
        (false, false) => read_mixed(args, kwargs),
    };
    read.map_err(|error| {
        let mut message = error.to_string();
        if [args, kwargs].into_iter().any(has_python_number) {
            message.push_str("; NaN and Infinity, which Python writes, are not JSON");
        }
        JobError::new("InvalidArguments", message).never_retry()
    })
}

fn is_empty(json: &[u8], empty: &[u8; 2]) -> bool {
    let mut significant = json.iter().filter(|byte| !byte.is_ascii_whitespace());
    json.is_empty()
        || (significant.by_ref().take(2).eq(empty.iter()) && significant.next().is_none())
}

fn has_python_number(json: &[u8]) -> bool {
    ["NaN", "Infinity"]
        .iter()
        .any(|word| json.windows(word.len()).any(|it| it == word.as_bytes()))
}

fn read_mixed<A: DeserializeOwned>(args: &[u8], kwargs: &[u8]) -> serde_json::Result<A> {
    let args: Vec<Value> = serde_json::from_slice(args)?;
    let kwargs: Map<String, Value> = serde_json::from_slice(kwargs)?;
    A::deserialize(Mixed { args, kwargs })
}

/// Positional arguments with the names of a struct's fields, then the named ones.
struct Mixed {
    args: Vec<Value>,
    kwargs: Map<String, Value>,
}

impl<'de> Deserializer<'de> for Mixed {
    type Error = serde_json::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if self.args.len() > fields.len() {
            let (found, expected) = (self.args.len(), fields.len());
            return Err(Self::Error::custom(format!(
                "found {found} positional arguments, expected at most {expected}"
            )));
        }
        let positional = fields
            .iter()
            .map(|field| (*field).to_owned())
            .zip(self.args);
        // A name that comes twice is an error of the struct's own reading.
        let all = positional
            .chain(self.kwargs)
            .map(|(name, value)| (StringDeserializer::<Self::Error>::new(name), value));
        visitor.visit_map(MapDeserializer::new(all))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom(
            "found positional and named arguments, and this function does not take both",
        ))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
