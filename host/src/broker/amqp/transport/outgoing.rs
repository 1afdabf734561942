//! Bytes on their way to the broker: lapin's frames, and between two of them those of the outbox.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_io::AsyncWrite;

use super::super::{frame::HEAD, outlet::Outbox};

/// What lapin writes before its first frame: `AMQP` and the version.
const GREETING: usize = 8;

#[derive(Debug)]
pub(super) struct Outgoing {
    /// Whole frames from the outbox, and how much of them is written.
    own: Vec<u8>,
    own_written: usize,
    /// So many bytes of lapin's current frame are to come.
    left: usize,
    /// The beginning of lapin's next frame, while its length is not known.
    head: Vec<u8>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            own: Vec::new(),
            own_written: 0,
            left: GREETING,
            head: Vec::with_capacity(HEAD),
        }
    }
}

impl Outgoing {
    /// Writes what is in the outbox, unless lapin is in the middle of a frame. What comes into it
    /// meanwhile is written in the next call, which it asks for: lapin has its turn before.
    pub(super) fn poll_own<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
        outbox: &Outbox,
    ) -> Poll<io::Result<()>> {
        if self.left > 0 || !self.head.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_rest(context, stream))?;
        outbox.exchange(&mut self.own);
        self.own_written = 0;
        self.poll_rest(context, stream)
    }

    /// Writes the rest of what was taken from the outbox.
    pub(super) fn poll_rest<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        while self.own_written < self.own.len() {
            let rest = &self.own[self.own_written..];
            let count = ready!(Pin::new(&mut *stream).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.own_written += count;
        }
        Poll::Ready(Ok(()))
    }

    /// lapin has written the first `count` bytes of `buffers`.
    pub(super) fn note_written(&mut self, buffers: &[IoSlice<'_>], mut count: usize) {
        for buffer in buffers {
            let written = &buffer[..count.min(buffer.len())];
            count -= written.len();
            self.follow(written);
        }
    }

    fn follow(&mut self, mut written: &[u8]) {
        while !written.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(written.len());
                self.left -= passed;
                written = &written[passed..];
                continue;
            }
            let missing = (HEAD - self.head.len()).min(written.len());
            self.head.extend_from_slice(&written[..missing]);
            written = &written[missing..];
            if let Some([_, _, _, length @ ..]) = self.head.first_chunk::<HEAD>() {
                let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                self.left = length.saturating_add(1);
                self.head.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Waker};

    use super::{super::Transport, *};
    use crate::broker::amqp::{frame, outlet::Message};

    /// Takes so many bytes each second time that it is asked, and none the other times.
    struct Slow {
        written: Vec<u8>,
        at_once: usize,
        pause: bool,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.pause = !self.pause;
            if self.pause {
                return Poll::Pending;
            }
            let count = self.at_once.min(bytes.len());
            self.written.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, frame::METHOD, 1, |bytes| bytes.extend(payload));
        bytes
    }

    /// What is written when lapin writes `lapins`, is asked to flush after each piece of `piece`
    /// bytes, and `own` comes into the outbox at once.
    fn written(lapins: &[u8], own: &[u8], piece: usize, at_once: usize) -> Vec<u8> {
        let outbox = Arc::new(Outbox::default());
        outbox.open(7).unwrap();
        let messages: Arc<Vec<Message>> = Arc::default();
        drop(outbox.send(7, messages, own.to_vec()).unwrap());
        let stream = Slow {
            written: Vec::new(),
            at_once,
            pause: false,
        };
        let mut transport = Transport::new(stream, 0, outbox);
        let mut context = Context::from_waker(Waker::noop());
        let mut at = 0;
        while at < lapins.len() {
            let end = lapins.len().min(at + piece);
            let mut lapins = &lapins[at..end];
            while !lapins.is_empty() {
                if let Poll::Ready(count) =
                    Pin::new(&mut transport).poll_write(&mut context, lapins)
                {
                    lapins = &lapins[count.unwrap()..];
                }
            }
            at = end;
            while Pin::new(&mut transport)
                .poll_flush(&mut context)
                .is_pending()
            {}
        }
        std::mem::take(&mut transport.stream.written)
    }

    #[test]
    fn messages_go_out_between_two_frames_of_lapin_wherever_writing_stops() {
        let lapins = [
            &b"AMQP\0\0\x09\x01"[..],
            &frame(b"one"),
            &frame(b""),
            &frame(b"three"),
        ];
        let ends = [8, 8 + 11, 8 + 11 + 8, 8 + 11 + 8 + 13];
        let lapins = lapins.concat();
        let own = frame(&[0xCE; 50]);
        for piece in 1..=lapins.len() {
            for at_once in [1, 5, 1_000] {
                let written = written(&lapins, &own, piece, at_once);
                let place = ends
                    .into_iter()
                    .find(|end| written.get(*end..*end + own.len()) == Some(&own[..]));
                let place = place.unwrap_or_else(|| panic!("{piece} {at_once}: {written:?}"));
                let rest = [&written[..place], &written[place + own.len()..]].concat();
                assert_eq!(rest, lapins, "{piece} {at_once}");
            }
        }
    }
}
