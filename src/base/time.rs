//! The only module that reads the clock. All others take a [`Moment`] as an argument, so that policies run under
//! virtual time in tests.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in monotonic time, in nanoseconds since the first call in this process. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The beginning: no moment is earlier.
    pub const START: Moment = Moment(0);
    /// Later than any process lives (584 years).
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment this many nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Moment(nanos)
    }

    /// The moment this many milliseconds after the start; for tests and tables.
    pub const fn from_millis(millis: u64) -> Self {
        Moment(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to here; zero when `earlier` is later.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `wait` after this one, at most [`Moment::NEVER`].
    pub const fn after(self, wait: Duration) -> Moment {
        let nanos = wait.as_nanos();
        if nanos > u64::MAX as u128 { Moment::NEVER } else { Moment(self.0.saturating_add(nanos as u64)) }
    }
}

/// Reads the monotonic clock.
pub fn now() -> Moment {
    Moment(start().elapsed().as_nanos() as u64)
}

/// The [`Instant`] of a moment, for waits of the standard library and of crossbeam.
pub fn instant(moment: Moment) -> Instant {
    let far = Duration::from_secs(365 * 24 * 3600);
    start() + Duration::from_nanos(moment.as_nanos()).min(start().elapsed() + far)
}

/// A duration for display: whole seconds, or milliseconds below one second.
pub fn rounded(time: Duration) -> humantime::FormattedDuration {
    let unit = if time < Duration::from_secs(1) { Duration::from_millis(1) } else { Duration::from_secs(1) };
    let whole = time.as_nanos() / unit.as_nanos();
    humantime::format_duration(unit.saturating_mul(u32::try_from(whole).unwrap_or(u32::MAX)))
}

/// The last second of the year 9999: dates of HTTP and RFC 3339 have four digits for the year.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// Reads the wall clock; for dates in responses, logs and status only, never for a deadline. A time before 1970 or
/// after 9999 is clamped to that range, so that every date can be written.
#[allow(clippy::disallowed_methods)]
pub fn wall() -> SystemTime {
    writable(SystemTime::now())
}

fn writable(time: SystemTime) -> SystemTime {
    time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST_SECOND)
}

/// The current HTTP date (IMF-fixdate, RFC 9110 section 5.6.7).
pub fn http_date() -> String {
    http_date_of(wall())
}

/// The HTTP date for this many seconds since 1970.
pub fn http_date_at(unix_seconds: u64) -> String {
    http_date_of(UNIX_EPOCH + Duration::from_secs(unix_seconds).min(LAST_SECOND))
}

fn http_date_of(time: SystemTime) -> String {
    httpdate::fmt_http_date(writable(time))
}

/// Whole seconds since 1970, zero when the wall clock is before that.
pub fn unix_seconds() -> u64 {
    wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whole milliseconds since 1970, zero when the wall clock is before that.
pub fn unix_millis() -> u64 {
    wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Nanoseconds since 1970, zero when the wall clock is before that.
pub fn unix_nanos() -> u64 {
    wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_order_and_saturate() {
        let one = Moment::from_millis(1);
        assert_eq!(one.after(Duration::from_millis(2)), Moment::from_millis(3));
        assert_eq!(Moment::from_millis(3).since(one), Duration::from_millis(2));
        assert_eq!(one.since(Moment::from_millis(3)), Duration::ZERO);
        assert_eq!(one.after(Duration::MAX), Moment::NEVER);
    }

    #[test]
    fn dates_have_four_digits_for_the_year() {
        let day = Duration::from_secs(24 * 3600);
        for (time, expected) in [
            (UNIX_EPOCH - day, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (UNIX_EPOCH + Duration::from_secs(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"),
            (UNIX_EPOCH + LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (UNIX_EPOCH + LAST_SECOND + day * 400_000, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(http_date_of(time), expected);
        }
        assert_eq!(http_date_at(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert!(wall() >= UNIX_EPOCH && http_date().ends_with(" GMT"));
    }

    #[test]
    fn durations_are_reported_in_whole_units() {
        for (ms, expected) in [(0, "0s"), (12, "12ms"), (999, "999ms"), (1_999, "1s"), (61_500, "1m 1s")] {
            assert_eq!(rounded(Duration::from_micros(ms * 1_000 + 400)).to_string(), expected);
        }
    }

    #[test]
    fn the_clock_does_not_go_back_and_far_moments_have_an_instant() {
        let first = now();
        assert!(now() >= first);
        assert!(instant(Moment::NEVER) > instant(first));
    }
}
