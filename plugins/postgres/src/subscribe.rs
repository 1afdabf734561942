//! Completions, pushed.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use tokio::{sync::watch, time};
use tokio_postgres::{AsyncMessage, Client};
use warren_plugin_api::{CompletionSink, Status, StoreError, StoreResult, Text};

use crate::{
    address::Address,
    config::PostgresConfig,
    error::Failure,
    names::{Names, quote},
    row::status_of,
    text,
};

/// How often a silent server is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(15);

type Message = Result<AsyncMessage, tokio_postgres::Error>;

/// Listens on a connection of its own until that is lost or the store closed.
pub(crate) async fn listen(
    address: &Address,
    config: &PostgresConfig,
    names: &Names,
    closed: &mut watch::Receiver<bool>,
    sink: &CompletionSink,
) -> StoreResult<()> {
    tokio::select! {
        ended = announce_all(address, config, names, sink) => ended,
        () = is_closed(closed) => Err(StoreError::unavailable("the store was closed")),
    }
}

async fn announce_all(
    address: &Address,
    config: &PostgresConfig,
    names: &Names,
    sink: &CompletionSink,
) -> StoreResult<()> {
    let lost = |why: &str| {
        StoreError::unavailable(format!(
            "the subscription to PostgreSQL at {address} is lost: {why}"
        ))
    };
    let connecting = address.config.connect(address.tls.clone());
    let (client, mut connection) = time::timeout(config.connect_timeout, connecting)
        .await
        .map_err(|_elapsed| Failure::Silent)
        .and_then(|connected| connected.map_err(Failure::Driver))
        .map_err(|failure| failure.to_store_error(address))?;
    let mut messages = pin!(stream::poll_fn(move |cx| connection.poll_message(cx)));
    let sql = format!("LISTEN {}", quote(&names.channel));
    // What is announced before the answer is read is not lost, only told a little later.
    let mut early = Vec::new();
    let listening = answered(
        client.batch_execute(&sql),
        &mut messages,
        config.connect_timeout,
        |payload| early.push(payload),
    );
    listening
        .await
        .map_err(|failure| failure.to_store_error(address))?;
    sink.ready();
    for payload in early {
        announce(&payload, sink);
    }
    let mut pings = time::interval_at(time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(Ok(message)) => if let Some(payload) = payload_of(message) {
                    announce(&payload, sink);
                },
                Some(Err(error)) => {
                    let error = Failure::Driver(error).to_store_error(address);
                    return Err(lost(error.message()));
                }
                None => return Err(lost("the connection ended")),
            },
            _ = pings.tick() => {
                let pinged = ping(&client, &mut messages, config.statement_timeout, sink).await;
                pinged.map_err(|failure| lost(failure.to_store_error(address).message()))?;
            }
        }
    }
}

async fn ping(
    client: &Client,
    messages: &mut (impl Stream<Item = Message> + Unpin),
    within: Duration,
    sink: &CompletionSink,
) -> Result<(), Failure> {
    answered(client.batch_execute(""), messages, within, |payload| {
        announce(&payload, sink);
    })
    .await
}

/// Waits for an answer, and moves the connection meanwhile: it does nothing by itself.
async fn answered(
    answer: impl Future<Output = Result<(), tokio_postgres::Error>>,
    messages: &mut (impl Stream<Item = Message> + Unpin),
    within: Duration,
    mut take: impl FnMut(String),
) -> Result<(), Failure> {
    let mut answer = pin!(answer);
    let waiting = async {
        loop {
            tokio::select! {
                answer = &mut answer => return answer.map_err(Failure::Driver),
                message = messages.next() => match message {
                    Some(Ok(message)) => if let Some(payload) = payload_of(message) {
                        take(payload);
                    },
                    Some(Err(error)) => return Err(Failure::Driver(error)),
                    None => return Err(Failure::NoConnection("the connection ended")),
                },
            }
        }
    };
    time::timeout(within, waiting)
        .await
        .unwrap_or(Err(Failure::Silent))
}

fn payload_of(message: AsyncMessage) -> Option<String> {
    match message {
        AsyncMessage::Notification(notification) => Some(notification.payload().to_owned()),
        // Notices, and whatever a later driver knows.
        _ => None,
    }
}

async fn is_closed(closed: &mut watch::Receiver<bool>) {
    // An error means that the store is gone, which is as good as closed.
    let _ = closed.wait_for(|closed| *closed).await;
}

/// Passes on what a statement announced: `<status><bytes of id>:<id>`, any number of times.
fn announce(payload: &str, sink: &CompletionSink) {
    let mut rest = payload;
    while let Some((status, job_id, after)) = next_completion(rest) {
        sink.completed(job_id, status);
        rest = after;
    }
}

fn next_completion(payload: &str) -> Option<(Status, Text, &str)> {
    let (status, rest) = payload.split_at_checked(1)?;
    let (length, rest) = rest.split_once(':')?;
    let (job_id, rest) = rest.split_at_checked(length.parse().ok()?)?;
    let status = status_of(status.parse().ok()?).filter(|status| status.is_terminal())?;
    Some((status, text::from_column(job_id)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_holds_many_completions_of_any_id() {
        let payload = "33:a:b44:\\0é57:é中";
        let (status, job_id, rest) = next_completion(payload).unwrap();
        assert_eq!((status, &*job_id), (Status::Completed, "a:b"));
        let (status, job_id, rest) = next_completion(rest).unwrap();
        assert_eq!((status, &*job_id), (Status::Failed, "\0é"));
        // The last id is cut short: it has five bytes.
        assert!(next_completion(rest).is_none());
    }

    #[test]
    fn anybody_else_s_payload_is_ignored() {
        for payload in [
            "", "hello", "31:", "39:a", "01:a", "3x:a", ":::", "é1:a", "33:é\\",
        ] {
            assert!(next_completion(payload).is_none(), "{payload}");
        }
    }
}
