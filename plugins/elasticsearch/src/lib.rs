#![doc = include_str!("../README.md")]

mod address;
mod bulk;
mod cleanup;
mod client;
mod config;
mod cursor;
mod document;
mod error;
mod health;
mod index;
mod job_key;
mod mapping;
mod read;
mod scan;
mod search;
mod stats;
mod store;
mod tls;
mod write;

pub use config::{ElasticsearchConfig, Refresh};
pub use store::ElasticsearchStore;

warren_plugin_api::export_store!(ElasticsearchStore, name = "elasticsearch");
