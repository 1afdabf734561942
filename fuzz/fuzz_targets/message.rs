//! Any bytes as a message's body: no panic, and what is accepted survives a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::job::JobMessage;
use warren_plugin_api::{Payload, Timestamp};

fuzz_target!(|body: &[u8]| {
    let received = Timestamp::from_unix_us(0);
    if let Ok(message) = JobMessage::parse(&Payload::from(body), received) {
        let again = JobMessage::parse(&message.to_body(), received);
        assert_eq!(again.ok().as_ref(), Some(&message));
    }
});
