//! Connections that come back by themselves.
//!
//! The driver's own `ConnectionManager` gives up for good when a reconnect fails with anything but
//! an I/O error, such as a server that is loading its data, and keeps a connection whose answers
//! no longer arrive. So the little that reconnecting takes is here.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, PushInfo, PushKind, RedisError,
    RedisResult, Value, aio::MultiplexedConnection, aio::SendError,
};
use tokio::{runtime::Handle, sync::watch, time::Instant};
use warren_plugin_api::{HostContext, StoreError, StoreResult};

use crate::{
    address::Address,
    config::RedisConfig,
    error::{Fate, fate, store_error},
    script::unexpected,
    server::refuse_what_is_unsupported,
};

/// After a failed attempt the next one waits this long, then twice as long, up to the most.
const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// A few connections to one server, each shared by many calls.
pub(crate) struct Connections {
    slots: Vec<Arc<Slot>>,
    next: AtomicUsize,
}

struct Slot {
    state: Mutex<State>,
    shared: Arc<Shared>,
}

/// What all slots have in common.
struct Shared {
    address: Address,
    config: AsyncConnectionConfig,
    /// Sent over every new connection, whatever the answer.
    greeting: Cmd,
    runtime: Handle,
    host: HostContext,
    speaks_resp2_only: AtomicBool,
    last_number: AtomicU64,
    closed: AtomicBool,
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

#[derive(Clone)]
struct Live {
    number: u64,
    connection: MultiplexedConnection,
    /// The server closed it; only with RESP3 this is known before the next call.
    ended: Arc<AtomicBool>,
    /// A sign of life has been asked for.
    doubted: Arc<AtomicBool>,
}

impl Connections {
    /// Prepares connections; none is made yet.
    pub(crate) fn new(
        address: Address,
        config: &RedisConfig,
        greeting: Cmd,
        host: HostContext,
    ) -> StoreResult<Self> {
        let runtime = Handle::try_current()
            .map_err(|_| StoreError::internal("the Redis store was opened outside of tokio"))?;
        let shared = Arc::new(Shared {
            address,
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(config.connect_timeout))
                .set_response_timeout(Some(config.response_timeout)),
            greeting,
            runtime,
            host,
            speaks_resp2_only: AtomicBool::new(false),
            last_number: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let slot = || Slot {
            state: Mutex::new(State::Idle),
            shared: Arc::clone(&shared),
        };
        Ok(Self {
            slots: (0..config.connections.max(1))
                .map(|_| Arc::new(slot()))
                .collect(),
            next: AtomicUsize::new(0),
        })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.slots[0].shared.address
    }

    /// Connects unless that has been done: to find out early what is wrong.
    pub(crate) async fn connect(&self) -> StoreResult<()> {
        self.slots[0].live().await.map(drop)
    }

    /// Sends one command that only reads.
    pub(crate) async fn command(&self, command: &Cmd) -> StoreResult<Value> {
        let answer = self.send(Call::One(command)).await?;
        answer.map_err(|error| store_error(&error, self.address()))
    }

    /// One of the connections, for calls that must arrive in their order. What is sent over it is
    /// not sent again when it is lost.
    pub(crate) async fn lane(&self) -> StoreResult<Lane> {
        let slot = self.next_slot();
        let live = slot.live().await?;
        Ok(Lane {
            slot: Arc::clone(slot),
            live,
        })
    }

    /// Sends commands that only read, together; each answer may be an error of the server.
    pub(crate) async fn read_many(&self, commands: &Pipeline) -> StoreResult<Vec<Value>> {
        let answers = self.send(Call::Many(commands)).await?;
        match answers.map_err(|error| store_error(&error, self.address()))? {
            Value::Array(answers) if answers.len() == commands.len() => Ok(answers),
            answer => Err(unexpected(&answer)),
        }
    }

    /// Gives up all connections; every later call is refused.
    pub(crate) fn close(&self) {
        for slot in &self.slots {
            slot.shared.closed.store(true, Ordering::Release);
            *slot.state() = State::Idle;
        }
    }

    fn next_slot(&self) -> &Arc<Slot> {
        &self.slots[self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len()]
    }

    /// Sends what only reads, and once more when its connection is lost. The outer error: there is
    /// no connection. The inner one: the server's, or the way to it.
    async fn send(&self, call: Call<'_>) -> StoreResult<RedisResult<Value>> {
        let slot = self.next_slot();
        let live = slot.live().await?;
        let answer = slot.send(live, call).await;
        match &answer {
            Err(error) if error.is_connection_dropped() => {
                Ok(slot.send(slot.live().await?, call).await)
            }
            _ => Ok(answer),
        }
    }
}

/// One connection, for as long as it lasts.
pub(crate) struct Lane {
    slot: Arc<Slot>,
    live: Live,
}

impl Lane {
    /// Sends one command; the caller looks at the server's error.
    pub(crate) async fn command(&self, command: &Cmd) -> RedisResult<Value> {
        self.slot.send(self.live.clone(), Call::One(command)).await
    }

    pub(crate) fn error(&self, error: &RedisError) -> StoreError {
        store_error(error, &self.slot.shared.address)
    }
}

/// What is sent in one go.
#[derive(Clone, Copy)]
enum Call<'a> {
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends over a connection, which is let go when the answer says so.
    async fn send(self: &Arc<Self>, mut live: Live, call: Call<'_>) -> RedisResult<Value> {
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
    async fn live(self: &Arc<Self>) -> StoreResult<Live> {
        let mut connecting = {
            let mut state = self.state();
            if self.shared.closed.load(Ordering::Acquire) {
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
        self.shared.runtime.spawn(async move {
            let connected = slot.shared.connect().await;
            slot.settle(&connected, failures);
            let _ = sender.send(Some(connected));
        });
        receiver
    }

    fn settle(&self, connected: &StoreResult<Live>, failures: u32) {
        let mut state = self.state();
        *state = match connected {
            _ if self.shared.closed.load(Ordering::Acquire) => State::Idle,
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
            Ok(_) if failures > 0 => self.shared.host.info(format_args!(
                "connected to Redis at {}",
                self.shared.address
            )),
            Err(error) if failures == 0 => self.shared.host.warn(error.message()),
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

impl Shared {
    async fn connect(&self) -> StoreResult<Live> {
        if self.speaks_resp2_only.load(Ordering::Relaxed) {
            return self.connect_with(&self.address.resp2_client()?).await;
        }
        match self.open(self.address.client()).await {
            Err(error) if error.kind() == ErrorKind::RESP3NotSupported => {
                self.speaks_resp2_only.store(true, Ordering::Relaxed);
                self.connect_with(&self.address.resp2_client()?).await
            }
            opened => self.checked(opened).await,
        }
    }

    async fn connect_with(&self, client: &Client) -> StoreResult<Live> {
        self.checked(self.open(client).await).await
    }

    async fn open(&self, client: &Client) -> RedisResult<Live> {
        let ended = Arc::new(AtomicBool::new(false));
        let mut config = self.config.clone();
        let protocol = client.get_connection_info().redis_settings().protocol();
        if protocol.supports_resp3() {
            let ended = Arc::clone(&ended);
            config = config.set_push_sender(move |push: PushInfo| -> Result<(), SendError> {
                if push.kind == PushKind::Disconnection {
                    ended.store(true, Ordering::Release);
                }
                Ok(())
            });
        }
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        Ok(Live {
            number: self.last_number.fetch_add(1, Ordering::Relaxed),
            connection,
            ended,
            doubted: Arc::default(),
        })
    }

    async fn checked(&self, opened: RedisResult<Live>) -> StoreResult<Live> {
        let mut live = opened.map_err(|error| self.handshake_error(&error))?;
        refuse_what_is_unsupported(&mut live.connection, &self.address).await?;
        let _ = live.connection.send_packed_command(&self.greeting).await;
        Ok(live)
    }

    /// While connecting, bytes that are no Redis mean that the URL leads to something else.
    fn handshake_error(&self, error: &RedisError) -> StoreError {
        let found = store_error(error, &self.address);
        if error.kind() == ErrorKind::Parse {
            return StoreError::invalid_config(found.message());
        }
        found
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
        self.slot.shared.runtime.spawn(async move {
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
