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

use warren_conformance::cases;

/// A rule of the page and the tests that it names.
struct Rule {
    id: String,
    text: String,
    tests: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/result-store.md")).unwrap()
}

/// Rules are list items that begin with a bold id; their tests follow the word `Tests:`.
fn rules(page: &str) -> Vec<Rule> {
    let items = page.split("\n- **RS-").skip(1);
    items
        .map(|item| {
            // An item ends with the list: an empty line, or the next item.
            let end = ["\n\n", "\n- "].map(|end| item.find(end).unwrap_or(item.len()));
            let item = &item[..end[0].min(end[1])];
            let (number, rest) = item.split_once("** ").expect("a bold id, then the rule");
            let (text, tests) = rest.split_once("Tests:").unwrap_or((rest, ""));
            Rule {
                id: format!("RS-{number}"),
                text: text.trim().to_owned(),
                tests: tests
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .map(str::to_owned)
                    .collect(),
            }
        })
        .collect()
}

fn is_function(test: &str) -> bool {
    test.contains(".rs::")
}

#[test]
fn every_rule_is_an_obligation_with_tests() {
    let page = page();
    let rules = rules(&page);
    assert_eq!(rules.len(), page.matches("**RS-").count());
    let mut ids = Vec::new();
    for rule in &rules {
        let Rule { id, text, tests } = rule;
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
    for rule in rules(&page()) {
        for case in rule.tests.into_iter().filter(|test| !is_function(test)) {
            by_page.entry(case).or_default().insert(rule.id.clone());
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
    for rule in rules(&page()) {
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
