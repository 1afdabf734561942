//! What came of a run.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// The rules hold.
    Passed,
    /// What was expected, and what was found.
    Failed(String),
    /// The store does not have what the case is about, or the suite was not told enough.
    NotApplicable(String),
}

/// One case of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseReport {
    /// `group::what_is_expected`
    pub id: &'static str,
    /// The rules that it checks, by their ids in `docs/result-store.md`.
    pub rules: &'static [&'static str],
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took; in JSON in milliseconds.
    #[serde(rename = "took_ms", serialize_with = "as_milliseconds")]
    pub took: Duration,
}

fn as_milliseconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}

/// What came of a run of the suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use = "a run is only worth its report"]
pub struct Report {
    /// Every case that was asked for, in order.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// The cases that failed.
    pub fn failed(&self) -> impl Iterator<Item = &CaseReport> {
        self.cases
            .iter()
            .filter(|case| matches!(case.outcome, Outcome::Failed(_)))
    }

    /// Whether no case failed.
    pub fn passed(&self) -> bool {
        self.failed().next().is_none()
    }

    /// For a store's own tests.
    ///
    /// # Panics
    /// When a case failed, with all of the report.
    pub fn assert_passed(&self) {
        assert!(self.passed(), "the store breaks its contract\n{self}");
    }
}

impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id, rules, outcome, ..
        } = self;
        match outcome {
            Outcome::Passed => write!(f, "ok      {id}"),
            Outcome::Failed(reason) => {
                write!(f, "FAILED  {id} ({})\n        {reason}", rules.join(", "))
            }
            Outcome::NotApplicable(reason) => write!(f, "n/a     {id}: {reason}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            writeln!(f, "{case}")?;
        }
        let count = |wanted: fn(&Outcome) -> bool| {
            self.cases
                .iter()
                .filter(|case| wanted(&case.outcome))
                .count()
        };
        write!(
            f,
            "{} passed, {} failed, {} not applicable",
            count(|outcome| matches!(outcome, Outcome::Passed)),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| matches!(outcome, Outcome::NotApplicable(_))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let case = |id, outcome| CaseReport {
            id,
            rules: &["RS-001"],
            outcome,
            took: Duration::from_millis(7),
        };
        Report {
            cases: vec![
                case("a::good", Outcome::Passed),
                case("a::bad", Outcome::Failed("expected 1, found 2".into())),
                case("a::absent", Outcome::NotApplicable("no scan".into())),
            ],
        }
    }

    #[test]
    fn people_see_the_rule_that_is_broken() {
        let text = report().to_string();
        assert!(text.contains("FAILED  a::bad (RS-001)\n        expected 1, found 2"));
        assert!(text.ends_with("1 passed, 1 failed, 1 not applicable"));
    }

    #[test]
    fn programs_see_the_outcome_by_name() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["cases"][1]["outcome"], "failed");
        assert_eq!(json["cases"][1]["reason"], "expected 1, found 2");
        assert_eq!(json["cases"][0]["took_ms"], 7);
    }

    #[test]
    #[should_panic(expected = "expected 1, found 2")]
    fn a_failed_case_fails_the_assertion() {
        report().assert_passed();
    }
}
