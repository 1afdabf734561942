//! Completions, pushed.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::{sync::watch, time};
use warren_plugin_api::{CompletionSink, ErrorClass, Status, StoreError, StoreResult, Text};

use crate::{address::Address, config::RedisConfig, error::store_error, keys::Keys};

/// How often a silent server is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Listens on a connection of its own until that is lost or the store closed.
pub(crate) async fn listen(
    address: &Address,
    config: &RedisConfig,
    keys: &Keys,
    closed: &mut watch::Receiver<bool>,
    sink: &CompletionSink,
) -> StoreResult<()> {
    let subscribed = async {
        let client = address.resp2_client()?;
        let described = |error| store_error(&error, address);
        let mut pubsub = client.get_async_pubsub().await.map_err(described)?;
        pubsub.subscribe(keys.channel()).await.map_err(described)?;
        StoreResult::Ok(pubsub)
    };
    let silent =
        |what: &str| StoreError::unavailable(format!("Redis at {address} did not {what} in time"));
    let subscribed = tokio::select! {
        subscribed = time::timeout(config.connect_timeout, subscribed) => subscribed,
        () = is_closed(closed) => return Err(closed_error()),
    };
    let (mut questions, mut messages) = subscribed
        .map_err(|_| silent("confirm the subscription"))??
        .split();
    sink.ready();
    let mut pings = time::interval_at(time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => announce(message.get_payload_bytes(), sink),
                None => return Err(lost(address, "the connection ended")),
            },
            _ = pings.tick() => {
                match time::timeout(config.response_timeout, questions.ping::<redis::Value>()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Err(lost(address, &error.to_string())),
                    Err(_) => return Err(lost(address, "it does not answer")),
                }
            }
            () = is_closed(closed) => return Err(closed_error()),
        }
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

/// Passes on what a script published: `<status>:<length of id>:<id>`, any number of times.
fn announce(message: &[u8], sink: &CompletionSink) {
    let mut rest = message;
    while let Some((status, job_id, after)) = next_completion(rest) {
        sink.completed(job_id, status);
        rest = after;
    }
}

fn next_completion(message: &[u8]) -> Option<(Status, Text, &[u8])> {
    let (status, rest) = until_colon(message)?;
    let (length, rest) = until_colon(rest)?;
    let (job_id, rest) = rest.split_at_checked(length.parse().ok()?)?;
    let job_id = std::str::from_utf8(job_id).ok()?;
    Some((status.parse().ok()?, job_id.into(), rest))
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
    fn a_message_holds_many_completions_of_any_id() {
        let message = "completed:3:a:bfailed:0:aborted:4:é中".as_bytes();
        // The last id is cut short: it has five bytes.
        let (status, job_id, rest) = next_completion(message).unwrap();
        assert_eq!((status, &*job_id), (Status::Completed, "a:b"));
        let (status, job_id, rest) = next_completion(rest).unwrap();
        assert_eq!((status, &*job_id), (Status::Failed, ""));
        assert!(next_completion(rest).is_none());
    }

    #[test]
    fn anybody_else_s_message_is_ignored() {
        for message in [
            "",
            "hello",
            "done:1:a",
            "completed:9:a",
            "completed:x:a",
            ":::",
        ] {
            assert!(next_completion(message.as_bytes()).is_none(), "{message}");
        }
    }
}
