//! How long workers let be what serves several requests at once, after it had to end: [`super::company`] and
//! [`super::watch`].

use std::time::Duration;

/// The first rest, and the longest.
const REST: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1600));
/// The rest after somebody had to connect: with servers that keep no connection, it would end at each request.
const MOMENT: Duration = Duration::from_millis(5);
/// What lasted for so long was no mistake.
const LASTING: Duration = Duration::from_secs(1);

/// Why it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A worker is about to connect to a server. Most times that is over in no time.
    Connect,
    /// A worker has to wait for one request alone.
    Kept,
    /// There are too many clients.
    Crowd,
}

/// The last rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest(Duration);

impl Rest {
    /// The next rest, after what lasted for so long: the longer, the sooner that was.
    pub fn after(&mut self, lasted: Duration, why: Why) -> Duration {
        let (first, longest) = REST;
        if why == Why::Connect {
            return MOMENT;
        }
        let is_first = lasted >= LASTING || self.0.is_zero();
        self.0 = if is_first { first } else { (self.0 * 2).min(longest) };
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_parts_soon_rests_long() {
        let (short, mut rest) = (Duration::from_millis(20), Rest::default());
        let mut rests = |lasted, why| rest.after(lasted, why).as_millis();
        let doubled =
            [50, 100, 200, 400, 800, 1600, 1600].map(|expected| (rests(short, Why::Kept), expected));
        assert!(doubled.iter().all(|(rest, expected)| rest == expected), "{doubled:?}");
        assert_eq!(rests(short, Why::Connect), 5);
        assert_eq!(rests(short, Why::Crowd), 1600, "connecting says nothing");
        assert_eq!(rests(LASTING, Why::Kept), 50);
    }
}
