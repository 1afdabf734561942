//! Counting: what the store says of each job, against what the job said of itself.

use std::{
    cmp::Ordering,
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{ledger::Run, round::Round};
use crate::WorkerProcess;

/// How long jobs may take to end once nothing is broken any more.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Jobs that one run of the program is asked about.
const AT_ONCE: usize = 200;

/// What became of the jobs of a round.
#[derive(Debug, Default)]
pub struct Counts {
    /// Jobs that the program said it had sent.
    pub jobs: usize,
    /// Jobs without the one result that they must have, and what is wrong with them.
    pub lost: Vec<String>,
    /// Attempts that ran more than once, and dead letters that are there more than once.
    pub repeated: Vec<String>,
    /// Jobs that no store knows, although they ran.
    pub forgotten: Vec<String>,
    /// Jobs whose results the store refused for good, which their records say.
    refused: usize,
    runs: HashMap<String, Vec<Run>>,
}

impl Counts {
    /// Results that the store should have taken, or should not have, count as lost.
    pub fn expect_refused(&mut self, expected: usize) {
        if self.refused != expected {
            let found = self.refused;
            self.lost
                .push(format!("{found} results were refused, expected {expected}"));
        }
    }

    /// The store was emptied at the ledger's mark. What ended before it may be forgotten; nothing
    /// else may.
    pub fn store_was_emptied(&mut self) {
        let runs = &self.runs;
        let ended_before = |id: &String| {
            let mut ends = runs
                .get(id)
                .into_iter()
                .flatten()
                .filter(|run| run.end.is_some());
            ends.next_back().is_some_and(|run| !run.ended_after_mark)
        };
        let forgotten: Vec<String> = std::mem::take(&mut self.forgotten);
        let (expected, wrong): (Vec<_>, Vec<_>) = forgotten.into_iter().partition(ended_before);
        self.lost
            .retain(|line| !expected.iter().any(|id| line.starts_with(id.as_str())));
        self.forgotten = wrong;
    }
}

/// Waits, stops the workers, and counts.
pub(super) fn count(
    round: &Round,
    sent: Vec<String>,
    unknown: usize,
    workers: Vec<WorkerProcess>,
) -> Counts {
    let mut counts = Counts {
        jobs: sent.len(),
        ..Counts::default()
    };
    let records = settled(round, &sent);
    // Messages that came twice are answered without a run.
    let (rabbitmq, deadline) = (round.rabbitmq(), Instant::now() + PATIENCE);
    while rabbitmq.ready(&round.system.queue) != Some(0) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    for worker in workers {
        worker.signal(Signal::SIGTERM);
        worker.ended().expect(0);
    }
    counts.runs = round.ledger().runs();
    for id in &sent {
        let runs = counts.runs.get(id).map_or(&[][..], Vec::as_slice);
        match records.get(id) {
            Some(record) => {
                if let Some(wrong) = disagreement(record, runs) {
                    counts
                        .lost
                        .push(format!("{id}: {wrong}; {record}; ran {runs:?}"));
                }
            }
            None => {
                counts.lost.push(format!("{id}: unknown; ran {runs:?}"));
                counts.forgotten.push(id.clone());
            }
        }
    }
    for (id, runs) in &counts.runs {
        let mut attempts: Vec<u64> = runs.iter().map(|run| run.attempt).collect();
        attempts.sort_unstable();
        if attempts.windows(2).any(|pair| pair[0] == pair[1]) {
            counts.repeated.push(format!("{id}: {runs:?}"));
        }
    }
    let strangers = counts.runs.keys().filter(|id| !sent.contains(id)).count();
    if strangers > unknown {
        counts
            .lost
            .push(format!("{strangers} jobs ran that were not sent"));
    }
    let with_error = |kind| records.values().filter(|it| has_error(it, kind)).count();
    counts.refused = with_error(REFUSED);
    look_for_leftovers(round, with_error(UNREADABLE), &mut counts);
    counts
}

/// What the store knows, once it knows an end of every job, or for as long as patience lasts.
fn settled(round: &Round, sent: &[String]) -> HashMap<String, Value> {
    let mut records = HashMap::new();
    let mut open: Vec<String> = sent.to_vec();
    let mut deadline = Instant::now() + PATIENCE;
    let mut quiet_since = None;
    while !open.is_empty() && Instant::now() < deadline {
        let before = open.len();
        for ids in open.chunks(AT_ONCE) {
            let mut arguments = vec!["job", "get", "--json"];
            arguments.extend(ids.iter().map(String::as_str));
            for record in round.system.run(&arguments).json_lines() {
                // A job that nobody knows is shown with no status.
                if let (Some(id), Some(_)) = (record["job_id"].as_str(), record["status"].as_str())
                {
                    records.insert(id.to_owned(), record);
                }
            }
        }
        open.retain(|id| records.get(id).is_none_or(|record| !is_end(record)));
        if open.len() < before {
            deadline = Instant::now() + PATIENCE;
            quiet_since = None;
        } else if is_quiet(round) {
            // Nothing waits and nothing runs: what is not there by now never comes.
            let since = *quiet_since.get_or_insert_with(Instant::now);
            if since.elapsed() > QUIET {
                break;
            }
        }
        thread::sleep(Duration::from_millis(300));
    }
    records
}

/// Longer than any delay, retry or pause of the worker.
const QUIET: Duration = Duration::from_secs(10);

fn is_quiet(round: &Round) -> bool {
    let ledger = round.ledger();
    round.rabbitmq().ready(&round.system.queue) == Some(0)
        && ledger.begun() == ledger.ended()
        && round.spooled("records") == 0
}

fn is_end(record: &Value) -> bool {
    matches!(
        record["status"].as_str(),
        Some("completed" | "failed" | "aborted")
    )
}

/// A message that is no job ends so, without a run.
const UNREADABLE: &str = "UnreadableMessage";
/// A result that the store refuses for good ends so, after its run.
const REFUSED: &str = "ResultRefused";

fn has_error(record: &Value, kind: &str) -> bool {
    let error = record["error"].as_str();
    error.is_some_and(|error| error.starts_with(kind))
}

/// A result is the number of the process that made it, perhaps with something after it.
fn first_word(result: &Value) -> String {
    match result {
        Value::String(text) => text.split(' ').next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

/// What is wrong with a job's record, given its runs.
fn disagreement(record: &Value, runs: &[Run]) -> Option<&'static str> {
    let attempt = record["attempt"].as_u64();
    let ended = |word: &str, process: Option<&str>| {
        runs.iter().any(|run| {
            Some(run.attempt) == attempt
                && run.end.as_deref() == Some(word)
                && process.is_none_or(|process| process == run.process)
        })
    };
    match record["status"].as_str() {
        Some("completed") => {
            let result = first_word(&record["result"]);
            (!ended("ok", Some(&result))).then_some("completed by no run of its")
        }
        // Those that say what Warren itself refused.
        Some("failed") if has_error(record, UNREADABLE) => {
            (!runs.is_empty()).then_some("unreadable, and it ran")
        }
        Some("failed") if has_error(record, REFUSED) => {
            (!ended("ok", None)).then_some("refused a result that no run of its made")
        }
        Some("failed") => (!ended("failed", None)).then_some("failed in no run of its"),
        Some("aborted") => Some("aborted, by nobody"),
        _ => Some("has not ended"),
    }
}

/// What must not be left: messages, spooled results, a wrong number of dead letters.
fn look_for_leftovers(round: &Round, unreadable: usize, counts: &mut Counts) {
    let rabbitmq = round.rabbitmq();
    let ready = rabbitmq.ready(&round.system.queue).unwrap_or(0);
    if ready > 0 {
        let left = format!("{ready} messages are left in the queue");
        counts.lost.push(left);
    }
    let spooled = round.spooled("records");
    if spooled > 0 {
        let left = format!("{spooled} results are left in the spool");
        counts.lost.push(left);
    }
    let has_failed = |run: &Run| run.end.as_deref() == Some("failed");
    let runs = counts.runs.values();
    let failed = unreadable + runs.filter(|runs| runs.iter().any(has_failed)).count();
    let dead = rabbitmq.ready(&round.system.dead_letters()).unwrap_or(0) as usize;
    let comparison = format!("{failed} jobs failed, {dead} are dead letters");
    match dead.cmp(&failed) {
        Ordering::Less => counts.lost.push(comparison),
        Ordering::Equal => {}
        Ordering::Greater => counts.repeated.push(comparison),
    }
}
