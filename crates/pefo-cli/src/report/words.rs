//! Times, spans and names as a report writes them.

use pefo_core::clock::Timestamp;

use super::data::Told;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
/// What a unit stands for, in seconds, the longest first.
const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];

/// `2025-11-22 08:26`, in UTC.
pub(super) fn moment(time: Timestamp) -> String {
    let text = time.to_string();
    text.get(..16).unwrap_or_default().replace('T', " ")
}

/// `22 Nov`.
pub(super) fn day(time: Timestamp) -> String {
    let text = time.to_string();
    let month: Option<usize> = text.get(5..7).and_then(|month| month.parse().ok());
    let month = month.and_then(|month| MONTHS.get(month.checked_sub(1)?));
    let day = text.get(8..10).unwrap_or_default();
    format!(
        "{} {}",
        day.trim_start_matches('0'),
        month.copied().unwrap_or_default()
    )
}

/// `08:26`.
pub(super) fn clock(time: Timestamp) -> String {
    let text = time.to_string();
    text.get(11..16).unwrap_or_default().to_owned()
}

/// A span in its two largest units: `45 s`, `2 min 5 s`, `3 h`, `8 d 2 h`.
pub(super) fn span(seconds: u64) -> String {
    let Some(first) = UNITS.iter().position(|(_, factor)| seconds >= *factor) else {
        return "0 s".to_owned();
    };
    let (unit, factor) = UNITS[first];
    let mut text = format!("{} {unit}", seconds / factor);
    if let Some((unit, smaller)) = UNITS.get(first + 1)
        && seconds % factor >= *smaller
    {
        text.push_str(&format!(" {} {unit}", seconds % factor / smaller));
    }
    text
}

/// As [`span`], of a value that may be less than a second.
pub(super) fn seconds(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value < 1.0 {
        format!("{:.0} ms", value * 1e3)
    } else if value < 10.0 && value.fract() != 0.0 {
        format!("{value:.1} s")
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is at least 1, and saturates"
        )]
        span(value.round() as u64)
    }
}

/// What a data set is called; on the active with the peer.
pub(super) fn name(told: &Told) -> String {
    match &told.peer {
        Some(peer) => format!("{} → {peer}", told.dataset),
        None => told.dataset.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_in_their_two_largest_units() {
        let shown = [0, 45, 125, 3_600, 3_659, 90_061, 699_000].map(span);
        assert_eq!(
            shown,
            [
                "0 s",
                "45 s",
                "2 min 5 s",
                "1 h",
                "1 h",
                "1 d 1 h",
                "8 d 2 h"
            ]
        );
        let shown = [0.0, 0.25, 1.26, 10.4, 59.7, 7_205.0].map(seconds);
        assert_eq!(shown, ["0", "250 ms", "1.3 s", "10 s", "1 min", "2 h"]);
    }

    #[test]
    fn times_read_as_days_and_hours() {
        let time = Timestamp::from_unix_seconds(1_762_000_000).unwrap();
        assert_eq!(
            (moment(time), day(time), clock(time)),
            (
                "2025-11-01 12:26".to_owned(),
                "1 Nov".to_owned(),
                "12:26".to_owned()
            )
        );
    }
}
