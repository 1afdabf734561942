//! Which copies in the front may be believed.
//!
//! A copy carries a seal: the number that its job's fence had when the record was read from the
//! back. Every change of the job through any handle of this configuration in this process raises
//! the fence before it reaches the back and lowers it afterwards, which breaks all older seals
//! without a word to the front. Nothing depends on the front doing as it is told.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::super::job_locks::slot_of;

const SLOTS: usize = 4096;

/// Proof that nothing was written since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    /// Of these fences: a front may hold copies that another process put there.
    pub(super) fences: u64,
    pub(super) number: u64,
}

/// The fences of all jobs. Several jobs may share one, which costs nothing but a read of the back.
pub(super) struct Fences {
    id: u64,
    slots: Vec<Mutex<Slot>>,
}

#[derive(Default)]
struct Slot {
    number: u64,
    /// Changes that are under way.
    raised: u32,
    /// A change was given up before its end was known: it may come to pass until about then.
    in_doubt_until: Option<Instant>,
}

impl Default for Fences {
    fn default() -> Self {
        Self {
            id: rand::random(),
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Fences {
    /// Raises the fences of these jobs, which are about to be changed.
    pub(super) fn raise<'job>(
        &self,
        job_ids: impl Iterator<Item = &'job str>,
        doubt: Duration,
    ) -> RaisedFence<'_> {
        let mut fence = RaisedFence {
            fences: self,
            numbers: BTreeMap::new(),
            doubt,
        };
        for job_id in job_ids {
            fence.numbers.entry(slot_of(job_id, SLOTS)).or_default();
        }
        for (slot, number) in &mut fence.numbers {
            let mut slot = self.slot(*slot);
            slot.raised += 1;
            slot.number += 1;
            *number = slot.number;
        }
        fence
    }

    /// Raises every fence. Lowered when dropped.
    pub(super) fn raise_all(&self) -> RaisedFence<'_> {
        let mut fence = RaisedFence {
            fences: self,
            numbers: BTreeMap::new(),
            doubt: Duration::ZERO,
        };
        for at in 0..SLOTS {
            let mut slot = self.slot(at);
            slot.raised += 1;
            slot.number += 1;
            fence.numbers.insert(at, slot.number);
        }
        fence
    }

    /// The seals for what is read from now on.
    pub(super) fn seals<'job>(&self, job_ids: impl Iterator<Item = &'job str>) -> Seals {
        let now = Instant::now();
        let numbers = job_ids.filter_map(|job_id| {
            let at = slot_of(job_id, SLOTS);
            let slot = self.slot(at);
            slot.is_calm(now).then_some((at, slot.number))
        });
        Seals {
            fences: self.id,
            numbers: numbers.collect(),
        }
    }

    /// Whether nothing was written since this seal was made.
    pub(super) fn holds(&self, job_id: &str, seal: Seal) -> bool {
        let slot = self.slot(slot_of(job_id, SLOTS));
        seal.fences == self.id && seal.number == slot.number && slot.raised == 0
    }

    /// Somebody else has changed this job.
    pub(super) fn break_seal(&self, job_id: &str) {
        self.slot(slot_of(job_id, SLOTS)).number += 1;
    }

    fn slot(&self, at: usize) -> MutexGuard<'_, Slot> {
        // `slot_of` stays below the number of slots.
        self.slots[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn is_calm(&self, now: Instant) -> bool {
        self.raised == 0 && self.in_doubt_until.is_none_or(|until| until <= now)
    }
}

/// Fences of jobs that are being changed. Dropped without [`lower`](Self::lower), the change is
/// in doubt: no copies are kept for a while.
pub(super) struct RaisedFence<'a> {
    fences: &'a Fences,
    /// By slot, the number that it got.
    numbers: BTreeMap<usize, u64>,
    doubt: Duration,
}

impl RaisedFence<'_> {
    /// The change has ended. The seals are for copies of what was written: there is none where
    /// another change came in between.
    pub(super) fn lower(mut self, is_certain: bool) -> Seals {
        let mut seals = Seals {
            fences: self.fences.id,
            numbers: BTreeMap::new(),
        };
        for (at, number) in std::mem::take(&mut self.numbers) {
            let mut slot = self.fences.slot(at);
            slot.raised -= 1;
            if !is_certain {
                slot.doubt(self.doubt);
            } else if slot.number == number && slot.is_calm(Instant::now()) {
                seals.numbers.insert(at, number);
            }
        }
        seals
    }
}

impl Drop for RaisedFence<'_> {
    fn drop(&mut self) {
        for at in self.numbers.keys() {
            let mut slot = self.fences.slot(*at);
            slot.raised -= 1;
            slot.doubt(self.doubt);
        }
    }
}

impl Slot {
    fn doubt(&mut self, doubt: Duration) {
        self.number += 1;
        let until = Instant::now() + doubt;
        self.in_doubt_until = self.in_doubt_until.max(Some(until));
    }
}

/// Seals by job.
pub(super) struct Seals {
    fences: u64,
    numbers: BTreeMap<usize, u64>,
}

impl Seals {
    pub(super) fn of(&self, job_id: &str) -> Option<Seal> {
        let number = *self.numbers.get(&slot_of(job_id, SLOTS))?;
        Some(Seal {
            fences: self.fences,
            number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOUBT: Duration = Duration::from_secs(30);

    fn seal(fences: &Fences) -> Option<Seal> {
        fences.seals(["job"].into_iter()).of("job")
    }

    fn raised(fences: &Fences) -> RaisedFence<'_> {
        fences.raise(["job"].into_iter(), DOUBT)
    }

    #[test]
    fn a_change_breaks_the_seal_of_what_was_read_before() {
        let fences = Fences::default();
        let before = seal(&fences).unwrap();
        assert!(fences.holds("job", before));
        let fence = raised(&fences);
        assert!(!fences.holds("job", before));
        assert_eq!(seal(&fences), None);
        let written = fence.lower(true).of("job").unwrap();
        assert!(!fences.holds("job", before));
        assert!(fences.holds("job", written));
        assert_eq!(seal(&fences), Some(written));
    }

    #[test]
    fn of_two_changes_at_once_neither_is_kept() {
        let fences = Fences::default();
        let (first, second) = (raised(&fences), raised(&fences));
        assert!(second.lower(true).of("job").is_none());
        assert!(first.lower(true).of("job").is_none());
        assert!(seal(&fences).is_some());
    }

    #[test]
    fn what_is_read_after_a_change_that_was_given_up_is_not_kept() {
        let fences = Fences::default();
        drop(raised(&fences));
        assert_eq!(seal(&fences), None);
        raised(&fences).lower(false);
        assert_eq!(seal(&fences), None);
    }

    #[test]
    fn a_seal_of_other_fences_holds_nowhere() {
        let (fences, others) = (Fences::default(), Fences::default());
        assert!(!fences.holds("job", seal(&others).unwrap()));
    }
}
