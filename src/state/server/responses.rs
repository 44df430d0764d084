//! What is recorded of a server's responses and failures, and how an algorithm that compares servers sees it.

use super::{Server, millis};
use crate::base::time::Moment;
use crate::policy::latency::{Latency, Reading};
use crate::policy::outcomes::Outcomes;
use crate::policy::outlier::Totals;
use crate::policy::pick::{Candidate, Slot};
use crate::policy::silence::{self, Awaiting};
use crate::policy::slow::Times;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Server {
    /// Requests that failed with it: connect, reset, timeout, broken response.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Responses below 500 that were not what its pool expects.
    pub fn unexpected(&self) -> u64 {
        self.unexpected.load(Relaxed)
    }

    /// Counts one.
    pub fn responded_unexpectedly(&self) {
        self.unexpected.fetch_add(1, Relaxed);
    }

    /// The totals of its finished requests.
    pub fn totals(&self) -> Totals {
        Totals {
            ended: self.ended.load(Relaxed),
            errors: self.errors.load(Relaxed),
            in_row: self.errors_in_row.load(Relaxed),
        }
    }

    /// How long its responses took so far.
    pub fn times(&self) -> Times {
        Times { errors: self.errors.load(Relaxed) as f64, ..self.traffic.times() }
    }

    /// What a response usually takes, and under which load; `None` before the first good one.
    pub fn latency(&self, now: Moment) -> Option<Reading> {
        Latency::unpack(self.latency.load(Relaxed)).reading(now)
    }

    /// The same in microseconds, without the load.
    pub fn latency_us(&self, now: Moment) -> Option<f32> {
        self.latency(now).map(|reading| reading.typical_us)
    }

    /// The share of good responses among the recent ones, 0 to 1.
    pub fn good_share(&self, now: Moment) -> f32 {
        match self.outcomes.load(Relaxed) {
            0 => 1.0,
            word => Outcomes::unpack(word).good(now),
        }
    }

    /// A live request failed. The health thread is notified of every failure, and of the first success after it.
    pub fn fails(&self, now: Moment) {
        self.failures.fetch_add(1, Relaxed);
        self.ended.fetch_add(1, Relaxed);
        self.record_outcome(false, now);
        self.suspect.store(true, Relaxed);
    }

    /// A response was valid but larger than our limits: its request failed, and the server is not at fault.
    pub fn exceeds_limits(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.ended.fetch_add(1, Relaxed);
    }

    /// A live request got a response. True when the previous one failed.
    pub fn recovers(&self) -> bool {
        self.suspect.load(Relaxed) && self.suspect.swap(false, Relaxed)
    }

    /// The server as seen by an algorithm that compares servers.
    pub fn candidate(&self, slot: Slot, now: Moment) -> Candidate {
        let latency = Latency::unpack(self.latency.load(Relaxed)).reading(now);
        let silence = self.silence(now);
        let is_silent = silence::is_silent(silence, latency.map(|latency| latency.typical_us));
        Candidate {
            in_flight: self.in_flight(),
            tunnels: self.tunnels.load(Relaxed),
            latency,
            good: self.good_share(now),
            silence_us: silence.as_secs_f32() * 1e6,
            is_silent,
            unasked_ms: (millis(now).saturating_sub(self.asked_at_ms.load(Relaxed))) as u32,
            report: self.report_factor(now),
            ..self.uncompared_candidate(slot)
        }
    }

    /// The same for an algorithm that compares none, and does not pay for what is known of a server's responses.
    pub fn uncompared_candidate(&self, slot: Slot) -> Candidate {
        Candidate::new(slot, self.weight_now(), self.hash)
    }

    /// Counts a response. Its head arrived `took` after the request, which was one of `load` in flight.
    pub(super) fn record_response(&self, is_good: bool, took: Duration, load: u32, now: Moment) {
        self.ended.fetch_add(1, Relaxed);
        if self.awaiting.load(Relaxed) != 0 {
            self.awaiting.store(0, Relaxed);
        }
        self.record_outcome(is_good, now);
        // Two workers may race for the word; one sample is then lost, which an average tolerates.
        if is_good {
            let latency = Latency::unpack(self.latency.load(Relaxed));
            self.latency.store(latency.with(took, load, now).pack(), Relaxed);
        }
    }

    fn record_outcome(&self, is_good: bool, now: Moment) {
        if !is_good {
            self.errors.fetch_add(1, Relaxed);
            self.errors_in_row.fetch_add(1, Relaxed);
        } else if self.errors_in_row.load(Relaxed) != 0 {
            self.errors_in_row.store(0, Relaxed);
        }
        let word = self.outcomes.load(Relaxed);
        if self.on_trial.load(Relaxed) {
            self.on_trial.store(!is_good, Relaxed);
            let outcomes = if is_good { Outcomes::default() } else { Outcomes::all_bad(now) };
            self.outcomes.store(outcomes.pack(), Relaxed);
        } else if word != 0 || !is_good {
            self.outcomes.store(Outcomes::unpack(word).with(is_good, now).pack(), Relaxed);
        }
    }

    fn silence(&self, now: Moment) -> Duration {
        Awaiting::unpack(self.awaiting.load(Relaxed)).silence(now)
    }

    /// In one atomic step: a lost update could leave a server silent forever.
    pub(super) fn update_awaiting(&self, change: impl Fn(Awaiting) -> Awaiting) {
        let change = |word| Some(change(Awaiting::unpack(word)).pack());
        let _ = self.awaiting.fetch_update(Relaxed, Relaxed, change);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Admits;
    use super::super::tests::server;
    use super::*;

    #[test]
    fn one_success_after_failures_is_reported_once() {
        let server = server();
        assert!(!server.recovers());
        server.fails(Moment::START);
        server.fails(Moment::START);
        assert_eq!(server.failures(), 2);
        assert!(server.recovers());
        assert!(!server.recovers());
    }

    #[test]
    fn bad_responses_count_and_are_no_samples_of_the_latency() {
        let server = server();
        server.set_admits(Admits::Requests);
        let now = Moment::from_millis(1);
        let respond = |is_good| server.lease(now).unwrap().responded(is_good, Duration::from_millis(20), now);
        respond(false);
        assert_eq!(server.latency_us(now), None);
        [true, true, false].into_iter().for_each(respond);
        server.fails(now);
        assert_eq!(server.totals(), Totals { ended: 5, errors: 3, in_row: 2 });
        assert!((19_900.0..20_100.0).contains(&server.latency_us(now).unwrap()));
        assert!((0.5..0.7).contains(&server.good_share(now)));
    }

    #[test]
    fn requests_without_a_response_are_silence_until_they_end() {
        let server = server();
        server.set_admits(Admits::Requests);
        let at = Moment::from_millis;
        let silence = |ms| server.candidate(Slot(0), at(ms)).silence_us as u64 / 1_000;
        let mut leases: Vec<_> = (0..4).map(|ms| server.lease(at(ms)).unwrap()).collect();
        assert_eq!(silence(2_002), 2_000);
        leases.truncate(2);
        assert_eq!(silence(2_002), 0, "the clients left");
        leases.extend((0..2).map(|_| server.lease(at(3_000)).unwrap()));
        assert_eq!(silence(4_000), 3_998, "nothing has come since");
        leases[0].responded(true, Duration::from_secs(4), at(4_000));
        assert_eq!(silence(9_000), 0);
        drop(leases);
        assert_eq!(server.awaiting.load(Relaxed) & 0xff, 0);
    }
}
