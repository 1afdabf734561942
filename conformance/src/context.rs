//! What a case works with: its store, further handles, and names that nobody else uses.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use warren_plugin_api::{Capabilities, Record, StoreResult, Text};

use crate::{
    expect::{Checked, Failure},
    handle::Handle,
    records::{HOUR, now_plus},
    suite::{Opener, Options, Scale},
};

pub(crate) struct Context {
    pub(crate) options: Arc<Options>,
    pub(crate) store: Handle,
    capabilities: Capabilities,
    prefix: String,
    names: AtomicU64,
    used: Mutex<Vec<Text>>,
}

impl Context {
    pub(crate) async fn open(case: &str, options: Arc<Options>) -> Checked<Self> {
        let store = open(&options.opener, &options).await?;
        let capabilities = store
            .raw()
            .capabilities()
            .map_err(|error| Failure::unexpected("capabilities", &error))?;
        let group = case.split("::").next().unwrap_or(case);
        Ok(Self {
            store,
            capabilities,
            prefix: format!("{:016x}-{group}", rand::random::<u64>()),
            names: AtomicU64::new(0),
            used: Mutex::default(),
            options,
        })
    }

    pub(crate) const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// `full` in a full run, `quick` in a quick one.
    pub(crate) fn scaled(&self, quick: usize, full: usize) -> usize {
        match self.options.scale {
            Scale::Quick => quick,
            Scale::Full => full,
        }
    }

    /// A job id that nobody else uses. Its record is deleted after the case.
    pub(crate) fn id(&self, name: impl AsRef<str>) -> Text {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        self.use_id(format!("{}-{number}-{}", self.prefix, name.as_ref()))
    }

    /// A queue or function that nobody else uses.
    pub(crate) fn name(&self, name: &str) -> Text {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}-{name}", self.prefix).into()
    }

    /// The beginning of every name of this case.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// An id made by the case itself, to be deleted after it.
    pub(crate) fn use_id(&self, id: impl Into<Text>) -> Text {
        let id = id.into();
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(id.clone());
        id
    }

    pub(crate) fn ids(&self, count: usize) -> Vec<Text> {
        (0..count).map(|_| self.id("")).collect()
    }

    /// One more handle on the same backing data.
    pub(crate) async fn open_again(&self) -> Checked<Handle> {
        open(&self.options.opener, &self.options).await
    }

    /// One more handle that sees what the first one writes: what a durable store must give, and
    /// another may.
    pub(crate) async fn second_handle(&self) -> Checked<Handle> {
        let second = self.open_again().await?;
        let record = Record {
            job_id: self.id("seen by both"),
            attempt: 1,
            ..Record::default()
        };
        self.store.written(record.clone()).await?;
        if second.get(&record.job_id).await?.is_some() {
            return Ok(second);
        }
        Err(if self.capabilities.durable {
            Failure::Broken(
                "expected the records of a durable store in every handle, found none in the second"
                    .to_owned(),
            )
        } else {
            Failure::NotApplicable("every handle has records of its own".to_owned())
        })
    }

    /// Deletes what the case wrote. A store too broken for that has failed the case already.
    pub(crate) async fn clean_up(&self) {
        const PATIENCE: Duration = Duration::from_secs(30);
        let used = std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        let cleaning = async {
            if let Ok(store) = (self.options.opener)().await {
                for ids in used.chunks(1_000) {
                    let _ = store.delete_many(ids.to_vec()).await;
                }
                // What expired meanwhile, and what stands in an index for it.
                let ahead = if self.options.alone {
                    2 * HOUR
                } else {
                    Duration::ZERO
                };
                let later = now_plus(0).saturating_add(ahead);
                while let Ok(1_000..) = store.cleanup_expired(later, 1_000).await {}
                let _ = store.close().await;
            }
            let _ = self.store.raw().close().await;
        };
        let patience = PATIENCE.min(self.options.case_timeout);
        let _ = tokio::time::timeout(patience, cleaning).await;
    }
}

async fn open(opener: &Opener, options: &Options) -> Checked<Handle> {
    let opening = tokio::time::timeout(options.case_timeout, opener());
    let opened: StoreResult<_> = opening.await.map_err(|_elapsed| {
        Failure::Broken(format!(
            "expected an opened store within {:?}, found a constructor that hangs",
            options.case_timeout
        ))
    })?;
    opened
        .map(Handle::new)
        .map_err(|error| Failure::unexpected("opening the store", &error))
}
