//! The ratios as a picture.

use std::path::Path;

use plotters::prelude::*;

use crate::{
    error::BenchError,
    figures::{Measure, Spread, Unit},
};

const WIDTH: u32 = 960;
const ROW: u32 = 18;
const MARGIN: i32 = 16;
/// Where the bars begin.
const BARS_AT: i32 = 440;
/// A bar of this ratio ends at the right margin; longer ones are cut there.
const LONGEST: f64 = 2.0;

/// A line of the picture: how fast a side is, compared with the first of its measure.
struct Bar {
    name: String,
    speed: Spread,
}

/// Draws one bar for each side that is compared with another one: how fast it is beside that one,
/// so that a longer bar is better whatever the unit.
pub(crate) fn draw(file: &Path, measures: &[Measure]) -> Result<(), BenchError> {
    let bars: Vec<Bar> = measures.iter().flat_map(bars).collect();
    let height = ROW * (bars.len() as u32 + 2) + 2 * MARGIN as u32;
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    paint(&area, &bars).map_err(|error| BenchError::Plot {
        file: file.to_owned(),
        reason: error.to_string(),
    })
}

fn bars(measure: &Measure) -> Vec<Bar> {
    let compared = measure.sides.iter().skip(1);
    compared
        .filter_map(|side| {
            let ratio = measure.ratio(side)?;
            let speed = match measure.unit {
                Unit::PerSecond => ratio,
                _ => Spread {
                    median: 1.0 / ratio.median,
                    min: 1.0 / ratio.max,
                    max: 1.0 / ratio.min,
                },
            };
            let name = format!("{}: {}", measure.name, side.name);
            Some(Bar { name, speed })
        })
        .collect()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn paint(
    area: &Area<'_>,
    bars: &[Bar],
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>> {
    area.fill(&WHITE)?;
    let font = ("sans-serif", 12).into_font();
    let title = "Speed beside the first side of each measure (the line is 100 %)";
    area.draw_text(title, &font.color(&BLACK), (MARGIN, MARGIN))?;
    let place = |ratio: f64| {
        let room = f64::from(WIDTH as i32 - BARS_AT - 60);
        BARS_AT + (ratio.clamp(0.0, LONGEST) / LONGEST * room) as i32
    };
    for (row, bar) in bars.iter().enumerate() {
        let top = MARGIN + (row as i32 + 2) * ROW as i32;
        let middle = top + ROW as i32 / 2 - 2;
        let colour = if bar.speed.median < 1.0 {
            &RGBColor(200, 120, 40)
        } else {
            &RGBColor(50, 120, 170)
        };
        area.draw_text(&bar.name, &font.color(&BLACK), (MARGIN, top))?;
        let corners = [
            (BARS_AT, top),
            (place(bar.speed.median), top + ROW as i32 - 5),
        ];
        area.draw(&Rectangle::new(corners, colour.filled()))?;
        let spread = vec![
            (place(bar.speed.min), middle),
            (place(bar.speed.max), middle),
        ];
        area.draw(&PathElement::new(spread, BLACK))?;
        let figure = format!("{:.0} %", bar.speed.median * 100.0);
        let end = place(bar.speed.max.max(bar.speed.median)) + 6;
        area.draw_text(&figure, &font.color(&BLACK), (end, top))?;
    }
    let bottom = MARGIN + (bars.len() as i32 + 2) * ROW as i32;
    let line = vec![(place(1.0), MARGIN + ROW as i32), (place(1.0), bottom)];
    area.draw(&PathElement::new(line, BLACK))?;
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_bar_is_better_whatever_the_unit() {
        for (unit, figure) in [(Unit::PerSecond, 50.0), (Unit::Microseconds, 200.0)] {
            let mut measure = Measure::new("m", unit, &["bare", "Warren"]);
            measure.add_round([100.0, figure]);
            let bars = bars(&measure);
            assert_eq!(bars[0].speed.median, 0.5);
        }
    }
}
