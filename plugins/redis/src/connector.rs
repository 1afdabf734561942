//! Making connections.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, PushInfo, PushKind, RedisError, RedisResult,
    aio::SendError,
};
use tokio::runtime::Handle;
use warren_plugin_api::{HostContext, StoreError, StoreResult};

use crate::{
    address::Address, config::RedisConfig, error::store_error, server::refuse_what_is_unsupported,
    slot::Live,
};

/// Makes connections to one server; what all of them have in common.
pub(crate) struct Connector {
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

impl Connector {
    pub(crate) fn new(
        address: Address,
        config: &RedisConfig,
        greeting: Cmd,
        host: HostContext,
    ) -> StoreResult<Self> {
        let runtime = Handle::try_current()
            .map_err(|_| StoreError::internal("the Redis store was opened outside of tokio"))?;
        Ok(Self {
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
        })
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) const fn host(&self) -> &HostContext {
        &self.host
    }

    /// Where tasks run that nobody waits for.
    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// From now on connections are neither made nor kept.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) async fn connect(&self) -> StoreResult<Live> {
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
