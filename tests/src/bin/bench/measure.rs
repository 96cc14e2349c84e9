//! Figures of several rounds: medians, spread, and ratios within each round.

/// How often and how long.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every way is measured once a round, in turns.
    pub(crate) rounds: u32,
    /// How long each measurement takes.
    pub(crate) seconds: u32,
    /// Hosts that are connected to the approval server.
    pub(crate) hosts: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { rounds: 5, seconds: 4, hosts: 10_000 }
    }
}

/// The figure of one way in each round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(pub(crate) Vec<f64>);

impl Series {
    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// This over another, round by round.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    /// `median (least-most)` with so many digits.
    pub(crate) fn spread(&self, digits: usize) -> String {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{:.digits$} ({least:.digits$}-{most:.digits$})", self.median())
    }
}

/// The value at a part (0 to 1) of sorted values.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into what was measured"
    )]
    let at = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
