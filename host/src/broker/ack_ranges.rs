//! Which acknowledgements one frame can carry.
//!
//! AMQP numbers the deliveries of a channel from 1 and lets one frame acknowledge everything up
//! to a number. Jobs end out of order, so an answer waits here until everything before it has
//! been answered, or is sent alone.

use std::collections::BTreeSet;

use super::Settle;

/// One frame to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckFrame {
    /// Acknowledge everything up to this tag.
    UpTo(u64),
    /// Acknowledge this tag alone.
    One(u64),
    /// Put this tag's message back.
    Requeue(u64),
}

/// The answers of one channel.
#[derive(Debug, Default)]
pub(crate) struct AckRanges {
    /// Every tag up to here has been answered.
    answered_up_to: u64,
    /// Answered tags beyond a gap. Their frames have been sent.
    beyond: BTreeSet<u64>,
}

impl AckRanges {
    /// The frames that carry these answers. Each tag is answered once.
    pub(crate) fn frames(&mut self, answers: &[(u64, Settle)]) -> Vec<AckFrame> {
        let mut frames = Vec::new();
        let mut acked = BTreeSet::new();
        for (tag, answer) in answers {
            match answer {
                Settle::Ack => {
                    acked.insert(*tag);
                }
                Settle::Requeue => {
                    // Before any range, which would acknowledge it.
                    frames.push(AckFrame::Requeue(*tag));
                    self.beyond.insert(*tag);
                }
            }
        }
        let before = self.answered_up_to;
        let mut last_in_range = None;
        loop {
            let next = self.answered_up_to + 1;
            if acked.remove(&next) {
                last_in_range = Some(next);
            } else if !self.beyond.remove(&next) {
                break;
            }
            self.answered_up_to = next;
        }
        match last_in_range {
            Some(tag) if tag == before + 1 => frames.push(AckFrame::One(tag)),
            Some(tag) => frames.push(AckFrame::UpTo(tag)),
            None => {}
        }
        for tag in acked {
            frames.push(AckFrame::One(tag));
            self.beyond.insert(tag);
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_from_the_start_is_one_frame() {
        let mut ranges = AckRanges::default();
        let acks: Vec<_> = (1..=100).map(|tag| (tag, Settle::Ack)).collect();
        assert_eq!(ranges.frames(&acks), [AckFrame::UpTo(100)]);
        assert_eq!(ranges.frames(&[(101, Settle::Ack)]), [AckFrame::One(101)]);
    }

    #[test]
    fn what_lies_beyond_a_gap_is_sent_alone() {
        let mut ranges = AckRanges::default();
        assert_eq!(ranges.frames(&[(3, Settle::Ack)]), [AckFrame::One(3)]);
        let frames = ranges.frames(&[(1, Settle::Ack), (2, Settle::Ack), (4, Settle::Ack)]);
        assert_eq!(frames, [AckFrame::UpTo(4)]);
    }

    proptest! {
        /// A broker that follows the frames sees each tag answered as asked, exactly once.
        #[test]
        fn every_tag_gets_its_own_answer(
            order in Just((1..60_u64).collect::<Vec<_>>()).prop_shuffle(),
            requeued in prop::collection::btree_set(1..60_u64, 0..10),
            batch in 1..12_usize,
        ) {
            let mut ranges = AckRanges::default();
            let mut seen: BTreeMap<u64, Settle> = BTreeMap::new();
            for tags in order.chunks(batch) {
                let answer = |tag: &u64| {
                    if requeued.contains(tag) { Settle::Requeue } else { Settle::Ack }
                };
                let answers: Vec<_> = tags.iter().map(|tag| (*tag, answer(tag))).collect();
                for frame in ranges.frames(&answers) {
                    let (tags, answer) = match frame {
                        AckFrame::UpTo(last) => {
                            let open = (1..=last).filter(|tag| !seen.contains_key(tag));
                            (open.collect::<Vec<_>>(), Settle::Ack)
                        }
                        AckFrame::One(tag) => (vec![tag], Settle::Ack),
                        AckFrame::Requeue(tag) => (vec![tag], Settle::Requeue),
                    };
                    for tag in tags {
                        prop_assert_eq!(seen.insert(tag, answer), None);
                    }
                }
            }
            for tag in 1..60 {
                let expected =
                    if requeued.contains(&tag) { Settle::Requeue } else { Settle::Ack };
                prop_assert_eq!(seen.get(&tag), Some(&expected));
            }
        }
    }
}
