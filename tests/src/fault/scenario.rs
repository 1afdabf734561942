//! Running a scenario for some rounds, and the table of what was counted.

use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};

use super::{
    check::Counts,
    round::{Round, StoreKind},
};
use crate::{PrivateRabbitMq, amqp_url};

/// Whether an attempt may run twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// Where a worker or its connection dies, delivery is at least once.
    Allowed,
    /// Everywhere else, once.
    Never,
}

/// One way to break things.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name, a sentence with `_`.
    pub name: &'static str,
    /// Whether an attempt may run twice.
    pub repeats: Repeats,
    /// Whether only Redis can be broken like this.
    pub needs_redis: bool,
    /// Whether a round takes minutes.
    pub is_long: bool,
    /// What it does.
    pub act: Act,
}

/// A scenario's own part.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// On the broker of the tests.
    Shared(fn(&mut Round) -> Counts),
    /// On a broker of its own, which it stops and blocks.
    OwnBroker(fn(&mut Round, &mut PrivateRabbitMq) -> Counts),
}

impl Scenario {
    /// On the broker of the tests.
    pub const fn new(name: &'static str, repeats: Repeats, act: fn(&mut Round) -> Counts) -> Self {
        Self::of(name, repeats, Act::Shared(act))
    }

    const fn of(name: &'static str, repeats: Repeats, act: Act) -> Self {
        Self {
            name,
            repeats,
            needs_redis: false,
            is_long: false,
            act,
        }
    }

    /// One that breaks Redis.
    pub const fn of_redis(
        name: &'static str,
        repeats: Repeats,
        act: fn(&mut Round) -> Counts,
    ) -> Self {
        Self {
            needs_redis: true,
            ..Self::new(name, repeats, act)
        }
    }

    /// The same, a round of which takes minutes.
    #[must_use]
    pub const fn long(self) -> Self {
        Self {
            is_long: true,
            ..self
        }
    }

    /// One that breaks RabbitMQ itself.
    pub const fn of_broker(
        name: &'static str,
        repeats: Repeats,
        act: fn(&mut Round, &mut PrivateRabbitMq) -> Counts,
    ) -> Self {
        Self::of(name, repeats, Act::OwnBroker(act))
    }
}

/// How much is run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Rounds of each scenario.
    pub rounds: usize,
    /// Jobs of a load.
    pub jobs: usize,
    /// The seed of the first round; each further one has the next number.
    pub seed: u64,
    /// Where results are kept.
    pub store: StoreKind,
    /// Whether scenarios are run that take minutes each time.
    pub long: bool,
}

impl Settings {
    /// Whether a scenario is run with them: what breaks Redis says nothing of another store.
    pub fn include(&self, scenario: &Scenario) -> bool {
        (self.long || !scenario.is_long)
            && (self.store == StoreKind::Redis || !scenario.needs_redis)
    }
}

/// A line of the table.
#[derive(Debug, Default, Clone)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// Rounds that were run.
    pub rounds: usize,
    /// Faults in them.
    pub faults: usize,
    /// Jobs in them.
    pub jobs: usize,
    /// Jobs that were lost.
    pub lost: usize,
    /// Attempts that ran twice.
    pub repeated: usize,
}

/// A broker to break, one scenario after the other.
static OWN_BROKER: Mutex<Option<PrivateRabbitMq>> = Mutex::new(None);

/// Ends the broker that [`run_scenario`] may have started.
pub(super) fn stop_own_broker() {
    let mut broker = OWN_BROKER.lock().unwrap_or_else(|error| error.into_inner());
    broker.take();
}

/// Runs all rounds. The error says what was lost, and the seed to see it again.
///
/// # Errors
/// The first round in which a job was lost, or ran twice and must not, or the scenario panicked.
pub fn run_scenario(scenario: &Scenario, settings: Settings) -> (Row, Result<(), String>) {
    let mut row = Row {
        scenario: scenario.name,
        ..Row::default()
    };
    for number in 0..settings.rounds {
        let seed = settings.seed + number as u64;
        let (counts, faults) = match run_round(scenario, settings, seed) {
            Ok(counted) => counted,
            Err(what) => return (row, Err(format!("seed {seed}: {what}"))),
        };
        row.rounds += 1;
        row.faults += faults;
        row.jobs += counts.jobs;
        row.lost += counts.lost.len();
        row.repeated += counts.repeated.len();
        if let Some(wrong) = wrong(scenario, &counts) {
            return (row, Err(format!("seed {seed}: {wrong}")));
        }
    }
    (row, Ok(()))
}

fn run_round(
    scenario: &Scenario,
    settings: Settings,
    seed: u64,
) -> Result<(Counts, usize), String> {
    let Settings { store, jobs, .. } = settings;
    let run = AssertUnwindSafe(|| match scenario.act {
        Act::Shared(act) => {
            let mut round = Round::new(&amqp_url(), store, jobs, seed);
            (act(&mut round), round.faults())
        }
        Act::OwnBroker(act) => {
            let mut broker = OWN_BROKER.lock().unwrap_or_else(|error| error.into_inner());
            let broker = broker.get_or_insert_with(PrivateRabbitMq::start);
            let mut round = Round::new(&broker.url(), store, jobs, seed);
            (act(&mut round, broker), round.faults())
        }
    });
    catch_unwind(run).map_err(|panic| {
        // A broken broker must not spoil the next round.
        if matches!(scenario.act, Act::OwnBroker(_)) {
            stop_own_broker();
        }
        panic_text(&*panic)
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

fn wrong(scenario: &Scenario, counts: &Counts) -> Option<String> {
    const SHOWN: usize = 5;
    let shown = |lines: &[String]| lines[..lines.len().min(SHOWN)].join("\n  ");
    if !counts.lost.is_empty() {
        let count = counts.lost.len();
        return Some(format!("{count} lost\n  {}", shown(&counts.lost)));
    }
    if scenario.repeats == Repeats::Never && !counts.repeated.is_empty() {
        let count = counts.repeated.len();
        return Some(format!("{count} ran twice\n  {}", shown(&counts.repeated)));
    }
    None
}

/// Prints the table, and ends the broker that was broken.
pub fn print_table(rows: &[Row], settings: Settings) {
    stop_own_broker();
    let width = rows.iter().map(|row| row.scenario.len()).max().unwrap_or(8);
    let mut table = format!(
        "\n| {:width$} | rounds | faults | jobs | lost | ran twice |\n|{}|--:|--:|--:|--:|--:|\n",
        "scenario",
        "-".repeat(width + 2)
    );
    let mut sum = Row {
        scenario: "all",
        ..Row::default()
    };
    let mut add = |row: &Row| {
        let _ = writeln!(
            table,
            "| {:width$} | {} | {} | {} | {} | {} |",
            row.scenario, row.rounds, row.faults, row.jobs, row.lost, row.repeated
        );
    };
    for row in rows {
        add(row);
        sum.rounds += row.rounds;
        sum.faults += row.faults;
        sum.jobs += row.jobs;
        sum.lost += row.lost;
        sum.repeated += row.repeated;
    }
    add(&sum);
    println!(
        "{table}\nseed {}, store {:?}",
        settings.seed, settings.store
    );
}
