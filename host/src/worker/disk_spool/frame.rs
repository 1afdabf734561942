//! One write as bytes of a segment.
//!
//! A frame is: length of the body (u32), CRC-32 of key and body (u32), key (u64), body; numbers
//! are little-endian. The body is the write in MessagePack with named fields, so that a later
//! version of Warren can read what an earlier one left behind.

use std::io::{self, Read};

use warren_plugin_api::Write;

/// Bytes before the body.
pub(super) const HEAD_BYTES: usize = 16;
/// A longer body is damage: no record is as large.
const LONGEST_BODY: u32 = 1 << 30;

/// Appends the frame of `write` to `out`; returns how many bytes it has.
pub(super) fn encode(key: u64, write: &Write, out: &mut Vec<u8>) -> io::Result<usize> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    rmp_serde::encode::write_named(out, write).map_err(io::Error::other)?;
    let length = out.len() - start;
    let body_length = u32::try_from(length - HEAD_BYTES)
        .ok()
        .filter(|length| *length <= LONGEST_BODY)
        .ok_or_else(|| io::Error::other("the record is too large for the spool"))?;
    let head = &mut out[start..start + HEAD_BYTES];
    head[..4].copy_from_slice(&body_length.to_le_bytes());
    head[8..].copy_from_slice(&key.to_le_bytes());
    let checksum = crc32fast::hash(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    Ok(length)
}

/// A frame that was read whole.
pub(super) struct Frame {
    pub(super) key: u64,
    pub(super) write: Write,
    /// Of the whole frame.
    pub(super) length: u64,
}

/// What comes next in a segment.
pub(super) enum Next {
    Frame(Box<Frame>),
    /// The end, or what a process left that died while it wrote: nothing after it was promised.
    End,
}

/// Reads the next frame.
pub(super) fn read(reader: &mut impl Read) -> io::Result<Next> {
    let mut head = [0; HEAD_BYTES];
    if !fill(reader, &mut head)? {
        return Ok(Next::End);
    }
    let number = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&head[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    let (length, checksum) = (number(0), number(4));
    if length > LONGEST_BODY {
        return Ok(Next::End);
    }
    let mut body = Vec::new();
    let read = reader.take(u64::from(length)).read_to_end(&mut body)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[8..]);
    hasher.update(&body);
    if read < length as usize || hasher.finalize() != checksum {
        return Ok(Next::End);
    }
    let mut key = [0; 8];
    key.copy_from_slice(&head[8..]);
    match rmp_serde::from_slice(&body) {
        Ok(write) => Ok(Next::Frame(Box::new(Frame {
            key: u64::from_le_bytes(key),
            write,
            length: HEAD_BYTES as u64 + u64::from(length),
        }))),
        // The checksum is right, so this was written by something else than Warren.
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// `false` at an end before the buffer is full.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warren_plugin_api::{Payload, Record, Timestamp, WriteMode};

    use super::*;

    fn write(payload: Vec<u8>) -> Write {
        Write {
            record: Record {
                job_id: "j".into(),
                expires_at: Some(Timestamp::MAX),
                result: Payload::from(payload),
                extra: vec![("a".into(), Payload::from("b"))],
                ..Record::default()
            },
            mode: WriteMode::Always,
        }
    }

    fn frame(mut bytes: &[u8]) -> Option<(u64, Write)> {
        match read(&mut bytes) {
            Ok(Next::Frame(frame)) => Some((frame.key, frame.write)),
            Ok(Next::End) | Err(_) => None,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(key: u64, payload: Vec<u8>) {
            let mut bytes = Vec::new();
            let length = encode(key, &write(payload.clone()), &mut bytes).unwrap();
            prop_assert_eq!(length, bytes.len());
            prop_assert_eq!(frame(&bytes), Some((key, write(payload))));
        }

        #[test]
        fn no_damage_is_taken_for_a_record(at: prop::sample::Index, change in 1u8..) {
            let mut bytes = Vec::new();
            encode(7, &write(vec![1, 2, 3]), &mut bytes).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert_eq!(frame(&bytes), None);
        }

        #[test]
        fn a_frame_that_is_cut_off_is_the_end(kept: prop::sample::Index) {
            let mut bytes = Vec::new();
            encode(7, &write(vec![1, 2, 3]), &mut bytes).unwrap();
            let kept = kept.index(bytes.len());
            let ended = matches!(read(&mut &bytes[..kept]), Ok(Next::End));
            prop_assert!(ended);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = read(&mut bytes.as_slice());
        }
    }
}
