//! Instructions of the hot path, which are the same on a busy machine and on a quiet one: counted
//! by valgrind's callgrind, and kept in the repository to be compared with.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};

use crate::{
    counted::{COUNTED_FUNCTION, HotPath, TIMES},
    error::BenchError,
};

/// Instructions by hot path.
type Counts = BTreeMap<String, u64>;

/// Counts every path and prints it beside what the repository has.
pub(crate) fn measure(record: bool) -> Result<(), BenchError> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    let known = read(&file)?;
    let mut counts = Counts::new();
    for path in HotPath::value_variants() {
        let Some(name) = path.to_possible_value() else {
            continue;
        };
        eprintln!("instructions: {}", name.get_name());
        counts.insert(name.get_name().to_owned(), count(name.get_name())?);
    }
    println!("{}", table(&known, &counts));
    println!("Instructions of one call, by valgrind, over {TIMES} calls in one thread.");
    if record {
        let text = serde_json::to_string_pretty(&counts)?;
        std::fs::write(&file, text + "\n").map_err(|error| BenchError::Write { file, error })?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<Counts, BenchError> {
    match std::fs::read(file) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(_missing) => Ok(Counts::new()),
    }
}

/// Instructions of taking a path once.
fn count(path: &str) -> Result<u64, BenchError> {
    let failed = |reason: String| BenchError::Valgrind { reason };
    let out = std::env::temp_dir().join(format!("warren-callgrind-{}", std::process::id()));
    let this = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED_FUNCTION}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(this)
        .args(["counted", path])
        // The plugins are there already.
        .env_remove("CARGO")
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let written = Written(out);
    if !output.status.success() {
        return Err(failed(last_lines(&output.stderr)));
    }
    let text = std::fs::read_to_string(&written.0).map_err(|error| failed(error.to_string()))?;
    let total = total(&text).filter(|total| *total > 0);
    let total = total.ok_or_else(|| failed("nothing was counted".to_owned()))?;
    Ok(total / TIMES as u64)
}

/// The file that valgrind writes; not kept.
struct Written(PathBuf);

impl Drop for Written {
    fn drop(&mut self) {
        // It may not have been written.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn total(callgrind: &str) -> Option<u64> {
    let line = |name: &str| {
        callgrind
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(name))
    };
    let figures = line("totals:").or_else(|| line("summary:"))?;
    figures.split_whitespace().next()?.parse().ok()
}

fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}

fn table(known: &Counts, counts: &Counts) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["path", "recorded", "now", "change"]);
    for (path, now) in counts {
        let before = known.get(path);
        table.add_row([
            path.clone(),
            before.map_or_else(String::new, u64::to_string),
            now.to_string(),
            before.map_or_else(String::new, |before| change(*before, *now)),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn change(before: u64, now: u64) -> String {
    format!("{:+.1} %", (now as f64 / before as f64 - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_what_callgrind_writes() {
        let text = "events: Ir\nsummary: 12\n\nfn=(1) x\n1 12\n\ntotals: 4096\n";
        assert_eq!(total(text), Some(4096));
        assert_eq!(total("version: 1\n"), None);
    }

    #[test]
    fn a_change_is_a_share_of_what_was() {
        assert_eq!(change(200, 150), "-25.0 %");
    }
}
