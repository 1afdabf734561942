#![doc = include_str!("../README.md")]

mod config;
mod connection;
mod cursor;
mod error;
mod health;
mod reader;
mod row;
mod scan;
mod schema;
mod store;
mod subscribe;
mod threads;
mod write;
mod writer;

pub use config::{SqliteConfig, Synchronous};
pub use store::SqliteStore;

warren_plugin_api::export_store!(SqliteStore, name = "sqlite");
