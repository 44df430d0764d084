//! Sent ahead. While requests wait in the queue and the servers are quick, a worker does not wait for one
//! answer after the other: it sends up to [`MOST`] requests on their way, and then takes the answers as
//! they come. That saves most of its sleeps, each a switch of threads (measured with 64 connections: more than
//! half of the time of the process went into switches and wake-ups).
//!
//! Only what is whole goes ahead: a body must have come in with the head. Whatever goes wrong with it is settled by the
//! ordinary exchange. And nobody waits behind a slow one for long: the others are then given back to the queue, where
//! any worker takes them up.

use super::Plane;
use super::company::{Company, STAY};
use super::dial::Link;
use super::park::{Carry, Connection};
use super::socket;
use super::watch::OnWatch;
use crate::base::ids::RequestId;
use crate::base::time::{self, Moment};
use crate::policy::company;
use crate::policy::rest::Why;
use crate::state::server::Lease;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Requests that a worker has on their way at once, if it keeps no company.
pub const MOST: usize = 8;
/// Buffers that are kept for use again: two for each request on its way.
const SPARES: usize = 2 * company::MOST;
/// A buffer of more than so many bytes is given back instead.
const SPARE_MOST: usize = 4 * 1024;
/// When no answer came for so long, the servers are not quick after all.
const PATIENCE: Duration = Duration::from_millis(20);

/// A request that was sent, as far as the exchange needs it to go on.
#[derive(Debug)]
pub struct Sent {
    /// The right to it.
    pub lease: Lease,
    /// The connection that it went out on.
    pub link: Link,
    /// Its id.
    pub id: RequestId,
    /// Its bytes, in case they must be sent again.
    pub out: Vec<u8>,
    /// Since when no worker waits for the answer.
    pub away_since: Option<Moment>,
}

/// A request that was sent, and the client that waits for the answer.
#[derive(Debug)]
pub struct Pending {
    /// The client.
    pub connection: Arc<Connection>,
    /// What goes with its connection.
    pub carry: Carry,
    /// What it sent and nobody has served to the end: the request's head is still in front.
    pub bytes: Vec<u8>,
    /// The last read from the client took all there was.
    pub drained: bool,
    /// The exchange.
    pub sent: Sent,
    /// When the worker took it up.
    pub started: Moment,
}

/// What one worker has beside the request in hand: requests on their way, and clients that it waits for.
#[derive(Debug, Default)]
pub struct Ahead {
    /// The clients that the worker stays with.
    pub company: Company,
    /// What it was told of on watch.
    pub watch: OnWatch,
    pending: VecDeque<Pending>,
    /// So many in front have an answer.
    answered: usize,
    /// Buffers to use again.
    spares: Vec<Vec<u8>>,
}

impl Ahead {
    /// Whether nothing is on its way, and nothing left to do of what the worker was told of on watch.
    pub fn has_nothing(&self) -> bool {
        self.pending.is_empty() && !self.watch.has_told()
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether no answer and no client is waited for.
    pub fn is_alone(&self) -> bool {
        self.pending.is_empty() && self.company.is_empty()
    }

    /// Whether nobody waits for this worker beside the request in hand.
    pub fn keeps_nobody_waiting(&self) -> bool {
        self.is_alone() && !self.watch.is_on()
    }

    /// Whether the worker waits for more than what it finds in the queue: a notice is for one that rests.
    pub fn is_kept(&self) -> bool {
        self.company.is_kept() || self.watch.is_on()
    }

    /// The worker waits for nobody but those whose requests are on their way.
    pub fn ends_stays(&mut self, plane: &Plane) {
        if self.company.is_kept() {
            self.company.let_go(plane, time::now());
        }
        self.watch.leaves(plane);
    }

    /// Requests on their way.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether one more may go.
    pub fn has_room(&self) -> bool {
        self.pending.len() < if self.company.is_kept() { company::MOST } else { MOST }
    }

    /// Whether a client in company has something to say, and there is room for that.
    pub fn may_hear(&self) -> bool {
        self.company.has_ready() && self.has_room()
    }

    /// One more is on its way.
    pub fn push(&mut self, pending: Pending) {
        self.pending.push_back(pending);
    }

    /// An empty buffer, one that was used before if there is one.
    pub fn spare(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_default()
    }

    /// A buffer that is free again; large ones are not worth keeping.
    pub fn keep(&mut self, mut spare: Vec<u8>) {
        if self.spares.len() < SPARES && spare.capacity() <= SPARE_MOST {
            spare.clear();
            self.spares.push(spare);
        }
    }

    /// The next to conclude: one that has an answer, as soon as there is one. When that takes too long, the
    /// first, and the others go back to the queue. In company: `None` when a client has something to say instead, or
    /// nobody had for a moment.
    pub fn next(&mut self, plane: &Plane) -> Option<Pending> {
        let in_company = !self.company.is_empty();
        if self.answered == 0 && !self.may_hear() && (in_company || self.pending.len() > 1) {
            self.wait(plane);
        }
        if self.answered == 0 && in_company {
            return None;
        }
        self.answered = self.answered.saturating_sub(1);
        self.pending.pop_front()
    }

    /// Gives everything back, for whoever is free: requests to the queue, clients to the accept thread.
    pub fn disperse(&mut self, plane: &Plane) {
        self.disperse_because(plane, Why::Kept);
    }

    /// The same, where what follows is to connect.
    pub fn disperse_to_connect(&mut self, plane: &Plane) {
        self.disperse_because(plane, Why::Connect);
    }

    fn disperse_because(&mut self, plane: &Plane, why: Why) {
        self.disperse_from(0, plane);
        if self.company.is_kept() {
            self.company.parts(plane, why, time::now());
        }
        if self.watch.is_on() {
            self.watch.parts(plane, why, time::now());
        }
    }

    fn wait(&mut self, plane: &Plane) {
        let (count, in_company) = (self.pending.len(), !self.company.is_empty());
        let links = self.pending.iter().map(|pending| &pending.sent.link.socket);
        // Who could send nothing ahead for a client need not hear it.
        let clients = self.company.sockets().filter(|_| self.has_room());
        let patience = if in_company { STAY } else { PATIENCE };
        let found = socket::wait_any(links.chain(clients), time::now().after(patience));
        let heard = found.is_ok();
        match found {
            Ok(readable) => {
                // Those with an answer to the front, in their order.
                self.answered = 0;
                for at in (0..count).filter(|at| readable.has(*at)) {
                    self.pending.swap(self.answered, at);
                    self.answered += 1;
                }
                self.company.are_ready(|at| readable.has(count + at));
            }
            Err(_) if in_company => {}
            Err(_) => return self.disperse_from(1, plane),
        }
        let now = time::now();
        if in_company {
            self.company.look(plane, self.pending.len(), heard, now);
        }
        self.give_back_slow(plane, now);
    }

    /// As long as others answer nobody waits for one request alone, so those that take long are somebody else's to wait
    /// for.
    fn give_back_slow(&mut self, plane: &Plane, now: Moment) {
        let is_slow = |pending: &Pending| now.since(pending.started) >= PATIENCE;
        while let Some(at) = (self.answered..self.pending.len()).find(|at| is_slow(&self.pending[*at])) {
            let Some(slow) = self.pending.remove(at) else { return };
            if let Err(slow) = plane.queue.push_back(Box::new(slow), now) {
                self.pending.push_back(*slow);
                return self.company.parts(plane, Why::Kept, now);
            }
            plane.crew.nudge();
        }
    }

    fn disperse_from(&mut self, from: usize, plane: &Plane) {
        if self.pending.len() <= from {
            return;
        }
        self.answered = self.answered.min(from);
        let now = time::now();
        while self.pending.len() > from {
            let Some(pending) = self.pending.pop_back() else { break };
            if let Err(pending) = plane.queue.push_back(Box::new(pending), now) {
                self.pending.push_back(*pending);
                break;
            }
        }
        // No event of the poller will tell that these wait, and this worker may be held for long.
        plane.crew.nudge();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::admit::Work;
    use crate::data::socket::Socket;
    use crate::policy::pick::Weight;
    use crate::state::address::Address;
    use crate::state::config::{Config, ServerSpec};
    use crate::state::table::Table;
    use crate::state::verdict::Verdicts;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    pub(in crate::data) fn plane() -> Arc<Plane> {
        plane_with(|_| {})
    }

    pub(in crate::data) fn plane_with(change: impl FnOnce(&mut Config)) -> Arc<Plane> {
        plane_before("127.0.0.1:9".parse().unwrap(), change)
    }

    /// A plane with one server, at this address.
    pub(in crate::data) fn plane_before(address: Address, change: impl FnOnce(&mut Config)) -> Arc<Plane> {
        let mut config = Config::default();
        change(&mut config);
        config.listen.address = "127.0.0.1:0".parse().unwrap();
        let spec = ServerSpec { name: "a".into(), address, weight: Weight(1), backup: false };
        let table = Arc::new(Table::new(config.servers.algorithm, false, &[spec]));
        Plane::open("test", Arc::new(config), table, Verdicts::default(), None).unwrap().0
    }

    /// So many requests on their way, none for long, and the servers' ends of their connections.
    pub(in crate::data) fn ahead(plane: &Plane, count: usize) -> (Ahead, Vec<UnixStream>) {
        let pair = || {
            let (near, far) = UnixStream::pair().unwrap();
            (Socket::from(OwnedFd::from(near)), far)
        };
        let mut ahead = Ahead::default();
        let servers = (0..count).map(|number| {
            let (socket, server) = pair();
            let lease = plane.table.find("a").unwrap().lease(time::now()).unwrap();
            let link = Link { socket, reused: true, berth: None, generation: 0 };
            let (id, out) = (RequestId::new(0, number as u64), Vec::new());
            let sent = Sent { lease, link, id, out, away_since: None };
            let connection = plane.lot.enter(pair().0, None);
            let (carry, bytes, started) = (Carry::default(), Vec::new(), Moment::NEVER);
            ahead.push(Pending { connection, carry, bytes, drained: true, sent, started });
            server
        });
        let servers = servers.collect();
        (ahead, servers)
    }

    #[test]
    fn those_with_an_answer_come_first() {
        let plane = plane();
        let (mut ahead, mut servers) = ahead(&plane, 4);
        for number in [1, 3] {
            servers[number].write_all(b"x").unwrap();
        }
        let mut next = || ahead.next(&plane).map(|pending| pending.sent.id);
        let id = |number| Some(RequestId::new(0, number));
        assert_eq!([next(), next()], [id(1), id(3)]);
        servers[2].write_all(b"x").unwrap();
        assert_eq!([next(), next(), next()], [id(2), id(0), None]);
        assert!(plane.queue.is_empty() && plane.crew.nudges().is_empty());
    }

    #[test]
    fn behind_servers_that_are_not_quick_the_others_are_given_back_and_the_supervisor_hears() {
        let plane = plane();
        let (mut ahead, _servers) = ahead(&plane, 3);
        ahead.pending.iter_mut().for_each(|pending| pending.started = Moment::START);
        plane.queue.adapt(Duration::from_millis(1));
        let waits = || {
            let near = Socket::from(OwnedFd::from(UnixStream::pair().unwrap().0));
            plane.queue.push(plane.lot.enter(near, None), Moment::START).unwrap();
        };
        waits();
        assert!(plane.queue.asks_for_haste(), "servers are quick");
        assert_eq!(ahead.next(&plane).unwrap().sent.id, RequestId::new(0, 0));
        assert!(ahead.is_empty());
        assert_eq!((plane.queue.len(), plane.crew.nudges().len()), (3, 1));
        assert!(!plane.queue.asks_for_haste(), "no more are to pile up");
        assert!(matches!(plane.queue.take_now(), Some(Work::Serve { .. })));
        while let Some(work) = plane.queue.take_now() {
            assert!(matches!(work, Work::Resume { slow: true, .. }));
        }
        waits();
        assert!(plane.queue.asks_for_haste(), "all that were given back have been taken up");
        assert_eq!(plane.table.find("a").unwrap().in_flight(), 0, "each gave its lease back");
    }

    #[test]
    fn a_full_queue_has_room_for_what_a_company_gives_back() {
        let plane = plane_with(|config| {
            (config.threadpool.bounds.min, config.threadpool.bounds.max) = (1, 1);
            config.threadpool.queue_capacity = 1;
        });
        let near = Socket::from(OwnedFd::from(UnixStream::pair().unwrap().0));
        plane.queue.push(plane.lot.enter(near, None), Moment::START).unwrap();
        let (mut ahead, _servers) = ahead(&plane, company::MOST);
        ahead.disperse(&plane);
        assert_eq!((ahead.len(), plane.queue.len()), (0, 1 + company::MOST));
    }

    #[test]
    fn who_is_given_back_for_another_reason_ends_no_haste() {
        let plane = plane();
        let (mut ahead, _servers) = ahead(&plane, 3);
        plane.queue.adapt(Duration::from_millis(1));
        ahead.disperse(&plane);
        assert!(plane.queue.asks_for_haste());
        let mut given_back = std::iter::from_fn(|| plane.queue.take_now());
        assert!(given_back.all(|work| matches!(work, Work::Resume { slow: false, .. })) && ahead.is_empty());
    }

    #[test]
    fn one_that_takes_long_is_given_back_though_others_answer() {
        let plane = plane();
        let (mut ahead, mut servers) = ahead(&plane, 3);
        for at in [0, 2] {
            ahead.pending[at].started = Moment::START;
        }
        while time::now() < Moment::START.after(PATIENCE) {
            thread::yield_now();
        }
        servers[2].write_all(b"x").unwrap();
        let id = |number| RequestId::new(0, number);
        assert_eq!(ahead.next(&plane).unwrap().sent.id, id(2), "late, but there");
        assert_eq!((ahead.len(), plane.queue.len(), plane.crew.nudges().len()), (1, 1, 1));
        let given_back = plane.queue.take_now();
        assert!(matches!(given_back, Some(Work::Resume { pending, slow: true }) if pending.sent.id == id(0)));
    }
}
