//! A JSON scanner that finds values without building them: one pass, no recursion, no allocation.
//!
//! It takes what Python's `json` takes, which is JSON and the bare tokens `NaN`, `Infinity` and
//! `-Infinity`. Everything is checked, nested values too: a slice that it returns is well formed.

use std::{borrow::Cow, ops::Range};

/// How deep values may be nested. Python gives up at about the same depth.
pub(super) const MAX_DEPTH: usize = 1000;

/// What is wrong with a text, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {offset}")]
pub struct SyntaxError {
    /// What was expected or found.
    pub problem: &'static str,
    /// Where, counted from the start of the body.
    pub offset: usize,
}

/// A place in a JSON text.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A string that was found: the bytes between its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawString {
    pub(super) range: Range<usize>,
    escaped: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Calls `member` for every member of the object that is the whole text, in order.
    pub(super) fn object(
        mut self,
        mut member: impl FnMut(RawString, Range<usize>),
    ) -> Result<(), SyntaxError> {
        self.skip_space();
        self.expect(b'{', "the body is not a JSON object: expected '{'")?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                let key = self.key()?;
                self.skip_space();
                let start = self.at;
                self.value()?;
                member(key, start..self.at);
                self.skip_space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break self.at += 1,
                    _ => return self.fail("expected ',' or '}'"),
                }
            }
        }
        self.skip_space();
        if self.at < self.bytes.len() {
            self.fail("more text after the object")
        } else {
            Ok(())
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<RawString, SyntaxError> {
        self.skip_space();
        let key = self.string()?;
        self.skip_space();
        self.expect(b':', "expected ':'")?;
        Ok(key)
    }

    /// Passes over one value of any depth.
    fn value(&mut self) -> Result<(), SyntaxError> {
        let mut open = Nesting::default();
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'{') => {
                    if !self.opens_empty(b'}') {
                        if !open.push(true) {
                            return self.fail("nested deeper than 1000 levels");
                        }
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    if !self.opens_empty(b']') {
                        if !open.push(false) {
                            return self.fail("nested deeper than 1000 levels");
                        }
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                Some(b'N') => self.literal(b"NaN")?,
                Some(b'I') => self.literal(b"Infinity")?,
                _ => return self.fail("expected a value"),
            }
            if self.close(&mut open)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends here. `false` when another value follows.
    fn close(&mut self, open: &mut Nesting) -> Result<bool, SyntaxError> {
        while let Some(is_object) = open.top() {
            self.skip_space();
            match (self.peek(), is_object) {
                (Some(b','), true) => {
                    self.at += 1;
                    self.key()?;
                    return Ok(false);
                }
                (Some(b','), false) => {
                    self.at += 1;
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    open.pop();
                }
                (_, true) => return self.fail("expected ',' or '}'"),
                (_, false) => return self.fail("expected ',' or ']'"),
            }
        }
        Ok(true)
    }

    /// Passes over an opening bracket, and over the closing one if that follows at once.
    fn opens_empty(&mut self, closing: u8) -> bool {
        self.at += 1;
        self.skip_space();
        let empty = self.peek() == Some(closing);
        self.at += usize::from(empty);
        empty
    }

    fn string(&mut self) -> Result<RawString, SyntaxError> {
        self.expect(b'"', "expected a string in quotes")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_len(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0x00..0x20) => return self.fail("a control character in a string"),
                Some(_) => self.at += 1,
                None => return self.fail("a string without an end"),
            }
        }
        let range = start..self.at;
        self.at += 1;
        Ok(RawString { range, escaped })
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let code = self.bytes.get(self.at + 1..self.at + 5);
                if !code.is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit)) {
                    return self.fail("expected four hexadecimal digits after \\u");
                }
                self.at += 5;
            }
            _ => return self.fail("an unknown escape in a string"),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.peek() == Some(b'I') {
                return self.literal(b"Infinity");
            }
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let len = self.bytes[self.at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if len == 0 {
            return self.fail("expected a digit");
        }
        self.at += len;
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), SyntaxError> {
        if !self.bytes[self.at..].starts_with(word) {
            return self.fail("expected a value");
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8, problem: &'static str) -> Result<(), SyntaxError> {
        if self.peek() != Some(byte) {
            return self.fail(problem);
        }
        self.at += 1;
        Ok(())
    }

    fn fail<T>(&self, problem: &'static str) -> Result<T, SyntaxError> {
        Err(SyntaxError {
            problem,
            offset: self.at,
        })
    }
}

impl RawString {
    /// The text; `None` when it is not valid Unicode, as with a lone surrogate.
    pub(super) fn text<'a>(&self, body: &'a [u8]) -> Option<Cow<'a, str>> {
        let raw = body.get(self.range.clone())?;
        if !self.escaped {
            return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
        }
        let quoted = body.get(self.range.start.checked_sub(1)?..self.range.end + 1)?;
        serde_json::from_slice(quoted).ok().map(Cow::Owned)
    }
}

/// Reads `value`, the bytes of one value, as a string.
pub(super) fn as_string(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        return serde_json::from_slice(value).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// How many bytes from the start are plain: no quote, no backslash, no control character.
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The lowest byte flagged is exact; the rest may be flagged by a borrow and do not matter.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quotes = zeros(word ^ (ONES * u64::from(b'"')));
        let slashes = zeros(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let special = quotes | slashes | controls;
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let done = words.len() * 8;
    let is_plain = |byte: &&u8| !matches!(**byte, b'"' | b'\\' | 0x00..0x20);
    done + bytes[done..].iter().take_while(is_plain).count()
}

/// Which brackets are open: one bit each, set for an object.
#[derive(Default)]
struct Nesting {
    depth: usize,
    objects: [u64; MAX_DEPTH.div_ceil(64)],
}

impl Nesting {
    /// `false` when that is too deep.
    fn push(&mut self, is_object: bool) -> bool {
        if self.depth == MAX_DEPTH {
            return false;
        }
        let bit = 1 << (self.depth % 64);
        let word = &mut self.objects[self.depth / 64];
        *word = if is_object { *word | bit } else { *word & !bit };
        self.depth += 1;
        true
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }

    fn top(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.objects[last / 64] & (1 << (last % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(text: &str) -> Result<Vec<(String, &str)>, SyntaxError> {
        let mut found = Vec::new();
        Scanner::new(text.as_bytes()).object(|key, value| {
            let key = key.text(text.as_bytes()).unwrap_or_default().into_owned();
            found.push((key, &text[value]));
        })?;
        Ok(found)
    }

    #[test]
    fn finds_the_members_and_leaves_the_values_as_they_are() {
        let text = r#" { "a" : [1, {"b": NaN}, -Infinity] , "\u0063": "x\"y" } "#;
        let found = members(text).unwrap();
        assert_eq!(found[0], ("a".to_owned(), r#"[1, {"b": NaN}, -Infinity]"#));
        assert_eq!(found[1], ("c".to_owned(), r#""x\"y""#));
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let cases = [
            ("", "not a JSON object", 0),
            ("[1]", "not a JSON object", 0),
            (r#"{"a":1}x"#, "more text", 7),
            (r#"{"a":01}"#, "expected ',' or '}'", 6),
            (r#"{"a":[1,]}"#, "expected a value", 8),
            (r#"{"a":"b"#, "without an end", 7),
            (r#"{"a":"\x"}"#, "unknown escape", 7),
            ("{\"a\":\"\n\"}", "control character", 6),
            (r#"{"a":-NaN}"#, "expected a digit", 6),
            (r#"{'a':1}"#, "string in quotes", 1),
        ];
        for (text, problem, offset) in cases {
            let error = members(text).unwrap_err();
            assert!(error.problem.contains(problem), "{text}: {error}");
            assert_eq!(error.offset, offset, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let nested = |depth| format!(r#"{{"a":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(members(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(
            members(&nested(MAX_DEPTH + 1)).unwrap_err().problem,
            "nested deeper than 1000 levels"
        );
        assert!(members(&format!(r#"{{"a":{}"#, "{\"a\":".repeat(1_000_000))).is_err());
    }

    #[test]
    fn huge_numbers_are_passed_over() {
        let text = format!(r#"{{"a": {}.5e{}}}"#, "9".repeat(10_000), "9".repeat(100));
        assert_eq!(members(&text).unwrap().len(), 1);
    }

    #[test]
    fn plain_text_ends_where_the_first_special_byte_is() {
        for special in [b'"', b'\\', 0, 0x1f] {
            for position in 0..40 {
                let mut bytes = vec![b'a'; 40];
                bytes[position] = special;
                assert_eq!(plain_len(&bytes), position);
            }
        }
        assert_eq!(
            plain_len("é中\u{7f} !#[]".as_bytes()),
            "é中\u{7f} !#[]".len()
        );
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "\\PC*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map("[a-z\"\\\\]{0,3}", inner, 0..6)
                    .prop_map(|map| { serde_json::Value::Object(map.into_iter().collect()) }),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_what_is_json(value in any_json(), pretty: bool) {
            let value = serde_json::json!({ "v": value });
            let text = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            };
            let found = members(&text).unwrap();
            let inner: serde_json::Value = serde_json::from_str(found[0].1).unwrap();
            prop_assert_eq!(&inner, &value["v"]);
        }

        #[test]
        fn agrees_with_serde_json_on_what_is_not(text in "[\\[\\]{}:,\"\\\\0-9eE.+ tfnu\\-]{0,30}") {
            let text = format!(r#"{{"v":{text}}}"#);
            let strict: Result<Box<serde_json::value::RawValue>, _> = serde_json::from_str(&text);
            prop_assert_eq!(members(&text).is_ok(), strict.is_ok(), "{}", text);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Scanner::new(&bytes).object(|key, _| assert!(key.range.end <= bytes.len()));
        }
    }
}
