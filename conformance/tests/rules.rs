//! The page of rules and the tests agree: every rule is tested, and every case is there for a
//! rule.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use warren_conformance::{Rule, cases, rules};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/result-store.md")).unwrap()
}

fn is_function(test: &str) -> bool {
    test.contains(".rs::")
}

#[test]
fn every_rule_is_an_obligation_with_tests() {
    let rules = rules();
    assert_eq!(rules.len(), page().matches("**RS-").count());
    let mut ids = Vec::new();
    for rule in &rules {
        let Rule {
            id, text, tests, ..
        } = rule;
        assert!(!tests.is_empty(), "{id} names no test");
        assert!(
            ["MUST", "SHOULD", "MAY"]
                .iter()
                .any(|word| text.contains(word)),
            "{id} obliges nobody: {text}"
        );
        ids.push(id);
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "ids out of order: {ids:?}");
}

#[test]
fn rules_and_cases_name_each_other() {
    let mut by_page = BTreeMap::<String, BTreeSet<String>>::new();
    for rule in rules() {
        for case in rule.cases() {
            let rules = by_page.entry(case.to_owned()).or_default();
            rules.insert(rule.id.to_owned());
        }
    }
    let by_suite: BTreeMap<String, BTreeSet<String>> = cases()
        .map(|case| {
            let rules = case.rules.iter().map(|rule| (*rule).to_owned()).collect();
            (case.id.to_owned(), rules)
        })
        .collect();
    assert_eq!(
        by_page, by_suite,
        "the page on the left, the suite on the right"
    );
}

#[test]
fn every_named_test_function_is_there() {
    for rule in rules() {
        for test in rule.tests.iter().filter(|test| is_function(test)) {
            let (file, function) = test.split_once("::").unwrap();
            let text = fs::read_to_string(root().join(file))
                .unwrap_or_else(|error| panic!("{}: {file}: {error}", rule.id));
            assert!(
                is_test(&text, function),
                "{}: no test {function} in {file}",
                rule.id
            );
        }
    }
}

/// Whether `text` has a function of that name right under a test attribute.
fn is_test(text: &str, function: &str) -> bool {
    let signature = format!("fn {function}(");
    let mut lines = text.lines().map(str::trim);
    let mut previous = "";
    lines.any(|line| {
        let found = line
            .strip_prefix("async ")
            .unwrap_or(line)
            .starts_with(&signature)
            && (previous.starts_with("#[test") || previous.starts_with("#[tokio::test"));
        if !line.is_empty() {
            previous = line;
        }
        found
    })
}

#[test]
fn only_tests_count_as_tests() {
    let text = "#[tokio::test]\nasync fn a() {}\nfn b() {}\n    #[test]\n    fn c() {}";
    assert!(is_test(text, "a") && is_test(text, "c"));
    assert!(!is_test(text, "b") && !is_test(text, "d"));
}

#[test]
fn case_ids_are_unique() {
    let ids: Vec<&str> = cases().map(|case| case.id).collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len());
}
