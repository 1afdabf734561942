//! Bytes on their way from the broker. Of a frame that may need mending, or that is not for lapin,
//! none is handed on before its last one has come.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_io::AsyncRead;

use super::super::{
    frame::{self, BODY, CONTENT_HEADER, END, HEAD, HEARTBEAT, METHOD},
    outlet::Outbox,
    readable,
};
use crate::job::header;

/// What lapin reads in place of frames that are not for it: that the broker is there.
const SIGN_OF_LIFE: [u8; frame::OVERHEAD] = [HEARTBEAT, 0, 0, 0, 0, 0, 0, END];
/// No frame that must be seen as a whole is longer. What claims to be is left for lapin to judge.
const LONGEST: usize = 16 * 1024 * 1024;
/// So much room is made at once for the rest of a frame, whatever length it claims to have.
const PIECE: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The longest frame that lapin takes; 0 for any.
    frame_max: usize,
    /// So many bytes more are passed through without being looked at.
    passing: usize,
    /// The beginning of a frame, while the rest has not come yet.
    held: Vec<u8>,
    /// What was held before and is whole, and how much of it has been handed on.
    whole: Vec<u8>,
    handed_on: usize,
}

/// What to do with a frame.
enum Frame {
    /// Pass so many bytes through.
    Pass(usize),
    /// Look at it as a whole: its length.
    Whole(usize),
    /// Wait until there are so many bytes.
    Wait(usize),
}

impl Frame {
    /// `own` is the channel of the outbox.
    fn of(bytes: &[u8], own: Option<u16>) -> Self {
        let Some([kind, high, low, length @ ..]) = bytes.first_chunk::<HEAD>() else {
            return Self::Wait(HEAD);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let whole = length.saturating_add(frame::OVERHEAD);
        let is_own = own == Some(u16::from_be_bytes([*high, *low]));
        match *kind {
            BODY | HEARTBEAT if !is_own => Self::Pass(whole),
            METHOD | CONTENT_HEADER | BODY if whole > LONGEST => Self::Pass(whole),
            METHOD | CONTENT_HEADER | BODY if whole > bytes.len() => Self::Wait(whole),
            METHOD | CONTENT_HEADER | BODY => Self::Whole(whole),
            // No frame: a server that speaks another version says so, and hangs up.
            _ => Self::Pass(usize::MAX),
        }
    }
}

impl Incoming {
    pub(super) fn new(frame_max: u32) -> Self {
        Self {
            frame_max: usize::try_from(frame_max).unwrap_or(usize::MAX),
            ..Self::default()
        }
    }

    /// Looks at the frames in `bytes`, moves together what is left of them, and returns how much
    /// that is. Keeps the beginning of a frame that is not whole.
    pub(super) fn sift(&mut self, bytes: &mut [u8], outbox: &Outbox) -> usize {
        let (mut at, mut end) = (0, 0);
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            let (taken, left) = if self.passing > 0 {
                let passed = self.passing.min(rest.len());
                self.passing -= passed;
                (passed, passed)
            } else {
                match Frame::of(rest, outbox.channel()) {
                    Frame::Pass(whole) => {
                        self.passing = whole;
                        continue;
                    }
                    Frame::Whole(whole) => (whole, self.take(&mut rest[..whole], outbox)),
                    Frame::Wait(_) => {
                        self.held.extend_from_slice(rest);
                        break;
                    }
                }
            };
            if end < at {
                bytes.copy_within(at..at + left, end);
            }
            at += taken;
            end += left;
        }
        end
    }

    /// Mends a whole frame, or replaces it by a sign of life if it was for the outbox; returns how
    /// long it is now.
    fn take(&mut self, frame: &mut [u8], outbox: &Outbox) -> usize {
        let [kind, high, low, length @ .., END] = frame else {
            // lapin closes the connection: from here on nothing says where a frame begins.
            return frame.len();
        };
        let Some((_, payload)) = length.split_first_chunk_mut::<4>() else {
            return frame.len();
        };
        let channel = u16::from_be_bytes([*high, *low]);
        let kind = *kind;
        if kind == METHOD {
            self.note_frame_max(payload);
            readable::mend_method(payload);
            note_state(channel, payload, outbox);
        }
        if outbox.channel() == Some(channel) && is_for_outbox(kind, payload, outbox) {
            frame[..SIGN_OF_LIFE.len()].copy_from_slice(&SIGN_OF_LIFE);
            return SIGN_OF_LIFE.len();
        }
        match kind {
            CONTENT_HEADER => self.mend_content_header(frame),
            _ => frame.len(),
        }
    }

    fn mend_content_header(&self, bytes: &mut [u8]) -> usize {
        let came = bytes.len() - frame::OVERHEAD;
        let payload = &mut bytes[HEAD..HEAD + came];
        let mut left = readable::mend_content_header(payload);
        let most = frame::longest_payload(self.frame_max);
        if left > most {
            left = readable::shorten(&mut payload[..left], most, header::is_known);
        }
        if left == came {
            return bytes.len();
        }
        tracing::warn!(
            bytes = came - left,
            "left out headers of a message that cannot be read or do not fit into a frame"
        );
        let length = u32::try_from(left).unwrap_or(u32::MAX).to_be_bytes();
        bytes[HEAD - length.len()..HEAD].copy_from_slice(&length);
        bytes[HEAD + left] = END;
        HEAD + left + 1
    }

    /// The broker may allow less than it was asked for: `connection.tune`.
    fn note_frame_max(&mut self, method: &[u8]) {
        let Some([0, 10, 0, 30, _, _, frame_max @ ..]) = method.first_chunk::<10>() else {
            return;
        };
        let theirs = usize::try_from(u32::from_be_bytes(*frame_max)).unwrap_or(usize::MAX);
        if theirs > 0 && (self.frame_max == 0 || theirs < self.frame_max) {
            self.frame_max = theirs;
        }
    }

    /// Copies what is whole into `buffer`; `None` when there is none.
    pub(super) fn hand_on(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let rest = self.whole.get(self.handed_on..)?;
        if rest.is_empty() {
            return None;
        }
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.handed_on += count;
        if self.handed_on == self.whole.len() {
            self.whole = Vec::new();
            self.handed_on = 0;
        }
        Some(count)
    }

    pub(super) const fn holds_some(&self) -> bool {
        !self.held.is_empty()
    }

    /// Reads more of the frame that is held. Returns how much has come: 0 at the stream's end.
    pub(super) fn poll_held<S: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
        outbox: &Outbox,
    ) -> Poll<io::Result<usize>> {
        let before = self.held.len();
        if let Frame::Wait(wanted) = Frame::of(&self.held, outbox.channel()) {
            self.held.resize(wanted.min(before + PIECE), 0);
        }
        let read = Pin::new(stream).poll_read(context, &mut self.held[before..]);
        let count = match &read {
            Poll::Ready(Ok(count)) => *count,
            _ => 0,
        };
        self.held.truncate(before + count);
        if !matches!(Frame::of(&self.held, outbox.channel()), Frame::Wait(_)) {
            let mut whole = std::mem::take(&mut self.held);
            let left = self.sift(&mut whole, outbox);
            whole.truncate(left);
            self.whole = whole;
        }
        read
    }
}

/// Tells the outbox what a method says about its channel or the connection; lapin reads it too.
fn note_state(channel: u16, method: &[u8], outbox: &Outbox) {
    let is_own = outbox.channel() == Some(channel);
    match method {
        // connection.close, channel.close: code, text.
        [0, 10, 0, 50, code @ ..] => close(code, outbox),
        [0, 20, 0, 40, code @ ..] if is_own => close(code, outbox),
        // connection.blocked, connection.unblocked, channel.flow.
        [0, 10, 0, 60, ..] => outbox.set_blocked(true),
        [0, 10, 0, 61, ..] => outbox.set_blocked(false),
        [0, 20, 0, 20, is_active, ..] if is_own => outbox.set_paused(is_active & 1 == 0),
        _ => {}
    }
}

fn close(arguments: &[u8], outbox: &Outbox) {
    let Some(code) = arguments.first_chunk() else {
        return;
    };
    let text = readable::short_string(arguments, code.len(), arguments.len());
    let text = text.map_or(&[][..], |text| &arguments[text]);
    outbox.close(u16::from_be_bytes(*code), &String::from_utf8_lossy(text));
}

/// Gives the outbox a frame of its channel; `false` when it is for lapin.
fn is_for_outbox(kind: u8, payload: &[u8], outbox: &Outbox) -> bool {
    match (kind, payload) {
        (METHOD, [0, 60, 0, method, rest @ ..]) => match method {
            // basic.ack: tag, whether all up to it. basic.nack has that in the same place.
            80 | 120 => confirm(rest, *method == 80, outbox).is_some(),
            // basic.return: code, text, exchange, routing key.
            50 => begin_return(rest, outbox).is_some(),
            _ => false,
        },
        // Class and weight, then how long the body is.
        (CONTENT_HEADER, [_, _, _, _, rest @ ..]) => rest
            .first_chunk::<8>()
            .map(|length| outbox.return_header(u64::from_be_bytes(*length)))
            .is_some(),
        (BODY, part) => {
            outbox.return_body(part);
            true
        }
        _ => false,
    }
}

fn confirm(arguments: &[u8], is_taken: bool, outbox: &Outbox) -> Option<()> {
    let (tag, rest) = arguments.split_first_chunk::<8>()?;
    let and_before = rest.first()? & 1 == 1;
    outbox.confirm(u64::from_be_bytes(*tag), and_before, is_taken);
    Some(())
}

fn begin_return(arguments: &[u8], outbox: &Outbox) -> Option<()> {
    // A code comes before.
    const REASON: usize = 2;
    let text = |at| readable::short_string(arguments, at, arguments.len());
    let reason = text(REASON)?;
    let exchange = text(reason.end)?;
    let routing_key = text(exchange.end)?;
    outbox.begin_return(
        &arguments[reason],
        &arguments[exchange],
        &arguments[routing_key],
    );
    Some(())
}

#[cfg(test)]
mod tests;
