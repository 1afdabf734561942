//! The picture: a small chart for each thing that was sampled, all from zero.

use std::{error::Error, path::Path};

use plotters::prelude::*;

use crate::sample::{NAMES, Sample};

const SIZE: (u32, u32) = (1_000, 1_200);
const COLUMNS: usize = 2;

pub(crate) fn draw(path: &Path, samples: &[Sample]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((NAMES.len().div_ceil(COLUMNS), COLUMNS));
    let minutes = samples.last().map_or(1.0, |last| last.minutes).max(0.1);
    for (number, (name, area)) in NAMES.iter().zip(areas).enumerate() {
        let values = || samples.iter().map(|sample| sample.values[number]);
        let highest = values().fold(1.0, f64::max) * 1.15;
        let mut chart = ChartBuilder::on(&area)
            .caption(name, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(35)
            .y_label_area_size(55)
            .build_cartesian_2d(0.0..minutes, 0.0..highest)?;
        chart
            .configure_mesh()
            .x_desc("minutes")
            .max_light_lines(0)
            .draw()?;
        let points = samples
            .iter()
            .filter(|sample| sample.values[number].is_finite());
        let line = points.map(|sample| (sample.minutes, sample.values[number]));
        chart.draw_series(LineSeries::new(line, &BLUE))?;
    }
    root.present()?;
    Ok(())
}
