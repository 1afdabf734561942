//! Figures of several sides, and what they come to.

use serde::Serialize;

/// What a measure's figures say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// More is better.
    PerSecond,
    /// Less is better.
    Microseconds,
    /// Less is better.
    Nanoseconds,
    /// Less is better.
    Milliseconds,
    /// Less is better.
    Kibibytes,
    /// Less is better.
    Bytes,
}

impl Unit {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::PerSecond => "1/s",
            Self::Microseconds => "µs",
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::Kibibytes => "KiB",
            Self::Bytes => "bytes",
        }
    }
}

/// One figure per round of each side; the first side is what the others are compared with.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) sides: Vec<Side>,
    /// Whether the first side is what the others are compared with.
    compared: bool,
}

/// The rounds of one side.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) rounds: Vec<f64>,
    /// What must be known to compare it.
    pub(crate) notes: Vec<String>,
}

/// The middle of some figures, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Measure {
    pub(crate) fn new(name: impl Into<String>, unit: Unit, sides: &[&str]) -> Self {
        let side = |name: &&str| Side {
            name: (*name).to_owned(),
            rounds: Vec::new(),
            notes: Vec::new(),
        };
        Self {
            name: name.into(),
            unit,
            sides: sides.iter().map(side).collect(),
            compared: true,
        }
    }

    /// Sides that stand for themselves.
    pub(crate) fn not_compared(self) -> Self {
        Self {
            compared: false,
            ..self
        }
    }

    /// Adds one round: a figure for each side, in their order.
    pub(crate) fn add_round(&mut self, figures: impl IntoIterator<Item = f64>) {
        for (side, figure) in self.sides.iter_mut().zip(figures) {
            side.rounds.push(figure);
        }
    }

    /// Adds a figure to one side.
    pub(crate) fn add(&mut self, side: usize, figure: f64) {
        if let Some(side) = self.sides.get_mut(side) {
            side.rounds.push(figure);
        }
    }

    /// Says something of one side, once.
    pub(crate) fn note(&mut self, side: usize, note: impl Into<String>) {
        let note = note.into();
        if let Some(side) = self.sides.get_mut(side)
            && !side.notes.contains(&note)
        {
            side.notes.push(note);
        }
    }

    /// How a side compares with the first one, round by round: the two figures of a round were
    /// taken one after the other.
    pub(crate) fn ratio(&self, side: &Side) -> Option<Spread> {
        let first = self.sides.first().filter(|_| self.compared)?;
        let pairs = side.rounds.iter().zip(&first.rounds);
        Spread::of(pairs.map(|(figure, base)| figure / base))
    }
}

impl Spread {
    /// `None` without figures.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

/// The figure below which `share` of the sorted figures lie, between the two nearest ones.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut measure = Measure::new("m", Unit::PerSecond, &["bare", "warren"]);
        // The machine is three times slower in the last two rounds.
        for (bare, warren) in [(300.0, 150.0), (100.0, 50.0), (100.0, 60.0)] {
            measure.add_round([bare, warren]);
        }
        let ratio = measure.ratio(&measure.sides[1]).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (0.5, 0.5, 0.6));
    }

    #[test]
    fn quantiles_lie_between_the_nearest_figures() {
        let figures: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(quantile(&figures, 0.5), Some(50.0));
        assert_eq!(quantile(&figures, 0.99), Some(99.0));
        assert_eq!(quantile(&[1.0, 2.0], 0.5), Some(1.5));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
