//! One TCP connection, opened again whenever it is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{Channel, ConnectionProperties, Event};
use tokio::sync::{Mutex, watch};
use tokio_util::task::TaskTracker;

use super::{
    GOODBYE,
    error::on_connection,
    outlet::{Outbox, Outlet},
    runtime, tls,
};
use crate::broker::{BrokerError, BrokerSettings, BrokerUrl, ConnectionState};

/// The wait before the first try to reconnect; doubled after each, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The longest frame that is asked for, unless the URL says otherwise: RabbitMQ's default. lapin
/// makes room for 32 frames each way, and only what is known before connecting is left untouched
/// until it is needed; a server without a limit would have it ask for all memory.
const FRAME_MAX: u32 = 128 * 1024;
/// How long closing waits for answers to be sent.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The connection as its users see it: always there, sometimes after a wait.
#[derive(Debug)]
pub(super) struct Connection {
    settings: BrokerSettings,
    state: watch::Sender<ConnectionState>,
    /// Held while connecting, so that many callers make one connection.
    current: Mutex<Option<Arc<Live>>>,
    /// Held while it is opened, for the same reason.
    outlet: Mutex<Option<Arc<Outlet>>>,
    /// What was agreed on with the broker when it was connected to last.
    frame_max: AtomicU32,
    /// Those who send the answers to deliveries.
    answering: TaskTracker,
}

/// A connection, and the way out for messages that belongs to it.
#[derive(Debug)]
struct Live {
    connection: lapin::Connection,
    outbox: Arc<Outbox>,
}

impl Live {
    fn is_connected(&self) -> bool {
        self.connection.status().connected() && !self.outbox.is_lost()
    }
}

impl Connection {
    /// Connects once.
    pub(super) async fn open(settings: BrokerSettings) -> Result<Self, BrokerError> {
        let state = watch::Sender::new(ConnectionState::Connecting);
        let first = connect(&settings, &state).await?;
        Ok(Self {
            frame_max: AtomicU32::new(first.connection.configuration().frame_max()),
            settings,
            state,
            current: Mutex::new(Some(Arc::new(first))),
            outlet: Mutex::new(None),
            answering: TaskTracker::new(),
        })
    }

    pub(super) const fn answering(&self) -> &TaskTracker {
        &self.answering
    }

    pub(super) const fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    /// The longest frame, in bytes, that the broker takes.
    pub(super) fn frame_max(&self) -> u32 {
        self.frame_max.load(Ordering::Relaxed)
    }

    pub(super) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.state.borrow() == ConnectionState::Connected
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.state.borrow() == ConnectionState::Closed
    }

    /// A new channel on the live connection, within the publish time-out.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        let patience = self.settings.publish_timeout;
        tokio::time::timeout(patience, self.channel_when_connected())
            .await
            .unwrap_or_else(|_| {
                Err(BrokerError::Unavailable {
                    reason: format!("no connection to {} within {patience:?}", self.settings.url),
                })
            })
    }

    /// A new channel, however long the connection takes to come back.
    pub(super) async fn channel_when_connected(&self) -> Result<Channel, BrokerError> {
        Ok(self.channel_and_connection().await?.0)
    }

    /// The way out for messages, once there is a connection.
    pub(super) async fn outlet(&self) -> Result<Arc<Outlet>, BrokerError> {
        let mut current = self.outlet.lock().await;
        if let Some(outlet) = current.as_ref().filter(|outlet| outlet.is_open()) {
            return Ok(Arc::clone(outlet));
        }
        let (channel, live) = self.channel_and_connection().await?;
        let outbox = Arc::clone(&live.outbox);
        let outlet = Outlet::open(channel, outbox, self.frame_max()).await?;
        Ok(Arc::clone(current.insert(Arc::new(outlet))))
    }

    async fn channel_and_connection(&self) -> Result<(Channel, Arc<Live>), BrokerError> {
        loop {
            let live = self.live().await?;
            let created = tokio::select! {
                created = live.connection.create_channel() => created,
                () = live.outbox.lost() => continue,
            };
            match created {
                Ok(channel) => return Ok((channel, live)),
                Err(error) if live.is_connected() => return Err(on_connection(&error)),
                Err(_lost) => {}
            }
        }
    }

    async fn live(&self) -> Result<Arc<Live>, BrokerError> {
        let mut current = self.current.lock().await;
        if self.is_closed() {
            return Err(BrokerError::Closed);
        }
        if let Some(live) = current.as_ref().filter(|live| live.is_connected()) {
            return Ok(Arc::clone(live));
        }
        *current = None;
        // Seldom, and large: whoever waits for a connection need not have room for it.
        let live = Arc::new(Box::pin(self.reconnect()).await?);
        let frame_max = live.connection.configuration().frame_max();
        self.frame_max.store(frame_max, Ordering::Relaxed);
        *current = Some(Arc::clone(&live));
        Ok(live)
    }

    async fn reconnect(&self) -> Result<Live, BrokerError> {
        self.state.send_replace(ConnectionState::Connecting);
        let mut wait = FIRST_WAIT;
        let mut state = self.state.subscribe();
        loop {
            match connect(&self.settings, &self.state).await {
                Ok(live) => return Ok(live),
                Err(error @ BrokerError::InvalidUrl { .. }) => return Err(error),
                Err(error) => tracing::debug!(%error, "cannot reconnect yet"),
            }
            let jittered = wait.mul_f64(rand::random_range(0.5..1.0));
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                _ = state.wait_for(|state| *state == ConnectionState::Closed) => {
                    return Err(BrokerError::Closed);
                }
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    pub(super) async fn close(&self) {
        self.state.send_replace(ConnectionState::Closed);
        // What was answered must not come again; what is not answered yet is not waited for.
        self.answering.close();
        let _ = tokio::time::timeout(LAST_ANSWERS, self.answering.wait()).await;
        // A broker that does not answer, or a connection that breaks in this moment, must not keep
        // the process from ending. An error means that it is closed already.
        let _ = tokio::time::timeout(GOODBYE, async {
            let live = self.current.lock().await.take()?;
            live.connection.close(200, "goodbye".into()).await.ok()
        })
        .await;
    }
}

async fn connect(
    settings: &BrokerSettings,
    state: &watch::Sender<ConnectionState>,
) -> Result<Live, BrokerError> {
    let BrokerUrl::Amqp(uri) = &settings.url else {
        return Err(BrokerError::InvalidUrl {
            reason: "not an AMQP address".to_owned(),
        });
    };
    let mut uri = uri.as_ref().clone();
    let heartbeat = u16::try_from(settings.heartbeat.as_secs()).unwrap_or(u16::MAX);
    uri.query.heartbeat = uri.query.heartbeat.or(Some(heartbeat));
    let frame_max = uri.query.frame_max.filter(|bytes| *bytes > 0);
    uri.query.frame_max = frame_max.or(Some(FRAME_MAX));
    let properties = ConnectionProperties::default()
        .with_connection_name(settings.connection_name.as_str().into());
    let patience = settings.connect_timeout;
    let tls = tls::config(&uri, &settings.tls).await?;
    let connecting = runtime::connect(uri, properties, tls);
    let (connection, outbox) = tokio::time::timeout(patience, connecting)
        .await
        .map_err(|_| BrokerError::Unavailable {
            reason: format!("{} did not answer within {patience:?}", settings.url),
        })?
        .map_err(|error| match on_connection(&error) {
            BrokerError::Unavailable { reason } => BrokerError::Unavailable {
                reason: format!("{}: {reason}", settings.url),
            },
            other => other,
        })?;
    // Closed by its owner meanwhile: that state is final.
    state.send_if_modified(|state| {
        let was_open = *state != ConnectionState::Closed;
        if was_open {
            *state = ConnectionState::Connected;
        }
        was_open
    });
    tracing::info!(broker = %settings.url, "connected to the broker");
    tokio::spawn(follow(
        connection.events_listener(),
        state.clone(),
        settings.url.to_string(),
    ));
    Ok(Live { connection, outbox })
}

/// Tells users of the connection what happens to it, a line in the log per change.
async fn follow(
    events: impl futures_util::Stream<Item = Event>,
    state: watch::Sender<ConnectionState>,
    broker: String,
) {
    let mut events = std::pin::pin!(events);
    let change = |to: ConnectionState| {
        state.send_if_modified(|state| {
            let changes = *state != to && *state != ConnectionState::Closed;
            if changes {
                *state = to;
            }
            changes
        });
    };
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(%broker, reason, "the broker takes no messages for now");
                change(ConnectionState::Blocked);
            }
            Event::ConnectionUnblocked => {
                tracing::info!(%broker, "the broker takes messages again");
                change(ConnectionState::Connected);
            }
            Event::Error(error) if error.is_amqp_soft_error() => {}
            Event::Error(error) => {
                // Whoever uses the connection may have noticed before.
                change(ConnectionState::Connecting);
                if *state.borrow() != ConnectionState::Closed {
                    tracing::warn!(%broker, error = %on_connection(&error), "lost the broker");
                }
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn who_comes_before_lapin_has_noticed_a_loss_gets_a_new_connection() {
        let url = BrokerUrl::Amqp(runtime::tests::broker().into());
        let settings = BrokerSettings::new(url);
        let connection = Connection::open(settings).await.unwrap();
        let before = connection.live().await.unwrap();
        before.outbox.lose();
        let outlet = tokio::time::timeout(Duration::from_secs(20), connection.outlet());
        assert!(outlet.await.unwrap().unwrap().is_open());
        let after = connection.live().await.unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
        connection.close().await;
    }
}
