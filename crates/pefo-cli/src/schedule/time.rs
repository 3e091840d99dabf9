//! A time that comes again. It is UTC's, so that two masters agree whatever their zones are, and no hour comes
//! twice or not at all.

use std::time::Duration;

use pefo_core::clock::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// 1970-01-04 was the first Sunday of the epoch.
const FIRST_SUNDAY: i64 = 3 * DAY;

/// When something runs, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recurrence {
    /// As a minute begins.
    EveryMinute,
    /// At this minute of each hour, 0 to 59.
    Hourly {
        /// Past the hour.
        minute: u8,
    },
    /// Once a day.
    Daily {
        /// 0 to 23.
        hour: u8,
        /// 0 to 59.
        minute: u8,
    },
    /// Once a week.
    Sundays {
        /// 0 to 23.
        hour: u8,
        /// 0 to 59.
        minute: u8,
    },
}

impl Recurrence {
    /// At this minute of each hour.
    pub const fn hourly(minute: u8) -> Self {
        Self::Hourly { minute }
    }

    /// Every so many seconds, from which second of the epoch on.
    fn period_and_offset(self) -> (i64, i64) {
        let at = |hour: u8, minute: u8| i64::from(hour) * HOUR + i64::from(minute) * MINUTE;
        match self {
            Self::EveryMinute => (MINUTE, 0),
            Self::Hourly { minute } => (HOUR, at(0, minute)),
            Self::Daily { hour, minute } => (DAY, at(hour, minute)),
            Self::Sundays { hour, minute } => (WEEK, FIRST_SUNDAY + at(hour, minute)),
        }
    }

    /// The first time after `now`.
    pub fn next(self, now: Timestamp) -> Timestamp {
        let (period, offset) = self.period_and_offset();
        let seconds = now.unix_seconds();
        let wait = period - (seconds - offset).rem_euclid(period);
        // What is left of the second that has begun does not count.
        let whole = Timestamp::from_unix_seconds(seconds).unwrap_or(now);
        whole.plus(Duration::from_secs(wait.unsigned_abs()))
    }

    /// As crontab(5) has it.
    pub fn cron(self) -> String {
        match self {
            Self::EveryMinute => "* * * * *".to_owned(),
            Self::Hourly { minute } => format!("{minute} * * * *"),
            Self::Daily { hour, minute } => format!("{minute} {hour} * * *"),
            Self::Sundays { hour, minute } => format!("{minute} {hour} * * 0"),
        }
    }

    /// As systemd.time(7) has it.
    pub fn calendar(self) -> String {
        match self {
            Self::EveryMinute => "*-*-* *:*:00 UTC".to_owned(),
            Self::Hourly { minute } => format!("*-*-* *:{minute:02}:00 UTC"),
            Self::Daily { hour, minute } => format!("*-*-* {hour:02}:{minute:02}:00 UTC"),
            Self::Sundays { hour, minute } => {
                format!("Sun *-*-* {hour:02}:{minute:02}:00 UTC")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any() -> impl Strategy<Value = Recurrence> {
        let (hour, minute) = (0_u8..24, 0_u8..60);
        prop_oneof![
            Just(Recurrence::EveryMinute),
            minute.clone().prop_map(Recurrence::hourly),
            (hour.clone(), minute.clone())
                .prop_map(|(hour, minute)| Recurrence::Daily { hour, minute }),
            (hour, minute).prop_map(|(hour, minute)| Recurrence::Sundays { hour, minute }),
        ]
    }

    /// Whether it runs at this very second, told by the calendar and not by counting.
    fn runs_at(recurrence: Recurrence, seconds: i64) -> bool {
        let at = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let is_sunday = at.weekday() == time::Weekday::Sunday;
        at.second() == 0
            && match recurrence {
                Recurrence::EveryMinute => true,
                Recurrence::Hourly { minute } => at.minute() == minute,
                Recurrence::Daily { hour, minute } => (at.hour(), at.minute()) == (hour, minute),
                Recurrence::Sundays { hour, minute } => {
                    is_sunday && (at.hour(), at.minute()) == (hour, minute)
                }
            }
    }

    proptest! {
        #[test]
        fn the_next_time_is_the_first_after_now_at_which_it_runs(
            recurrence in any(),
            now in -5_000_000_000_i64..100_000_000_000,
            nanoseconds in 0_u32..1_000_000_000,
        ) {
            let instant = Timestamp::from_unix_seconds(now).unwrap().plus(Duration::from_nanos(nanoseconds.into()));
            let next = recurrence.next(instant);
            prop_assert!(next > instant);
            prop_assert_eq!(next.since(Timestamp::from_unix_seconds(next.unix_seconds()).unwrap()), Duration::ZERO);
            prop_assert!(runs_at(recurrence, next.unix_seconds()));
            let minutes = (now.div_euclid(60) + 1)..next.unix_seconds().div_euclid(60);
            for minute in minutes {
                prop_assert!(!runs_at(recurrence, minute * 60), "missed {minute}");
            }
        }
    }

    #[test]
    fn the_minute_that_has_just_begun_is_over() {
        let at = |text: &str| serde_json::from_value::<Timestamp>(text.into()).unwrap();
        let next = Recurrence::hourly(20).next(at("2026-11-22T10:20:00Z"));
        assert_eq!(next, at("2026-11-22T11:20:00Z"));
        let sunday = Recurrence::Sundays {
            hour: 4,
            minute: 45,
        };
        assert_eq!(
            sunday.next(at("2026-11-22T04:44:59Z")),
            at("2026-11-22T04:45:00Z")
        );
        assert_eq!(
            sunday.next(at("2026-11-22T04:45:00Z")),
            at("2026-11-29T04:45:00Z")
        );
    }
}
