//! The stream of bytes between the broker and lapin: frames of messages are mended on their way in,
//! and those of the [outlet](super::outlet) go past lapin, both ways.

mod incoming;
mod outgoing;
mod wakers;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_io::{AsyncRead, AsyncWrite};

use super::outlet::Outbox;
use incoming::Incoming;
use outgoing::Outgoing;
use wakers::Wakers;

/// lapin's stream.
#[derive(Debug)]
pub(super) struct Transport<S> {
    stream: S,
    incoming: Incoming,
    outgoing: Outgoing,
    outbox: Arc<Outbox>,
    wakers: Wakers,
}

impl<S> Transport<S> {
    /// `frame_max` is what lapin asks the broker for; 0 for no limit.
    pub(super) fn new(stream: S, frame_max: u32, outbox: Arc<Outbox>) -> Self {
        outbox.begin();
        Self {
            stream,
            incoming: Incoming::new(frame_max),
            outgoing: Outgoing::default(),
            outbox,
            wakers: Wakers::default(),
        }
    }
}

impl<S> Drop for Transport<S> {
    fn drop(&mut self) {
        self.outbox.lose();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(reader) = this.wakers.note_reader(context.waker()) {
            this.outbox.set_writer(reader);
        }
        loop {
            if let Some(count) = this.incoming.hand_on(buffer) {
                return Poll::Ready(Ok(count));
            }
            if this.incoming.holds_some() {
                let held = this
                    .incoming
                    .poll_held(context, &mut this.stream, &this.outbox);
                if ready!(held)? == 0 {
                    return Poll::Ready(Ok(0));
                }
                continue;
            }
            let count = ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let left = this.incoming.sift(&mut buffer[..count], &this.outbox);
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
        self.poll_write_vectored(context, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let both = this.wakers.with_reader(context.waker());
        let mut rest = Context::from_waker(&both);
        ready!(this.outgoing.poll_rest(&mut rest, &mut this.stream))?;
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, buffers);
        let count = ready!(written)?;
        this.outgoing.note_written(buffers, count);
        Poll::Ready(Ok(count))
    }

    /// lapin calls this whenever its thread is woken.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let both = this.wakers.with_reader(context.waker());
        let mut own = Context::from_waker(&both);
        let own = this
            .outgoing
            .poll_own(&mut own, &mut this.stream, &this.outbox);
        ready!(own)?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(context)
    }
}
