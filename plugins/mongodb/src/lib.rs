#![doc = include_str!("../README.md")]

mod address;
mod cleanup;
mod config;
mod cursor;
mod database;
mod delete;
mod document;
mod error;
mod guard;
mod health;
mod indexes;
mod read;
mod scan;
mod store;
mod subscribe;
mod tls;
mod write;

pub use config::MongodbConfig;
pub use store::MongodbStore;

warren_plugin_api::export_store!(MongodbStore, name = "mongodb");
