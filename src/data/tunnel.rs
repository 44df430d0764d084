//! Step 8, another way: an upgraded connection (RFC 9110 section 7.8). After 101 the bytes are nobody's but
//! the two ends'; a thread of its own passes them on, never a worker.

use super::Plane;
use super::close;
use super::dial::Link;
use super::finish;
use super::hands::{Failure, Hands, Request};
use super::hear::Final;
use super::park::Connection;
use super::relay::Delivered;
use super::socket::{self, Found, Socket, Then, Want};
use super::upload::Upload;
use crate::base::time;
use crate::http1::reason::Reason;
use crate::state::server::Lease;
use crate::state::stats::Counter;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Bytes held in each direction.
const BUFFER: usize = 16 * 1024;
/// A tunnel's thread needs little.
const STACK: usize = 128 * 1024;

/// Hands the connection, the link and the lease to a tunnel thread. The 101 goes out first.
pub fn open(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
    lease: Lease,
    link: Link,
    last: &Final,
) -> Result<Delivered, Failure> {
    let place = Place::take(plane).ok_or(Failure::client(Reason::TunnelLimit))?;
    hands
        .tell(plane, &request.connection.socket, Then::Open)
        .map_err(|_| Failure::begun(Reason::ClientGone))?;
    hands.told.status = last.status;
    hands.told.bytes = hands.reply.len() as u64;
    plane.lot.unwatch(request.connection);
    finish::praise(plane, &lease);
    let ends = Ends {
        connection: Arc::clone(request.connection),
        link,
        upward: Flow::new(&request.early[upload.early_used()..]),
        downward: Flow::new(&hands.answer[last.here.0..last.here.1]),
        _lease: lease,
        place,
    };
    upload.takes_all_early(request.early.len());
    let number = plane.next_worker.fetch_add(1, Ordering::Relaxed);
    let builder = thread::Builder::new().name(format!("tunnel-{number}")).stack_size(STACK);
    builder.spawn(move || ends.run()).map_err(|_| Failure::begun(Reason::TunnelLimit))?;
    hands.shard(plane).count(Counter::Tunnels);
    let bytes = hands.reply.len() as u64;
    Ok(Delivered { status: 101, bytes, client_keeps: false, tunnelled: true })
}

/// One of the places that `limits.tunnels` gives; free again when dropped.
struct Place(Arc<Plane>);

impl Place {
    fn take(plane: &Arc<Plane>) -> Option<Self> {
        let place = Place(Arc::clone(plane));
        let taken = plane.tunnels.fetch_add(1, Ordering::Relaxed);
        (taken < plane.config.limits.tunnels).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Both ends of a tunnel, and what is on its way between them.
struct Ends {
    connection: Arc<Connection>,
    link: Link,
    upward: Flow,
    downward: Flow,
    _lease: Lease,
    place: Place,
}

impl Ends {
    fn run(mut self) {
        let plane = Arc::clone(&self.place.0);
        while !(self.upward.is_over() && self.downward.is_over()) {
            if let Err(error) = self.step(plane.config.timeouts.tunnel) {
                log::debug!("{}: a tunnel ends: {error}", plane.name);
                break;
            }
        }
        let shard = plane.stats.shard(0);
        shard.add(Counter::BytesIn, self.upward.passed);
        shard.add(Counter::BytesOut, self.downward.passed);
        close::now(&plane, &self.connection);
    }

    /// One wait, and what it allows to be moved.
    fn step(&mut self, idle: Duration) -> io::Result<()> {
        let (client, server) = (&self.connection.socket, &self.link.socket);
        let client_wants = want(self.upward.reads(), self.downward.writes());
        let server_wants = want(self.downward.reads(), self.upward.writes());
        let deadline = time::now().after(idle);
        let [at_client, at_server] =
            socket::wait_both((client, client_wants), (server, server_wants), deadline)?;
        self.upward.flow((client, at_client), server)?;
        self.downward.flow((server, at_server), client)
    }
}

/// One direction: bytes that were read and not written yet.
struct Flow {
    buffer: Vec<u8>,
    from: usize,
    passed: u64,
    /// The source said that no more will come.
    ended: bool,
    /// The sink has been told.
    told: bool,
}

impl Flow {
    fn new(early: &[u8]) -> Self {
        Flow { buffer: early.to_vec(), from: 0, passed: 0, ended: false, told: false }
    }

    fn reads(&self) -> bool {
        !self.ended && !self.writes()
    }

    fn writes(&self) -> bool {
        self.from < self.buffer.len()
    }

    fn is_over(&self) -> bool {
        self.told
    }

    fn flow(&mut self, source: (&Socket, Found), sink: &Socket) -> io::Result<()> {
        if self.reads() && source.1.read {
            self.buffer.resize(BUFFER, 0);
            self.from = 0;
            let count = match source.0.recv_now(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                got => Some(got?),
            };
            self.ended = count == Some(0);
            self.buffer.truncate(count.unwrap_or(0));
        }
        if self.writes() {
            let count = match sink.send_now(&self.buffer[self.from..], Then::Open) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                sent => sent?,
            };
            self.from += count;
            self.passed += count as u64;
        }
        if self.ended && !self.writes() && !self.told {
            // Half-close: the other direction may go on.
            sink.finish_writing();
            self.told = true;
        }
        Ok(())
    }
}

fn want(read: bool, write: bool) -> Want {
    match (read, write) {
        (true, true) => Want::Either,
        (true, false) => Want::Read,
        (false, true) => Want::Write,
        (false, false) => Want::Nothing,
    }
}
