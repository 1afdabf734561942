#![doc = include_str!("../README.md")]

mod address;
mod bucket;
mod cleanup;
mod config;
mod credentials;
mod cursor;
mod error;
mod health;
mod http;
mod keys;
mod lifecycle;
mod object;
mod probe;
mod read;
mod remove;
mod scan;
mod shared;
mod store;
mod write;

pub use config::{Addressing, S3Config};
pub use store::S3Store;

warren_plugin_api::export_store!(S3Store, name = "s3");
