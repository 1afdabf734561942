//! The way of a store's author: a crate from nothing, and what `warren plugins check` says of a
//! store, whatever the store does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use warren_tests::{
    PrivateRedis, Ran, System, eventually_true, fixtures::fixtures, plugin, target_folder, warren,
};

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::canonicalize(here).unwrap()
}

/// An author's own folder.
fn desk() -> System {
    System::with_config("")
}

/// The program's folder comes first in the path, as if it were installed.
fn path_with_warren() -> OsString {
    let mut folders = vec![warren().parent().unwrap().to_owned()];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    std::env::join_paths(folders).unwrap()
}

/// What an author types, in one shell.
fn shell(folder: &Path, script: &str) -> Ran {
    let output = Command::new("bash")
        .args(["-euc", script])
        .current_dir(folder)
        .env("PATH", path_with_warren())
        .env_remove("WARREN_CONFIG")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("bash runs");
    output.into()
}

/// The crate shares what the other example has built, with the same versions of everything.
fn share_builds(package: &Path) {
    let examples = target_folder().join("examples");
    fs::create_dir_all(&examples).unwrap();
    symlink(examples, package.join("target")).unwrap();
    let lock = repository().join("examples/store-files/Cargo.lock");
    fs::copy(lock, package.join("Cargo.lock")).unwrap();
}

#[test]
fn five_commands_lead_from_nothing_to_a_store_that_passes() {
    let desk = desk();
    let folder = desk.path("");
    let first = "warren plugins new mystore";
    let made = shell(&folder, first).expect(0);
    let (_, next) = made.stdout.split_once("next:\n").expect("what comes next");
    let next: Vec<&str> = next.lines().map(str::trim).collect();
    let commands = 1 + next.len();
    assert!(commands <= 5, "{next:?}");
    let package = folder.join("warren-store-mystore");
    assert!(!package.starts_with(repository()));
    share_builds(&package);

    let ran = shell(&folder, &next.join("\n")).expect(0);
    assert!(ran.stdout.contains("store \"mystore\" 0.1.0"), "{ran:?}");
    assert!(ran.stdout.contains(" rules passed, 0 failed,"), "{ran:?}");
    let results: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("RS-"))
        .map(|line| line.split('\t').collect())
        .collect();
    let page = fs::read_to_string(repository().join("docs/result-store.md")).unwrap();
    assert_eq!(results.len(), page.matches("\n- **RS-").count());
    assert!(results.is_sorted(), "{results:?}");
    for result in results {
        match result[1] {
            "passed" | "kept by Warren" => {}
            "not applicable" => assert!(!result[3].is_empty(), "{result:?}"),
            other => panic!("{other}: {result:?}"),
        }
    }

    // What its CI runs holds from the first commit on.
    shell(&package, "./ci").expect(0);
    let readme = fs::read_to_string(package.join("README.md")).unwrap();
    for line in &next[1..] {
        assert!(readme.contains(line), "{line:?} is not in its README");
    }
    for file in ["Cargo.toml", "src/lib.rs", "README.md", "ci", ".gitignore"] {
        let text = fs::read_to_string(package.join(file)).unwrap();
        for placeholder in ["STORE_NAME", "API_", "CONFORMANCE_", "LIBRARY"] {
            assert!(
                !text.contains(placeholder),
                "{placeholder} is left in {file}"
            );
        }
    }
}

#[test]
fn a_bad_name_is_refused_with_a_better_one() {
    let desk = desk();
    for (name, better) in [
        ("My Store", "my-store"),
        ("../up", "up"),
        ("S3\"", "s3"),
        ("warren-store-Ünder", "nder"),
    ] {
        let ran = desk.run(&["plugins", "new", name]).expect(2);
        assert!(ran.stderr.contains("expected up to 40 of a-z"), "{ran:?}");
        let hint = format!("hint: such as {better}\n");
        assert!(ran.stderr.contains(&hint), "{ran:?}");
    }
    let left: Vec<_> = fs::read_dir(desk.path("")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the configuration: {left:?}");
}

#[test]
fn what_is_there_is_never_written_over() {
    let desk = desk();
    let folder = desk.path("warren-store-mine");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("README.md"), "mine").unwrap();
    let ran = desk.run(&["plugins", "new", "mine"]).expect(1);
    assert!(
        ran.stderr.contains("warren-store-mine is there already"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("--dir"), "{ran:?}");
    assert_eq!(
        fs::read_to_string(folder.join("README.md")).unwrap(),
        "mine"
    );
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

    desk.run(&["plugins", "new", "mine", "--dir", "warren.toml"])
        .expect(1);
    fs::create_dir(desk.path("empty")).unwrap();
    desk.run(&["plugins", "new", "mine", "--dir", "empty"])
        .expect(0);
    assert!(desk.path("empty/src/lib.rs").is_file());
}

#[test]
fn what_was_written_is_told_as_json() {
    let desk = desk();
    let ran = desk
        .run(&["plugins", "new", "my-store", "--dir", "a b", "--json"])
        .expect(0);
    let told = ran.json();
    assert_eq!(told["package"], "warren-store-my-store");
    assert_eq!(told["folder"], "a b");
    for file in told["files"].as_array().unwrap() {
        let file = desk.path("a b").join(file.as_str().unwrap());
        assert!(file.is_file(), "{file:?}");
    }
    assert_eq!(told["contract"]["path"], repository().to_str().unwrap());
    assert_eq!(told["next"][0], "cd 'a b'");
    let check = told["next"].as_array().unwrap().last().unwrap();
    assert!(check.as_str().unwrap().contains("libwarren_store_my_store"));
}

#[test]
fn the_contract_comes_from_where_the_author_says() {
    let desk = desk();
    for (api, expected) in [
        ("1.1", "version = \"1.1\", features"),
        (
            "https://git.example/warren",
            "git = \"https://git.example/warren\"",
        ),
    ] {
        let folder = api.replace('/', "-");
        desk.run(&["plugins", "new", "s3", "--dir", &folder, "--api", api])
            .expect(0);
        let manifest = fs::read_to_string(desk.path(&folder).join("Cargo.toml")).unwrap();
        assert!(manifest.contains(expected), "{manifest}");
    }
    let ran = desk
        .run(&["plugins", "new", "s3", "--api", "nowhere"])
        .expect(2);
    assert!(ran.stderr.contains("no checkout of Warren"), "{ran:?}");
    assert!(!desk.path("warren-store-s3").exists());
}

/// `warren plugins check` of the store that misbehaves as it is told to.
fn check_fixture(fault: &str, more: &[&str]) -> Ran {
    let file = fixtures().store.to_str().unwrap();
    let config = match fault {
        "" => "{}".to_owned(),
        fault => format!("{{\"fault\": {fault:?}}}"),
    };
    let mut arguments = vec!["plugins", "check", file, "--store-config", &config];
    arguments.extend(more);
    desk().run(&arguments)
}

fn rule<'a>(suite: &'a Value, id: &str) -> &'a Value {
    let rules = suite["rules"].as_array().unwrap();
    rules.iter().find(|rule| rule["rule"] == id).unwrap()
}

#[test]
fn a_broken_rule_is_reported_with_its_text_and_what_happened() {
    // It answers every write with `Written` and keeps nothing.
    let ran = check_fixture("", &[]).expect(4);
    let text = "RS-010 Every field of a record MUST come back as it was written, set or not.";
    let (_, after) = ran.stdout.split_once(text).expect("the rule's whole text");
    let happened = after.lines().nth(1).unwrap();
    assert!(
        happened.starts_with("  round_trip::every_") && happened.contains("found none"),
        "{happened:?}"
    );
    assert!(
        ran.stdout.contains("\nRS-010\tFAILED\tEvery field"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("\nRS-003\tpassed\t"), "{ran:?}");
    for said in ["the suite writes to this store", "may remove other records"] {
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
}

#[test]
fn programs_get_every_rule_and_case() {
    let ran = check_fixture("", &["--json"]).expect(4);
    let report = ran.json();
    assert_eq!(report["name"], "fixture");
    let suite = &report["suite"];
    assert_eq!(suite["scale"], "quick");
    assert_eq!(rule(suite, "RS-010")["outcome"], "failed");
    assert_eq!(rule(suite, "RS-010")["group"], "Round trip");
    assert_eq!(rule(suite, "RS-003")["outcome"], "passed");
    assert_eq!(rule(suite, "RS-104")["outcome"], "not_applicable");
    let page = fs::read_to_string(repository().join("docs/result-store.md")).unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for rule in suite["rules"].as_array().unwrap() {
        let (id, text) = (rule["rule"].as_str(), rule["text"].as_str());
        let entry = format!("**{}** {}", id.unwrap(), text.unwrap());
        assert!(page.contains(&entry), "{entry:?} is not on the page");
    }
    let cases = suite["cases"].as_array().unwrap();
    let failed = cases.iter().filter(|case| case["outcome"] == "failed");
    assert_eq!(suite["cases_failed"], failed.count());
    let capabilities = suite["capabilities"].as_array().unwrap();
    let verdict = |name: &str| {
        let capability = capabilities.iter().find(|it| it["capability"] == name);
        capability.unwrap()["verdict"].clone()
    };
    for absent in ["push", "embedded", "native_expiry"] {
        assert_eq!(verdict(absent), "not_applicable", "{absent}");
    }
    // With those that Warren keeps for every store, no rule of the page is left out.
    let kept = suite["kept_by_warren"].as_array().unwrap();
    let panics = kept.iter().find(|kept| kept["rule"] == "RS-140").unwrap();
    assert!(panics["text"].as_str().unwrap().contains("A panic in any"));
    let counted = ["passed", "failed", "not_applicable"]
        .map(|outcome| suite[format!("rules_{outcome}")].as_u64().unwrap());
    let counted = counted.iter().sum::<u64>() as usize + kept.len();
    assert_eq!(counted, page.matches("- **RS-").count());
}

#[test]
fn an_embedded_store_and_one_whose_records_expire_by_themselves_are_judged_as_such() {
    let rules = ["RS-064", "RS-150", "RS-151", "RS-164"];
    let mut arguments = vec!["--store-config", "{}", "--json"];
    arguments.extend(rules.iter().flat_map(|rule| ["--only", rule]));
    let suite = check_memory(&arguments).expect(0).json()["suite"].clone();
    for id in rules {
        assert_eq!(rule(&suite, id)["outcome"], "passed", "{suite}");
    }
    for capability in suite["capabilities"].as_array().unwrap() {
        assert_eq!(capability["verdict"], "passed", "{capability}");
    }
    // Rules that were not asked for are not counted.
    assert_eq!(suite["kept_by_warren"], Value::Array(Vec::new()));

    let ran = check_memory(&["--store-config", "{}", "--only", "RS-140"]).expect(2);
    assert!(ran.stderr.contains("RS-140 is kept by Warren"), "{ran:?}");
}

#[test]
fn a_store_that_panics_fails_case_by_case_and_the_program_lives() {
    for fault in ["method_panics", "poll_panics", "drop_panics"] {
        let suite = check_fixture(fault, &["--json"]).expect(4).json()["suite"].clone();
        assert_eq!(suite["cases_not_tried"], Value::Array(Vec::new()));
        assert_eq!(rule(&suite, "RS-120")["outcome"], "failed", "{fault}");
    }
}

#[test]
fn a_store_that_hangs_or_blocks_is_given_up() {
    for fault in ["call_hangs", "call_blocks"] {
        let more = ["--timeout", "1s", "--only", "round_trip", "--json"];
        let suite = check_fixture(fault, &more).expect(4).json()["suite"].clone();
        assert_eq!(suite["cases_failed"], 3, "{fault}: {suite}");
        assert!(!suite["cases_not_tried"].as_array().unwrap().is_empty());
    }
    let ran = check_fixture("call_hangs", &["--timeout", "1s"]).expect(4);
    assert!(ran.stdout.contains("the store hung in 3"), "{ran:?}");
}

#[test]
fn a_store_that_ends_its_process_is_told_with_what_it_was_doing() {
    for (fault, said) in [
        ("constructor_aborts", "with SIGABRT, while opening it"),
        ("call_aborts", "with SIGABRT, while in case identity::"),
        // Not taken for success.
        ("call_exits", "with exit code 0, while in case identity::"),
    ] {
        let ran = check_fixture(fault, &["--json"]).expect(4);
        let error: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
        let error = error["error"].as_str().unwrap();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_backend_that_goes_away_meanwhile_is_told_apart_from_a_wrong_store() {
    let desk = desk();
    let mut redis = PrivateRedis::start();
    let (file, config) = (
        plugin("redis"),
        json!({ "redis_url": redis.url() }).to_string(),
    );
    let mut check = desk.command(&["plugins", "check", file.to_str().unwrap()]);
    check.args(["--store-config", &config, "--json"]);
    let check = check.stdout(Stdio::piped()).stderr(Stdio::piped());
    let check = check.spawn().unwrap();
    eventually_true("the suite writes", || redis.keys() > 0);
    redis.stop();
    let ran = Ran::from(check.wait_with_output().unwrap()).expect(4);
    let suite = ran.json()["suite"].clone();
    assert!(!suite["cases_not_tried"].as_array().unwrap().is_empty());
    let why = suite["why_not_tried"].as_str().unwrap();
    assert!(
        why.contains("does not answer any more: unavailable: Redis at"),
        "{why}"
    );
}

/// `warren plugins check` of the memory store.
fn check_memory(more: &[&str]) -> Ran {
    let file = plugin("memory");
    let mut arguments = vec!["plugins", "check", file.to_str().unwrap()];
    arguments.extend(more);
    desk().run(&arguments)
}

#[test]
fn cases_are_chosen_by_group_and_by_rule() {
    let chosen = |only: &[&str]| {
        let mut arguments = vec!["--store-config", "{}", "--json"];
        arguments.extend(only);
        let suite = check_memory(&arguments).expect(0).json()["suite"].clone();
        let ids = suite["cases"].as_array().unwrap().clone();
        ids.iter()
            .map(|case| case["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let stats = chosen(&["--only", "stats"]);
    assert!(!stats.is_empty());
    assert!(
        stats.iter().all(|id| id.starts_with("stats::")),
        "{stats:?}"
    );
    let both = chosen(&["--only", "RS-042", "--only", "health::says"]);
    assert_eq!(both, ["batches::of_nothing", "health::says_what_answered"]);

    let ran = check_memory(&["--store-config", "{}", "--only", "sacn"]).expect(2);
    assert!(ran.stderr.contains("groups of cases: identity,"), "{ran:?}");
}

#[test]
fn a_store_of_one_s_own_is_checked_further() {
    let figures = ["--store-config", "{}", "--only", "RS-081", "--json"];
    let outcome = |ran: Ran| rule(&ran.expect(0).json()["suite"], "RS-081")["outcome"].clone();
    assert_eq!(outcome(check_memory(&figures)), "not_applicable");
    let mut alone = figures.to_vec();
    alone.push("--alone");
    assert_eq!(outcome(check_memory(&alone)), "passed");
    let said = check_memory(&alone).stderr;
    assert!(said.contains("as if two hours had passed"), "{said}");
}

#[test]
fn without_the_suite_nothing_is_written() {
    let ran = check_memory(&["--store-config", "{}", "--no-suite", "--json"]).expect(0);
    assert!(ran.json().get("suite").is_none());
    assert_eq!(ran.stderr, "");
    let ran = check_memory(&["--full"]).expect(2);
    assert!(ran.stderr.contains("--full needs a store"), "{ran:?}");
}

#[test]
fn calls_are_measured_and_not_compared() {
    let measure = ["--store-config", "{}", "--no-suite", "--bench=50ms"];
    let mut json = measure.to_vec();
    json.push("--json");
    let report = check_memory(&json).expect(0).json();
    let bench = report["bench"].as_array().unwrap();
    let measured: Vec<_> = bench
        .iter()
        .map(|it| (it["operation"].as_str().unwrap(), it["callers"].as_u64()))
        .collect();
    let one = Some(1);
    let expected = [
        ("put_many(512)", one),
        ("put", one),
        ("put", Some(64)),
        ("get", one),
        ("get_many(512)", one),
        ("status_many(512)", one),
        ("scan page", one),
    ];
    assert_eq!(measured, expected);
    for it in bench {
        assert!(it["records_per_second"].as_f64().unwrap() > 0.0, "{it}");
        assert!(it["p50_us"].as_f64() <= it["p99_us"].as_f64(), "{it}");
    }
    let ran = check_memory(&measure).expect(0);
    assert!(ran.stdout.contains("no comparison"), "{ran:?}");
}

#[test]
fn a_store_that_cannot_be_measured_is_told_call_by_call() {
    for (fault, said) in [
        ("call_hangs", "no answer within 1s"),
        ("call_blocks", "block the threads"),
        ("method_panics", "put before its future"),
    ] {
        let more = ["--no-suite", "--bench=50ms", "--timeout", "1s", "--json"];
        let report = check_fixture(fault, &more).expect(4).json();
        let error = report["bench"][0]["error"].as_str().unwrap();
        assert!(error.contains(said), "{fault}: {error}");
    }
}
