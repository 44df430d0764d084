//! `AwaitServer`: no server of the pool can be connected to, as while a single one restarts, and the request waits for as long as
//! `retries.wait_for_server` says.

use super::{Exchange, Flow, State};
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::failure::Failure;
use crate::http1::reason::Reason;
use crate::state::awaiting::Awaits;
use crate::state::stats::Counter;
use std::time::Duration;

/// Between two attempts: short beside the start of any server, and a thousand requests that wait cost 4,000 connects a second.
const CONNECT_AGAIN_INTERVAL: Duration = Duration::from_millis(250);

/// A request that has waited for a server to come up, or does.
#[derive(Debug)]
pub(super) struct Absence {
    /// When the first attempt failed.
    since: Moment,
    again_at: Moment,
    /// While it waits.
    place: Option<Awaits>,
}

impl Exchange {
    /// Whether it may wait for a server after this failure, and choose among all of them again: nothing of it was sent, and no
    /// operator has taken the servers out. At most `queue_capacity` requests of a pool wait so.
    pub(super) fn may_await_server(&mut self, failure: &Failure, cx: &Context) -> bool {
        let is_unreached = matches!(failure.reason, Reason::ConnectFailed | Reason::NoServer);
        let wait = self.retry_rules().wait_for_server.filter(|_| is_unreached);
        let Some(wait) = wait.filter(|_| self.upload.is_buffered() && self.mirror.permit.is_none()) else {
            return false;
        };
        let since = self.choice.absence.as_ref().map_or(cx.now, |absence| absence.since);
        let until = since.after(wait).min(self.expires).min(self.question_until());
        if cx.now >= until {
            return false;
        }
        let live = &self.view.live;
        let most = live.config.pool(self.pool).queue_capacity;
        let Some(place) = live.pool(self.pool).awaiting.begin(most) else { return false };
        if self.choice.absence.is_none() {
            cx.shard().count(Counter::ServersAwaited);
        }
        let again_at = cx.now.after(CONNECT_AGAIN_INTERVAL).min(until);
        self.choice.absence = Some(Box::new(Absence { since, again_at, place: Some(place) }));
        self.tries.forget_servers();
        true
    }

    pub(super) fn await_server(&mut self, cx: &Context) -> Result<Flow, Failure> {
        if cx.now >= self.expires {
            return Err(Failure::last(self.too_late()));
        }
        let now = cx.now;
        match &mut self.choice.absence {
            Some(absence) if now < absence.again_at => Ok(Flow::Wait(absence.again_at)),
            absence => {
                absence.iter_mut().for_each(|absence| absence.place = None);
                // The time that it waited is none of the client's.
                self.upload.progress.moved_at = now;
                Ok(Flow::To(State::Choose))
            }
        }
    }
}
