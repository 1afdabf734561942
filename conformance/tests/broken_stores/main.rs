//! The suite finds what is wrong with a store: each of these has one defect, and the case that is
//! there for it fails, while the same store without a defect passes everything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "in a test a broken expectation is the finding"
)]

mod backing;
mod defect;
mod mangle;
mod store;

use std::{process::ExitCode, sync::Arc, time::Duration};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use warren_conformance::{Outcome, Report, Scale, Suite, cases};
use warren_plugin_api::{Record, ResultStore, Status, StoreObject, StoreResult, Timestamp};

use crate::{
    backing::Backing,
    defect::{DEFECTS, Defect, SURE},
    store::{Fault, MapStore, SECRET},
};

fn suite(defect: Option<Defect>) -> Suite {
    let backing = Arc::new(Backing::default());
    let damaged = Arc::clone(&backing);
    Suite::new(move || {
        let store = MapStore::new(&backing, defect);
        async move { Ok(StoreObject::from_store(store)) }
    })
    .alone()
    .declared(MapStore::CAPABILITIES)
    .config_schema(config_schema(defect))
    .secret(SECRET)
    .unreachable(move || faulty(Fault::Absent, defect))
    .unresponsive(move || faulty(Fault::Unresponsive, defect))
    .wrong_credentials(move || faulty(Fault::RefusesCredentials, defect))
    .no_room(move || faulty(Fault::Full, defect))
    .damage(move |job_id| {
        damaged.lock().damaged.insert(job_id);
        async {}
    })
}

fn config_schema(defect: Option<Defect>) -> Value {
    let described = match defect {
        Some(Defect::DescribesNoOption) => "",
        _ => "The folder.",
    };
    let needed: &[&str] = match defect {
        Some(Defect::NeedsAnOption) => &["path"],
        _ => &[],
    };
    json!({
        "type": "object",
        "properties": { "path": { "type": "string", "description": described } },
        "required": needed,
        "additionalProperties": defect == Some(Defect::TakesAnyOption),
    })
}

async fn faulty(fault: Fault, defect: Option<Defect>) -> StoreResult<StoreObject> {
    Ok(StoreObject::from_store(MapStore::on_faulty(fault, defect)))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// The sound store passes every case; what is not asked of every store, where it claims to have it.
fn the_sound_store(id: &'static str) -> Result<(), Failed> {
    let backing = Arc::new(Backing::default());
    let suite = match id {
        "limits::large_records_come_back" => Suite::new(move || {
            let store = MapStore::unlimited(&backing);
            async move { Ok(StoreObject::from_store(store)) }
        }),
        "cleanup::what_expires_by_itself_needs_none" => Suite::new(move || {
            let store = MapStore::with_native_expiry(&backing);
            async move { Ok(StoreObject::from_store(store)) }
        })
        .alone(),
        _ => suite(None),
    };
    let report = block_on(suite.run_matching(id));
    match &report.cases[0].outcome {
        Outcome::Passed => Ok(()),
        Outcome::Failed(reason) => Err(reason.into()),
        Outcome::NotApplicable(reason) => Err(format!("not applicable: {reason}").into()),
    }
}

/// Every one of the named cases fails, and says what it expected and what it found.
fn a_broken_store(defect: Defect, expected: &[&str]) -> Result<(), Failed> {
    let suite = suite(Some(defect))
        .scale(Scale::Quick)
        .case_timeout(Duration::from_secs(match defect {
            Defect::Hangs => 1,
            _ => 60,
        }));
    for id in expected {
        let report: Report = block_on(suite.run_matching(id));
        let Some(case) = report.cases.first() else {
            return Err(format!("there is no case {id}").into());
        };
        let Outcome::Failed(reason) = &case.outcome else {
            return Err(format!("{id} did not find it: {case}").into());
        };
        if !(reason.contains("expected") && reason.contains("found")) {
            return Err(format!("{id} does not say what it expected and found: {reason}").into());
        }
    }
    Ok(())
}

/// The suite runs on a store with others' data too, leaves it alone and takes its own away.
fn others_data_is_left_alone() -> Result<(), Failed> {
    let backing = Arc::new(Backing::default());
    for number in 0..500_u32 {
        let record = Record {
            job_id: format!("other-{number}").into(),
            queue: format!("queue-{}", number % 3).into(),
            status: Status::ALL[number as usize % 6],
            enqueued_at: Some(Timestamp::from_unix_us(i64::from(number))),
            ..Record::default()
        };
        let id = record.job_id.clone();
        backing.lock().records.insert(id, record);
    }
    let before = backing.lock().records.clone();
    let shared = Arc::clone(&backing);
    let suite = Suite::new(move || {
        let store = MapStore::new(&shared, None);
        async move { Ok(StoreObject::from_store(store)) }
    });
    let report = block_on(suite.scale(Scale::Quick).run());
    if !report.passed() {
        return Err(report.to_string().into());
    }
    if backing.lock().records != before {
        return Err("expected the others' records and no more, found a difference".into());
    }
    Ok(())
}

/// No case is there for nothing: each is failed by some store.
fn every_case_can_fail() -> Result<(), Failed> {
    let missing: Vec<&str> = cases()
        .map(|case| case.id)
        .filter(|id| {
            let fails = DEFECTS.iter().any(|(_, expected)| expected.contains(id));
            let sure = SURE.iter().any(|(sure, _)| sure == id);
            !fails && !sure
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("no broken store fails {missing:?}").into())
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Panics are expected here, and reported by the suite.
    std::panic::set_hook(Box::new(|_| {}));
    let mut trials = vec![
        Trial::test("every_case_can_fail", every_case_can_fail),
        Trial::test("others_data_is_left_alone", others_data_is_left_alone),
    ];
    for case in cases() {
        let name = format!("sound::{}", case.id);
        trials.push(Trial::test(name, move || the_sound_store(case.id)));
    }
    for (defect, expected) in DEFECTS {
        let name = format!("broken::{defect:?}");
        trials.push(Trial::test(name, move || a_broken_store(*defect, expected)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
