//! When a drain tells the long-lived streams of clients that they end: spread over its time, so that clients that come back
//! do not all come at one moment.

use crate::base::time::Moment;

/// The part of a drain before the first stream is told, in percent: the time in which a successor takes the port, where
/// one is started at the same moment.
const BEGIN_PERCENT: u32 = 10;
/// The part of a drain in which all streams have been told, in percent: the rest is for their closing handshakes.
const END_PERCENT: u32 = 80;

/// The moment for a stream that drew `fraction`, from 0 to 1.
pub fn notice_at(begun: Moment, deadline: Moment, fraction: f64) -> Moment {
    let whole = deadline.since(begun);
    let (first, last) = (whole * BEGIN_PERCENT / 100, whole * END_PERCENT / 100);
    begun.after(first + (last - first).mul_f64(fraction.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_spread_over_the_drain() {
        let check = |fraction, at_ms| {
            let (begun, deadline) = (Moment::from_millis(1000), Moment::from_millis(11_000));
            assert_eq!(notice_at(begun, deadline, fraction), Moment::from_millis(at_ms), "{fraction}");
        };
        check(0.0, 2000);
        check(0.5, 5500);
        check(1.0, 9000);
        check(7.0, 9000);
        let now = Moment::from_millis(5);
        assert_eq!(notice_at(now, now, 0.5), now, "without time all are told at once");
        assert_eq!(notice_at(now, Moment::START, 0.5), now);
    }
}
