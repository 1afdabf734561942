//! What wakes lapin's thread.
//!
//! lapin forgets that its stream can be written to when it has nothing to write itself, and sleeps;
//! that there may be something to read keeps it awake. So for the outbox's frames it is told both.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

#[derive(Debug, Default)]
pub(super) struct Wakers {
    reader: Option<Waker>,
    both: Option<Both>,
}

#[derive(Debug)]
struct Both {
    writer: Waker,
    waker: Waker,
}

impl Wakers {
    /// Who reads; returned if it is somebody else than before.
    pub(super) fn note_reader(&mut self, reader: &Waker) -> Option<Waker> {
        if self.reader.as_ref().is_some_and(|it| it.will_wake(reader)) {
            return None;
        }
        self.both = None;
        Some(self.reader.insert(reader.clone()).clone())
    }

    /// Wakes whoever reads and `writer`.
    pub(super) fn with_reader(&mut self, writer: &Waker) -> Waker {
        let Some(reader) = &self.reader else {
            return writer.clone();
        };
        let both = self.both.take_if(|it| it.writer.will_wake(writer));
        let both = both.unwrap_or_else(|| Both {
            writer: writer.clone(),
            waker: Arc::new(Pair([reader.clone(), writer.clone()])).into(),
        });
        self.both.insert(both).waker.clone()
    }
}

struct Pair([Waker; 2]);

impl Wake for Pair {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        for waker in &self.0 {
            waker.wake_by_ref();
        }
    }
}
