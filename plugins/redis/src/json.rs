//! Which payloads may stand in a record as they are, and where large ones stand.

use std::ops::Range;

/// Deepest nesting that is embedded: Python's and pydantic's readers give up between 200 and 1,000.
const MAX_DEPTH: u32 = 100;
/// Longest run of digits that is embedded: Python refuses integers of more than 4,300 digits.
const MAX_DIGITS: usize = 4_000;

/// Whether `bytes` are one JSON value, without whitespace around it, that every reader of records
/// takes: strict JSON in UTF-8, no half surrogate pairs, not too deep, no overlong numbers.
pub(crate) fn is_embeddable(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    reader.document().is_some() && reader.has_read_all()
}

/// A member of an object: its name, and where its value stands.
pub(crate) type Member<'a> = (&'a [u8], Range<usize>);

/// The members of an object that are at least `least` bytes long. `None` for what is no object, or
/// what not all readers take.
pub(crate) fn large_members(bytes: &[u8], least: usize) -> Option<Vec<Member<'_>>> {
    let mut reader = Reader::new(bytes);
    let mut large = Vec::new();
    reader.expect(b"{")?;
    reader.skip_whitespace();
    loop {
        let name_at = reader.at + 1;
        reader.name()?;
        let value_at = reader.at;
        reader.document()?;
        if reader.at - value_at >= least {
            let name = bytes.get(name_at..value_at)?;
            let name = name.split(|byte| *byte == b'"').next()?;
            large.push((name, value_at..reader.at));
        }
        reader.skip_whitespace();
        match reader.next()? {
            b',' => reader.skip_whitespace(),
            b'}' => break,
            _ => return None,
        }
    }
    reader.has_read_all().then_some(large)
}

/// Walks over JSON without recursion; every method is `None` at the first fault.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether a string holds what is not ASCII.
    beyond_ascii: bool,
}

impl<'a> Reader<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            beyond_ascii: false,
        }
    }

    /// Whether the end is reached, and all of it was UTF-8.
    fn has_read_all(&self) -> bool {
        // Outside of strings JSON is ASCII.
        self.at == self.bytes.len()
            && (!self.beyond_ascii || std::str::from_utf8(self.bytes).is_ok())
    }

    fn document(&mut self) -> Option<()> {
        // One bit per open bracket, the innermost lowest: 1 an object, 0 an array.
        let (mut open, mut depth) = (0_u128, 0);
        loop {
            // Here a value begins.
            let first = self.next()?;
            match first {
                b'{' | b'[' => {
                    if depth == MAX_DEPTH {
                        return None;
                    }
                    depth += 1;
                    open = (open << 1) | u128::from(first == b'{');
                    self.skip_whitespace();
                    if self.peek() == Some(if first == b'{' { b'}' } else { b']' }) {
                        self.at += 1;
                        depth -= 1;
                        open >>= 1;
                    } else {
                        if first == b'{' {
                            self.name()?;
                        }
                        continue;
                    }
                }
                _ => self.scalar(first)?,
            }
            // Here a value has ended.
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.skip_whitespace();
                let in_object = open & 1 == 1;
                match self.next()? {
                    b',' => {
                        self.skip_whitespace();
                        if in_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return None,
                }
                depth -= 1;
                open >>= 1;
            }
        }
    }

    /// A member's name, its colon, and the whitespace around them.
    fn name(&mut self) -> Option<()> {
        self.expect(b"\"")?;
        self.string()?;
        self.skip_whitespace();
        self.expect(b":")?;
        self.skip_whitespace();
        Some(())
    }

    fn scalar(&mut self, first: u8) -> Option<()> {
        match first {
            b'"' => self.string(),
            b't' => self.expect(b"rue"),
            b'f' => self.expect(b"alse"),
            b'n' => self.expect(b"ull"),
            b'-' => {
                let digit = self.next()?;
                self.number(digit)
            }
            digit => self.number(digit),
        }
    }

    /// The rest of a string whose opening quote has been read.
    fn string(&mut self) -> Option<()> {
        loop {
            self.skip_plain();
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                0..0x20 => return None,
                byte => self.beyond_ascii |= !byte.is_ascii(),
            }
        }
    }

    /// Skips what stands for itself in a string, in portions that the processor compares at once.
    fn skip_plain(&mut self) {
        const AT_ONCE: usize = 32;
        let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        let (portions, _) = self.bytes[self.at..].as_chunks::<AT_ONCE>();
        for portion in portions {
            let (mut special, mut beyond_ascii) = (false, false);
            for byte in portion {
                special |= is_special(*byte);
                beyond_ascii |= *byte >= 0x80;
            }
            if special {
                return;
            }
            self.beyond_ascii |= beyond_ascii;
            self.at += AT_ONCE;
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.four_hex_digits()? {
                0xd800..0xdc00 => {
                    self.expect(b"\\u")?;
                    matches!(self.four_hex_digits()?, 0xdc00..0xe000).then_some(())
                }
                0xdc00..0xe000 => None,
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn four_hex_digits(&mut self) -> Option<u32> {
        let mut value = 0;
        for _ in 0..4 {
            value = value * 16 + char::from(self.next()?).to_digit(16)?;
        }
        Some(value)
    }

    /// The rest of a number whose first digit has been read.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        let start = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        (self.at - start <= MAX_DIGITS).then_some(())
    }

    fn some_digits(&mut self) -> Option<()> {
        let start = self.at;
        self.digits();
        (self.at > start).then_some(())
    }

    fn digits(&mut self) {
        let start = self.at;
        while self.at - start <= MAX_DIGITS && self.peek().is_some_and(|byte| byte.is_ascii_digit())
        {
            self.at += 1;
        }
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, text: &[u8]) -> Option<()> {
        let found = self.bytes.get(self.at..self.at + text.len())?;
        self.at += text.len();
        (found == text).then_some(())
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_is_embedded() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-0.0",
            "1e5",
            "1.25E-3",
            "123456789012345678901234567890",
            r#""""#,
            r#""a\"\\\/\b\f\n\r\t\u00e9""#,
            r#""\ud83d\ude00""#,
            "\"é中\"",
            "[]",
            "{}",
            "[1, [2], {\"a\" : [ ] } ]",
            r#"{"a":1,"a":2}"#,
        ] {
            assert!(is_embeddable(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_some_reader_refuses_is_not() {
        let deep = [vec![b'['; 101], vec![b']'; 101]].concat();
        let long = vec![b'7'; 5_000];
        for bytes in [
            b"" as &[u8],
            b" 1",
            b"1 ",
            b"NaN",
            b"[Infinity]",
            b"-",
            b"01",
            b"1.",
            b".5",
            b"1e",
            b"+1",
            b"nul",
            b"[1,]",
            b"[1",
            b"{\"a\":1]",
            b"{\"a\"}",
            b"{a:1}",
            b"{\"a\":1,}",
            b"\"\\x\"",
            b"\"\n\"",
            br#""\ud800""#,
            br#""\udc00\ud800""#,
            b"\"\xff\"",
            b"1 2",
            &deep,
            &long,
        ] {
            assert!(!is_embeddable(bytes), "{}", String::from_utf8_lossy(bytes));
        }
        assert!(is_embeddable(&deep[1..201]));
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            any::<f64>().prop_map(|number| serde_json::to_string(&number).unwrap()),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|items| format!("[{}]", items.join(", "))),
                prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|members| {
                    let members: Vec<_> = members
                        .iter()
                        .map(|(name, value)| {
                            format!("{} :{value}", serde_json::to_string(name).unwrap())
                        })
                        .collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn all_json_that_serde_writes_is_embedded(text in json()) {
            prop_assert!(is_embeddable(text.as_bytes()), "{text}");
        }

        #[test]
        fn whatever_is_embedded_serde_reads(text in json(), at in any::<prop::sample::Index>(), byte: u8) {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if is_embeddable(&bytes) {
                let read = serde_json::from_slice::<&serde_json::value::RawValue>(&bytes);
                prop_assert_eq!(read.map(|raw| raw.get().as_bytes()).ok(), Some(&*bytes));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            is_embeddable(&bytes);
        }
    }
}
