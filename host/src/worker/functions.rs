//! A worker's functions, each with what became of its jobs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use warren_plugin_api::Status;

use crate::{
    figures::{Counter, Durations},
    function::{Function, FunctionRegistry},
};

/// A function, and what became of its jobs on this worker.
#[derive(Debug)]
pub(super) struct CountedFunction {
    pub(super) function: Arc<Function>,
    pub(super) jobs: JobCounts,
}

/// What became of jobs.
#[derive(Debug, Default)]
pub(super) struct JobCounts {
    pub(super) completed: Counter,
    pub(super) failed: Counter,
    pub(super) retried: Counter,
    pub(super) aborted: Counter,
    /// Of those that ran.
    pub(super) durations: Durations,
}

impl JobCounts {
    pub(super) fn count(&self, status: Status, duration: Option<Duration>) {
        let outcome = match status {
            Status::Completed => &self.completed,
            Status::Retrying => &self.retried,
            Status::Aborted => &self.aborted,
            Status::Failed | Status::Queued | Status::InProgress => &self.failed,
        };
        outcome.increment();
        if let Some(duration) = duration {
            self.durations.record(duration);
        }
    }
}

/// The functions of one worker, by name.
#[derive(Debug, Default)]
pub(super) struct Functions {
    known: BTreeMap<String, Arc<CountedFunction>>,
    /// Of jobs that name no function of this worker: their names are anybody's.
    unknown: JobCounts,
}

impl Functions {
    pub(super) fn of(registry: &FunctionRegistry) -> Self {
        let counted = |name: &str| {
            let counted = CountedFunction {
                function: registry.get(name)?,
                jobs: JobCounts::default(),
            };
            Some((name.to_owned(), Arc::new(counted)))
        };
        Self {
            known: registry.names().filter_map(counted).collect(),
            unknown: JobCounts::default(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<CountedFunction>> {
        self.known.get(name).cloned()
    }

    /// Counts a job that was not run.
    pub(super) fn count_unrun(&self, name: &str, status: Status) {
        let known = self.known.get(name).map(|counted| &counted.jobs);
        known.unwrap_or(&self.unknown).count(status, None);
    }

    /// What became of the jobs of each function; the name is empty for those of no function.
    pub(super) fn jobs(&self) -> impl Iterator<Item = (&str, &JobCounts)> {
        let known = self.known.iter();
        known
            .map(|(name, counted)| (name.as_str(), &counted.jobs))
            .chain([("", &self.unknown)])
    }
}
