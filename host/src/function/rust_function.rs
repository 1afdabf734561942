//! Rust functions as handlers: arguments in, one serialised result out, panics caught.

use std::{
    any::Any,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures_util::{FutureExt, future::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};
use warren_plugin_api::Payload;

use super::{Call, Handler, JobContext, JobError, arguments};

/// An async function as a handler.
pub(super) fn asynchronous<A, F, Fut, T, E>(function: F) -> Arc<dyn Handler>
where
    A: DeserializeOwned + Send + 'static,
    F: Fn(JobContext, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Serialize,
    E: Into<JobError>,
{
    Arc::new(Asynchronous {
        function: Arc::new(function),
        arguments: PhantomData,
    })
}

/// A blocking function as a handler.
pub(super) fn blocking<A, F, T, E>(function: F) -> Arc<dyn Handler>
where
    A: DeserializeOwned + Send + 'static,
    F: Fn(JobContext, A) -> Result<T, E> + Send + Sync + 'static,
    T: Serialize,
    E: Into<JobError>,
{
    Arc::new(Blocking {
        function: Arc::new(function),
        arguments: PhantomData,
    })
}

struct Asynchronous<F, A> {
    function: Arc<F>,
    arguments: PhantomData<fn(A)>,
}

impl<A, F, Fut, T, E> Handler for Asynchronous<F, A>
where
    A: DeserializeOwned + Send + 'static,
    F: Fn(JobContext, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Serialize,
    E: Into<JobError>,
{
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Payload, JobError>> {
        let function = Arc::clone(&self.function);
        let run = async move {
            let arguments = arguments::read(&call.args, &call.kwargs)?;
            to_payload(function(call.context, arguments).await)
        };
        AssertUnwindSafe(run)
            .catch_unwind()
            .map(|ended| ended.unwrap_or_else(|panic| Err(panicked(&*panic))))
            .boxed()
    }
}

struct Blocking<F, A> {
    function: Arc<F>,
    arguments: PhantomData<fn(A)>,
}

impl<A, F, T, E> Handler for Blocking<F, A>
where
    A: DeserializeOwned + Send + 'static,
    F: Fn(JobContext, A) -> Result<T, E> + Send + Sync + 'static,
    T: Serialize,
    E: Into<JobError>,
{
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Payload, JobError>> {
        let function = Arc::clone(&self.function);
        let run = move || {
            let arguments = arguments::read(&call.args, &call.kwargs)?;
            to_payload(function(call.context, arguments))
        };
        let guarded = move || {
            catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(&*panic)))
        };
        async move {
            tokio::task::spawn_blocking(guarded)
                .await
                .unwrap_or_else(|_| Err(JobError::new("Cancelled", "the worker is stopping")))
        }
        .boxed()
    }
}

fn to_payload<T: Serialize, E: Into<JobError>>(result: Result<T, E>) -> Result<Payload, JobError> {
    let value = result.map_err(Into::into)?;
    serde_json::to_vec(&value)
        .map(Payload::from)
        .map_err(|error| {
            let message = format!("the result cannot be written as JSON: {error}");
            JobError::new("UnserializableResult", message).never_retry()
        })
}

fn panicked(panic: &(dyn Any + Send)) -> JobError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    JobError::new("Panic", text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::function::{FunctionRegistry, JobFacts, RetryAdvice};

    async fn run(
        functions: &FunctionRegistry,
        name: &str,
        args: &str,
        kwargs: &str,
    ) -> Result<String, JobError> {
        let facts = JobFacts {
            job_id: "job-1".into(),
            attempt: 2,
            ..JobFacts::default()
        };
        let context = JobContext::new(facts, functions.state(), CancellationToken::new());
        let call = Call {
            context,
            args: args.into(),
            kwargs: kwargs.into(),
        };
        let result = functions.get(name).unwrap().handler.call(call).await?;
        Ok(String::from_utf8(result.to_vec()).unwrap())
    }

    #[derive(Deserialize)]
    struct Greeting {
        name: String,
        #[serde(default)]
        loud: bool,
    }

    fn functions() -> FunctionRegistry {
        let mut functions = FunctionRegistry::new();
        functions.provide(41_u64);
        functions
            .register("add", |_job: JobContext, (a, b): (i64, i64)| async move {
                Ok::<_, JobError>(a + b)
            })
            .unwrap();
        functions
            .register("greet", |_job: JobContext, greeting: Greeting| async move {
                let Greeting { name, loud } = greeting;
                Ok::<_, JobError>(if loud { name.to_uppercase() } else { name })
            })
            .unwrap();
        functions
            .register("facts", |job: JobContext, (): ()| async move {
                let number = job
                    .state::<u64>()
                    .ok_or(JobError::new("Missing", "a number"))?;
                Ok::<_, JobError>((job.job_id().to_owned(), job.attempt(), *number))
            })
            .unwrap();
        functions
            .register("panics", |_job: JobContext, (): ()| async move {
                if true {
                    panic!("at the disco");
                }
                Ok::<_, JobError>(())
            })
            .unwrap();
        functions
            .register("odd", |_job: JobContext, (): ()| async move {
                Ok::<_, JobError>(BTreeMap::from([((1, 2), 3)]))
            })
            .unwrap();
        functions
            .register_blocking("slow", Default::default(), |_job, (text,): (String,)| {
                text.parse::<u8>()
            })
            .unwrap();
        functions
    }

    #[tokio::test]
    async fn positional_arguments_fill_a_tuple() {
        assert_eq!(
            run(&functions(), "add", "[1, 2]", "{}").await,
            Ok("3".to_owned())
        );
    }

    #[tokio::test]
    async fn a_struct_takes_positional_and_named_arguments() {
        let functions = functions();
        for (args, kwargs, expected) in [
            ("[]", r#"{"name": "ann"}"#, "\"ann\""),
            (r#"["ann", true]"#, "{}", "\"ANN\""),
            (r#"["ann"]"#, r#"{"loud": true}"#, "\"ANN\""),
            ("[]", r#"{"loud": true, "name": "ann"}"#, "\"ANN\""),
        ] {
            assert_eq!(
                run(&functions, "greet", args, kwargs).await,
                Ok(expected.to_owned())
            );
        }
    }

    #[tokio::test]
    async fn the_context_knows_the_job_and_the_shared_state() {
        let result = run(&functions(), "facts", "[]", "{}").await;
        assert_eq!(result, Ok(r#"["job-1",2,41]"#.to_owned()));
    }

    #[tokio::test]
    async fn wrong_arguments_are_not_tried_again() {
        let functions = functions();
        for (args, kwargs) in [
            ("[1]", "{}"),
            ("[1, 2, 3]", "{}"),
            (r#"[1, "x"]"#, "{}"),
            ("[1, NaN]", "{}"),
            ("[]", r#"{"a": 1}"#),
            ("[", "{}"),
        ] {
            let error = run(&functions, "add", args, kwargs).await.unwrap_err();
            assert_eq!(error.kind, "InvalidArguments", "{args} {kwargs}: {error}");
            assert_eq!(error.retry, RetryAdvice::Never);
        }
        let error = run(&functions, "greet", r#"["ann"]"#, r#"{"name": "bob"}"#).await;
        assert!(error.unwrap_err().message.contains("name"));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_job() {
        std::panic::set_hook(Box::new(|_| {}));
        let error = run(&functions(), "panics", "[]", "{}").await.unwrap_err();
        assert_eq!(error, JobError::new("Panic", "at the disco"));
    }

    #[tokio::test]
    async fn a_result_that_json_cannot_hold_is_an_error() {
        let error = run(&functions(), "odd", "[]", "{}").await.unwrap_err();
        assert_eq!(error.kind, "UnserializableResult");
    }

    #[tokio::test]
    async fn blocking_functions_run_and_fail_alike() {
        let functions = functions();
        assert_eq!(
            run(&functions, "slow", r#"["7"]"#, "{}").await,
            Ok("7".to_owned())
        );
        let error = run(&functions, "slow", r#"["x"]"#, "{}").await.unwrap_err();
        assert_eq!(error.kind, "ParseIntError");
    }

    #[test]
    fn a_name_is_registered_once() {
        let mut functions = functions();
        let again = functions.register("add", |_job, (): ()| async { Ok::<_, JobError>(()) });
        assert!(again.is_err());
    }
}
