//! Layer 3: an upgraded connection (RFC 9110 section 7.8). After 101 the bytes belong to the two ends; both directions move,
//! each to its own end, and a fault of one direction does not take what the other still has to deliver.
//!
//! Of a WebSocket the ends of frames are followed, so that a drain can end it with a close frame (RFC 6455 section 5.5.1).

mod direction;

use super::buffers::TURN_BYTES;
use super::client::Client;
use super::context::Context;
use super::shared::{STREAM_END_WAIT, TunnelPermit};
use super::transport::Stream;
use crate::base::time::Moment;
use crate::http1::websocket;
use crate::policy::concurrency::Permit;
use crate::state::live::{Live, PoolState};
use crate::state::server::Lease;
use crate::state::stats::Counter;
use crate::state::traffic::Traffic;
use direction::Direction;
use std::sync::Arc;
use std::time::Duration;

/// An open tunnel; the client's connection has it.
#[derive(Debug)]
pub struct Tunnel {
    /// The connection to the server, in the worker's pool.
    pub connection: usize,
    lease: Lease,
    _permit: TunnelPermit,
    /// Counts it among its client's requests at once.
    _counted: Option<Permit>,
    upward: Direction,
    downward: Direction,
    /// When bytes moved last.
    moved_at: Moment,
    /// While draining: when its client is told, if it is a WebSocket.
    notice_at: Option<Moment>,
    /// Where its bytes are counted, beside its server.
    traffic: Vec<Arc<Traffic>>,
    /// It ends when nothing has moved for so long.
    idle_timeout: Duration,
    pool: Arc<PoolState>,
}

/// What a tunnel begins with.
#[derive(Debug)]
pub struct Ends {
    /// The connection to the server, in the worker's pool.
    pub connection: usize,
    /// The server's.
    pub lease: Lease,
    /// What came behind the request.
    pub early: Vec<u8>,
    /// What came behind the 101, after what the client has not taken of that.
    pub rest: Vec<u8>,
}

/// How far a tunnel came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It waits for an event of either side, until then at the most.
    Suspend(Moment),
    /// It can go on, after others had their turn.
    Yield,
    /// It is over.
    Done,
}

impl Tunnel {
    /// A tunnel between these ends, under the configuration `live`. `counted`: counts it among its client's requests at once.
    pub fn open(
        ends: Ends,
        permit: TunnelPermit,
        counted: Option<Permit>,
        live: &Live,
        cx: &Context,
    ) -> Self {
        let Ends { connection, lease, early, rest } = ends;
        cx.shard().count(Counter::Tunnels);
        let (upward, downward) = (Direction::new(early), Direction::new(rest));
        let (moved_at, notice_at) = (cx.now, None);
        let of = lease.server().pool;
        let (idle_timeout, pool) = (live.timeouts(of).tunnel, Arc::clone(live.pool(of)));
        Tunnel {
            connection,
            lease,
            _permit: permit,
            _counted: counted,
            upward,
            downward,
            moved_at,
            notice_at,
            traffic: Vec::new(),
            idle_timeout,
            pool,
        }
    }

    /// The same tunnel, whose bytes are counted there, too.
    pub fn counted_by(mut self, traffic: impl Iterator<Item = Arc<Traffic>>) -> Self {
        self.traffic = traffic.collect();
        self
    }

    /// The same tunnel, which its route lets be idle for so long.
    pub fn idle_for(mut self, time: Option<Duration>) -> Self {
        self.idle_timeout = time.unwrap_or(self.idle_timeout);
        self
    }

    /// It is a WebSocket: its frames are followed. Those of the server begin behind so many bytes of what is to be sent.
    pub fn follow_frames(&mut self, from: usize) {
        self.upward.follow_frames(0);
        self.downward.follow_frames(from);
    }

    /// Moves what can be moved.
    pub fn advance(&mut self, client: &mut Client, cx: &mut Context) -> Step {
        if self.upward.frames.is_some() && cx.shared.is_draining() {
            self.plan_close_frames(cx);
        }
        let Context { servers, scratch, now, shared, .. } = cx;
        let Some(server) = servers.get_mut(self.connection) else { return Step::Done };
        let mut left = TURN_BYTES;
        loop {
            let up = self.upward.advance(&mut client.stream, &mut server.stream, &mut scratch.body, *now);
            let down = self.downward.advance(&mut server.stream, &mut client.stream, &mut scratch.body, *now);
            let moved = up + down;
            if moved > 0 {
                self.moved_at = *now;
            }
            if self.is_over(&client.stream, &server.stream) {
                return Step::Done;
            }
            if moved == 0 {
                break;
            }
            if moved >= left {
                return Step::Yield;
            }
            left -= moved;
        }
        if let (Some(told), Some((at, _))) = (self.downward.closed_at, &mut self.upward.close) {
            // Before the drain is over in any case.
            *at = told.after(STREAM_END_WAIT.min(shared.drain_deadline().since(told) / 2));
        }
        let deadline = self.moved_at.after(self.idle_timeout);
        if *now >= deadline || self.has_closed_both(*now) {
            return Step::Done;
        }
        Step::Suspend(self.next_close(*now).min(deadline))
    }

    /// While draining a WebSocket gets a close frame: the client first, at its moment; the server that of its client, or
    /// ours where the client sends none. Until then what the client sends goes on to the server.
    fn plan_close_frames(&mut self, cx: &mut Context) {
        if self.notice_at.is_some() {
            return;
        }
        let at = cx.shared.notice_at(cx.random.fraction());
        let mask = (cx.random.number() as u32).to_be_bytes();
        self.notice_at = Some(at);
        self.downward.close = Some((at, websocket::going_away(None)));
        // Its moment comes with the client's frame.
        self.upward.close = Some((Moment::NEVER, websocket::going_away(Some(mask))));
    }

    /// Both sides have got a close frame because of the drain, and have sent theirs or had their time for it.
    fn has_closed_both(&self, now: Moment) -> bool {
        let (Some(up), Some(down)) = (self.upward.closed_at, self.downward.closed_at) else { return false };
        let is_told = self.notice_at.is_some_and(|at| now >= at);
        let is_sent = self.upward.unsent.is_empty() && self.downward.unsent.is_empty();
        let is_answered = self.upward.says_no_more() && self.downward.says_no_more();
        is_told && (is_sent && is_answered || now >= up.max(down).after(STREAM_END_WAIT))
    }

    /// When the drain has something to do with it next.
    fn next_close(&self, now: Moment) -> Moment {
        let due = [&self.upward, &self.downward].map(|direction| direction.close.as_ref().map(|(at, _)| *at));
        let last = self.upward.closed_at.zip(self.downward.closed_at).filter(|_| self.notice_at.is_some());
        let last = last.map(|(up, down)| up.max(down).after(STREAM_END_WAIT));
        let next = due.into_iter().chain([last, self.notice_at]).flatten().filter(|at| *at > now).min();
        next.unwrap_or(Moment::NEVER)
    }

    /// Both directions have ended; or one side is gone, and what it sent before has been delivered.
    fn is_over(&self, client: &Stream, server: &Stream) -> bool {
        let client_gone = client.is_reset() || self.downward.broken;
        let server_gone = server.is_reset() || self.upward.broken;
        let (up, down) = (self.upward.is_over(), self.downward.is_over());
        match (up, down) {
            (true, true) => true,
            (true, false) => client_gone,
            (false, true) => server_gone,
            (false, false) => false,
        }
    }

    /// Counts what went through; the connection to the server closes.
    pub fn close(self, cx: &mut Context) {
        let shard = cx.shard();
        shard.add(Counter::BytesIn, self.upward.passed);
        shard.add(Counter::BytesOut, self.downward.passed);
        let (received, sent) = self.bytes();
        let counted = self.traffic.iter().map(|traffic| &**traffic).chain([&self.lease.server().traffic]);
        counted.for_each(|traffic| traffic.adds(cx.number(), received, sent));
        cx.servers.close(self.connection);
        drop(self.lease);
        self.pool.queue.call_next();
    }

    /// Bytes from the client, and bytes to it.
    pub fn bytes(&self) -> (u64, u64) {
        (self.upward.passed, self.downward.passed)
    }

    /// The server's name.
    pub fn server(&self) -> &str {
        &self.lease.server().name
    }
}
