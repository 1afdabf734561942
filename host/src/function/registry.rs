//! Functions by the name that jobs call them.

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;
use warren_plugin_api::{Payload, Text};

use super::{JobContext, JobError, SharedState, rust_function};
use crate::job::RetryPolicy;

/// A call of a function.
#[derive(Debug, Clone)]
pub struct Call {
    /// The job it is for.
    pub context: JobContext,
    /// Positional arguments, a JSON array.
    pub args: Payload,
    /// Named arguments, a JSON object.
    pub kwargs: Payload,
}

/// Something that runs jobs. Dropping the future ends the run.
pub trait Handler: Send + Sync {
    /// Permits for the runs that can go on at once, where the handler cannot bear as many as the
    /// worker has jobs. The time a job waits for its permit does not count as its run.
    fn slots(&self) -> Option<Arc<Semaphore>> {
        None
    }

    /// Runs a job; the answer is JSON.
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Payload, JobError>>;
}

/// How a function's runs are treated.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionPolicy {
    /// The longest that one run may take.
    pub timeout: Duration,
    /// Whether and when a failed run is repeated.
    pub retry: RetryPolicy,
    /// How long a result is kept, where the job itself does not say.
    pub result_ttl: Option<Duration>,
}

impl Default for FunctionPolicy {
    /// 5 minutes, the default retries, the worker's own time to live.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            retry: RetryPolicy::default(),
            result_ttl: None,
        }
    }
}

/// A function that jobs can name.
pub struct Function {
    /// The name.
    pub name: Text,
    /// What runs.
    pub handler: Arc<dyn Handler>,
    /// How its runs are treated.
    pub policy: FunctionPolicy,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// A function's name is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a function with the name {name:?} is registered already")]
pub struct RegisterFunctionError {
    /// The name.
    pub name: String,
}

/// The functions that a worker runs. Cheap to clone once it is complete.
///
/// ```
/// use warren::function::{FunctionRegistry, JobContext, JobError};
///
/// let mut functions = FunctionRegistry::new();
/// functions.register("add", |_job: JobContext, (a, b): (i64, i64)| async move {
///     Ok::<_, JobError>(a + b)
/// })?;
/// # Ok::<_, warren::function::RegisterFunctionError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct FunctionRegistry {
    functions: BTreeMap<String, Arc<Function>>,
    state: Arc<SharedState>,
}

impl FunctionRegistry {
    /// A registry without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives every function access to a value, by its type: see [`JobContext::state`].
    pub fn provide<T: Send + Sync + 'static>(&mut self, value: T) {
        let mut state = SharedState::clone(&self.state);
        state.insert(value);
        self.state = Arc::new(state);
    }

    /// The values that functions have access to.
    pub fn state(&self) -> Arc<SharedState> {
        Arc::clone(&self.state)
    }

    /// Registers an async function with the default policy.
    ///
    /// `A` is what it takes: a tuple for positional arguments, or a struct, whose fields are
    /// filled from positional arguments in their order and from named ones.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register<A, F, Fut, T, E>(
        &mut self,
        name: &str,
        function: F,
    ) -> Result<(), RegisterFunctionError>
    where
        A: DeserializeOwned + Send + 'static,
        F: Fn(JobContext, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize,
        E: Into<JobError>,
    {
        self.register_with(name, FunctionPolicy::default(), function)
    }

    /// Registers an async function with a policy of its own.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register_with<A, F, Fut, T, E>(
        &mut self,
        name: &str,
        policy: FunctionPolicy,
        function: F,
    ) -> Result<(), RegisterFunctionError>
    where
        A: DeserializeOwned + Send + 'static,
        F: Fn(JobContext, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize,
        E: Into<JobError>,
    {
        self.register_handler(name, policy, rust_function::asynchronous(function))
    }

    /// Registers a function that blocks its thread. It runs on a thread of its own, which goes on
    /// to the end even when the job has timed out: check [`JobContext::cancelled`].
    ///
    /// # Errors
    /// The name is taken.
    pub fn register_blocking<A, F, T, E>(
        &mut self,
        name: &str,
        policy: FunctionPolicy,
        function: F,
    ) -> Result<(), RegisterFunctionError>
    where
        A: DeserializeOwned + Send + 'static,
        F: Fn(JobContext, A) -> Result<T, E> + Send + Sync + 'static,
        T: Serialize,
        E: Into<JobError>,
    {
        self.register_handler(name, policy, rust_function::blocking(function))
    }

    /// Registers anything that runs jobs.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register_handler(
        &mut self,
        name: &str,
        policy: FunctionPolicy,
        handler: Arc<dyn Handler>,
    ) -> Result<(), RegisterFunctionError> {
        if self.functions.contains_key(name) {
            return Err(RegisterFunctionError {
                name: name.to_owned(),
            });
        }
        let function = Function {
            name: name.into(),
            handler,
            policy,
        };
        self.functions.insert(name.to_owned(), Arc::new(function));
        Ok(())
    }

    /// The function of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Function>> {
        self.functions.get(name).cloned()
    }

    /// The names of all functions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }

    /// Whether there is no function.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }
}
