//! A run seen by rule, and by what a store can do.

use serde::Serialize;

use crate::{
    Rule,
    report::{CaseReport, Outcome, Report},
    rules,
};

/// What came of a rule, or of a capability: of all its cases together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At least one case passed and none failed.
    Passed,
    /// At least one case failed.
    Failed,
    /// No case says anything about this store.
    NotApplicable,
}

impl Verdict {
    fn of<'a>(cases: impl Iterator<Item = &'a CaseReport>) -> Option<Self> {
        cases
            .map(|case| match case.outcome {
                Outcome::Failed(_) => Self::Failed,
                Outcome::Passed => Self::Passed,
                Outcome::NotApplicable(_) => Self::NotApplicable,
            })
            .reduce(|one, other| match (one, other) {
                (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
                (Self::Passed, _) | (_, Self::Passed) => Self::Passed,
                _ => Self::NotApplicable,
            })
    }
}

/// What came of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleReport<'a> {
    /// The rule.
    pub rule: Rule,
    /// What came of its cases together.
    pub verdict: Verdict,
    /// Its cases that were run.
    pub cases: Vec<&'a CaseReport>,
}

/// What came of the cases that are about one capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CapabilityReport {
    /// The field's name in `Capabilities`.
    pub capability: &'static str,
    /// What came of them together.
    pub verdict: Verdict,
}

impl Report {
    /// Every rule that a case of this run checks, in the order of the page.
    pub fn by_rule(&self) -> Vec<RuleReport<'_>> {
        rules()
            .into_iter()
            .filter_map(|rule| {
                let about = |case: &&CaseReport| case.rules.contains(&rule.id);
                let cases: Vec<_> = self.cases.iter().filter(about).collect();
                let verdict = Verdict::of(cases.iter().copied())?;
                Some(RuleReport {
                    rule,
                    verdict,
                    cases,
                })
            })
            .collect()
    }

    /// Every capability that a case of this run is about.
    pub fn by_capability(&self) -> Vec<CapabilityReport> {
        CAPABILITIES
            .iter()
            .filter_map(|(capability, is_about)| {
                let cases = self.cases.iter().filter(|case| is_about(case.id));
                Some(CapabilityReport {
                    capability,
                    verdict: Verdict::of(cases)?,
                })
            })
            .collect()
    }
}

type IsAbout = fn(&str) -> bool;

/// The capabilities, and the cases that only say something about stores that have them.
const CAPABILITIES: [(&str, IsAbout); 8] = [
    ("durable", |id| {
        id.starts_with("lifecycle::records_outlive_")
    }),
    ("embedded", |id| {
        id == "capabilities::an_embedded_store_needs_no_option"
    }),
    ("native_expiry", |id| {
        id == "cleanup::what_expires_by_itself_needs_none"
    }),
    ("scan", |id| id.starts_with("scan")),
    ("scan_order", |id| id == "scan::the_declared_order"),
    ("stats", |id| id.starts_with("stats::")),
    ("push", |id| id.starts_with("push::")),
    ("max_record_bytes", |id| {
        id.starts_with("limits::") && id != "limits::large_records_come_back"
    }),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use warren_plugin_api::Capabilities;

    use super::*;
    use crate::cases;

    /// Every case passed, but for those that `outcome` says something else about.
    fn report(outcome: impl Fn(&str) -> Option<Outcome>) -> Report {
        let cases = cases().map(|case| CaseReport {
            id: case.id,
            rules: case.rules,
            outcome: outcome(case.id).unwrap_or(Outcome::Passed),
            took: Duration::ZERO,
        });
        Report {
            cases: cases.collect(),
        }
    }

    fn verdict(report: &Report, id: &str) -> Verdict {
        let rules = report.by_rule();
        rules
            .iter()
            .find(|report| report.rule.id == id)
            .map(|report| report.verdict)
            .unwrap()
    }

    #[test]
    fn one_failed_case_fails_its_rules_and_no_other() {
        let report = report(|id| {
            (id == "scan::filters_by_hostile_texts").then(|| Outcome::Failed("found 2".into()))
        });
        assert_eq!(verdict(&report, "RS-052"), Verdict::Failed);
        let failed = report.by_rule();
        let failed = failed
            .iter()
            .filter(|rule| rule.verdict == Verdict::Failed)
            .count();
        assert_eq!(failed, 1);
    }

    #[test]
    fn a_rule_is_not_applicable_only_when_all_its_cases_are() {
        let report = report(|id| {
            let absent = id == "scan::filters_are_exact" || id.starts_with("push::");
            absent.then(|| Outcome::NotApplicable("absent".into()))
        });
        assert_eq!(verdict(&report, "RS-052"), Verdict::Passed);
        assert_eq!(verdict(&report, "RS-104"), Verdict::NotApplicable);
        let push = report.by_capability();
        let push = push.iter().find(|it| it.capability == "push").unwrap();
        assert_eq!(push.verdict, Verdict::NotApplicable);
    }

    #[test]
    fn every_capability_of_the_contract_has_a_verdict() {
        let declared = serde_json::to_value(Capabilities::NONE).unwrap();
        let fields: BTreeSet<_> = declared.as_object().unwrap().keys().cloned().collect();
        let report = report(|_| None);
        let judged = report.by_capability().into_iter();
        let judged: BTreeSet<_> = judged.map(|it| it.capability.to_owned()).collect();
        assert_eq!(judged, fields);
    }
}
