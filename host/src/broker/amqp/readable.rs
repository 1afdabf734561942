//! Makes frames of messages readable for lapin, in place: whoever publishes decides what headers
//! and names hold, and lapin gives the connection up over what it cannot read, or runs out of stack.
//!
//! What is well-formed and of ordinary size stays as it is, byte for byte.

use std::{cmp::Reverse, ops::Range};

/// Tables and arrays within one another: lapin reads them by recursion.
const DEEPEST: usize = 32;
/// Headers of one message: each becomes an allocation or two.
pub(super) const MOST_HEADERS: usize = 1_024;
/// Values in the tables and arrays of one message.
const MOST_NESTED: usize = 4_096;

/// Class, weight and the length of the body come before a content header's flags.
const FLAGS: Range<usize> = 12..14;
const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const TIMESTAMP: u16 = 1 << 6;
/// The lowest flag of a property. All that are not named above are short strings.
const CLUSTER_ID: u16 = 1 << 2;

/// Mends the payload of a content header and returns how long it is now: never longer.
///
/// What is nested too deeply, has too many values or is malformed inside becomes bytes without a
/// structure. After a header that has no readable end, no other can be found: the rest is left out.
pub(super) fn mend_content_header(payload: &mut [u8]) -> usize {
    let Some(flags) = flags(payload) else {
        return payload.len();
    };
    let mut len = payload.len();
    let mut at = FLAGS.end;
    let mut property = CONTENT_TYPE;
    while property >= CLUSTER_ID {
        if flags & property != 0 {
            let next = match property {
                HEADERS => mend_headers(payload, at, &mut len),
                DELIVERY_MODE | PRIORITY => skip(at, 1, len),
                TIMESTAMP => skip(at, 8, len),
                _ => mend_short_string(payload, at, len),
            };
            let Some(next) = next else {
                // This property is cut off: there is neither it nor any after it.
                let whole = flags & !(property | (property - 1));
                payload[FLAGS].copy_from_slice(&whole.to_be_bytes());
                break;
            };
            at = next;
        }
        property >>= 1;
    }
    at
}

/// Mends the names in a method that a publisher or its mistakes can have a say in.
pub(super) fn mend_method(payload: &mut [u8]) {
    // How many bytes come before each of its short strings.
    let gaps: &[usize] = match payload.first_chunk() {
        // basic.deliver: tag of the consumer, tag of the delivery, redelivered, exchange, key.
        Some([0, 60, 0, 60]) => &[0, 9, 0],
        // basic.get-ok: tag of the delivery, redelivered, exchange, key.
        Some([0, 60, 0, 71]) => &[9, 0],
        // basic.return: code, text, exchange, key.
        Some([0, 60, 0, 50]) => &[2, 0, 0],
        // connection.close, channel.close: code, text, which may quote a name.
        Some([0, 10, 0, 50] | [0, 20, 0, 40]) => &[2],
        _ => return,
    };
    let mut at = 4;
    for gap in gaps {
        match mend_short_string(payload, at + gap, payload.len()) {
            Some(next) => at = next,
            None => return,
        }
    }
}

/// Leaves headers out of a mended content header until its payload has no more than `most` bytes:
/// the longest first, and those that are `known` last. Returns how long it is now.
pub(super) fn shorten(payload: &mut [u8], most: usize, known: impl Fn(&str) -> bool) -> usize {
    let len = payload.len();
    let Some(table) = headers_of(payload) else {
        return len;
    };
    let mut entries = entries_of(payload, table.clone());
    let is_known = |entry: &Range<usize>| {
        let name = short_string(payload, entry.start, entry.end);
        name.is_some_and(|name| std::str::from_utf8(&payload[name]).is_ok_and(&known))
    };
    entries.sort_by_cached_key(|entry| (is_known(entry), Reverse(entry.len())));
    let mut over = len.saturating_sub(most);
    entries.retain(|entry| {
        let fits = over == 0;
        over = over.saturating_sub(entry.len());
        fits
    });
    entries.sort_unstable_by_key(|entry| entry.start);
    let mut end = table.start;
    for entry in entries {
        payload.copy_within(entry.clone(), end);
        end += entry.len();
    }
    payload.copy_within(table.end..len, end);
    write_length(payload, table.start, end);
    len - (table.end - end)
}

fn flags(payload: &[u8]) -> Option<u16> {
    let flags = payload.get(FLAGS)?.try_into().ok()?;
    Some(u16::from_be_bytes(flags))
}

/// Where the entries of the headers are in a mended content header.
fn headers_of(payload: &[u8]) -> Option<Range<usize>> {
    let flags = flags(payload).filter(|flags| flags & HEADERS != 0)?;
    let mut at = FLAGS.end;
    for property in [CONTENT_TYPE, CONTENT_ENCODING] {
        if flags & property != 0 {
            at = short_string(payload, at, payload.len())?.end;
        }
    }
    long_range(payload, at, payload.len())
}

/// The entries of a table that was mended: looking at it again changes nothing.
fn entries_of(payload: &mut [u8], table: Range<usize>) -> Vec<Range<usize>> {
    let mut entries = Vec::new();
    let mut at = table.start;
    let mut nested = MOST_NESTED;
    while let Some(end) = mend_entry(payload, at, table.end, 0, &mut nested) {
        entries.push(at..end);
        at = end;
    }
    entries
}

/// Mends the table at `at` of a payload of `len` bytes, which become fewer by what is left out.
fn mend_headers(payload: &mut [u8], at: usize, len: &mut usize) -> Option<usize> {
    let start = skip(at, 4, *len)?;
    // A table may claim to be longer than its frame.
    let end = long_range(payload, at, *len).map_or(*len, |table| table.end);
    let mut nested = MOST_NESTED;
    let mut whole = start;
    for _ in 0..MOST_HEADERS {
        let Some(next) = mend_entry(payload, whole, end, 0, &mut nested) else {
            break;
        };
        whole = next;
    }
    if whole < end {
        payload.copy_within(end..*len, whole);
        *len -= end - whole;
    }
    write_length(payload, start, whole);
    Some(whole)
}

fn mend_entry(
    bytes: &mut [u8],
    at: usize,
    end: usize,
    depth: usize,
    nested: &mut usize,
) -> Option<usize> {
    let at = mend_short_string(bytes, at, end)?;
    mend_value(bytes, at, end, depth, nested)
}

/// Mends the value at `at`, and returns where it ends; `None` if that is not before `end`. Calls
/// itself no more often than [`DEEPEST`] times.
fn mend_value(
    bytes: &mut [u8],
    at: usize,
    end: usize,
    depth: usize,
    nested: &mut usize,
) -> Option<usize> {
    let data = skip(at, 1, end)?;
    let fixed = match *bytes.get(at)? {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'L' | b'l' | b'd' | b'T' => 8,
        // Text need not be UTF-8 here: whoever reads the header sees to it.
        b'S' | b'x' => return Some(long_range(bytes, data, end)?.end),
        kind @ (b'A' | b'F') => {
            let items = long_range(bytes, data, end)?;
            let left = *nested;
            if mend_items(bytes, kind, items.clone(), depth + 1, nested).is_none() {
                // Bytes have their length where a table and an array have it.
                bytes[at] = b'x';
                *nested = left;
            }
            return Some(items.end);
        }
        _ => return None,
    };
    skip(data, fixed, end)
}

/// Mends what is in a table or an array; `None` if that cannot stay one.
fn mend_items(
    bytes: &mut [u8],
    kind: u8,
    items: Range<usize>,
    depth: usize,
    nested: &mut usize,
) -> Option<()> {
    if depth > DEEPEST {
        return None;
    }
    let mut at = items.start;
    while at < items.end {
        *nested = nested.checked_sub(1)?;
        at = match kind {
            b'F' => mend_entry(bytes, at, items.end, depth, nested)?,
            _ => mend_value(bytes, at, items.end, depth, nested)?,
        };
    }
    Some(())
}

/// Makes UTF-8 of the short string at `at`, and returns where it ends.
fn mend_short_string(bytes: &mut [u8], at: usize, end: usize) -> Option<usize> {
    let text = short_string(bytes, at, end)?;
    let mut rest = &mut bytes[text.clone()];
    while let Err(error) = std::str::from_utf8(rest) {
        let start = error.valid_up_to();
        let bad = error.error_len().unwrap_or(rest.len() - start);
        rest[start..start + bad].fill(b'?');
        rest = &mut rest[start + bad..];
    }
    Some(text.end)
}

/// Where the text of the short string at `at` is, which ends at `end` or before.
pub(super) fn short_string(bytes: &[u8], at: usize, end: usize) -> Option<Range<usize>> {
    let start = skip(at, 1, end)?;
    Some(start..skip(start, usize::from(*bytes.get(at)?), end)?)
}

/// What has its length before it, as four bytes at `at`.
fn long_range(bytes: &[u8], at: usize, end: usize) -> Option<Range<usize>> {
    let start = skip(at, 4, end)?;
    let length = u32::from_be_bytes(bytes.get(at..start)?.try_into().ok()?);
    Some(start..skip(start, usize::try_from(length).ok()?, end)?)
}

/// Writes how long a table is before its first entry. It has become shorter, so that this fits.
fn write_length(payload: &mut [u8], start: usize, end: usize) {
    let length = u32::try_from(end - start).unwrap_or(u32::MAX);
    payload[start - 4..start].copy_from_slice(&length.to_be_bytes());
}

fn skip(at: usize, count: usize, end: usize) -> Option<usize> {
    at.checked_add(count).filter(|next| *next <= end)
}

#[cfg(test)]
#[path = "readable/tests.rs"]
mod tests;
