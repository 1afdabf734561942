#![doc = include_str!("../README.md")]

mod announce;
mod config;
mod cursor;
mod footprint;
mod index;
mod records;
mod shared;
mod store;

pub use config::MemoryConfig;
pub use store::MemoryStore;

warren_plugin_api::export_store!(MemoryStore, name = "memory");
