//! What the axes of a picture go by, and where on them a value and a time stand.

use pefo_core::clock::Timestamp;

use super::data::Series;
use super::plot::{Course, Mark};
use super::words::{clock, day};

/// Where the largest value is so many times the usual one, a straight scale would show a flat line.
const LOGARITHMIC_FROM: f64 = 20.0;
/// What the vertical axis of a straight scale goes by.
const STEPS: [f64; 22] = [
    0.001,
    0.01,
    0.1,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1_800.0,
    3_600.0,
    7_200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    604_800.0,
    2_592_000.0,
];
/// What that of a logarithmic one shows.
const DECADES: [f64; 10] = [
    0.0,
    1.0,
    10.0,
    60.0,
    600.0,
    3_600.0,
    21_600.0,
    86_400.0,
    604_800.0,
    2_592_000.0,
];
/// What the horizontal axis goes by, in seconds.
const TIMES: [i64; 13] = [
    60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000,
    7_776_000,
];

/// Which part of the height a value takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    top: f64,
    pub(super) is_logarithmic: bool,
}

impl Scale {
    /// In which all of a series has room, and its limits.
    pub(super) fn of(series: &Series, mark: Mark) -> Self {
        let course = Course::of(series);
        let (usual, worst) = course.map_or((0.0, 0.0), |course| (course.usual, course.worst));
        let wanted = [series.warn, series.critical]
            .into_iter()
            .flatten()
            .fold(worst, f64::max);
        let is_logarithmic = wanted > LOGARITHMIC_FROM * usual.max(1.0);
        // A lag of two seconds is none to look at.
        let floor = match mark {
            Mark::Line => 10.0,
            Mark::Stems => 0.01,
        };
        Self {
            top: (wanted * 1.1).max(floor),
            is_logarithmic,
        }
    }

    /// From 0 to 1.
    pub(super) fn share(self, value: f64) -> f64 {
        let share = if self.is_logarithmic {
            value.ln_1p() / self.top.ln_1p()
        } else {
            value / self.top
        };
        share.clamp(0.0, 1.0)
    }

    fn steps(self) -> Vec<f64> {
        if self.is_logarithmic {
            return DECADES
                .into_iter()
                .filter(|decade| *decade <= self.top)
                .collect();
        }
        let step = STEPS
            .into_iter()
            .find(|step| self.top / step <= 5.0)
            .unwrap_or(self.top);
        (0..=5_u8)
            .map(|nth| f64::from(nth) * step)
            .filter(|tick| *tick <= self.top)
            .collect()
    }

    /// What is written beside it: what has room for a word.
    pub(super) fn ticks(self) -> Vec<f64> {
        let mut kept: Vec<f64> = Vec::new();
        for tick in self.steps() {
            if kept
                .last()
                .is_none_or(|last| self.share(tick) - self.share(*last) > 0.09)
            {
                kept.push(tick);
            }
        }
        kept
    }
}

/// Where on the horizontal axis which time stands.
pub(super) fn times(from: Timestamp, until: Timestamp) -> Vec<(f64, String)> {
    let (begin, end) = (from.unix_seconds(), until.unix_seconds());
    let whole = end - begin;
    let Some(step) = TIMES.into_iter().find(|step| whole / step <= 7) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut at = begin.div_euclid(step) * step;
    while at < end {
        at += step;
        let share = (at - begin) as f64 / whole as f64;
        // A word at an edge would be cut off.
        if !(0.06..=0.94).contains(&share) {
            continue;
        }
        if let Ok(time) = Timestamp::from_unix_seconds(at) {
            let is_day = step >= 86_400 || at % 86_400 == 0;
            found.push((share, if is_day { day(time) } else { clock(time) }));
        }
    }
    found
}
