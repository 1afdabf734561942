//! Everything that a worker depends on is broken at random moments while jobs run; then it is
//! counted what became of each job. CONTRIBUTING.md says how to run it for longer.
//!
//! Needs RabbitMQ at `WARREN_TEST_AMQP_URL`, by default on this machine's default port, and the
//! programs of RabbitMQ, Redis and faketime for servers and clocks of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

#[path = "fault/broker.rs"]
mod broker;
#[path = "fault/clock.rs"]
mod clock;
#[path = "fault/payloads.rs"]
mod payloads;
#[path = "fault/spool.rs"]
mod spool;
#[path = "fault/stop.rs"]
mod stop;
#[path = "fault/store.rs"]
mod store;
#[path = "fault/worker_killed.rs"]
mod worker_killed;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use libtest_mimic::{Arguments, Trial};
use warren_tests::fault::{Scenario, Settings, StoreKind, print_table, run_scenario};

/// All families of scenarios.
const FAMILIES: &[(&str, &[Scenario])] = &[
    ("worker_killed", worker_killed::SCENARIOS),
    ("broker", broker::SCENARIOS),
    ("store", store::SCENARIOS),
    ("spool", spool::SCENARIOS),
    ("clock", clock::SCENARIOS),
    ("stop", stop::SCENARIOS),
    ("payloads", payloads::SCENARIOS),
];

fn main() -> ExitCode {
    let settings = settings();
    let rows = Arc::new(Mutex::new(Vec::new()));
    let mut trials = Vec::new();
    for (family, scenarios) in FAMILIES {
        for scenario in scenarios.iter().filter(|it| settings.include(it)) {
            let rows = Arc::clone(&rows);
            trials.push(Trial::test(
                format!("{family}::{}", scenario.name),
                move || {
                    let (row, outcome) = run_scenario(scenario, settings);
                    rows.lock().unwrap().push(row);
                    outcome.map_err(Into::into)
                },
            ));
        }
    }
    let arguments = Arguments::from_args();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let rows = rows.lock().unwrap();
    if !rows.is_empty() {
        print_table(&rows, settings);
    }
    conclusion.exit_code()
}

/// One round of each, unless the environment asks for more.
fn settings() -> Settings {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text:?}: expected a number")),
        Err(_) => default,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Settings {
        rounds: number("WARREN_FAULT_ROUNDS", 1) as usize,
        jobs: number("WARREN_FAULT_JOBS", 60) as usize,
        seed: number("WARREN_FAULT_SEED", now.as_secs() % 1_000_000),
        store: match std::env::var("WARREN_FAULT_STORE") {
            Err(_) => StoreKind::Redis,
            Ok(name) => StoreKind::named(&name).unwrap_or_else(|wrong| panic!("{wrong}")),
        },
        long: std::env::var_os("WARREN_FAULT_LONG").is_some(),
    }
}
