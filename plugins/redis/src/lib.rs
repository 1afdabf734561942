#![doc = include_str!("../README.md")]

mod address;
mod cleanup;
mod config;
mod connection;
mod connector;
mod cursor;
mod decode;
mod encode;
mod error;
mod health;
mod iso_time;
mod json;
mod keys;
mod pieces;
mod read;
mod scan;
mod script;
mod server;
mod slot;
mod store;
mod subscribe;
mod warn_once;
mod write;

pub use config::RedisConfig;
pub use store::RedisStore;

#[doc(hidden)]
pub mod fuzzing {
    //! What reads bytes that others wrote, for fuzz targets. No part of the interface.

    use warren_plugin_api::{Record, StoreResult};

    /// Reads what is under a result key.
    ///
    /// # Errors
    /// `corrupt_data`
    pub fn decode(bytes: Vec<u8>) -> StoreResult<Record> {
        crate::decode::decode_head(&bytes);
        crate::decode::decode(bytes)
    }

    /// The bytes under a result key.
    pub fn encode(record: &Record) -> Vec<u8> {
        let mut json = crate::pieces::Pieces::default();
        let _ = crate::encode::encode(record, &mut json);
        json.iter().collect::<Vec<_>>().concat()
    }
}

warren_plugin_api::export_store!(RedisStore, name = "redis");
