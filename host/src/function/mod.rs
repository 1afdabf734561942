//! Where the job code comes from: async Rust functions, and commands in any language.

mod arguments;
pub mod command;
mod context;
mod error;
mod registry;
mod rust_function;

pub use context::{JobContext, JobFacts, SharedState};
pub use error::{JobError, Retry, RetryAdvice};
pub use registry::{
    Call, Function, FunctionPolicy, FunctionRegistry, Handler, RegisterFunctionError,
};
