//! Connections, and statements over them that leave nothing half done.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts,
};
use futures_util::TryStreamExt;
use tokio::{sync::Mutex, time::timeout};
use tokio_postgres::{
    Row, RowStream,
    types::{ToSql, Type},
};
use warren_plugin_api::{StoreError, StoreResult};

use crate::{address::Address, config::PostgresConfig, error::Failure, names::Names, schema};

/// A value of a statement, and its type.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// How often a statement is sent again that lost against others.
const CONFLICTS: u32 = 3;
/// How often one is sent again that met a broken connection: each of the pool's may be broken.
const REPEATS: u32 = 4;
/// How much longer than the server's own limit a statement is waited for: with the default limit
/// less than the host waits, so that it is told why.
const GRACE: Duration = Duration::from_millis(500);
/// Changing tables that have records already takes longer than any other statement. The host gives
/// opening 30 s, and every other call less.
const TABLES_MADE_WITHIN: Duration = Duration::from_secs(25);
/// How long cancelling a statement may take.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);

/// Whether a statement may be sent a second time when its connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// How the server is to plan a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Once for each connection.
    Prepared,
    /// Every time, for the values that it has.
    Anew,
}

/// The database and the tables in it.
pub(crate) struct Database {
    pub(crate) names: Names,
    address: Address,
    pool: Pool,
    patience: Duration,
    transaction_pooling: bool,
    /// Whether the tables are there, as far as is known.
    is_ready: AtomicBool,
    making_ready: Mutex<()>,
}

impl Database {
    pub(crate) fn new(
        config: &PostgresConfig,
        address: Address,
        names: Names,
    ) -> StoreResult<Self> {
        let manager = Manager::from_config(
            address.config.clone(),
            address.tls.clone(),
            ManagerConfig {
                // Every statement is a transaction of its own, and one that is not waited for
                // takes its connection with it: what comes back is clean.
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let mut pool = Pool::builder(manager)
            .max_size(config.connections.into())
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(config.statement_timeout),
                create: Some(config.connect_timeout),
                recycle: Some(config.connect_timeout),
            });
        if !config.transaction_pooling {
            let settings = session_settings(config.statement_timeout);
            pool = pool.post_create(Hook::async_fn(
                move |client: &mut deadpool_postgres::ClientWrapper, _| {
                    let settings = settings.clone();
                    Box::pin(async move {
                        let set = client.batch_execute(&settings).await;
                        set.map_err(HookError::Backend)
                    })
                },
            ));
        }
        let pool = pool
            .build()
            .map_err(|error| StoreError::internal(format!("no pool of connections: {error}")))?;
        Ok(Self {
            names,
            address,
            pool,
            patience: config.statement_timeout + GRACE,
            transaction_pooling: config.transaction_pooling,
            is_ready: AtomicBool::new(false),
            making_ready: Mutex::new(()),
        })
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// Connections in use, idle ones included.
    pub(crate) fn open_connections(&self) -> usize {
        self.pool.status().size
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }

    /// Sends one statement, and again where that cannot do it twice.
    ///
    /// # Cancel safety
    /// The statement is done or not; the server is asked to stop it.
    pub(crate) async fn query(
        &self,
        kind: Kind,
        plan: Plan,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        self.collect(kind, plan, sql, parameters, Vec::push).await
    }

    /// Like [`query`](Self::query), but takes each row as it comes, while the server sends the
    /// next ones. When the statement is sent again, it begins anew with an empty `T`.
    pub(crate) async fn collect<T: Default>(
        &self,
        kind: Kind,
        plan: Plan,
        sql: &str,
        parameters: &[Parameter<'_>],
        mut take: impl FnMut(&mut T, Row),
    ) -> Result<T, Failure> {
        let (mut conflicts, mut repeated) = (0, 0);
        loop {
            self.make_ready().await?;
            let failure = match self.send(plan, sql, parameters, &mut take).await {
                Ok(taken) => return Ok(taken),
                Err(failure) => failure,
            };
            if failure.is_missing_table() {
                self.is_ready.store(false, Ordering::Release);
            }
            if failure.is_conflict() && conflicts < CONFLICTS {
                conflicts += 1;
                continue;
            }
            let is_safe =
                failure.was_not_begun() || (kind == Kind::Read && failure.is_lost_connection());
            if repeated == REPEATS || !is_safe {
                return Err(failure);
            }
            repeated += 1;
        }
    }

    pub(crate) fn store_error(&self, failure: &Failure) -> StoreError {
        failure.to_store_error(&self.address)
    }

    /// Makes the tables where they are not there.
    pub(crate) async fn make_ready(&self) -> Result<(), Failure> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one_at_a_time = self.making_ready.lock().await;
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut lent = Lent::new(self.pool.get().await?, self);
        // A failure is perhaps one in the middle of a transaction: the connection goes.
        let client = lent.client()?;
        if !within(self.patience, schema::is_up_to_date(client, &self.names)).await? {
            within(TABLES_MADE_WITHIN, schema::migrate(client, &self.names)).await?;
        }
        lent.give_back();
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    async fn send<T: Default>(
        &self,
        plan: Plan,
        sql: &str,
        parameters: &[Parameter<'_>],
        take: &mut impl FnMut(&mut T, Row),
    ) -> Result<T, Failure> {
        let mut lent = Lent::new(self.pool.get().await?, self);
        let client = lent.client()?;
        let answered = within(self.patience, async {
            let rows = self.rows(client, plan, sql, parameters).await?;
            let mut rows = std::pin::pin!(rows);
            let mut taken = T::default();
            while let Some(row) = rows.try_next().await? {
                take(&mut taken, row);
            }
            Ok(taken)
        })
        .await;
        match &answered {
            Err(failure) if failure.spoils_connection() => {}
            _ => lent.give_back(),
        }
        answered
    }

    async fn rows(
        &self,
        client: &Object,
        plan: Plan,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<RowStream, tokio_postgres::Error> {
        if plan == Plan::Anew || self.transaction_pooling {
            let parameters = parameters.iter().map(|(value, of)| (*value, of.clone()));
            return client.query_typed_raw(sql, parameters).await;
        }
        let types: Vec<Type> = parameters.iter().map(|(_, of)| of.clone()).collect();
        let statement = client.prepare_typed_cached(sql, &types).await?;
        let values = parameters.iter().map(|(value, _)| *value);
        client.query_raw(&statement, values).await
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(limit, answer).await.unwrap_or(Err(Failure::Silent))
}

/// What every statement relies on, whatever the server's or the user's own settings are.
fn session_settings(statement_timeout: Duration) -> String {
    format!(
        "SET statement_timeout = {}; \
         SET default_transaction_isolation = 'read committed'; \
         SET lock_timeout = 0",
        statement_timeout.as_millis()
    )
}

/// A connection out of the pool. Unless it is given back, it is closed and the server told to
/// stop what it is doing: whoever gave up a call must not make the next one wait for it. A pooler
/// is told nothing: PgBouncer 1.18 dies of a cancel request whose connection closes meanwhile.
struct Lent<'a> {
    client: Option<Object>,
    database: &'a Database,
}

impl<'a> Lent<'a> {
    const fn new(client: Object, database: &'a Database) -> Self {
        Self {
            client: Some(client),
            database,
        }
    }

    fn client(&mut self) -> Result<&mut Object, Failure> {
        // Taken out only by what consumes this.
        self.client
            .as_mut()
            .ok_or(Failure::NoConnection("the connection was given back"))
    }

    fn give_back(mut self) {
        self.client = None;
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        let client = Object::take(client);
        if client.is_closed() || self.database.transaction_pooling {
            return;
        }
        let (token, tls) = (client.cancel_token(), self.database.address.tls.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = timeout(CANCEL_WITHIN, token.cancel_query(tls)).await;
                drop(client);
            });
        }
    }
}
