//! A connection that comes back by itself.
//!
//! The driver's own `ConnectionManager` gives up for good when a reconnect fails with anything but
//! an I/O error, such as a server that is loading its data, and keeps a connection whose answers
//! no longer arrive. So the little that reconnecting takes is here.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, Pipeline, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{sync::watch, time::Instant};
use warren_plugin_api::{StoreError, StoreResult};

use crate::{
    address::Address,
    connector::Connector,
    error::{Fate, fate},
};

/// After a failed attempt the next one waits this long, then twice as long, up to the most.
const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The place of one connection.
pub(crate) struct Slot {
    state: Mutex<State>,
    connector: Arc<Connector>,
}

enum State {
    Idle,
    Connecting(watch::Receiver<Option<StoreResult<Live>>>),
    Connected(Live),
    /// Not tried again before `until`.
    Resting {
        until: Instant,
        failures: u32,
        error: StoreError,
    },
}

/// A connection that works, as far as is known.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) number: u64,
    pub(crate) connection: MultiplexedConnection,
    /// The server closed it; only with RESP3 this is known before the next call.
    pub(crate) ended: Arc<AtomicBool>,
    /// A sign of life has been asked for.
    pub(crate) doubted: Arc<AtomicBool>,
}

/// What is sent in one go.
#[derive(Clone, Copy)]
pub(crate) enum Call<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
}

impl Call<'_> {
    /// Many are answered with a list, whose items may be errors.
    async fn send(self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        match self {
            Self::One(command) => connection
                .send_packed_command(command)
                .await
                .and_then(Value::extract_error),
            Self::Many(commands) => connection
                .send_packed_commands(commands, 0, commands.len())
                .await
                .map(Value::Array),
        }
    }
}

impl Slot {
    pub(crate) const fn new(connector: Arc<Connector>) -> Self {
        Self {
            state: Mutex::new(State::Idle),
            connector,
        }
    }

    pub(crate) fn address(&self) -> &Address {
        self.connector.address()
    }

    /// Lets go of whatever is there.
    pub(crate) fn empty(&self) {
        *self.state() = State::Idle;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends over a connection, which is let go when the answer says so.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut live: Live,
        call: Call<'_>,
    ) -> RedisResult<Value> {
        let outstanding = Outstanding::new(self, &live);
        let answer = call.send(&mut live.connection).await;
        outstanding.answered();
        if answer
            .as_ref()
            .is_err_and(|error| fate(error) == Fate::Discard)
        {
            self.discard(live.number);
        }
        answer
    }

    /// The connection, made first where there is none.
    pub(crate) async fn live(self: &Arc<Self>) -> StoreResult<Live> {
        let mut connecting = {
            let mut state = self.state();
            if self.connector.is_closed() {
                return Err(StoreError::unavailable("the store is closed"));
            }
            match &*state {
                State::Connected(live) if !live.ended.load(Ordering::Acquire) => {
                    return Ok(live.clone());
                }
                State::Resting { until, error, .. } if Instant::now() < *until => {
                    return Err(error.clone());
                }
                State::Connecting(connecting) => connecting.clone(),
                State::Idle | State::Connected(_) | State::Resting { .. } => {
                    let failures = match &*state {
                        State::Resting { failures, .. } => *failures,
                        _ => 0,
                    };
                    let connecting = self.start_connecting(failures);
                    *state = State::Connecting(connecting.clone());
                    connecting
                }
            }
        };
        let connected = connecting.wait_for(Option::is_some).await;
        match connected.as_deref() {
            Ok(Some(connected)) => connected.clone(),
            _ => Err(StoreError::unavailable("connecting was interrupted")),
        }
    }

    /// In a task of its own: a caller that gives up must not stop it for the others.
    fn start_connecting(
        self: &Arc<Self>,
        failures: u32,
    ) -> watch::Receiver<Option<StoreResult<Live>>> {
        let (sender, receiver) = watch::channel(None);
        let slot = Arc::clone(self);
        self.connector.runtime().spawn(async move {
            let connected = slot.connector.connect().await;
            slot.settle(&connected, failures);
            let _ = sender.send(Some(connected));
        });
        receiver
    }

    fn settle(&self, connected: &StoreResult<Live>, failures: u32) {
        let mut state = self.state();
        *state = match connected {
            _ if self.connector.is_closed() => State::Idle,
            Ok(live) => State::Connected(live.clone()),
            Err(error) => State::Resting {
                until: Instant::now()
                    + FIRST_REST
                        .saturating_mul(1 << failures.min(16))
                        .min(LONGEST_REST),
                failures: failures.saturating_add(1),
                error: error.clone(),
            },
        };
        drop(state);
        match connected {
            Ok(_) if failures > 0 => self.connector.host().info(format_args!(
                "connected to Redis at {}",
                self.connector.address()
            )),
            Err(error) if failures == 0 => self.connector.host().warn(error.message()),
            _ => {}
        }
    }

    /// Lets go of connection `number`, unless it has been replaced already.
    fn discard(&self, number: u64) {
        let mut state = self.state();
        if matches!(&*state, State::Connected(live) if live.number == number) {
            *state = State::Idle;
        }
    }
}

/// A call whose answer is awaited. Dropped before it came, as the host does when its deadline
/// passes, it asks the server for a sign of life: a connection that swallows calls would
/// otherwise be noticed by nobody.
struct Outstanding<'a> {
    slot: &'a Arc<Slot>,
    live: Option<Live>,
}

impl<'a> Outstanding<'a> {
    fn new(slot: &'a Arc<Slot>, live: &Live) -> Self {
        Self {
            slot,
            live: Some(live.clone()),
        }
    }

    fn answered(mut self) {
        self.live = None;
    }
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        let Some(mut live) = self.live.take() else {
            return;
        };
        if live.doubted.swap(true, Ordering::AcqRel) {
            return;
        }
        let slot = Arc::clone(self.slot);
        self.slot.connector.runtime().spawn(async move {
            let answer = live
                .connection
                .send_packed_command(&redis::cmd("PING"))
                .await;
            if answer.is_err_and(|error| fate(&error) == Fate::Discard) {
                slot.discard(live.number);
            }
            live.doubted.store(false, Ordering::Release);
        });
    }
}
