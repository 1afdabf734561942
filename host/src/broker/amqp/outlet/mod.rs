//! The connection's way out for messages that the broker confirms.
//!
//! It goes around lapin's `basic_publish`, over a channel that lapin has opened and the stream that
//! lapin reads and writes. lapin wakes its thread for every message and makes three frames and two
//! promises of it, which costs the client as much as all else about a job. And it takes a message
//! that came back for whichever is confirmed next, while the broker confirms many at once: of the
//! messages to two queues, one of which is gone, the wrong ones would be reported as not sent.

mod message;
mod outbox;
mod unconfirmed;

use std::{collections::HashSet, sync::Arc};

use lapin::{Channel, options::ConfirmSelectOptions};
use tokio::sync::Mutex;

pub(super) use message::Message;
pub(super) use outbox::Outbox;

use super::{delay, error::on_connection};
use crate::broker::{BrokerError, QueueName};

/// A channel with confirmations, and what has been declared since it was opened.
#[derive(Debug)]
pub(super) struct Outlet {
    channel: Channel,
    outbox: Arc<Outbox>,
    frame_max: u32,
    pub(super) delay_levels: delay::Levels,
    /// Queues that delayed messages find. Held while declaring.
    pub(super) delay_targets: Mutex<HashSet<QueueName>>,
}

impl Outlet {
    /// Makes `channel`, which is new, the one that messages are sent on.
    pub(super) async fn open(
        channel: Channel,
        outbox: Arc<Outbox>,
        frame_max: u32,
    ) -> Result<Self, BrokerError> {
        tokio::select! {
            selected = channel.confirm_select(ConfirmSelectOptions::default()) => {
                selected.map_err(|error| on_connection(&error))?;
            }
            // What that means for messages, opening says.
            () = outbox.lost() => {}
        }
        outbox.open(channel.id())?;
        Ok(Self {
            channel,
            outbox,
            frame_max,
            delay_levels: delay::Levels::default(),
            delay_targets: Mutex::default(),
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.outbox.is_open(self.channel.id()) && self.channel.status().connected()
    }

    /// The longest frame, in bytes, that the broker takes; 0 for any.
    pub(super) const fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// Sends messages, and waits until the broker has them; answers in their order.
    ///
    /// # Cancel safety
    /// A dropped call may have sent its messages or not; it leaves those of others as they are.
    pub(super) async fn send(&self, messages: Arc<Vec<Message>>) -> Vec<Result<(), BrokerError>> {
        let count = messages.len();
        let sizes = messages.iter().map(|it| it.size_bytes(self.frame_max));
        let mut frames = Vec::with_capacity(sizes.sum());
        for message in &*messages {
            message.write(&mut frames, self.channel.id(), self.frame_max);
        }
        let error = match self.outbox.send(self.channel.id(), messages, frames) {
            Ok(answers) => match answers.await {
                Ok(answers) => return answers,
                Err(_) => BrokerError::Closed,
            },
            Err(error) => error,
        };
        vec![Err(error); count]
    }
}

#[cfg(test)]
mod tests;
