//! AMQP's frames: what both ways over the stream have in common.
//!
//! Format: AMQP 0-9-1, section 2.3.5.

pub(super) const METHOD: u8 = 1;
pub(super) const CONTENT_HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;

/// Type, channel and length come before a frame's payload.
pub(super) const HEAD: usize = 7;
/// What follows a frame's payload.
pub(super) const END: u8 = 0xCE;
/// A frame's bytes beside its payload.
pub(super) const OVERHEAD: usize = HEAD + 1;

/// The longest payload in frames of `frame_max` bytes; 0 is any length.
pub(super) fn longest_payload(frame_max: usize) -> usize {
    match frame_max {
        0 => usize::MAX,
        limit => limit.saturating_sub(OVERHEAD).max(1),
    }
}

/// Appends a frame, whose payload is what `payload` appends.
pub(super) fn append(
    bytes: &mut Vec<u8>,
    kind: u8,
    channel: u16,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    bytes.push(kind);
    bytes.extend(channel.to_be_bytes());
    let length_at = bytes.len();
    bytes.extend([0; 4]);
    let start = bytes.len();
    payload(bytes);
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    bytes[length_at..start].copy_from_slice(&length.to_be_bytes());
    bytes.push(END);
}
