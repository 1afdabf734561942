//! The stream of bytes between the broker and lapin. Frames of messages are mended on their way in.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_io::{AsyncRead, AsyncWrite};

use super::readable;
use crate::job::header;

/// Type, channel and length come before a frame's payload.
const HEAD: usize = 7;
const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// What follows a frame's payload.
const END: u8 = 0xCE;
/// No frame that must be seen as a whole is longer. What claims to be is left for lapin to judge.
const LONGEST: usize = 16 * 1024 * 1024;
/// So much room is made at once for the rest of a frame, whatever length it claims to have.
const PIECE: usize = 64 * 1024;

/// Passes bytes through; of a frame that may need mending, none before its last one has come.
#[derive(Debug)]
pub(super) struct Transport<S> {
    stream: S,
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
    /// Mend it, whose length this is.
    Mend(usize),
    /// Wait until there are so many bytes.
    Wait(usize),
}

impl Frame {
    fn of(bytes: &[u8]) -> Self {
        let Some([kind, _, _, length @ ..]) = bytes.first_chunk::<HEAD>() else {
            return Self::Wait(HEAD);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let whole = length.saturating_add(HEAD + 1);
        match *kind {
            METHOD | CONTENT_HEADER if whole > LONGEST => Self::Pass(whole),
            METHOD | CONTENT_HEADER if whole > bytes.len() => Self::Wait(whole),
            METHOD | CONTENT_HEADER => Self::Mend(whole),
            BODY | HEARTBEAT => Self::Pass(whole),
            // No frame: a server that speaks another version says so, and hangs up.
            _ => Self::Pass(usize::MAX),
        }
    }
}

impl<S> Transport<S> {
    /// `frame_max` is what lapin asks the broker for; 0 for no limit.
    pub(super) fn new(stream: S, frame_max: u32) -> Self {
        Self {
            stream,
            frame_max: usize::try_from(frame_max).unwrap_or(usize::MAX),
            passing: 0,
            held: Vec::new(),
            whole: Vec::new(),
            handed_on: 0,
        }
    }

    /// Mends the frames in `bytes`, moves together what is left of them, and returns how much that
    /// is. Keeps the beginning of a frame that is not whole.
    fn sift(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut end) = (0, 0);
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            let (taken, left) = if self.passing > 0 {
                let passed = self.passing.min(rest.len());
                self.passing -= passed;
                (passed, passed)
            } else {
                match Frame::of(rest) {
                    Frame::Pass(whole) => {
                        self.passing = whole;
                        continue;
                    }
                    Frame::Mend(whole) => (whole, self.mend(&mut rest[..whole])),
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

    /// Mends a whole frame, and returns how long it is now.
    fn mend(&mut self, frame: &mut [u8]) -> usize {
        let [kind, _, _, length @ .., END] = frame else {
            // lapin closes the connection: from here on nothing says where a frame begins.
            return frame.len();
        };
        let Some((length, payload)) = length.split_first_chunk_mut::<4>() else {
            return frame.len();
        };
        if *kind == METHOD {
            self.note_frame_max(payload);
            readable::mend_method(payload);
            return frame.len();
        }
        let came = payload.len();
        let mut left = readable::mend_content_header(payload);
        let most = self.longest_payload();
        if left > most {
            left = readable::shorten(&mut payload[..left], most, header::is_known);
        }
        if left == came {
            return frame.len();
        }
        tracing::warn!(
            bytes = came - left,
            "left out headers of a message that cannot be read or do not fit into a frame"
        );
        *length = u32::try_from(left).unwrap_or(u32::MAX).to_be_bytes();
        frame[HEAD + left] = END;
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

    fn longest_payload(&self) -> usize {
        match self.frame_max {
            0 => usize::MAX,
            limit => limit.saturating_sub(HEAD + 1),
        }
    }

    /// Copies what is whole into `buffer`; `None` when there is none.
    fn hand_on(&mut self, buffer: &mut [u8]) -> Option<usize> {
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
}

impl<S: AsyncRead + Unpin> Transport<S> {
    /// Reads more of the frame that is held. Returns how much has come: 0 at the stream's end.
    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.held.len();
        if let Frame::Wait(wanted) = Frame::of(&self.held) {
            self.held.resize(wanted.min(before + PIECE), 0);
        }
        let read = Pin::new(&mut self.stream).poll_read(context, &mut self.held[before..]);
        let count = match &read {
            Poll::Ready(Ok(count)) => *count,
            _ => 0,
        };
        self.held.truncate(before + count);
        if !matches!(Frame::of(&self.held), Frame::Wait(_)) {
            let mut whole = std::mem::take(&mut self.held);
            let left = self.sift(&mut whole);
            whole.truncate(left);
            self.whole = whole;
        }
        read
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            if let Some(count) = this.hand_on(buffer) {
                return Poll::Ready(Ok(count));
            }
            if !this.held.is_empty() {
                if ready!(this.poll_held(context))? == 0 {
                    return Poll::Ready(Ok(0));
                }
                continue;
            }
            let count = ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let left = this.sift(&mut buffer[..count]);
            // Nothing left, of something, must not look like the end of the stream.
            if left > 0 || count == 0 {
                return Poll::Ready(Ok(left));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1][..], &length, payload, &[END]].concat()
    }

    /// A content header with one header, whose name is not UTF-8, and `more` in its table.
    fn content_header(name: &[u8], more: &[u8]) -> Vec<u8> {
        let table = [&[4][..], name, b"t\x01", more].concat();
        let length = u32::try_from(table.len()).unwrap().to_be_bytes();
        let header = [
            &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0x20, 0][..],
            &length,
            &table,
        ];
        frame(CONTENT_HEADER, &header.concat())
    }

    /// A delivery, in frames as they come and as they are handed on.
    fn delivery() -> (Vec<u8>, Vec<u8>) {
        let deliver = |key: &[u8]| {
            let start = [&[0, 60, 0, 60, 0][..], &[0; 9], &[0, 4], key];
            frame(METHOD, &start.concat())
        };
        let body = frame(BODY, &[CONTENT_HEADER, END, b'x']);
        let heartbeat = frame(HEARTBEAT, &[]);
        let came = [
            &deliver(b"k\xffey")[..],
            // What has no readable end makes the frame shorter.
            &content_header(b"na\xfee", b"\x03bad?"),
            &body,
            &heartbeat,
        ];
        let read = [
            &deliver(b"k?ey")[..],
            &content_header(b"na?e", b""),
            &body,
            &heartbeat,
        ];
        (came.concat(), read.concat())
    }

    /// Gives its pieces one at a time, and between two of them says once that there is nothing.
    struct Pieces {
        pieces: Vec<Vec<u8>>,
        pause: bool,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.pause = !self.pause;
            if self.pause {
                return Poll::Pending;
            }
            let Some(piece) = self.pieces.first_mut() else {
                return Poll::Ready(Ok(0));
            };
            let count = piece.len().min(buffer.len());
            buffer[..count].copy_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.pieces.remove(0);
            }
            Poll::Ready(Ok(count))
        }
    }

    fn read_all(pieces: Vec<Vec<u8>>, frame_max: u32, at_once: usize) -> Vec<u8> {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
        let stream = Pieces {
            pieces: pieces.collect(),
            pause: false,
        };
        let mut transport = Transport::new(stream, frame_max);
        let mut context = Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        let mut buffer = vec![0; at_once];
        loop {
            match Pin::new(&mut transport).poll_read(&mut context, &mut buffer) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => return read,
                Poll::Ready(Ok(count)) => read.extend_from_slice(&buffer[..count]),
                Poll::Ready(Err(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn frames_are_mended_wherever_they_are_split() {
        let (came, read) = delivery();
        let twice = came.repeat(2);
        for split in 0..=twice.len() {
            for at_once in [1, 13, 4_096] {
                let pieces = vec![twice[..split].to_vec(), twice[split..].to_vec()];
                assert_eq!(read_all(pieces, 0, at_once), read.repeat(2), "at {split}");
            }
        }
        let bytes = twice.iter().map(|byte| vec![*byte]).collect();
        assert_eq!(read_all(bytes, 0, 4_096), read.repeat(2));
    }

    #[test]
    fn what_is_no_frame_is_left_to_lapin() {
        let (came, read) = delivery();
        let garbage = [&came[..], b"AMQP\0\0\x09\x01", &came].concat();
        let left = [&read[..], b"AMQP\0\0\x09\x01", &came].concat();
        assert_eq!(read_all(vec![garbage], 0, 64), left);
        let mut no_end = content_header(b"na\xfee", b"");
        *no_end.last_mut().unwrap() = 0;
        assert_eq!(read_all(vec![no_end.clone()], 0, 64), no_end);
        let endless = [&[CONTENT_HEADER, 0, 1, 255, 255, 255, 255], &came[..]].concat();
        assert_eq!(read_all(vec![endless.clone()], 0, 64), endless);
    }

    #[test]
    fn a_frame_that_never_ends_takes_no_room_before_it_has_come() {
        let longest = u32::try_from(LONGEST - HEAD - 1).unwrap().to_be_bytes();
        let stream = Pieces {
            pieces: vec![[&[CONTENT_HEADER, 0, 1][..], &longest].concat()],
            pause: false,
        };
        let mut transport = Transport::new(stream, 0);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..4 {
            let _ = Pin::new(&mut transport).poll_read(&mut context, &mut [0; 64]);
        }
        assert!(transport.held.capacity() <= 2 * PIECE);
    }

    #[test]
    fn a_content_header_fits_into_the_frames_that_were_agreed_on() {
        let long = [&b"\x04longS\0\0\x10\0"[..], &[b'x'; 4_096]].concat();
        let came = content_header(b"name", &long);
        let short = content_header(b"name", b"");
        let fits = u32::try_from(came.len()).unwrap();
        for (frame_max, read) in [
            (0, &came),
            (fits, &came),
            (fits - 1, &short),
            (4_096, &short),
        ] {
            assert_eq!(&read_all(vec![came.clone()], frame_max, 64), read);
            let asked = [
                &[0, 10, 0, 30, 0, 0][..],
                &frame_max.to_be_bytes(),
                &[0, 60],
            ]
            .concat();
            let tune = frame(METHOD, &asked);
            for ours in [0, 131_072] {
                let pieces = vec![tune.clone(), came.clone()];
                assert_eq!(read_all(pieces, ours, 64)[tune.len()..], read[..]);
            }
        }
    }
}
