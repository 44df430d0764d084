//! Whether a request is served sooner if it waits for a server that is full now, where the one that has room is slower or
//! has more requests than it will respond to by then: in an overload a server that came up a moment ago has no limit yet,
//! and would get all that waits.

use super::{Chooser, Tried, WHOLE_UP_TO};
use crate::policy::latency::SAMPLES_ENOUGH;
use crate::state::server::{Pace, Server};
use std::sync::Arc;

/// A server counts as slower than waiting for another one from this factor on: latencies are known to about a fifth.
const MARGIN: f32 = 1.25;

/// A request in flight at a server with few recent responses counts for so many of the others': it may be cold. With 1 p99
/// is 4 % higher where servers come back cold, with 2 and 8 it is 1 % higher and lower.
const UNPROVEN: f32 = 4.0;

impl Chooser<'_> {
    /// Where `picked` is so slow that its response would come later than that of a faster server which is full now, even to
    /// the last of the `behind` requests that wait behind this one: the time of both, in microseconds. None waits where a
    /// choice looks at a sample, as some server has room nearly always; nor where weights differ, which are shares.
    pub(super) fn sooner_later(
        &self,
        servers: &[Arc<Server>],
        picked: &Server,
        rejected: &Tried,
        behind: usize,
    ) -> Option<(f32, f32)> {
        if servers.len() > WHOLE_UP_TO || self.candidates.len() == servers.len() {
            return None;
        }
        let comes_next = |server: &&Arc<Server>| {
            server.is_full() && server.weight_now() == picked.weight_now() && !rejected.has(server.id)
        };
        let paces = || servers.iter().filter(comes_next).filter_map(|server| server.pace(self.now));
        let own_us = self.expected_us(picked, paces())?;
        let (mut per_us, mut works) = (0.0, 0.0);
        for pace in paces().filter(|pace| pace.next_us < own_us) {
            (per_us, works) = (per_us + pace.per_us, works + pace.per_us * pace.next_us);
        }
        let sooner_us = (behind as f32 + 1.0 + works) / per_us;
        (per_us > 0.0 && own_us > MARGIN * sooner_us).then_some((own_us, sooner_us))
    }

    /// What a request would take at this server, in microseconds: as its responses show, and while there are few, as at the
    /// `others` under [`UNPROVEN`] times the requests. `None` without others.
    fn expected_us(&self, server: &Server, others: impl Iterator<Item = Pace>) -> Option<f32> {
        let (count, per_us) = others.fold((0.0, 0.0), |(count, sum), pace| (count + 1.0, sum + pace.per_us));
        if count == 0.0 {
            return None;
        }
        let as_others_us = (UNPROVEN * server.awaited() as f32 + 1.0) * count / per_us;
        let Some(own) = server.pace(self.now) else { return Some(as_others_us) };
        let part = (own.samples / SAMPLES_ENOUGH).min(1.0);
        Some(as_others_us + (own.now_us - as_others_us) * part)
    }
}
