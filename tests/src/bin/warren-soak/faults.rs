//! Faults that a worker lives through.

use warren_tests::fault::Round;

/// Breaks something for up to three seconds, and mends it.
pub(crate) fn any(round: &mut Round) {
    round.broke();
    match round.random(0..6) {
        0 => {
            round.redis.stop();
            round.pause(500..3_000);
            round.redis.start_again();
        }
        1 => {
            round.redis.hang();
            round.pause(500..3_000);
            round.redis.go_on();
        }
        2 => {
            round.store.reset_mid_reply();
            round.pause(500..3_000);
            round.store.come_back();
        }
        3 => {
            round.store.speak_garbage();
            round.pause(500..3_000);
            round.store.come_back();
        }
        4 => round.broker.cut(),
        _ => {
            round.broker.fall_silent();
            round.pause(500..3_000);
            round.broker.come_back();
        }
    }
}
