//! Any bytes as a record in Redis: no panic, and what is read as a record survives a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_store_redis::fuzzing::{decode, encode};

fuzz_target!(|stored: &[u8]| {
    if let Ok(record) = decode(stored.to_vec()) {
        assert_eq!(decode(encode(&record)), Ok(record));
    }
});
