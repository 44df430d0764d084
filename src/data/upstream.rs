//! Layer 2: which server, and a connection to it. The algorithm proposes a server; if that one gives
//! no lease, the algorithm is asked again.

use super::context::Context;
use crate::base::ids::{PoolId, ServerId};
use crate::http1::reason::Reason;
use crate::policy::pick::{Candidate, Draw, Pick, Slot};
use crate::state::server::{Lease, Mode, Rejected, Server};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The most servers that one request is offered to.
const TRIED_MAX: usize = 8;

/// Servers that this request has been to, or that rejected it.
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

    fn has(&self, id: ServerId) -> bool {
        self.ids.contains(&Some(id))
    }

    fn is_full(&self) -> bool {
        self.count >= TRIED_MAX
    }
}

/// What came of choosing.
#[derive(Debug)]
pub enum Chosen {
    /// This server takes the request.
    Server(Lease),
    /// All that qualify have as many requests as they may.
    Full,
    /// There is none that was not tried.
    None,
}

/// A lease on the server of the pool that its algorithm picks among those that were not tried yet.
pub fn choose(cx: &mut Context, pool: PoolId, key: u64, tried: &Tried) -> Chosen {
    let mut rejected = *tried;
    let mut full = false;
    let Context { shared, table, candidates, random, now, .. } = cx;
    let snapshot = table.look(&shared.table).pool(pool);
    for (servers, schedule) in [(&snapshot.ready, &snapshot.schedule[..]), (&snapshot.reserve, &[])] {
        while !rejected.is_full() && !servers.is_empty() {
            candidates.clear();
            let qualifies = |at: usize| !rejected.has(servers[at].id) && !servers[at].is_full();
            let candidate = |at: usize| servers[at].candidate(Slot(at as u32), *now);
            match snapshot.sample.filter(|sample| servers.len() > 4 * sample) {
                // A few at random are as good as all, and cost the same in a table of any size.
                Some(sample) => {
                    let some = (0..sample).map(|_| random.below(servers.len()));
                    candidates.extend(some.filter(|at| qualifies(*at)).map(candidate));
                }
                None => candidates.extend((0..servers.len()).filter(|at| qualifies(*at)).map(candidate)),
            }
            if candidates.is_empty() {
                full |= servers.iter().any(|server| !tried.has(server.id) && server.is_full());
                break;
            }
            let turn = if schedule.is_empty() {
                random.number()
            } else {
                shared.pool(pool).turn.fetch_add(1, Relaxed)
            };
            let draw = Draw { random: random.number(), turn, key, schedule };
            let Some(server) = proposed(snapshot.pick, candidates, draw, servers) else { break };
            match server.lease(*now) {
                Ok(lease) => return Chosen::Server(lease),
                Err(Rejected::Full) => full = true,
                Err(Rejected::Closed) => {}
            }
            rejected.add(server.id);
        }
        // A backup, or a server that is not known yet, does not take over because the others are busy.
        if full {
            return Chosen::Full;
        }
    }
    Chosen::None
}

/// Why there is no server, where none was tried.
pub fn why_none(cx: &mut Context, pool: PoolId) -> Reason {
    let servers = &cx.table.look(&cx.shared.table).servers;
    let mut of_pool = servers.iter().filter(|server| server.pool == pool).peekable();
    match of_pool.peek().is_some() && of_pool.all(|server| server.mode() != Mode::Ready) {
        true => Reason::Maintenance,
        false => Reason::NoServer,
    }
}

fn proposed<'t>(
    pick: Pick,
    candidates: &[Candidate],
    draw: Draw<'_>,
    servers: &'t [Arc<Server>],
) -> Option<&'t Arc<Server>> {
    pick(candidates, draw).and_then(|slot| servers.get(slot.0 as usize))
}
