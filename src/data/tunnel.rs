//! Layer 3: an upgraded connection (RFC 9110 section 7.8). After 101 the bytes belong to the two ends; both directions move,
//! each to its own end, and a fault of one direction does not take what the other still has to deliver.

use super::client::Client;
use super::context::Context;
use super::shared::Shared;
use super::socket::Then;
use super::transport::{Moved, Stream};
use crate::base::time::Moment;
use crate::policy::concurrency::Permit;
use crate::state::server::Lease;
use crate::state::stats::Counter;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that one direction moves before others get their turn.
const TURN_BYTES: usize = 256 * 1024;

/// The right to one of the tunnels that `limits.tunnels` allows; given back when dropped.
#[derive(Debug)]
pub struct TunnelPermit(Arc<Shared>);

impl TunnelPermit {
    /// Takes one, if there is one.
    pub fn take(shared: &Arc<Shared>) -> Option<Self> {
        let permit = TunnelPermit(Arc::clone(shared));
        let taken = shared.tunnels.fetch_add(1, Relaxed);
        (taken < shared.config.limits.tunnels).then_some(permit)
    }
}

impl Drop for TunnelPermit {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Relaxed);
    }
}

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
    /// A tunnel to the server on `connection`. `early` came behind the request, `rest` behind the 101 (and may
    /// begin with what the client has not taken of that).
    pub fn open(
        connection: usize,
        lease: Lease,
        permit: TunnelPermit,
        counted: Option<Permit>,
        early: Vec<u8>,
        rest: Vec<u8>,
        cx: &Context,
    ) -> Self {
        cx.shard().count(Counter::Tunnels);
        let (upward, downward) = (Direction::new(early), Direction::new(rest));
        Tunnel { connection, lease, _permit: permit, _counted: counted, upward, downward, moved_at: cx.now }
    }

    /// Moves what can be moved.
    pub fn advance(&mut self, client: &mut Client, cx: &mut Context) -> Step {
        let Context { servers, body, now, shared, .. } = cx;
        let Some(server) = servers.get_mut(self.connection) else { return Step::Done };
        let mut left = TURN_BYTES;
        loop {
            let up = self.upward.advance(&mut client.stream, &mut server.stream, body);
            let down = self.downward.advance(&mut server.stream, &mut client.stream, body);
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
        let deadline = self.moved_at.after(shared.config.timeouts.tunnel);
        if *now >= deadline { Step::Done } else { Step::Suspend(deadline) }
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
        cx.servers.close(self.connection);
        let pool = self.lease.server().pool;
        drop(self.lease);
        cx.shared.pool(pool).queue.call_next();
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

/// One direction: bytes that were received and not sent yet.
#[derive(Debug)]
struct Direction {
    unsent: Vec<u8>,
    passed: u64,
    /// The source says no more.
    ended: bool,
    /// The sink takes no more.
    broken: bool,
    /// The end has been passed to the sink.
    told: bool,
}

impl Direction {
    fn new(unsent: Vec<u8>) -> Self {
        Direction { unsent, passed: 0, ended: false, broken: false, told: false }
    }

    fn is_over(&self) -> bool {
        self.told || self.broken
    }

    /// How many bytes moved; an end that was passed on counts as one.
    fn advance(&mut self, source: &mut Stream, sink: &mut Stream, scratch: &mut [u8]) -> usize {
        if self.is_over() {
            return 0;
        }
        let mut moved = self.flush(sink);
        if self.unsent.is_empty() && !self.ended && !self.broken {
            match source.recv(scratch) {
                Ok(Moved::Bytes(count)) => {
                    moved += count;
                    self.send(&scratch[..count], sink);
                }
                Ok(Moved::Blocked) => {}
                // What came before it has been received.
                Ok(Moved::End) | Err(_) => self.ended = true,
            }
        }
        if self.ended && self.unsent.is_empty() && !self.told {
            // The other direction may go on.
            sink.finish_writing();
            self.told = true;
            moved += 1;
        }
        moved
    }

    fn flush(&mut self, sink: &mut Stream) -> usize {
        if self.unsent.is_empty() {
            return 0;
        }
        let unsent = std::mem::take(&mut self.unsent);
        self.send(&unsent, sink)
    }

    /// Sends what there is room for, and keeps the rest.
    fn send(&mut self, bytes: &[u8], sink: &mut Stream) -> usize {
        match sink.send_some(bytes, Then::Open) {
            Ok(sent) => {
                self.passed += sent as u64;
                self.unsent.extend_from_slice(&bytes[sent..]);
                sent
            }
            Err(_) => {
                self.broken = true;
                0
            }
        }
    }
}
