//! What came of the suite, rule by rule, for people and for programs.

use serde_json::{Value, json};
use warren_conformance::{CaseReport, Outcome, Rule, RuleReport, Verdict, rules};

use super::suite::{NotTried, Ran};
use crate::cli::output::Output;

/// Of a rule's text the table shows this many characters.
const SHOWN: usize = 72;

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "FAILED",
        Verdict::NotApplicable => "not applicable",
    }
}

fn count<T>(items: &[T], verdict_of: impl Fn(&T) -> Verdict) -> [usize; 3] {
    [Verdict::Passed, Verdict::Failed, Verdict::NotApplicable].map(|wanted| {
        items
            .iter()
            .filter(|item| verdict_of(item) == wanted)
            .count()
    })
}

fn verdict_of_case(case: &CaseReport) -> Verdict {
    match case.outcome {
        Outcome::Passed => Verdict::Passed,
        Outcome::Failed(_) => Verdict::Failed,
        Outcome::NotApplicable(_) => Verdict::NotApplicable,
    }
}

/// Rules that no case is about: the contract's crate and the host keep them for every store, and
/// are tested for it. None where cases were chosen.
fn kept_by_warren(ran: &Ran) -> Vec<Rule> {
    rules()
        .into_iter()
        .filter(|rule| ran.of_all_rules && rule.cases().next().is_none())
        .collect()
}

pub(super) fn print(ran: &Ran, output: &Output) {
    let report = &ran.report;
    let (rules, kept) = (report.by_rule(), kept_by_warren(ran));
    let mut rows: Vec<_> = rules.iter().map(rule_row).collect();
    rows.extend(kept.iter().map(kept_row));
    // In the order of the page.
    rows.sort();
    output.print_table(&["RULE", "RESULT", "WHAT IT SAYS", "NOTE"], rows);
    let capabilities = report.by_capability();
    if !capabilities.is_empty() {
        output.print_line("");
        let rows = capabilities
            .iter()
            .map(|it| vec![it.capability.to_owned(), word(it.verdict).to_owned()]);
        output.print_table(&["CAPABILITY", "RESULT"], rows.collect());
    }
    for rule in rules.iter().filter(|it| it.verdict == Verdict::Failed) {
        output.print_line("");
        output.print_line(&format!("{} {}", rule.rule.id, rule.rule.text));
        for case in &rule.cases {
            if let Outcome::Failed(reason) = &case.outcome {
                output.print_line(&format!("  {}: {reason}", case.id));
            }
        }
    }
    output.print_line("");
    output.print_line(&summary(ran, &rules, kept.len()));
}

fn summary(ran: &Ran, rules: &[RuleReport<'_>], kept: usize) -> String {
    let [passed, failed, not_applicable] = count(rules, |it| it.verdict);
    let scale = if ran.full {
        "full size"
    } else {
        "quick; --full runs them at full size"
    };
    let mut text =
        format!("{passed} rules passed, {failed} failed, {not_applicable} not applicable");
    if kept > 0 {
        text.push_str(&format!(", {kept} kept by Warren"));
    }
    text.push_str(&format!(
        "; {} cases in {:.1?} ({scale})",
        ran.report.cases.len(),
        ran.took
    ));
    if let Some(NotTried { cases, why }) = &ran.not_tried {
        text.push_str(&format!("; {} cases not tried: {why}", cases.len()));
    }
    text
}

fn rule_row(report: &RuleReport<'_>) -> Vec<String> {
    vec![
        report.rule.id.to_owned(),
        word(report.verdict).to_owned(),
        first_words(&report.rule.text),
        match report.verdict {
            Verdict::NotApplicable => report
                .cases
                .first()
                .map_or_else(String::new, |case| why(case)),
            _ => String::new(),
        },
    ]
}

fn kept_row(rule: &Rule) -> Vec<String> {
    vec![
        rule.id.to_owned(),
        "kept by Warren".to_owned(),
        first_words(&rule.text),
        String::new(),
    ]
}

/// Why a case does not apply, in this program's words where the suite's are a library's.
fn why(case: &CaseReport) -> String {
    let Outcome::NotApplicable(reason) = &case.outcome else {
        return String::new();
    };
    reason
        .replace("Suite::alone", "--alone")
        .replace("Suite::secret", "--secret")
        .replace("Suite::unreachable", "--unreachable")
        .replace("Suite::unresponsive", "--unresponsive")
        .replace("Suite::wrong_credentials", "--wrong-credentials")
        .replace("Suite::no_room", "--no-room")
}

fn first_words(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    let cut: String = text.chars().take(SHOWN).collect();
    let whole = cut
        .rsplit_once(' ')
        .map_or(cut.as_str(), |(whole, _)| whole);
    format!("{whole}…")
}

pub(super) fn to_json(ran: &Ran) -> Value {
    let report = &ran.report;
    let by_rule = report.by_rule();
    let [passed, failed, not_applicable] = count(&by_rule, |it| it.verdict);
    let [cases_passed, cases_failed, cases_not_applicable] = count(&report.cases, verdict_of_case);
    let not_tried = ran.not_tried.iter().flat_map(|it| &it.cases);
    json!({
        "scale": if ran.full { "full" } else { "quick" },
        "took_ms": u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX),
        "rules": by_rule.iter().map(rule_json).collect::<Vec<_>>(),
        "kept_by_warren": kept_by_warren(ran).iter().map(kept_json).collect::<Vec<_>>(),
        "rules_passed": passed,
        "rules_failed": failed,
        "rules_not_applicable": not_applicable,
        "capabilities": report.by_capability(),
        "cases": report.cases,
        "cases_passed": cases_passed,
        "cases_failed": cases_failed,
        "cases_not_applicable": cases_not_applicable,
        "cases_not_tried": not_tried.map(|case| case.id).collect::<Vec<_>>(),
        "why_not_tried": ran.not_tried.as_ref().map(|it| &it.why),
    })
}

fn rule_json(report: &RuleReport<'_>) -> Value {
    json!({
        "rule": report.rule.id,
        "group": report.rule.group,
        "text": report.rule.text,
        "outcome": report.verdict,
        "cases": report.cases.iter().map(|case| case.id).collect::<Vec<_>>(),
    })
}

fn kept_json(rule: &Rule) -> Value {
    json!({ "rule": rule.id, "group": rule.group, "text": rule.text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_rule_is_cut_between_words() {
        let rule = &rules()[0].text;
        let shown = first_words(rule);
        assert!(shown.chars().count() <= SHOWN + 1);
        let shown = shown.strip_suffix('…').unwrap();
        assert!(rule.starts_with(&format!("{shown} ")));
        assert_eq!(first_words("A short one."), "A short one.");
    }
}
