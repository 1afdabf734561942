//! A few connections to one server.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use warren_plugin_api::{HostContext, StoreError, StoreResult};

use crate::{
    address::Address,
    config::RedisConfig,
    connector::Connector,
    error::store_error,
    script::unexpected,
    slot::{Call, Live, Slot},
};

/// Connections, each shared by many calls.
pub(crate) struct Connections {
    slots: Vec<Arc<Slot>>,
    next: AtomicUsize,
    connector: Arc<Connector>,
}

impl Connections {
    /// Prepares connections; none is made yet.
    pub(crate) fn new(
        address: Address,
        config: &RedisConfig,
        greeting: Cmd,
        host: HostContext,
    ) -> StoreResult<Self> {
        let connector = Arc::new(Connector::new(address, config, greeting, host)?);
        let slot = |_| Arc::new(Slot::new(Arc::clone(&connector)));
        Ok(Self {
            slots: (0..config.connections.max(1)).map(slot).collect(),
            next: AtomicUsize::new(0),
            connector,
        })
    }

    pub(crate) fn address(&self) -> &Address {
        self.connector.address()
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
        self.connector.close();
        for slot in &self.slots {
            slot.empty();
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

    /// Sends commands together; each answer may be an error of the server.
    pub(crate) async fn commands(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        match self
            .slot
            .send(self.live.clone(), Call::Many(commands))
            .await?
        {
            Value::Array(answers) => Ok(answers),
            answer => Ok(vec![answer]),
        }
    }

    pub(crate) fn error(&self, error: &RedisError) -> StoreError {
        store_error(error, self.slot.address())
    }
}
