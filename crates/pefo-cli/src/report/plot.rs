//! Values over time as a picture: a line with gaps where nothing was recorded, thresholds, and axes that people read.
//!
//! The lines are SVG that is stretched to whatever room there is; the words beside them are HTML, so that they keep
//! their size on a phone. What the picture shows is told in words too, for those who do not see it.

use std::time::Duration;

use maud::{Markup, html};
use pefo_core::clock::Timestamp;

use super::data::{Point, Series};
use super::scale::{Scale, times};
use super::words::{moment, seconds};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 200.0;
/// A line has about so many points.
const POINTS: usize = 240;
/// At least this much passes without a sample before it is a gap.
const LEAST_GAP: Duration = Duration::from_secs(180);

/// How values are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Many that follow one another.
    Line,
    /// Few, each for itself.
    Stems,
}

/// A picture of values over a time.
pub(super) struct Plot<'a> {
    /// Names it within the page: letters, digits and dashes.
    pub(super) id: String,
    pub(super) title: String,
    pub(super) series: &'a Series,
    pub(super) mark: Mark,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

/// What a series comes to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Course {
    pub(super) usual: f64,
    pub(super) worst: f64,
    worst_at: Timestamp,
}

impl Course {
    /// Nothing where no value is known.
    pub(super) fn of(series: &Series) -> Option<Self> {
        let known = || {
            series
                .points
                .iter()
                .filter_map(|point| Some((point.at, point.seconds?)))
        };
        let mut values: Vec<f64> = known().map(|(_, seconds)| seconds).collect();
        values.sort_by(f64::total_cmp);
        let usual = *values.get(values.len() / 2)?;
        let (worst_at, worst) = known().max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Self {
            usual,
            worst,
            worst_at,
        })
    }

    /// In words.
    pub(super) fn told(&self) -> String {
        format!(
            "usually {}, at worst {} on {}",
            seconds(self.usual),
            seconds(self.worst),
            moment(self.worst_at)
        )
    }
}

impl Plot<'_> {
    /// The whole: picture, axes, legend.
    pub(super) fn markup(&self) -> Markup {
        let scale = Scale::of(self.series, self.mark);
        let segments = segments(&self.series.points, self.mark);
        let gaps = match self.mark {
            Mark::Line => self.gaps(&segments),
            Mark::Stems => Vec::new(),
        };
        let y = |value: f64| HEIGHT * (1.0 - scale.share(value));
        let limits = [
            ("warn", self.series.warn),
            ("critical", self.series.critical),
        ];
        let limits = || {
            limits
                .into_iter()
                .filter_map(|(name, limit)| Some((name, limit?)))
        };
        let (title, description) = (format!("{}-title", self.id), format!("{}-desc", self.id));
        html! {
            div.plot {
                div.y aria-hidden="true" {
                    @for tick in scale.ticks() {
                        span style=(format!("bottom:{:.2}%", 100.0 * scale.share(tick))) { (seconds(tick)) }
                    }
                }
                div.picture {
                    svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-labelledby=(format!("{title} {description}")) {
                        title id=(title) { (self.title) }
                        desc id=(description) { (self.in_words(gaps.len())) }
                        @for (begin, end) in &gaps {
                            rect.gap x=(number(*begin)) y="0" width=(number((end - begin).max(1.0))) height=(HEIGHT) {}
                        }
                        @for tick in scale.ticks() {
                            line.grid x1="0" x2=(WIDTH) y1=(number(y(tick))) y2=(number(y(tick))) {}
                        }
                        @for (name, limit) in limits() {
                            line.limit.(name) x1="0" x2=(WIDTH) y1=(number(y(limit))) y2=(number(y(limit))) {}
                        }
                        @for segment in &segments {
                            @match self.mark {
                                Mark::Line => {
                                    path.area d=(self.path(segment, &y, true)) {}
                                    path.line d=(self.path(segment, &y, false)) {}
                                }
                                Mark::Stems => {
                                    @for (at, value) in segment {
                                        path.stem d=(format!("M{0} {HEIGHT}V{1}", number(self.x(*at)), number(y(*value)))) {}
                                        path.dot d=(format!("M{0} {1}h0.01", number(self.x(*at)), number(y(*value)))) {}
                                    }
                                }
                            }
                        }
                    }
                }
                div.x aria-hidden="true" {
                    @for (nth, (at, label)) in times(self.from, self.until).into_iter().enumerate() {
                        span.alternate[nth % 2 == 1] style=(format!("left:{:.2}%", at * 100.0)) { (label) }
                    }
                }
            }
            p.legend {
                @if scale.is_logarithmic { span { "logarithmic scale" } }
                @for (name, limit) in limits() {
                    span { i.key.(name) {} (name) " from " (seconds(limit)) }
                }
                @if self.mark == Mark::Line && self.together() > 1 {
                    span { "the worst of each " (self.together()) " samples" }
                }
                @if !gaps.is_empty() { span { i.key.gap {} "nothing was recorded" } }
                span { "times in UTC" }
            }
        }
    }

    fn x(&self, at: Timestamp) -> f64 {
        let whole = self.until.since(self.from).as_secs_f64();
        if whole == 0.0 {
            return 0.0;
        }
        WIDTH * (at.since(self.from).as_secs_f64() / whole).clamp(0.0, 1.0)
    }

    /// How many samples make one point of the line.
    fn together(&self) -> usize {
        self.series.points.len().div_ceil(POINTS).max(1)
    }

    /// A line through the values of a segment, down to the ground at both ends where it is to be filled.
    fn path(
        &self,
        segment: &[(Timestamp, f64)],
        y: &impl Fn(f64) -> f64,
        is_filled: bool,
    ) -> String {
        let mut path = String::new();
        for (at, value) in thinned(segment, self.together()) {
            let verb = if path.is_empty() { 'M' } else { 'L' };
            path.push_str(&format!(
                "{verb}{} {}",
                number(self.x(at)),
                number(y(value))
            ));
        }
        let ends = segment.first().zip(segment.last());
        match ends {
            Some(((first, _), (last, _))) if is_filled => {
                path.push_str(&format!(
                    "L{} {HEIGHT}L{} {HEIGHT}Z",
                    number(self.x(*last)),
                    number(self.x(*first))
                ));
            }
            // One value alone is a dot.
            Some(((first, _), (last, _))) if first == last => path.push_str("h0.01"),
            _ => {}
        }
        path
    }

    /// Where nothing is known, from left to right.
    fn gaps(&self, segments: &[Vec<(Timestamp, f64)>]) -> Vec<(f64, f64)> {
        let bound = WIDTH * gap(&self.series.points).as_secs_f64()
            / self.until.since(self.from).as_secs_f64().max(1.0);
        let mut gaps = Vec::new();
        let mut known_until = 0.0;
        for segment in segments {
            let Some(((first, _), (last, _))) = segment.first().zip(segment.last()) else {
                continue;
            };
            gaps.push((known_until, self.x(*first)));
            known_until = self.x(*last);
        }
        gaps.push((known_until, WIDTH));
        let is_first_whole = segments.is_empty();
        // Between segments every gap counts; before the first and after the last only what is longer than usual.
        let last = gaps.len() - 1;
        let mut nth = 0;
        gaps.retain(|(begin, end)| {
            let is_end = nth == 0 || nth == last;
            nth += 1;
            is_first_whole || !is_end && end > begin || end - begin > bound
        });
        gaps
    }

    fn in_words(&self, gaps: usize) -> String {
        let what = match Course::of(self.series) {
            Some(course) => course.told(),
            None => "nothing is known".to_owned(),
        };
        let gaps = match gaps {
            0 => String::new(),
            1 => "; there is 1 gap".to_owned(),
            more => format!("; there are {more} gaps"),
        };
        format!(
            "{}, from {} to {}: {what}{gaps}.",
            self.title,
            moment(self.from),
            moment(self.until)
        )
    }
}

/// From how long on nothing recorded is a gap: three times what usually passes.
fn gap(points: &[Point]) -> Duration {
    let mut between: Vec<Duration> = points
        .windows(2)
        .map(|pair| pair[1].at.since(pair[0].at))
        .collect();
    between.sort_unstable();
    let usual = between.get(between.len() / 2).copied().unwrap_or_default();
    (usual * 3).max(LEAST_GAP)
}

/// What follows one another without a gap.
fn segments(points: &[Point], mark: Mark) -> Vec<Vec<(Timestamp, f64)>> {
    let gap = gap(points);
    let mut segments: Vec<Vec<(Timestamp, f64)>> = vec![Vec::new()];
    for point in points {
        let Some(current) = segments.last_mut() else {
            break;
        };
        let is_far = current
            .last()
            .is_some_and(|(at, _)| point.at.since(*at) > gap);
        match point.seconds {
            Some(value) if is_far && mark == Mark::Line => segments.push(vec![(point.at, value)]),
            Some(value) => current.push((point.at, value)),
            None => segments.push(Vec::new()),
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}

/// No more than can be seen: of those that fall together the largest, so that no peak is lost.
fn thinned(
    segment: &[(Timestamp, f64)],
    together: usize,
) -> impl Iterator<Item = (Timestamp, f64)> {
    let chunks = segment.chunks(together);
    chunks.filter_map(|chunk| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)))
}

/// A coordinate, no finer than can be seen.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_763_800_000 + seconds).unwrap()
    }

    fn series(points: &[(i64, Option<f64>)]) -> Series {
        let points = points.iter().map(|(second, value)| Point {
            at: at(*second),
            seconds: *value,
        });
        Series {
            points: points.collect(),
            warn: Some(60.0),
            critical: None,
        }
    }

    fn plot(series: &Series) -> Plot<'_> {
        Plot {
            id: "x".to_owned(),
            title: "Lag of ca".to_owned(),
            series,
            mark: Mark::Line,
            from: at(0),
            until: at(36_000),
        }
    }

    #[test]
    fn a_time_without_samples_is_a_gap_and_one_lost_sample_is_none() {
        let regular = (0..600).filter(|minute| *minute != 100 && !(300..360).contains(minute));
        let points: Vec<_> = regular.map(|minute| (minute * 60, Some(8.0))).collect();
        let series = series(&points);
        let segments = segments(&series.points, Mark::Line);
        assert_eq!(segments.len(), 2);
        let plot = plot(&series);
        let gaps = plot.gaps(&segments);
        assert_eq!(gaps.len(), 1);
        assert!(
            (gaps[0].0 - 498.3).abs() < 0.1 && (gaps[0].1 - 600.0).abs() < 0.1,
            "{gaps:?}"
        );
        assert!(
            plot.in_words(1)
                .ends_with(": usually 8 s, at worst 8 s on 2025-11-22 18:25; there is 1 gap."),
            "{}",
            plot.in_words(1)
        );
    }

    #[test]
    fn a_peak_is_drawn_however_many_samples_there_are() {
        let points: Vec<_> = (0..36_000)
            .map(|second| (second, Some(if second == 20_001 { 9_000.0 } else { 2.0 })))
            .collect();
        let series = series(&points);
        let markup = plot(&series).markup().into_string();
        assert!(
            markup.contains("logarithmic scale")
                && markup.contains("the worst of each 150 samples")
        );
        let scale = Scale::of(&series, Mark::Line);
        let top = number(HEIGHT * (1.0 - scale.share(9_000.0)));
        assert!(markup.contains(&format!(" {top}L")), "{top}");
    }

    proptest! {
        #[test]
        fn any_values_make_a_picture_within_its_frame(
            mut points in proptest::collection::vec((-1_000_i64..40_000, proptest::option::of(0.0..1e12_f64)), 0..30),
            is_line in any::<bool>(),
        ) {
            points.sort_by_key(|(second, _)| *second);
            let series = series(&points);
            let mark = if is_line { Mark::Line } else { Mark::Stems };
            let markup = Plot { mark, ..plot(&series) }.markup().into_string();
            prop_assert!(!markup.contains("NaN") && !markup.contains("inf"));
            for path in markup.split(" d=\"").skip(1) {
                let (path, _) = path.split_once('"').unwrap();
                for value in path.split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-'))).filter(|value| !value.is_empty()) {
                    let value: f64 = value.parse().unwrap();
                    prop_assert!((0.0..=WIDTH).contains(&value), "{path}");
                }
            }
        }
    }
}
