//! Servers that have more requests than they respond to in time: their limits, which `max_in_flight: "auto"` sets and takes away.

use super::Agent;
use crate::base::time::Moment;
use crate::policy::overload::{Change, LOOK_EVERY};
use crate::state::events::Topic;
use log::Level;

impl Agent {
    /// Looks at each server. Where requests wait, room may have come with that.
    pub(super) fn look_at_load(&mut self, now: Moment) {
        if now < self.load_at {
            return;
        }
        self.load_at = now.after(LOOK_EVERY);
        for watched in self.watched.values() {
            let Some(change) = watched.server.look_at_load(now) else { continue };
            let level = if matches!(change, Change::Limited { .. }) { Level::Warn } else { Level::Info };
            self.events.log(Topic::Traffic, level, format!("server {}: {change}", watched.server.label));
        }
        self.live.config.pool_ids().for_each(|pool| self.live.pool(pool).queue.call_next());
    }
}
