//! What the senders of messages and the stream of a connection share: the frames that are to be
//! written, and the messages that are not confirmed yet.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    task::Waker,
};

use lapin::{ErrorKind, protocol::AMQPError};
use tokio::sync::{oneshot, watch};

use super::{
    super::error::on_connection,
    message::Message,
    unconfirmed::{Answers, Returned, Unconfirmed},
};
use crate::broker::BrokerError;

/// A buffer that has grown beyond this is not kept for the next frames.
const LARGEST_KEPT: usize = 256 * 1024;
/// The channel of the connection itself, which no messages are sent on.
const NONE: u16 = 0;

/// One for each connection.
#[derive(Debug, Default)]
pub(in super::super) struct Outbox {
    /// The channel that messages are sent on. Read for each frame that comes, without the lock.
    channel: AtomicU16,
    /// There is no connection any more.
    is_lost: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whole frames.
    frames: Vec<u8>,
    /// Of the thread that writes. None before it reads for the first time.
    writer: Option<Waker>,
    /// The broker takes no messages on this connection for now.
    is_blocked: bool,
    /// Nor on this channel.
    is_paused: bool,
    unconfirmed: Unconfirmed,
    returning: Option<Returning>,
}

/// A message that is coming back, in frames.
#[derive(Debug)]
struct Returning {
    message: Returned,
    /// So many bytes of its body have not come yet; unknown before its second frame.
    missing: Option<u64>,
}

impl Outbox {
    /// There is a connection. lapin makes another one when the first is lost while it is greeted.
    pub(in super::super) fn begin(&self) {
        self.is_lost.send_replace(false);
    }

    /// Whether the connection is no more. lapin notices that later: what it is asked in between it
    /// never answers.
    pub(in super::super) fn is_lost(&self) -> bool {
        *self.is_lost.borrow()
    }

    /// Until the connection is no more.
    pub(in super::super) async fn lost(&self) {
        // It ends in an error only with its sender, which this has.
        let _ = self.is_lost.subscribe().wait_for(|is_lost| *is_lost).await;
    }

    /// From now on messages are sent on `channel`, which has confirmations and is used for nothing
    /// else.
    ///
    /// # Errors
    /// The connection was lost.
    pub(in super::super) fn open(&self, channel: u16) -> Result<(), BrokerError> {
        let _state = self.lock();
        if self.is_lost() {
            return Err(lost());
        }
        self.channel.store(channel, Ordering::Release);
        Ok(())
    }

    /// Whether messages can be sent on `channel`.
    pub(super) fn is_open(&self, channel: u16) -> bool {
        self.channel() == Some(channel)
    }

    /// The channel that messages are sent on.
    pub(in super::super) fn channel(&self) -> Option<u16> {
        let channel = self.channel.load(Ordering::Acquire);
        (channel != NONE).then_some(channel)
    }

    /// Sends messages, whose frames these are.
    ///
    /// # Errors
    /// The channel is not open any more: nothing was sent.
    pub(in super::super) fn send(
        &self,
        channel: u16,
        messages: Arc<Vec<Message>>,
        frames: Vec<u8>,
    ) -> Result<oneshot::Receiver<Answers>, BrokerError> {
        let mut state = self.lock();
        if !self.is_open(channel) {
            return Err(lost());
        }
        let answers = state.unconfirmed.add(messages);
        let was_empty = state.frames.is_empty();
        if was_empty {
            state.frames = frames;
        } else {
            state.frames.extend_from_slice(&frames);
        }
        // Whoever was woken for what is there already writes this too.
        let writer = state.writer_to_wake().filter(|_| was_empty);
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(answers)
    }

    /// Whom to wake when there is something to be written.
    pub(in super::super) fn set_writer(&self, writer: Waker) {
        self.lock().writer = Some(writer);
    }

    /// Exchanges what was `written` for what is to be written next: nothing, or whole frames.
    pub(in super::super) fn exchange(&self, written: &mut Vec<u8>) {
        written.clear();
        if written.capacity() > LARGEST_KEPT {
            *written = Vec::new();
        }
        let mut state = self.lock();
        if state.may_write() {
            std::mem::swap(&mut state.frames, written);
        }
    }

    /// The broker takes no messages on the connection for now, or takes them again.
    pub(in super::super) fn set_blocked(&self, is_blocked: bool) {
        self.hold(|state| state.is_blocked = is_blocked);
    }

    /// The broker takes no messages on the channel for now, or takes them again.
    pub(in super::super) fn set_paused(&self, is_paused: bool) {
        self.hold(|state| state.is_paused = is_paused);
    }

    fn hold(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let writer = state.writer_to_wake();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// The broker has, or has not, taken the message with this tag; all up to it if `and_before`.
    pub(in super::super) fn confirm(&self, tag: u64, and_before: bool, is_taken: bool) {
        let mut state = self.lock();
        if and_before {
            state.unconfirmed.confirm_up_to(tag, is_taken);
        } else {
            state.unconfirmed.confirm(tag, is_taken);
        }
    }

    /// A message begins to come back.
    pub(in super::super) fn begin_return(&self, reason: &[u8], exchange: &[u8], key: &[u8]) {
        self.lock().returning = Some(Returning {
            message: Returned {
                reason: String::from_utf8_lossy(reason).into_owned(),
                exchange: exchange.to_vec(),
                routing_key: key.to_vec(),
                body: Vec::new(),
            },
            missing: None,
        });
    }

    /// The message that is coming back has a body of so many bytes.
    pub(in super::super) fn return_header(&self, body_bytes: u64) {
        let mut state = self.lock();
        if let Some(returning) = &mut state.returning {
            returning.missing = Some(body_bytes);
        }
        state.end_return();
    }

    /// A part of the body of the message that is coming back.
    pub(in super::super) fn return_body(&self, part: &[u8]) {
        let mut state = self.lock();
        if let Some(returning) = &mut state.returning {
            let missing = returning.missing.unwrap_or(0);
            returning.missing = Some(missing.saturating_sub(part.len() as u64));
            returning.message.body.extend_from_slice(part);
        }
        state.end_return();
    }

    /// The broker has closed the channel, or the whole connection: what is not confirmed may have
    /// been taken or not.
    pub(in super::super) fn close(&self, code: u16, text: &str) {
        let error = match AMQPError::from_id(code, text.into()) {
            Some(error) => on_connection(&ErrorKind::ProtocolError(error).into()),
            None => BrokerError::Unavailable {
                reason: text.to_owned(),
            },
        };
        self.end(&error);
    }

    /// The connection is no more.
    pub(in super::super) fn lose(&self) {
        self.is_lost.send_replace(true);
        self.end(&lost());
    }

    fn end(&self, error: &BrokerError) {
        let mut state = self.lock();
        self.channel.store(NONE, Ordering::Release);
        // What is being written already goes out whole: frames must not end in the middle.
        state.frames = Vec::new();
        state.returning = None;
        state.is_paused = false;
        let unconfirmed = std::mem::take(&mut state.unconfirmed);
        drop(state);
        unconfirmed.end(error);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn may_write(&self) -> bool {
        !self.is_blocked && !self.is_paused
    }

    fn writer_to_wake(&self) -> Option<Waker> {
        self.writer.clone().filter(|_| self.may_write())
    }

    fn end_return(&mut self) {
        let is_whole = |returning: &mut Returning| returning.missing == Some(0);
        if let Some(returned) = self.returning.take_if(is_whole)
            && !self.unconfirmed.mark_returned(&returned.message)
        {
            tracing::warn!("the broker returned a message that was not under way");
        }
    }
}

fn lost() -> BrokerError {
    BrokerError::Unavailable {
        reason: "the connection was lost".to_owned(),
    }
}
