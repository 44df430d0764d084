//! Step 5: chosen. The algorithm proposes a server, the lease may refuse, and then it is asked again.

use super::Plane;
use super::hands::Hands;
use crate::base::ids::ServerId;
use crate::base::time::Moment;
use crate::policy::pick::{Draw, Pick, Slot};
use crate::state::server::{Lease, Server};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The most servers that one request is offered to.
const TRIED_MAX: usize = 8;

/// Servers that this request has been to, or that refused it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    ids: [Option<ServerId>; TRIED_MAX],
    count: usize,
}

impl Tried {
    /// Notes one more.
    pub fn add(&mut self, id: ServerId) {
        if let Some(place) = self.ids.get_mut(self.count) {
            *place = Some(id);
        }
        self.count += 1;
    }

    /// Whether it has been there.
    pub fn has(&self, id: ServerId) -> bool {
        self.ids.contains(&Some(id))
    }

    fn is_full(&self) -> bool {
        self.count >= TRIED_MAX
    }
}

/// A lease on the server that the algorithm picks among those not tried yet; `None` when none is left.
pub fn server(plane: &Plane, hands: &mut Hands, key: u64, tried: &mut Tried, now: Moment) -> Option<Lease> {
    let Hands { table, candidates, dice, .. } = hands;
    let snapshot = table.look(&plane.table);
    for (servers, schedule) in [(&snapshot.ready, &snapshot.schedule[..]), (&snapshot.reserve, &[])] {
        while !tried.is_full() && !servers.is_empty() {
            candidates.clear();
            let untried = |at: usize| !tried.has(servers[at].id);
            let candidate = |at: usize| servers[at].candidate(Slot(at as u32), now);
            match snapshot.sample.filter(|sample| servers.len() > 4 * sample) {
                // A few at random are as good as all, and cost the same in a table of any size.
                Some(sample) => candidates.extend(
                    (0..sample).map(|_| dice.below(servers.len())).filter(|at| untried(*at)).map(candidate),
                ),
                None => candidates.extend((0..servers.len()).filter(|at| untried(*at)).map(candidate)),
            }
            let turn =
                if schedule.is_empty() { dice.number() } else { plane.turn.fetch_add(1, Ordering::Relaxed) };
            let draw = Draw { random: dice.number(), turn, key, schedule };
            let Some(server) = proposed(snapshot.pick, candidates, draw, servers) else { break };
            match server.lease(now) {
                Some(lease) => return Some(lease),
                None => tried.add(server.id),
            }
        }
    }
    None
}

fn proposed<'t>(
    pick: Pick,
    candidates: &[crate::policy::pick::Candidate],
    draw: Draw<'_>,
    servers: &'t [Arc<Server>],
) -> Option<&'t Arc<Server>> {
    pick(candidates, draw).and_then(|slot| servers.get(slot.0 as usize))
}
