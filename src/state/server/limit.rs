//! How many requests a server may have in flight: as configured, as its agent says, or (`"auto"`) as its responses show.

use super::Server;
use crate::base::time::Moment;
use crate::policy::limit::{MaxInFlight, MeasuredLimit};
use crate::policy::outcomes::AVOIDED_BELOW;
use crate::policy::overload::{Change, Overload};
use crate::policy::pick::Slot;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The limits of a server.
#[derive(Debug)]
pub(super) struct Limits {
    /// What applies, as [`word`] has it.
    applies: AtomicU32,
    /// The server's own, whatever its pool's is, in the same form.
    own: AtomicU32,
    /// What its responses show; made when that is its limit for the first time.
    auto: OnceLock<Box<Auto>>,
    /// Requests of such a limit that do not wait for the server: their response has begun, tunnels and event streams among them, or
    /// their client has yet to send the rest of them.
    not_awaited: AtomicU32,
}

/// The lower one of two limits: what it can use, and what it can do in an overload.
#[derive(Debug, Default)]
pub(super) struct Auto {
    pub(super) measured: MeasuredLimit,
    pub(super) overload: Overload,
}

/// How fast a server is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// What a request would take that is sent now, in microseconds.
    pub now_us: f32,
    /// What it would take if it is sent when the next response has come.
    pub next_us: f32,
    /// Responses a microsecond, as long as it has work.
    pub per_us: f32,
    /// Recent responses that this rests on, as in [`Reading`](crate::policy::latency::Reading).
    pub samples: f32,
}

/// More than any limit in the configuration.
const AUTO: u32 = u32::MAX;

/// A limit in one word: 0 is none.
fn word(limit: Option<MaxInFlight>) -> u32 {
    match limit {
        None => 0,
        Some(MaxInFlight::Fixed(most)) => most,
        Some(MaxInFlight::Auto) => AUTO,
    }
}

impl Limits {
    pub(super) fn of(own: Option<MaxInFlight>) -> Self {
        let limits = Limits {
            applies: AtomicU32::new(0),
            own: AtomicU32::new(0),
            auto: OnceLock::new(),
            not_awaited: AtomicU32::new(0),
        };
        limits.set(own, None);
        limits
    }

    fn set(&self, own: Option<MaxInFlight>, of_pool: Option<MaxInFlight>) {
        let applies = own.or(of_pool);
        if applies == Some(MaxInFlight::Auto) {
            self.auto.get_or_init(Box::default);
        }
        self.own.store(word(own), Relaxed);
        self.applies.store(word(applies), Relaxed);
    }
}

impl Auto {
    fn most(&self) -> Option<u32> {
        self.measured.most().into_iter().chain(self.overload.most()).min()
    }
}

impl Server {
    /// The most requests that may be in flight with it now; `None` is unlimited. Against a measured limit, requests that do not wait
    /// for the server do not count.
    pub fn max_in_flight(&self) -> Option<u32> {
        match (self.agent_max_in_flight.load(Relaxed), self.limits.applies.load(Relaxed)) {
            (0, 0) => None,
            (0, AUTO) => self.limits.auto.get().and_then(|auto| auto.most()),
            (0, most) | (most, _) => Some(most),
        }
    }

    /// Whether its limit is measured. Then requests that do not wait for the server do not count.
    pub fn has_own_measure(&self) -> bool {
        self.limits.applies.load(Relaxed) == AUTO && self.agent_max_in_flight.load(Relaxed) == 0
    }

    /// Whether it has reached its limit of requests in flight.
    pub fn is_full(&self) -> bool {
        let is_full = self.most_now().is_some_and(|most| self.in_flight() >= most);
        if is_full && let Some(auto) = self.auto_limit() {
            auto.overload.reached();
        }
        is_full
    }

    /// Looks whether it is overloaded, see [`Overload::look`].
    pub fn look_at_load(&self, now: Moment) -> Option<Change> {
        self.auto_limit()?.overload.look(self.awaited(), self.latency_us(now), now)
    }

    /// Requests in flight that wait for the server; those of a limit that is not measured count until they end.
    pub fn awaited(&self) -> u32 {
        self.in_flight().saturating_sub(self.not_awaited())
    }

    /// The most that may be in flight now, in all: one while it is on trial.
    pub(super) fn most_now(&self) -> Option<u32> {
        if self.on_trial.load(Relaxed) {
            return Some(1);
        }
        let most = self.max_in_flight()?;
        Some(if self.has_own_measure() { most.saturating_add(self.not_awaited()) } else { most })
    }

    /// The same for a request of a session that it keeps: an overload is no reason to send it elsewhere.
    pub(super) fn most_of_session(&self) -> Option<u32> {
        let is_free = self.has_own_measure() && !self.on_trial.load(Relaxed);
        if is_free { None } else { self.most_now() }
    }

    pub(super) fn auto_limit(&self) -> Option<&Auto> {
        if self.has_own_measure() { self.limits.auto.get().map(|boxed| &**boxed) } else { None }
    }

    /// Requests of a measured limit that do not wait for the server.
    pub(super) fn not_awaited(&self) -> u32 {
        self.limits.not_awaited.load(Relaxed)
    }

    /// One more, or one fewer, waits for the server.
    pub(super) fn count_awaited(&self, is_awaited: bool) {
        match is_awaited {
            true => self.limits.not_awaited.fetch_sub(1, Relaxed),
            false => self.limits.not_awaited.fetch_add(1, Relaxed),
        };
    }

    /// How fast it is; `None` before the first response, and where it fails or hangs.
    pub fn pace(&self, now: Moment) -> Option<Pace> {
        let seen = self.candidate(Slot(0), now);
        let latency = seen.latency.filter(|_| !seen.is_silent && seen.good >= AVOIDED_BELOW)?;
        let requests = seen.in_flight.saturating_sub(self.not_awaited());
        let slots = self.auto_limit().and_then(|auto| auto.measured.slots());
        let slots = slots.map_or(latency.load, |slots| slots as f32);
        let us = |in_flight| latency.with_slots_us(in_flight, slots);
        let next_us = us(requests.saturating_sub(1));
        Some(Pace { now_us: us(requests), next_us, per_us: slots / us(0), samples: latency.samples })
    }

    /// The most requests at once that the server itself and, where it says nothing, its pool allow.
    pub(in crate::state) fn set_max_in_flight(&self, own: Option<MaxInFlight>, of_pool: Option<MaxInFlight>) {
        self.limits.set(own, of_pool);
    }

    /// Its own limit of requests at once.
    pub(in crate::state) fn own_max_in_flight(&self) -> Option<MaxInFlight> {
        match self.limits.own.load(Relaxed) {
            0 => None,
            AUTO => Some(MaxInFlight::Auto),
            most => Some(MaxInFlight::Fixed(most)),
        }
    }
}
