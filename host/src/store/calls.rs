//! What became of the calls of a store.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use warren_plugin_api::{ErrorClass, StoreError};

use crate::figures::{Counter, Durations, Histogram};

/// Declares the operations once: their names, and that they are all counted.
macro_rules! operations {
    ($($name:ident => $text:literal,)*) => {
        /// An operation of a store.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Operation {
            $($name,)*
        }

        impl Operation {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        const OPERATIONS: usize = Operation::ALL.len();
    };
}

operations! {
    Put => "put",
    PutMany => "put_many",
    Get => "get",
    GetMany => "get_many",
    Status => "status",
    StatusMany => "status_many",
    Delete => "delete",
    DeleteMany => "delete_many",
    Scan => "scan",
    CleanupExpired => "cleanup_expired",
    HealthCheck => "health_check",
    Stats => "stats",
    Close => "close",
}

/// Counts calls. Looks at the clock only when somebody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    of: [OfOperation; OPERATIONS],
    pub(crate) made: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) busy: Counter,
    measured: AtomicBool,
}

#[derive(Debug, Default)]
struct OfOperation {
    durations: Durations,
    errors: [Counter; ErrorClass::ALL.len()],
}

impl Calls {
    /// From now on, how long calls take is counted too.
    pub(crate) fn measure(&self) {
        self.measured.store(true, Ordering::Relaxed);
    }

    pub(crate) fn begins(&self) -> Option<Instant> {
        self.made.increment();
        self.measured.load(Ordering::Relaxed).then(Instant::now)
    }

    pub(crate) fn ended(
        &self,
        operation: Operation,
        began: Option<Instant>,
        error: Option<&StoreError>,
    ) {
        if began.is_none() && error.is_none() {
            return;
        }
        let Some(of) = self.of.get(operation as usize) else {
            return;
        };
        if let Some(began) = began {
            of.durations.record(began.elapsed());
        }
        if let Some(errors) = error.and_then(|error| of.errors.get(error.class() as usize)) {
            errors.increment();
        }
    }

    /// Every operation that was called, with how long its calls took.
    pub(crate) fn durations(&self) -> impl Iterator<Item = (&'static str, Histogram)> {
        let all = Operation::ALL.iter().zip(&self.of);
        all.map(|(operation, of)| (operation.as_str(), of.durations.histogram()))
            .filter(|(_, histogram)| histogram.count > 0)
    }

    /// Every operation and class of error that there was, with how often.
    pub(crate) fn errors(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let all = Operation::ALL.iter().zip(&self.of);
        all.flat_map(|(operation, of)| {
            let classes = ErrorClass::ALL.iter().zip(&of.errors);
            classes.map(|(class, count)| (operation.as_str(), class.as_str(), count.get()))
        })
        .filter(|(_, _, count)| *count > 0)
    }
}
