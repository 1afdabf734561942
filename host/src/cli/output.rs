//! What is printed: tables and colours for people at a terminal, plain lines for pipes, JSON for
//! programs.

use std::io::{IsTerminal, Write, stderr, stdout};

use anstyle::AnsiColor;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use warren_plugin_api::{Record, Status};

use super::{arguments::ColorChoice, error::CliError};

/// How this run prints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) json: bool,
    at_terminal: bool,
    colored: bool,
}

impl Output {
    pub(super) fn new(json: bool, color: ColorChoice) -> Self {
        let at_terminal = stdout().is_terminal();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let colored = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => at_terminal && wanted,
        };
        Self {
            json,
            at_terminal,
            colored,
        }
    }

    /// Whether a person watches: progress bars make sense.
    fn is_watched(&self) -> bool {
        !self.json && stderr().is_terminal()
    }

    /// A bar of `total` steps, hidden where nobody watches.
    pub(super) fn progress_bar(&self, total: u64, what: &str) -> ProgressBar {
        self.bar(
            ProgressBar::new(total),
            &format!("{{bar:40}} {{pos}}/{{len}} {what}, {{elapsed}}"),
        )
    }

    /// A count of steps whose end is not known, hidden where nobody watches.
    pub(super) fn progress_count(&self, what: &str) -> ProgressBar {
        let template = format!("{{spinner}} {{pos}} {what}, {{elapsed}}, {{per_sec}}");
        self.bar(ProgressBar::no_length(), &template)
    }

    fn bar(&self, bar: ProgressBar, template: &str) -> ProgressBar {
        if !self.is_watched() {
            return ProgressBar::hidden();
        }
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }

    pub(super) fn print_json(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.print_line(&text),
            Err(error) => eprintln!("error: cannot be written as JSON: {error}"),
        }
    }

    /// A line, to whoever still reads; `println!` panics when nobody does.
    pub(super) fn print_line(&self, text: &str) {
        let _ = writeln!(stdout(), "{text}");
    }

    /// A table for people, tab-separated lines for pipes.
    /// A row of a table that is never complete.
    pub(super) fn print_row(&self, row: &[String]) {
        let cells: Vec<String> = row.iter().map(|cell| one_line(cell)).collect();
        self.print_line(&cells.join("\t"));
    }

    pub(super) fn print_table(&self, header: &[&str], rows: Vec<Vec<String>>) {
        if !self.at_terminal {
            rows.iter().for_each(|row| self.print_row(row));
            return;
        }
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(header.to_vec());
        for row in rows {
            let cells =
                row.into_iter()
                    .zip(header)
                    .map(|(text, column)| match text.parse::<Status>() {
                        Ok(status) if self.colored && *column == STATUS_COLUMN => {
                            let code =
                                color(status).map_or(Color::Reset, |it| Color::AnsiValue(it as u8));
                            Cell::new(text).fg(code)
                        }
                        _ => Cell::new(text),
                    });
            table.add_row(cells.collect::<Vec<_>>());
        }
        println!("{table}");
    }

    /// A status in its colour.
    pub(super) fn status(&self, status: Status) -> String {
        if self.colored {
            let style = color(status).map(AnsiColor::on_default).unwrap_or_default();
            format!("{style}{status}{style:#}")
        } else {
            status.to_string()
        }
    }

    pub(super) fn error(&self, error: &CliError) {
        if self.json {
            let json = json!({ "error": error.message(), "hint": error.hint() });
            eprintln!("{json}");
            return;
        }
        eprintln!("error: {}", error.message());
        if let Some(hint) = error.hint() {
            eprintln!("hint: {hint}");
        }
    }
}

const STATUS_COLUMN: &str = "STATUS";

const fn color(status: Status) -> Option<AnsiColor> {
    Some(match status {
        Status::Completed => AnsiColor::Green,
        Status::Failed => AnsiColor::Red,
        Status::Aborted => AnsiColor::Magenta,
        Status::Retrying => AnsiColor::Yellow,
        Status::InProgress => AnsiColor::Cyan,
        Status::Queued => return None,
    })
}

pub(super) fn one_line(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

/// A record as JSON: payloads as the JSON they hold, or as text where they hold none.
pub(super) fn record_json(record: &Record) -> Value {
    let payload = |bytes: &[u8]| match bytes {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned())),
    };
    let time = |time: Option<warren_plugin_api::Timestamp>| time.map(|time| time.to_string());
    json!({
        "job_id": record.job_id,
        "status": record.status,
        "attempt": record.attempt,
        "queue": record.queue,
        "function": record.function,
        "worker": record.worker,
        "enqueued_at": time(record.enqueued_at),
        "started_at": time(record.started_at),
        "finished_at": time(record.finished_at),
        "updated_at": time(record.updated_at),
        "heartbeat_at": time(record.heartbeat_at),
        "expires_at": time(record.expires_at),
        "duration_seconds": record.duration.map(|duration| duration.as_secs_f64()),
        "error": record.error,
        "args": payload(&record.args),
        "kwargs": payload(&record.kwargs),
        "result": payload(&record.result),
        "progress": payload(&record.progress),
        "extra": record.extra.iter().map(|(name, value)| (name.to_string(), payload(value)))
            .collect::<serde_json::Map<_, _>>(),
    })
}

/// The columns of a list of records.
pub(super) const RECORD_COLUMNS: [&str; 7] = [
    "JOB",
    STATUS_COLUMN,
    "FUNCTION",
    "QUEUE",
    "ATTEMPT",
    "TOOK",
    "RESULT OR ERROR",
];

pub(super) fn record_row(record: &Record) -> Vec<String> {
    const SHOWN: usize = 80;
    let outcome = match &record.error {
        Some(error) => error.to_string(),
        None => String::from_utf8_lossy(&record.result).into_owned(),
    };
    vec![
        record.job_id.to_string(),
        record.status.to_string(),
        record.function.to_string(),
        record.queue.to_string(),
        record.attempt.to_string(),
        record
            .duration
            .map_or_else(String::new, |took| format!("{took:.1?}")),
        outcome.chars().take(SHOWN).collect(),
    ]
}
