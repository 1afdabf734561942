//! Completions, pushed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{sync::watch, task::JoinSet, time};
use warren_plugin_api::{CompletionSink, ErrorClass, Record, Status, StoreError, StoreResult};

use crate::{
    address::Address, config::RedisConfig, decode::decode, error::store_error, keys::Keys,
};

/// How often a silent server is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// What it takes to listen on a connection of its own.
pub(crate) struct Listener {
    pub(crate) address: Address,
    pub(crate) config: RedisConfig,
    pub(crate) keys: Keys,
    pub(crate) closed: watch::Receiver<bool>,
}

impl Listener {
    /// Listens until the connection is lost or the store closed.
    ///
    /// A task does it on the thread that reads the connection, so that a word is passed on by who
    /// has received it and not by a thread that is woken for it.
    ///
    /// # Cancel safety
    /// Dropping the call ends the task; the sink is told nothing more.
    pub(crate) async fn listen(self, sink: CompletionSink) -> StoreResult<()> {
        let sink = Arc::new(Mutex::new(Some(sink)));
        let _silenced_when_dropped = Silence(Arc::clone(&sink));
        let mut task = JoinSet::new();
        task.spawn(self.run(sink));
        match task.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => Err(StoreError::internal(format!("listening failed: {error}"))),
            None => Err(closed_error()),
        }
    }

    async fn run(mut self, sink: SharedSink) -> StoreResult<()> {
        let (address, config) = (&self.address, &self.config);
        let closed = &mut self.closed;
        let subscribed = async {
            let client = address.resp2_client()?;
            let described = |error| store_error(&error, address);
            let mut pubsub = client.get_async_pubsub().await.map_err(described)?;
            let channel = self.keys.channel();
            pubsub.subscribe(channel).await.map_err(described)?;
            StoreResult::Ok(pubsub)
        };
        let silent = |what: &str| {
            StoreError::unavailable(format!("Redis at {address} did not {what} in time"))
        };
        let subscribed = tokio::select! {
            subscribed = time::timeout(config.connect_timeout, subscribed) => subscribed,
            () = is_closed(closed) => return Err(closed_error()),
        };
        let (mut questions, mut messages) = subscribed
            .map_err(|_| silent("confirm the subscription"))??
            .split();
        tell(&sink, CompletionSink::ready);
        let mut pings = time::interval_at(time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => tell(&sink, |sink| {
                        announce(message.get_payload_bytes(), sink);
                    }),
                    None => return Err(lost(address, "the connection ended")),
                },
                _ = pings.tick() => {
                    let pong = questions.ping::<redis::Value>();
                    match time::timeout(config.response_timeout, pong).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => return Err(lost(address, &error.to_string())),
                        Err(_) => return Err(lost(address, "it does not answer")),
                    }
                }
                () = is_closed(closed) => return Err(closed_error()),
            }
        }
    }
}

/// `None` once nobody is to be told any more.
type SharedSink = Arc<Mutex<Option<CompletionSink>>>;

fn tell(sink: &SharedSink, what: impl FnOnce(&CompletionSink)) {
    // The host's side does not panic.
    let sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sink) = &*sink {
        what(sink);
    }
}

/// When this is dropped nothing more is told, and nothing is being told.
struct Silence(SharedSink);

impl Drop for Silence {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn is_closed(closed: &mut watch::Receiver<bool>) {
    // An error means that the store is gone, which is as good as closed.
    let _ = closed.wait_for(|closed| *closed).await;
}

fn closed_error() -> StoreError {
    StoreError::unavailable("the store was closed")
}

fn lost(address: &Address, why: &str) -> StoreError {
    StoreError::new(
        ErrorClass::Unavailable,
        format!("the subscription to Redis at {address} is lost: {why}"),
    )
}

/// A job that has ended, as a script publishes it: `<status>:<length of id>:<id>:<length of
/// record>:<record>`, any number of times. A record of no bytes was too large to go along.
struct Ending<'a> {
    status: Status,
    job_id: &'a str,
    record: &'a [u8],
}

fn announce(message: &[u8], sink: &CompletionSink) {
    let mut rest = message;
    while let Some((ending, after)) = next_ending(rest) {
        match ending.wanted_record(sink) {
            Some(record) => sink.completed_with(record),
            None => sink.completed(ending.job_id.into(), ending.status),
        }
        rest = after;
    }
}

impl Ending<'_> {
    /// What cannot be read here is read again, and reported, by whoever waits for it.
    fn wanted_record(&self, sink: &CompletionSink) -> Option<Record> {
        if self.record.is_empty() || !sink.wants_record(self.job_id) {
            return None;
        }
        decode(self.record.to_vec()).ok()
    }
}

fn next_ending(message: &[u8]) -> Option<(Ending<'_>, &[u8])> {
    let (status, rest) = until_colon(message)?;
    let (job_id, rest) = sized(rest)?;
    let (record, rest) = sized(rest.strip_prefix(b":")?)?;
    let ending = Ending {
        status: status.parse().ok()?,
        job_id: std::str::from_utf8(job_id).ok()?,
        record,
    };
    Some((ending, rest))
}

/// `<length>:<bytes>`, and what follows.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = until_colon(bytes)?;
    rest.split_at_checked(length.parse().ok()?)
}

fn until_colon(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().take(24).position(|byte| *byte == b':')?;
    let (text, rest) = bytes.split_at_checked(end)?;
    Some((std::str::from_utf8(text).ok()?, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_many_endings_of_any_id() {
        let message = "completed:3:a:b:2:{}failed:0::0:aborted:4:é中:0:".as_bytes();
        // The last id is cut short: it has five bytes.
        let (ending, rest) = next_ending(message).unwrap();
        assert_eq!(
            (ending.status, ending.job_id, ending.record),
            (Status::Completed, "a:b", &b"{}"[..])
        );
        let (ending, rest) = next_ending(rest).unwrap();
        assert_eq!(
            (ending.status, ending.job_id, ending.record),
            (Status::Failed, "", &b""[..])
        );
        assert!(next_ending(rest).is_none());
    }

    #[test]
    fn anybody_else_s_message_is_ignored() {
        for message in [
            "",
            "hello",
            "done:1:a:0:",
            "completed:9:a:0:",
            "completed:x:a:0:",
            "completed:1:a",
            "completed:1:a:5:{}",
            ":::",
        ] {
            assert!(next_ending(message.as_bytes()).is_none(), "{message}");
        }
    }
}
