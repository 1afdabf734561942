//! The collection, and commands to it that have an end.

use std::{future::Future, time::Duration};

use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection,
    bson::{Document, RawDocumentBuf, serialize_to_document},
    options::{ClientOptions, ReadConcern, SelectionCriteria},
};
use tokio::time::timeout;
use warren_plugin_api::{StoreError, StoreResult};

use crate::{address::Address, config::MongodbConfig, error::Failure};

/// How much longer than the server's own limit an answer is waited for: with the default limit
/// less than the host waits, so that it is told why.
const GRACE: Duration = Duration::from_millis(500);

/// One collection of one deployment.
pub(crate) struct Database {
    address: Address,
    options: ClientOptions,
    client: Client,
    collection: Collection<RawDocumentBuf>,
    operation_timeout: Duration,
    connect_timeout: Duration,
}

impl Database {
    /// Resolves the address; nothing is connected to yet.
    pub(crate) async fn new(config: &MongodbConfig, address: Address) -> Result<Self, Failure> {
        let resolving = ClientOptions::parse(address.connection.clone());
        let mut options = timeout(config.connect_timeout, resolving)
            .await
            .map_err(|_elapsed| Failure::Silent)??;
        options.app_name.get_or_insert_with(|| "warren".to_owned());
        options.connect_timeout = Some(config.connect_timeout);
        options.server_selection_timeout = Some(config.connect_timeout);
        options.max_pool_size = Some(config.connections);
        // Commands state it themselves; the driver would send it with an aggregation too, which
        // MongoDB refuses.
        options.write_concern = None;
        let client = Client::with_options(options.clone())?;
        let collection = client
            .database(&address.database)
            .collection(&config.collection());
        Ok(Self {
            address,
            options,
            client,
            collection,
            operation_timeout: config.operation_timeout,
            connect_timeout: config.connect_timeout,
        })
    }

    /// The same with connections of its own, for what waits on one.
    pub(crate) fn apart(&self) -> Result<Self, Failure> {
        let client = Client::with_options(self.options.clone())?;
        let database = client.database(&self.address.database);
        Ok(Self {
            address: self.address.clone(),
            options: self.options.clone(),
            collection: database.collection(self.collection.name()),
            client,
            operation_timeout: self.operation_timeout,
            connect_timeout: self.connect_timeout,
        })
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn collection_name(&self) -> &str {
        self.collection.name()
    }

    pub(crate) fn store_error(&self, failure: &Failure) -> StoreError {
        failure.to_store_error(&self.address)
    }

    /// What every write asks for, as a command states it.
    pub(crate) fn write_concern(&self) -> StoreResult<Document> {
        serialize_to_document(&self.address.write_concern)
            .map_err(|error| StoreError::internal(format!("no write concern: {error}")))
    }

    /// The server's limit for one command, as a command states it.
    pub(crate) fn max_time_ms(&self) -> i64 {
        i64::try_from(self.operation_timeout.as_millis()).unwrap_or(i64::MAX)
    }

    /// Sends a command to the database of the records. The driver sends no such command twice.
    ///
    /// # Cancel safety
    /// The connection is closed; the server may still do what it was told.
    pub(crate) async fn run(&self, command: Document) -> Result<Document, Failure> {
        self.run_within(self.patience(), command).await
    }

    /// As [`run`](Self::run), with a limit of its own.
    pub(crate) async fn run_within(
        &self,
        limit: Duration,
        command: Document,
    ) -> Result<Document, Failure> {
        let database = self.client.database(&self.address.database);
        let answer = async move { Ok(database.run_command(command).await?) };
        within(limit, answer).await
    }

    /// As [`run`](Self::run), for a command that holds records.
    pub(crate) async fn run_raw(&self, command: RawDocumentBuf) -> Result<Document, Failure> {
        let database = self.client.database(&self.address.database);
        self.within(async move { Ok(database.run_raw_command(command).await?) })
            .await
    }

    /// Asks the deployment itself.
    pub(crate) async fn run_admin(&self, command: Document) -> Result<Document, Failure> {
        let database = self.client.database("admin");
        self.within(async move { Ok(database.run_command(command).await?) })
            .await
    }

    /// Reads what matches, up to `limit`, in one round trip where the server's limit of 16 MiB
    /// for an answer allows it.
    pub(crate) async fn find(&self, query: Query) -> Result<Vec<RawDocumentBuf>, Failure> {
        let batch = u32::try_from(query.limit).unwrap_or(u32::MAX - 1) + 1;
        let mut find = self
            .collection
            .find(query.filter)
            .limit(i64::try_from(query.limit).unwrap_or(i64::MAX))
            .batch_size(batch)
            .max_time(self.operation_timeout);
        if let Some(projection) = query.projection {
            find = find.projection(projection);
        }
        if let Some(sort) = query.sort {
            find = find.sort(sort);
        }
        self.within(async move { Ok(find.await?.try_collect().await?) })
            .await
    }

    /// Computes over the collection, within `limit`.
    pub(crate) async fn aggregate(
        &self,
        limit: Duration,
        stages: Vec<Document>,
    ) -> Result<Vec<Document>, Failure> {
        let aggregate = self.collection.aggregate(stages).max_time(limit);
        let answer = async move { Ok(aggregate.await?.try_collect().await?) };
        within(limit, answer).await
    }

    /// How many documents there are, from the collection's metadata.
    pub(crate) async fn estimated_count(&self) -> Result<u64, Failure> {
        let count = self.collection.estimated_document_count();
        let count = count.max_time(self.operation_timeout);
        self.within(async move { Ok(count.await?) }).await
    }

    /// The server's limit for one command.
    pub(crate) const fn operation_timeout(&self) -> Duration {
        self.operation_timeout
    }

    /// Every change of the collection that passes the stages, once a majority has it.
    pub(crate) async fn watch(
        &self,
        stages: Vec<Document>,
    ) -> Result<mongodb::change_stream::ChangeStream<RawDocumentBuf>, Failure> {
        let watch = self
            .collection
            .watch()
            .pipeline(stages)
            .selection_criteria(SelectionCriteria::ReadPreference(
                mongodb::options::ReadPreference::Primary,
            ))
            .read_concern(ReadConcern::majority());
        self.within(async move { Ok(watch.await?.with_type()) })
            .await
    }

    /// Ends every connection; what is under way fails.
    pub(crate) async fn close(&self) {
        self.client.clone().shutdown().immediate(true).await;
    }

    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        within(self.patience(), answer).await
    }

    /// How long a command may take as a whole. Not the sum: a server that falls silent after it
    /// was found would outlast the host's patience.
    fn patience(&self) -> Duration {
        self.connect_timeout.max(self.operation_timeout) + GRACE
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(limit, answer).await.unwrap_or(Err(Failure::Silent))
}

/// What is to be read.
#[derive(Default)]
pub(crate) struct Query {
    pub(crate) filter: Document,
    pub(crate) projection: Option<Document>,
    pub(crate) sort: Option<Document>,
    pub(crate) limit: usize,
}
