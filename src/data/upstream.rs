//! Layer 2: which server gets a request of this worker, and why none does.

use super::context::Context;
use crate::base::ids::PoolId;
use crate::http1::reason::Reason;
pub use crate::state::choose::{Asked, Chosen, Tried};
use crate::state::choose::{Chooser, Note};
use crate::state::server::Mode;
use crate::state::table::{Pool, View};

/// A pool as it is now, for an exchange that began under another table, `own`. What waits for a pool that a reload has taken
/// out, or left without any server, still gets to the servers that it had.
pub fn pool<'v>(current: &'v View, own: &'v View, pool: PoolId) -> &'v Pool {
    let now = current.find_pool(pool);
    now.filter(|now| now.count > 0 || current.has_same_live(own)).unwrap_or_else(|| own.pool(pool))
}

/// A lease on the server of the pool that its algorithm picks among those that were not tried yet. `own` is the table under
/// which the exchange began. What the choice goes by is noted where that is wanted.
pub fn choose(
    cx: &mut Context,
    own: &View,
    pool: PoolId,
    asked: Asked,
    tried: &Tried,
    note: Option<&mut Note>,
) -> Chosen {
    cx.refresh();
    let Context { table, candidates, random, now, .. } = cx;
    let snapshot = self::pool(table.view(), own, pool);
    let mut chooser = Chooser { turn: &own.live.pool(pool).turn, random, candidates, now: *now, note };
    chooser.choose(snapshot, asked, tried)
}

/// Why there is no server, where none was tried.
pub fn why_none(cx: &Context, pool: PoolId) -> Reason {
    let servers = &cx.view().servers;
    let mut of_pool = servers.iter().filter(|server| server.pool == pool).peekable();
    match of_pool.peek().is_some() && of_pool.all(|server| server.mode_now() != Mode::Ready) {
        true => Reason::Maintenance,
        false => Reason::NoServer,
    }
}
