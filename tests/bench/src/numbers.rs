//! What is told about a handful of runs: medians, and ratios that are taken pair by pair.
//!
//! A ratio of medians would mix a slow minute of the machine into one side only; the two runs of a
//! pair follow each other directly, so their ratio is the one that can be trusted, and the median of
//! these ratios is what a row tells.

/// One run of each side, back to back, in the row's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pair {
    /// What pefo took.
    pub(crate) pefo: f64,
    /// What the peer took.
    pub(crate) peer: f64,
}

impl Pair {
    /// How much of the peer's time or bytes pefo took; lower is better.
    pub(crate) fn ratio(self) -> f64 {
        self.pefo / self.peer
    }
}

/// The summary of the pairs of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    /// pefo's median.
    pub(crate) pefo: f64,
    /// The peer's median.
    pub(crate) peer: f64,
    /// The median of the pairs' ratios.
    pub(crate) ratio: f64,
    /// The lowest ratio of a pair.
    pub(crate) ratio_min: f64,
    /// The highest ratio of a pair.
    pub(crate) ratio_max: f64,
    /// How many pairs there were.
    pub(crate) pairs: usize,
}

impl Summary {
    /// Sums up `pairs`; nothing, where there is none or one has no ratio.
    pub(crate) fn of(pairs: &[Pair]) -> Option<Self> {
        let side = |of: fn(&Pair) -> f64| pairs.iter().map(of).collect::<Vec<f64>>();
        let ratios = side(|pair| pair.ratio());
        if !ratios.iter().all(|ratio| ratio.is_finite()) {
            return None;
        }
        Some(Self {
            pefo: median(&side(|pair| pair.pefo))?,
            peer: median(&side(|pair| pair.peer))?,
            ratio: median(&ratios)?,
            ratio_min: ratios.iter().copied().reduce(f64::min)?,
            ratio_max: ratios.iter().copied().reduce(f64::max)?,
            pairs: pairs.len(),
        })
    }
}

/// The middle value, or the mean of the two in the middle; nothing of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[middle - 1], upper))
}

/// The value that 99 of 100 do not exceed (nearest rank): of less than 100 values, the highest.
pub(crate) fn p99(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (sorted.len() * 99).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 5.0, 2.0]), Some(3.5));
    }

    #[test]
    fn the_99th_percentile_is_the_highest_of_a_few_and_the_99th_of_a_hundred() {
        assert_eq!(p99(&[]), None);
        assert_eq!(p99(&[3.0, 8.0, 1.0]), Some(8.0));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(p99(&hundred), Some(99.0));
    }

    #[test]
    fn a_ratio_is_taken_pair_by_pair_so_a_slow_minute_of_the_machine_does_not_show() {
        // The machine was four times as slow in the second pair: for both.
        let pairs =
            [(10.0, 20.0), (40.0, 80.0), (10.0, 25.0)].map(|(pefo, peer)| Pair { pefo, peer });
        let summary = Summary::of(&pairs).unwrap();
        assert_eq!((summary.pefo, summary.peer), (10.0, 25.0));
        assert_eq!(summary.ratio, 0.5);
        assert_eq!((summary.ratio_min, summary.ratio_max), (0.4, 0.5));
        assert_eq!(summary.pairs, 3);
    }

    #[test]
    fn no_pairs_and_a_peer_of_nothing_have_no_summary() {
        assert_eq!(Summary::of(&[]), None);
        let pair = Pair {
            pefo: 1.0,
            peer: 0.0,
        };
        assert_eq!(Summary::of(&[pair]), None);
    }
}
