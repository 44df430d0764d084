//! Step 2: parked. A connection that waits for its client costs a socket, a slot in the poller and a few
//! hundred bytes here; no thread and no buffer.
//!
//! The lot holds every open client connection. Its lock is held for a few instructions at a time; sockets
//! are closed after it was let go (law 1).

use super::handover::Handover;
use super::socket::Socket;
use crate::base::time::Moment;
use crate::policy::linger::Credit;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use parking_lot::Mutex;
#[cfg(target_os = "linux")]
use rustix::event::epoll::EventFlags;
use slab::Slab;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Poller tokens below this are listeners and the waker.
pub const FIRST_TOKEN: usize = 16;

/// Where a token has the turn of its key, and as many bits of it as there is room for.
const TURN_AT: u32 = 40;
const TURNS: u32 = if usize::BITS > TURN_AT { (1 << 20) - 1 } else { 0 };

/// A place in a slab, and the how manieth to have it: what the poller told of one that is gone may come to somebody's
/// ears when the next has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The place.
    pub key: usize,
    turn: u32,
}

impl Ticket {
    /// Of this place, in this turn of all.
    pub fn new(key: usize, turn: u32) -> Self {
        Ticket { key, turn: turn & TURNS }
    }

    /// Even numbers from [`FIRST_TOKEN`] on are client connections, odd ones links to servers (`super::away`).
    pub fn token(self, is_link: bool) -> Token {
        let place = (FIRST_TOKEN + 2 * self.key + usize::from(is_link)) as u64;
        Token((u64::from(self.turn) << TURN_AT | place) as usize)
    }
}

/// Whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The listener's or the waker's.
    Ours,
    /// The client connection's with this ticket.
    Client(Ticket),
    /// The link's with this ticket.
    Server(Ticket),
}

impl Whose {
    /// Of this token.
    pub fn of(token: Token) -> Self {
        let bits = token.0 as u64;
        let (turn, place) = ((bits >> TURN_AT) as u32, (bits & ((1 << TURN_AT) - 1)) as usize);
        match place.checked_sub(FIRST_TOKEN) {
            None => Whose::Ours,
            Some(number) if number % 2 == 0 => Whose::Client(Ticket::new(number / 2, turn)),
            Some(number) => Whose::Server(Ticket::new(number / 2, turn)),
        }
    }

    /// The client's ticket.
    pub fn client(self) -> Option<Ticket> {
        if let Whose::Client(ticket) = self { Some(ticket) } else { None }
    }

    /// The link's ticket.
    pub fn server(self) -> Option<Ticket> {
        if let Whose::Server(ticket) = self { Some(ticket) } else { None }
    }
}

/// A client connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: Socket,
    /// The peer's address as the kernel gave it; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Who has it.
    pub handover: Handover,
    ticket: Ticket,
    registered: AtomicBool,
    /// What the poller told of the client's end.
    end: AtomicU8,
    /// While parked or closing: when the accept thread ends it, in nanoseconds.
    deadline: AtomicU64,
    /// Since when it is parked, in nanoseconds.
    parked_at: AtomicU64,
    carry: Mutex<Carry>,
}

/// What an event says of the client's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// The client may go on sending.
    Open = 0,
    /// It has closed its side, and may still read.
    Ended = 1,
    /// The connection is reset: it neither sends nor reads.
    Broken = 3,
}

impl End {
    /// Of this event.
    pub fn of(event: &Event) -> Self {
        match () {
            () if event.is_error() => End::Broken,
            () if event.is_read_closed() => End::Ended,
            () => End::Open,
        }
    }

    /// Of these flags, as the other tells it of them.
    #[cfg(target_os = "linux")]
    pub fn of_flags(flags: EventFlags) -> Self {
        let half_closed = EventFlags::IN | EventFlags::RDHUP;
        match () {
            () if flags.contains(EventFlags::ERR) => End::Broken,
            () if flags.contains(EventFlags::HUP) || flags.contains(half_closed) => End::Ended,
            () => End::Open,
        }
    }
}

/// What goes with a connection from one hold to the next.
#[derive(Debug, Default)]
pub struct Carry {
    /// The beginning of a head that is not complete yet.
    pub bytes: Vec<u8>,
    /// When its first byte came; what the client has for the rest counts from there.
    pub head_since: Option<Moment>,
    /// Requests answered on this connection.
    pub requests: u64,
    /// How lingering went here.
    pub credit: Credit,
    /// The PROXY header that had to come first has come.
    pub introduced: bool,
    /// The client's address, where a PROXY header told it.
    pub client: Option<SocketAddr>,
    /// Bytes that the accept thread has drained since the connection is closing.
    pub drained: usize,
}

impl Connection {
    /// Takes what was carried. The holder calls this once, when it gets the connection.
    pub fn take_carry(&self) -> Carry {
        mem::take(&mut *self.carry.lock())
    }

    /// Puts it back; the holder, before it hands the connection to the queue again.
    pub fn put_carry(&self, carry: Carry) {
        *self.carry.lock() = carry;
    }

    /// When the accept thread ends it, unless something comes first.
    pub fn deadline(&self) -> Moment {
        Moment::from_nanos(self.deadline.load(Ordering::Acquire))
    }

    /// The client has closed its side: a read that took all there was may have stopped in front of that end, of
    /// which no edge will tell again.
    pub fn has_ended(&self) -> bool {
        self.end.load(Ordering::Acquire) != End::Open as u8
    }

    /// The client has reset the connection.
    pub fn is_broken(&self) -> bool {
        self.end.load(Ordering::Acquire) == End::Broken as u8
    }

    /// Whether the beginning of a head is parked with it.
    pub fn has_partial_head(&self) -> bool {
        !self.carry.lock().bytes.is_empty()
    }

    /// Counts bytes drained while closing; the total so far.
    pub fn count_drained(&self, bytes: usize) -> usize {
        let mut carry = self.carry.lock();
        carry.drained += bytes;
        carry.drained
    }

    fn leave_with(&self, carry: Carry, deadline: Moment) {
        self.put_carry(carry);
        self.deadline.store(deadline.as_nanos(), Ordering::Release);
    }
}

/// All open connections of one accept thread, and its poller.
#[derive(Debug)]
pub struct Lot {
    places: Mutex<Places>,
    open: AtomicUsize,
    registry: Registry,
    counts_addresses: bool,
}

#[derive(Debug, Default)]
struct Places {
    connections: Slab<Arc<Connection>>,
    /// Connections that ever came, as far as that can be counted.
    turns: u32,
    /// Open connections of each address; empty where they are not limited.
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    fn remove(&mut self, connection: &Connection) -> Arc<Connection> {
        let address = connection.peer.map(|peer| peer.ip());
        if let Some(Entry::Occupied(mut count)) = address.map(|address| self.by_address.entry(address)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.connections.remove(connection.ticket.key)
    }
}

impl Lot {
    /// A lot whose parked connections are watched by this poller. Connections are counted by address only where
    /// that is limited.
    pub fn new(registry: Registry, counts_addresses: bool) -> Self {
        Lot { places: Mutex::default(), open: AtomicUsize::new(0), registry, counts_addresses }
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes in a connection that was accepted. The caller holds it.
    pub fn enter(&self, socket: Socket, peer: Option<SocketAddr>) -> Arc<Connection> {
        let mut places = self.places.lock();
        if let Some(peer) = peer.filter(|_| self.counts_addresses) {
            *places.by_address.entry(peer.ip()).or_default() += 1;
        }
        places.turns = places.turns.wrapping_add(1);
        let turn = places.turns;
        let entry = places.connections.vacant_entry();
        let connection = Arc::new(Connection {
            socket,
            peer,
            handover: Handover::active(),
            ticket: Ticket::new(entry.key(), turn),
            registered: AtomicBool::new(false),
            end: AtomicU8::new(End::Open as u8),
            deadline: AtomicU64::new(Moment::NEVER.as_nanos()),
            parked_at: AtomicU64::new(0),
            carry: Mutex::default(),
        });
        entry.insert(Arc::clone(&connection));
        self.open.fetch_add(1, Ordering::Relaxed);
        connection
    }

    /// The holder parks a connection until bytes come or the deadline passes. The carry comes back when bytes
    /// have come already: then it is still the holder's, who reads on. An error is the poller's: it cannot
    /// watch one more, and the connection must be closed.
    pub fn park(
        &self,
        connection: &Arc<Connection>,
        carry: Carry,
        now: Moment,
        deadline: Moment,
    ) -> io::Result<Option<Carry>> {
        connection.leave_with(carry, deadline);
        connection.parked_at.store(now.as_nanos(), Ordering::Release);
        if !connection.handover.park() {
            return Ok(Some(connection.take_carry()));
        }
        self.watch(connection).map(|()| None)
    }

    /// The holder hands a connection to the accept thread to be drained and closed. False: bytes have come,
    /// drain them first.
    pub fn close_slowly(&self, connection: &Arc<Connection>, deadline: Moment) -> io::Result<bool> {
        connection.leave_with(Carry::default(), deadline);
        if !connection.handover.close_slowly() {
            return Ok(false);
        }
        self.watch(connection).map(|()| true)
    }

    /// Takes a connection out. Its socket closes when the last holder lets go. False: somebody else has done so.
    pub fn leave(&self, connection: &Arc<Connection>) -> bool {
        let taken = {
            let mut places = self.places.lock();
            let there = places.connections.get(connection.ticket.key);
            let here = there.is_some_and(|there| Arc::ptr_eq(there, connection));
            here.then(|| places.remove(connection))
        };
        if taken.is_some() {
            connection.handover.gone();
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        taken.is_some()
    }

    /// No more events for a connection that became a tunnel, or that its holder waits for itself.
    pub fn unwatch(&self, connection: &Connection) {
        if connection.registered.swap(false, Ordering::AcqRel) {
            // The worst that can come of a failure is events that nobody needs.
            let _ = self.registry.deregister(&mut SourceFd(&connection.socket.raw()));
        }
    }

    /// The connections of these events, in order; those that left meanwhile are passed over. An event says
    /// whether the client has closed its side, which is noted before anybody is told of the event.
    pub fn find(&self, events: impl Iterator<Item = (Ticket, End)>, into: &mut Vec<Arc<Connection>>) {
        let places = self.places.lock();
        into.extend(events.filter_map(|(ticket, end)| {
            let connection = places.connections.get(ticket.key).filter(|here| here.ticket == ticket)?;
            connection.end.fetch_or(end as u8, Ordering::AcqRel);
            Some(Arc::clone(connection))
        }));
    }

    /// The connections whose deadline has passed; a look at every one, without a lock held for long.
    pub fn overdue(&self, now: Moment, into: &mut Vec<Arc<Connection>>) {
        const AT_ONCE: usize = 1024;
        let mut from = 0;
        loop {
            let places = self.places.lock();
            if from >= places.connections.capacity() {
                return;
            }
            let slice = (from..from + AT_ONCE).filter_map(|key| places.connections.get(key));
            into.extend(slice.filter(|connection| connection.deadline() <= now).cloned());
            from += AT_ONCE;
        }
    }

    /// Open connections from this address; 0 where they are not counted.
    pub fn open_from(&self, address: IpAddr) -> usize {
        self.places.lock().by_address.get(&address).copied().unwrap_or(0)
    }

    /// The connections that have been parked for longest, since `before` at the latest, with nothing of a
    /// request in hand; at most so many.
    pub fn longest_idle(&self, most: usize, before: Moment) -> Vec<Arc<Connection>> {
        self.oldest(most, before, |connection| {
            let idle = connection.handover.is_parked() && !connection.has_partial_head();
            idle.then(|| connection.parked_at.load(Ordering::Acquire))
        })
    }

    /// The connections to close where places run short and none is idle, at most so many: those that only linger behind
    /// their last answer, then those that have not sent one whole request since `before`, the oldest first.
    pub fn longest_without_request(&self, most: usize, before: Moment) -> Vec<Arc<Connection>> {
        self.oldest(most, before, |connection| {
            if connection.handover.is_closing() {
                return Some(0);
            }
            let carry = connection.carry.lock();
            let waits = carry.requests == 0 || !carry.bytes.is_empty();
            (waits && connection.handover.is_parked()).then(|| connection.parked_at.load(Ordering::Acquire))
        })
    }

    fn oldest(
        &self,
        most: usize,
        before: Moment,
        since: impl Fn(&Connection) -> Option<u64>,
    ) -> Vec<Arc<Connection>> {
        let mut found: Vec<_> = {
            let places = self.places.lock();
            let all = places.connections.iter().map(|(_, connection)| connection);
            let ranked = all.filter_map(|connection| Some((since(connection)?, Arc::clone(connection))));
            ranked.filter(|(since, _)| *since <= before.as_nanos()).collect()
        };
        let most = most.min(found.len());
        if most < found.len() {
            found.select_nth_unstable_by_key(most, |(since, _)| *since);
        }
        found.into_iter().take(most).map(|(_, connection)| connection).collect()
    }

    /// Edge-triggered, and for as long as it is not taken out again. The poller tells at once when bytes are there already.
    pub(super) fn watch(&self, connection: &Connection) -> io::Result<()> {
        if connection.registered.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let token = connection.ticket.token(false);
        self.registry.register(&mut SourceFd(&connection.socket.raw()), token, Interest::READABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn tokens_tell_clients_and_links_of_every_turn_apart() {
        for (key, turn) in [(0, 0), (7, 1), (1 << 30, TURNS)] {
            let ticket = Ticket::new(key, turn);
            assert_eq!(Whose::of(ticket.token(false)), Whose::Client(ticket));
            assert_eq!(Whose::of(ticket.token(true)), Whose::Server(ticket));
        }
        assert_eq!(Ticket::new(3, TURNS.wrapping_add(1)), Ticket::new(3, 0), "turns begin anew");
        assert_eq!(Whose::of(Token(FIRST_TOKEN - 1)), Whose::Ours);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn what_was_told_of_one_that_is_gone_does_not_concern_the_next_in_its_place() {
        let poll = mio::Poll::new().unwrap();
        let lot = Lot::new(poll.registry().try_clone().unwrap(), false);
        let enter = || lot.enter(Socket::from(OwnedFd::from(UnixStream::pair().unwrap().0)), None);
        let first = enter();
        assert!(lot.leave(&first) && !lot.leave(&first));
        let (second, mut found) = (enter(), Vec::new());
        assert_eq!(first.ticket.key, second.ticket.key);
        lot.find([(first.ticket, End::Broken)].into_iter(), &mut found);
        assert!(found.is_empty() && !second.has_ended());
        lot.find([(second.ticket, End::Ended)].into_iter(), &mut found);
        assert!(found.len() == 1 && second.has_ended());
    }

    #[test]
    fn only_those_that_rested_are_idle_and_the_longest_first() {
        let poll = mio::Poll::new().unwrap();
        let lot = Lot::new(poll.registry().try_clone().unwrap(), false);
        let ends: Vec<_> = [(300, ""), (100, ""), (900, ""), (200, "GET")]
            .map(|(since, partial)| {
                let (near, far) = UnixStream::pair().unwrap();
                let connection = lot.enter(Socket::from(OwnedFd::from(near)), None);
                let carry = Carry { bytes: partial.into(), ..Carry::default() };
                lot.park(&connection, carry, Moment::from_millis(since), Moment::NEVER).unwrap();
                (connection, far)
            })
            .into();
        let idle = |most, before| -> Vec<usize> {
            let found = lot.longest_idle(most, Moment::from_millis(before));
            let place = |one: &Arc<Connection>| ends.iter().position(|(here, _)| Arc::ptr_eq(here, one));
            found.iter().filter_map(place).collect()
        };
        assert_eq!(idle(1, 500), [1]);
        assert_eq!(idle(9, 100), [1]);
        assert_eq!(idle(9, 500).len(), 2);
        assert_eq!(idle(9, 900).len(), 3);
        assert!(idle(9, 50).is_empty());
        let found = lot.longest_without_request(9, Moment::from_millis(300));
        assert_eq!(found.len(), 3, "half a head counts here");
        assert!(Arc::ptr_eq(&lot.longest_without_request(1, Moment::from_millis(300))[0], &ends[1].0));
    }
}
