#![doc = include_str!("../README.md")]

mod address;
mod cleanup;
mod config;
mod cursor;
mod database;
mod error;
mod health;
mod names;
mod read;
mod row;
mod scan;
mod schema;
mod statements;
mod store;
mod subscribe;
mod text;
mod tls;
mod write;

pub use config::PostgresConfig;
pub use store::PostgresStore;

warren_plugin_api::export_store!(PostgresStore, name = "postgres");
