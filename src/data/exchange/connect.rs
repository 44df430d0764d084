//! `Connect`: a connection to the server: the idle one that was used last, or a new one to each of its addresses in turn.

use super::{Exchange, Flow, State};
use crate::base::limits;
use crate::base::time::Moment;
use crate::data::connecting::{Connecting, secured};
use crate::data::context::{Context, EVENTS_FRESH};
use crate::data::failure::Failure;
use crate::data::timers::TRY_AGAIN_INTERVAL;
use crate::http1::reason::Reason;
use crate::state::stats::Counter;
use std::io;

impl Exchange {
    pub(super) fn connect(&mut self, cx: &mut Context) -> Result<Flow, Failure> {
        self.complete_head(cx.now)?;
        let idle = self.take_bound(cx).or_else(|| self.take_idle(cx));
        let connection = match idle {
            Some(connection) => Some(connection),
            None => self.connect_new(cx)?,
        };
        let Some(connection) = connection else {
            // A Unix socket whose backlog is full tells no event when it is not.
            let again = cx.now.after(TRY_AGAIN_INTERVAL);
            return Ok(Flow::Wait(self.connect_deadline().min(self.expires).min(again)));
        };
        cx.shard().count(if idle.is_some() { Counter::Reuses } else { Counter::Connects });
        self.attempt.connection = Some(connection);
        self.upload.begin_attempt(cx.now);
        self.download.begin_attempt(cx.now);
        Ok(Flow::To(State::Relay))
    }

    /// What the head of the request says of this attempt: the time that is left, and the name of the server.
    fn complete_head(&mut self, now: Moment) -> Result<(), Failure> {
        let Some(server) = &self.attempt.server else { return Err(Failure::last(Reason::Internal)) };
        if self.expires != Moment::NEVER {
            if now >= self.expires {
                return Err(Failure::last(Reason::DeadlineExceeded));
            }
            self.upload.tell_time_left(self.expires.since(now));
        }
        self.upload.name_server(&server.name, || server.authority());
        Ok(())
    }

    /// An idle connection of this worker.
    fn take_idle(&self, cx: &mut Context) -> Option<usize> {
        let server = self.attempt.server.as_ref()?;
        if self.tries.same_server || self.attempt.connecting.is_some() {
            return None;
        }
        // What may not be sent twice is not sent on a connection that may have ended meanwhile.
        let trusts_events = self.meta.idempotent && cx.now.since(cx.polled_at) < EVENTS_FRESH;
        let idle_time = cx.live().config.pool(server.pool).pool.idle_time;
        cx.servers.take(server.id, self.owner.key, idle_time, cx.now, trusts_events)
    }

    /// A new connection to the next of the server's addresses that can be tried. `None`: it has to be tried again.
    fn connect_new(&mut self, cx: &mut Context) -> Result<Option<usize>, Failure> {
        let Some(server) = &self.attempt.server else { return Err(Failure::last(Reason::Internal)) };
        let (now, connect_time) = (cx.now, self.times().connect);
        let connecting =
            self.attempt.connecting.get_or_insert_with(|| Box::new(Connecting::new(server, now)));
        while let Some(target) = connecting.next(server) {
            let connected = match cx.network.connect(target) {
                Err(error) if limits::is_out_of_descriptors(&error) && cx.servers.idle() > 0 => {
                    // Idle connections have the descriptors that this one needs.
                    cx.servers.clear();
                    cx.network.connect(target)
                }
                connected => connected,
            };
            match connected {
                Ok(transport) => {
                    let transport = connecting.with_proxy_header(transport, &self.meta, &self.view.live);
                    let transport = secured(transport, server, cx)?;
                    return Ok(Some(cx.servers.insert(transport, server, self.owner.key)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connecting.again();
                    let late = now >= self.attempt.began.after(connect_time);
                    return if late { Err(Failure::CONNECT) } else { Ok(None) };
                }
                Err(error) => {
                    log::debug!("{}: {} cannot be reached: {error}", cx.shared.name, server.name);
                    // Our own shortage: no server is at fault, and none would do better.
                    if limits::is_out_of_descriptors(&error) {
                        return Err(Failure::last(Reason::Overloaded));
                    }
                    connecting.failed(server);
                }
            }
        }
        Err(Failure::CONNECT)
    }

    /// The address that was tried does not take the connection: the next one is tried, if there is one.
    pub(super) fn try_next_address(&mut self, cx: &mut Context) -> Result<Flow, Failure> {
        let (Some(connecting), Some(server)) = (&mut self.attempt.connecting, &self.attempt.server) else {
            return Err(Failure::CONNECT);
        };
        connecting.failed(server);
        connecting.since = cx.now;
        if !connecting.has_more() {
            return Err(Failure::CONNECT);
        }
        self.close_connection(cx);
        Ok(Flow::To(State::Connect))
    }
}
