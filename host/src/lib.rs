//! Warren: a job worker and client for RabbitMQ that keeps every job's result in a store loaded
//! at run time as a shared library.

mod announcer;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
mod duration_text;
mod figures;
pub mod function;
pub mod job;
mod sleep;
pub mod store;
pub mod worker;
