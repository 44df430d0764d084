//! Layer 2: which server gets a request of this worker, and why none does.

use super::context::Context;
use crate::base::ids::PoolId;
use crate::http1::reason::Reason;
use crate::state::choose::Chooser;
pub use crate::state::choose::{Asked, Chosen, Tried};
use crate::state::server::Mode;

/// A lease on the server of the pool that its algorithm picks among those that were not tried yet.
pub fn choose(cx: &mut Context, pool: PoolId, asked: Asked, tried: &Tried) -> Chosen {
    let Context { shared, table, candidates, random, now, .. } = cx;
    let snapshot = table.look(&shared.table).pool(pool);
    let mut chooser = Chooser { turn: &shared.pool(pool).turn, random, candidates, now: *now };
    chooser.choose(snapshot, asked, tried)
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
