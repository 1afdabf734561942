//! Figures as a table for people and as JSON for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use crate::{
    error::BenchError,
    figures::{Measure, Spread, Unit},
    options::Options,
    plot,
};

/// Prints the table and writes the file that was asked for.
pub(crate) fn publish(options: &Options, measures: &[Measure]) -> Result<(), BenchError> {
    println!("{}", table(measures));
    println!(
        "At most {} rounds of each side, alternating, on {} processors; a ratio is the median of the \
         rounds' own ratios.",
        options.rounds(),
        processors()
    );
    for note in notes(measures) {
        println!("{note}");
    }
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&document(options, measures))?;
        std::fs::write(file, text + "\n").map_err(|error| BenchError::Write {
            file: file.clone(),
            error,
        })?;
    }
    if let Some(file) = &options.plot {
        plot::draw(file, measures)?;
    }
    Ok(())
}

/// Each once, with the sides that it is about.
fn notes(measures: &[Measure]) -> Vec<String> {
    let sides = measures.iter().flat_map(|measure| &measure.sides);
    let all = sides.flat_map(|side| side.notes.iter().map(move |note| (side, note)));
    let mut lines: Vec<String> = all
        .map(|(side, note)| format!("- {}: {note}", side.name))
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

fn table(measures: &[Measure]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "measure", "side", "unit", "median", "min", "max", "ratio", "from", "to",
    ]);
    for measure in measures {
        // Said once, in the first row that there is.
        let mut name = measure.name.as_str();
        for (index, side) in measure.sides.iter().enumerate() {
            let Some(spread) = Spread::of(side.rounds.iter().copied()) else {
                continue;
            };
            let ratio = measure.ratio(side).filter(|_| index > 0);
            let ratio_cell = |part: fn(&Spread) -> f64| {
                ratio.map_or_else(String::new, |ratio| ratio_text(measure.unit, part(&ratio)))
            };
            table.add_row([
                std::mem::take(&mut name).to_owned(),
                side.name.clone(),
                measure.unit.text().to_owned(),
                number(spread.median),
                number(spread.min),
                number(spread.max),
                ratio_cell(|ratio| ratio.median),
                ratio_cell(|ratio| ratio.min),
                ratio_cell(|ratio| ratio.max),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Of rates, how much of the first side's rate; of times, how many times as long.
fn ratio_text(unit: Unit, ratio: f64) -> String {
    match unit {
        Unit::PerSecond => format!("{:.0} %", ratio * 100.0),
        Unit::Microseconds
        | Unit::Nanoseconds
        | Unit::Milliseconds
        | Unit::Kibibytes
        | Unit::Bytes => {
            format!("{ratio:.2} x")
        }
    }
}

fn number(figure: f64) -> String {
    if figure >= 100.0 {
        format!("{figure:.0}")
    } else {
        format!("{figure:.1}")
    }
}

fn document(options: &Options, measures: &[Measure]) -> serde_json::Value {
    let measures: Vec<_> = measures
        .iter()
        .map(|measure| {
            let sides: Vec<_> = measure
                .sides
                .iter()
                .map(|side| {
                    json!({
                        "name": side.name,
                        "rounds": side.rounds,
                        "notes": side.notes,
                        "spread": Spread::of(side.rounds.iter().copied()),
                        "ratio": measure.ratio(side),
                    })
                })
                .collect();
            json!({ "name": measure.name, "unit": measure.unit, "sides": sides })
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "processors": processors(),
        "options": options,
        "measures": measures,
    })
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_a_ratio_beside_every_side_but_the_first() {
        let mut measure = Measure::new("end to end", Unit::PerSecond, &["bare", "Warren"]);
        measure.add_round([20_000.0, 15_000.0]);
        let table = table(&[measure]).to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[2].contains("bare") && !lines[2].contains('%'),
            "{table}"
        );
        assert!(
            lines[3].contains("15000") && lines[3].contains("75 %"),
            "{table}"
        );
    }
}
