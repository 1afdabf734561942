//! The rules, as their page has them.

/// `docs/result-store.md`, the only place where the rules are written down.
const PAGE: &str = include_str!("../../docs/result-store.md");

/// A rule of `docs/result-store.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `RS-001`
    pub id: &'static str,
    /// The heading that it stands under: `Guarded writes`.
    pub group: &'static str,
    /// What must be so, on one line.
    pub text: String,
    /// The tests that the page names: cases of this suite, and functions as `file.rs::function`.
    pub tests: Vec<&'static str>,
}

impl Rule {
    /// The cases of this suite that check it; none where the contract's crate or the host keeps
    /// the rule for every store.
    pub fn cases(&self) -> impl Iterator<Item = &'static str> {
        self.tests
            .iter()
            .copied()
            .filter(|test| !test.contains(".rs::"))
    }
}

/// All rules, in the order of the page.
pub fn rules() -> Vec<Rule> {
    let groups = PAGE.split("\n## ").skip(1);
    groups
        .flat_map(|group| {
            let heading = group.lines().next().unwrap_or_default();
            let items = group.split("\n- **").skip(1);
            items.filter_map(move |item| rule(heading, item))
        })
        .collect()
}

/// A list item that begins with a bold id; its tests follow the word `Tests:`.
fn rule(group: &'static str, item: &'static str) -> Option<Rule> {
    // It ends with the list: an empty line, or the next item.
    let end = ["\n\n", "\n- "]
        .iter()
        .filter_map(|end| item.find(end))
        .min();
    let item = end.map_or(item, |end| &item[..end]);
    let (id, rest) = item.split_once("** ")?;
    let (text, tests) = rest.split_once("Tests:").unwrap_or((rest, ""));
    id.starts_with("RS-").then(|| Rule {
        id,
        group,
        text: text.split_whitespace().collect::<Vec<_>>().join(" "),
        tests: tests.split('`').skip(1).step_by(2).collect(),
    })
}
