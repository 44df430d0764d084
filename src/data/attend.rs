//! Step 4: attended. A worker takes a connection from the queue, reads a head, has it served, and goes on
//! until there is nothing more to read: then it parks the connection, or stays a moment.

use super::Plane;
use super::admit::{self, Work};
use super::ahead::{Pending, Sent};
use super::close;
use super::exchange::{self, Exchanged};
use super::finish::Fate;
use super::hands::{Hands, Request, Unread};
use super::input::{Input, Read};
use super::linger::Stayed;
use super::onward::{self, Onward};
use super::park::{Carry, Connection};
use crate::base::sys;
use crate::base::time::{self, Moment};
use crate::http1::head::{self, Parsed, Slots};
use crate::http1::proxy_protocol;
use crate::http1::reason::Reason;
use crate::policy::admit::Admit;
use crate::state::crew::Membership;
use crate::state::stats::{Counter, Outcome};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Room behind the largest head, so that a small body comes in with it.
const INPUT_SPARE: usize = 4 * 1024;
/// Pipelined requests served in a row while others wait.
const IN_A_ROW: u32 = 32;
/// The life of a worker thread.
pub fn run(plane: Arc<Plane>, number: usize) {
    if !sys::schedule_as_batch() {
        log::debug!("worker-{number} runs under the default scheduling");
    }
    let membership = Membership::of(&plane.crew);
    let mut worker = Worker::new(&plane, number);
    while worker.works() {}
    membership.ends();
}

/// A worker: its buffers live as long as it does and are used for one connection after the other.
pub(super) struct Worker {
    pub(super) plane: Arc<Plane>,
    pub(super) input: Input,
    slots: Slots,
    pub(super) hands: Hands,
    /// The request in front of the input is out already.
    pub(super) sent: Option<Sent>,
    /// How long the last request took, and when it ended.
    took: Duration,
    free_since: Moment,
}

/// What became of a look at the input.
enum Looked {
    /// The head is not complete.
    Partial,
    /// A request was served, or refused.
    Served(Fate),
    /// A request is out, and the worker goes on with another.
    Out(Sent, Onward),
}

impl Worker {
    fn new(plane: &Arc<Plane>, number: usize) -> Self {
        let room = plane.config.limits.head.head + INPUT_SPARE;
        let (input, slots, hands) = (Input::new(room), Slots::new(), Hands::new(plane, number));
        let (took, free_since) = (Duration::ZERO, Moment::START);
        Worker { plane: Arc::clone(plane), input, slots, hands, sent: None, took, free_since }
    }

    /// Does the next work. False: that was the last, and the worker is in the crew no more.
    fn works(&mut self) -> bool {
        match self.next_work() {
            // Meant for one of those that rest, who were woken by it.
            Some(Work::Leave) if self.hands.ahead.is_kept() && self.passes_notice_on() => {}
            // Counted out by the supervisor that gave notice.
            Some(Work::Leave) => {
                self.parts();
                return false;
            }
            Some(work) => self.does(work),
            None => _ = self.conclude_next(),
        }
        if self.hands.stream.has_left() {
            self.hands.ahead.ends_stays(&self.plane);
        }
        let has_left = self.hands.stream.has_left() && self.hands.ahead.has_nothing();
        // The supervisor may have hired in its place.
        !has_left || self.hands.stream.returns(&self.plane)
    }

    fn does(&mut self, work: Work) {
        match work {
            Work::Serve { connection, ready } => {
                self.guard(&connection, |worker| worker.hold(&connection, ready));
            }
            // In company nobody waits for one alone if that is not called for.
            Work::Resume { pending, slow: false } if self.hands.ahead.company.is_kept() => {
                self.hands.ahead.push(*pending);
            }
            Work::Resume { pending, .. } => self.resume(*pending),
            Work::Answered(place) => {
                self.plane.crew.goes_on(time::now());
                self.plane.away.take(&place).into_iter().for_each(|pending| self.resume(pending));
            }
            Work::Watch => self.hands.ahead.watch.begins(&self.plane, time::now()),
            // Nobody is told of that; see `works`.
            Work::Leave => {}
        }
    }

    /// Ends what it has sent ahead; then it goes home.
    fn parts(&mut self) {
        self.hands.stream.takes_notice();
        self.hands.ahead.ends_stays(&self.plane);
        while let Some(work) = self.hands.ahead.watch.take_told() {
            self.does(work);
        }
        while self.conclude_next() {}
    }

    /// The next work; `None` when it is time to take the answers of what was sent ahead.
    fn next_work(&mut self) -> Option<Work> {
        match &self.hands.ahead {
            ahead if ahead.is_alone() => Some(self.next_in_the_queue()),
            // Those in company that were heard of came before.
            ahead if ahead.may_hear() => None,
            // On watch nothing is sent ahead: that is an answer which came before it could be left away.
            ahead if ahead.watch.is_on() => None,
            // Who has left the crew takes no more of its work, nor its notices.
            ahead if ahead.has_room() && !self.hands.stream.has_left() => self.plane.queue.take_now(),
            _ => None,
        }
    }

    /// Law 5: a panic costs one request. Its connection is closed, and as buffers may be half-written, the worker
    /// begins anew; what it has sent ahead is still good.
    pub(super) fn guard(&mut self, connection: &Arc<Connection>, serve: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| serve(self))).is_ok() {
            return;
        }
        let shard = self.hands.shard(&self.plane);
        shard.count(Counter::Panics);
        shard.ends(Outcome { reason: Some(Reason::Internal), ..Outcome::default() });
        log::error!("a request panicked; its connection is closed and the worker goes on");
        close::abruptly(&self.plane, connection);
        let number = self.plane.next_worker.fetch_add(1, Ordering::Relaxed);
        let mut anew = Worker::new(&self.plane, number);
        anew.hands.ahead = std::mem::take(&mut self.hands.ahead);
        anew.hands.stream = std::mem::take(&mut self.hands.stream);
        *self = anew;
    }

    /// From the queue to the moment the worker lets go of the connection.
    fn hold(&mut self, connection: &Arc<Connection>, ready: Moment) {
        let now = time::now();
        let wait = now.since(ready);
        self.plane.crew.takes(wait, now);
        // Who was queued while this worker still counted as idle was told to nobody.
        if self.plane.crew.idle() < self.plane.queue.len() {
            self.plane.crew.nudge_for_queued(now);
        }
        self.hands.shard(&self.plane).wait.record(wait);
        let late = match self.plane.queue.judge(ready, self.took, now) {
            Admit::Serve => None,
            Admit::TooLate => Some(Reason::QueueTimeout),
            Admit::Standing => Some(Reason::Overloaded),
        };
        if let Some(reason) = late {
            return close::turn_away(&self.plane, connection, reason, &mut self.input.buffer, now);
        }
        let carry = connection.take_carry();
        if admit::has_gone(connection, carry.requests, wait, now) {
            self.hands.shard(&self.plane).ends(Outcome::given_up());
            return close::now(&self.plane, connection);
        }
        // Bytes without a time are requests that were not looked at yet, not the beginning of a head.
        let seen = if carry.head_since.is_some() { carry.bytes.len() } else { 0 };
        self.input.begin(&carry.bytes, seen);
        self.attend(connection, carry, now);
    }

    pub(super) fn attend(&mut self, connection: &Arc<Connection>, mut carry: Carry, mut now: Moment) {
        let mut in_a_row = 0;
        carry.bytes.clear();
        loop {
            if self.input.drained && self.input.is_empty() && self.may_stay(connection, &carry) {
                match self.stay(connection, carry, now) {
                    Stayed::InCompany => return,
                    Stayed::Alone(back, read) => {
                        carry = back;
                        match read {
                            Read::Bytes => now = time::now(),
                            Read::Nothing => {}
                            Read::End => return close::now(&self.plane, connection),
                        }
                    }
                }
            }
            if self.input.is_empty() || self.input.wants_more() {
                if self.input.drained {
                    match self.park(connection, carry, now) {
                        Some(back) => carry = back,
                        None => return,
                    }
                }
                match self.input.read_now(connection) {
                    Read::Bytes => {}
                    Read::Nothing => continue,
                    Read::End => return self.end(connection),
                }
            }
            carry.head_since.get_or_insert(now);
            match self.serve(connection, &mut carry, now) {
                Looked::Partial => {}
                Looked::Out(sent, onward) => {
                    let (connection, drained) = (Arc::clone(connection), self.input.drained);
                    let mut bytes = self.hands.ahead.spare();
                    bytes.extend_from_slice(self.input.rest());
                    let pending = Pending { connection, carry, bytes, drained, sent, started: now };
                    return self.put_aside(pending, onward);
                }
                Looked::Served(fate) => {
                    carry.requests += 1;
                    carry.head_since = None;
                    let begun = std::mem::replace(&mut now, time::now());
                    let waited = self.hands.stream.waited();
                    self.took = now.since(begun).saturating_sub(waited);
                    // Of those sent ahead, the time since the last one ended is this one's.
                    let held = now.since(begun.max(self.free_since)).saturating_sub(waited);
                    self.free_since = now;
                    if !self.hands.stream.has_left() {
                        self.plane.crew.holds(held, self.took);
                    }
                    if fate != Fate::Keep {
                        return self.part(connection, fate, now);
                    }
                    in_a_row += 1;
                    // A client that pipelines without end lets others have a turn.
                    if in_a_row >= IN_A_ROW && !self.input.is_empty() && !self.plane.queue.is_empty() {
                        match self.requeue(connection, carry, now) {
                            Some(back) => (carry, in_a_row) = (back, 0),
                            None => return,
                        }
                    }
                }
            }
        }
    }

    /// One look at the input: a head, and all that follows from it.
    fn serve(&mut self, connection: &Arc<Connection>, carry: &mut Carry, now: Moment) -> Looked {
        match self.introduce(connection, carry) {
            Ok(true) => {}
            Ok(false) => return Looked::Partial,
            Err(reason) => {
                // Whoever sends this is no HTTP client that could read an answer.
                self.hands.shard(&self.plane).refuse(reason);
                log::debug!("{}: {}: {}", self.plane.name, reason.name(), reason.sentence());
                return Looked::Served(Fate::Abort);
            }
        }
        let bytes = &self.input.buffer[self.input.start..self.input.end];
        if self.input.seen > 0 && bytes.len() <= self.plane.config.limits.head.head {
            let from = std::mem::replace(&mut self.input.seen, bytes.len());
            if !head::may_be_complete(bytes, from) {
                return Looked::Partial;
            }
        }
        let (used, fate) = match head::request(bytes, &self.plane.config.limits.head, &mut self.slots) {
            Ok(Parsed::Partial) => {
                self.input.seen = bytes.len();
                return Looked::Partial;
            }
            Ok(Parsed::Complete(head)) => {
                let early = &bytes[head.len..];
                let peer = carry.client.or(connection.peer);
                let request = Request { head: &head, early, connection, peer, started: now };
                let served = match self.sent.take() {
                    Some(sent) => exchange::resume(&self.plane, &mut self.hands, &request, sent),
                    None => {
                        let onward = onward::may(&self.plane, &self.hands, now);
                        match exchange::serve(&self.plane, &mut self.hands, &request, onward) {
                            Exchanged::Served(served) => served,
                            Exchanged::Out(sent) => return Looked::Out(sent, onward),
                        }
                    }
                };
                (head.len + served.early_used, served.fate)
            }
            Err(reason) => {
                let peer = carry.client.or(connection.peer);
                let unread = Unread { connection, peer, started: now, reason, bytes };
                (bytes.len(), exchange::refuse_unread(&self.plane, &mut self.hands, &unread))
            }
        };
        self.input.consume(used, &mut self.hands.spill);
        if self.hands.read_client {
            self.input.drained = false;
        }
        Looked::Served(fate)
    }

    /// Takes the PROXY header that must come first from the peers that the configuration names. False: there is
    /// more of it to come.
    fn introduce(&mut self, connection: &Connection, carry: &mut Carry) -> Result<bool, Reason> {
        let Some(senders) = self.plane.config.listen.proxy_protocol.as_ref().filter(|_| !carry.introduced)
        else {
            return Ok(true);
        };
        let peer = connection.peer.map(|peer| peer.ip().to_canonical());
        if peer.is_some_and(|peer| senders.iter().any(|network| network.contains(peer))) {
            let bytes = self.input.rest();
            let Parsed::Complete(preamble) = proxy_protocol::parse(bytes)? else {
                self.input.seen = bytes.len();
                return Ok(false);
            };
            carry.client = preamble.source;
            self.input.consume(preamble.len, &mut self.hands.spill);
        }
        carry.introduced = true;
        Ok(true)
    }

    /// Parks the connection, with the bytes of a head that is not complete. The carry comes back when there is
    /// more to read after all.
    fn park(&mut self, connection: &Arc<Connection>, mut carry: Carry, now: Moment) -> Option<Carry> {
        if connection.has_ended() {
            self.input.drained = false;
            return Some(carry);
        }
        let timeouts = &self.plane.config.timeouts;
        carry.credit = carry.credit.skipped();
        let deadline = match carry.head_since.filter(|_| !self.input.is_empty()) {
            Some(since) => since.after(timeouts.client_head),
            None if self.plane.last_call_is_over(now) => {
                close::now(&self.plane, connection);
                return None;
            }
            None if carry.requests == 0 => now.after(timeouts.client_head),
            None => now.after(timeouts.keep_alive),
        };
        carry.bytes.extend_from_slice(self.input.rest());
        match self.plane.lot.park(connection, carry, now, deadline) {
            Ok(None) => None,
            Ok(Some(mut back)) => {
                back.bytes.clear();
                self.input.drained = false;
                Some(back)
            }
            Err(error) => {
                close::unwatched(&self.plane, connection, &error);
                None
            }
        }
    }

    /// Back into the queue, with what is here of its requests. The carry comes back where that is full.
    pub(super) fn requeue(
        &mut self,
        connection: &Arc<Connection>,
        mut carry: Carry,
        now: Moment,
    ) -> Option<Carry> {
        carry.bytes.extend_from_slice(self.input.rest());
        connection.put_carry(carry);
        self.plane.queue.push(Arc::clone(connection), now).err().map(|connection| {
            let mut back = connection.take_carry();
            back.bytes.clear();
            back
        })
    }

    /// The client closed, or its socket failed.
    fn end(&mut self, connection: &Arc<Connection>) {
        if !self.input.is_empty() {
            self.hands.shard(&self.plane).ends(Outcome::given_up());
        }
        close::now(&self.plane, connection);
    }

    fn part(&mut self, connection: &Arc<Connection>, fate: Fate, now: Moment) {
        match fate {
            // A client that sent more than this request would lose the answer to a reset.
            Fate::Close if self.input.is_empty() && self.input.drained => {
                close::behind_answer(&self.plane, connection);
            }
            Fate::Keep | Fate::Close | Fate::CloseSlowly => {
                close::slowly(&self.plane, connection, &mut self.input.buffer, now);
            }
            Fate::Abort => close::abruptly(&self.plane, connection),
            Fate::Tunnelled => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ahead::tests::{ahead, plane, plane_before, plane_with};
    use super::super::company::tests::{gathering, join};
    use super::super::socket::{Socket, Then};
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::thread;

    /// A client over TCP, and the plane's connection to it.
    fn client(plane: &Plane) -> (TcpStream, Arc<Connection>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (near, peer) = listener.accept().unwrap();
        (far, plane.lot.enter(Socket::from(OwnedFd::from(near)), Some(peer)))
    }

    /// All that the client gets until its connection is closed in order.
    fn answer(mut client: TcpStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn an_answer_does_not_wait_for_who_still_holds_its_connection() {
        let plane = plane();
        let (client, connection) = client(&plane);
        let _holder = Arc::clone(&connection);
        assert_eq!(connection.socket.send_now(b"all of it", Then::End).unwrap(), 9);
        close::behind_answer(&plane, &connection);
        assert_eq!(answer(client), "all of it");
    }

    const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

    /// A request panics in a worker that has one sent ahead, in the crew or as a streamer; another one waits.
    fn check_panic(as_streamer: bool) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string().parse().unwrap();
        let plane = plane_before(address, |config| {
            config.timeouts.stream_after = if as_streamer { Duration::ZERO } else { Duration::from_secs(60) };
        });
        let server = thread::spawn(move || {
            let (mut stream, mut seen) = (server.accept().unwrap().0, Vec::new());
            while !seen.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext").unwrap();
        });
        plane.crew.counts_in();
        let mut worker = Worker::new(&plane, 1);
        let (mut ahead, mut servers) = ahead(&plane, 1);
        let (sent_ahead, connection) = client(&plane);
        let mut pending = ahead.next(&plane).unwrap();
        assert!(plane.lot.leave(&std::mem::replace(&mut pending.connection, connection)));
        pending.bytes = LAST.to_vec();
        worker.hands.ahead.push(pending);
        // The next one is to have a connection of its own.
        let last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nahead";
        servers[0].write_all(last).unwrap();

        let (mut unlucky, connection) = client(&plane);
        worker.guard(&connection, |worker| {
            if as_streamer {
                worker.hands.stream.begin(&plane, time::now());
                worker.hands.stream.look(&plane);
            }
            panic!("as the test asked for");
        });
        drop(connection);
        assert_eq!(unlucky.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(plane.stats.total(Counter::Panics), 1);
        let places = || (plane.crew.workers(), plane.streamers.load(Ordering::Relaxed));
        assert_eq!(places(), if as_streamer { (0, 1) } else { (1, 0) }, "it is where it was");

        let (mut next, connection) = client(&plane);
        next.write_all(LAST).unwrap();
        plane.queue.push(connection, time::now()).unwrap();
        while !(worker.hands.ahead.is_empty() && plane.queue.is_empty()) {
            assert!(worker.works());
        }
        assert!(answer(sent_ahead).ends_with("ahead"), "what was sent ahead is concluded");
        assert!(answer(next).ends_with("next"), "and the next one served");
        server.join().unwrap();
        assert_eq!(places(), (1, 0));
        assert_eq!(plane.table.find("a").unwrap().in_flight(), 0);
        assert_eq!((plane.lot.open(), plane.stats.total(Counter::Panics)), (0, 1));
        assert!(plane.queue.push_notice());
        assert!(!worker.works(), "it takes its notice as any other");
    }

    #[test]
    fn a_panic_costs_one_request() {
        check_panic(false);
        check_panic(true);
    }

    #[test]
    fn who_took_its_notice_and_still_has_a_long_body_is_counted_out_once() {
        let plane = plane_with(|config| config.timeouts.stream_after = Duration::ZERO);
        (0..2).for_each(|_| plane.crew.counts_in());
        plane.crew.counts_out();
        let mut worker = Worker::new(&plane, 1);
        let (mut ahead, mut servers) = ahead(&plane, 1);
        let mut pending = ahead.next(&plane).unwrap();
        pending.bytes = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
        worker.hands.ahead.push(pending);
        servers[0].write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole").unwrap();
        worker.parts();
        assert_eq!(plane.table.find("a").unwrap().in_flight(), 0, "it was concluded");
        assert_eq!((plane.crew.workers(), plane.streamers.load(Ordering::Relaxed)), (1, 0));
    }

    #[test]
    fn what_several_wait_for_at_once_holds_a_worker_once() {
        let plane = plane();
        let mut worker = Worker::new(&plane, 1);
        let (mut ahead, mut servers) = ahead(&plane, 4);
        let (begun, mut ends) = (time::now(), Vec::new());
        servers.iter_mut().for_each(|server| {
            server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        });
        while let Some(mut pending) = ahead.next(&plane) {
            let (end, connection) = client(&plane);
            assert!(plane.lot.leave(&std::mem::replace(&mut pending.connection, connection)));
            (pending.bytes, pending.started) = (LAST.to_vec(), begun);
            ends.push(end);
            worker.hands.ahead.push(pending);
        }
        while time::now() < begun.after(Duration::from_millis(5)) {
            thread::yield_now();
        }
        while worker.conclude_next() {}
        let (done, passed) = (plane.crew.done(), time::now().since(begun));
        assert_eq!(done.ended, 4);
        assert!(done.held <= passed && done.took >= 4 * Duration::from_millis(5), "{done:?} of {passed:?}");
    }

    #[test]
    fn in_company_a_notice_is_passed_on_while_others_rest_and_what_is_given_back_is_taken_in() {
        let (plane, clients, _ends) = gathering(1);
        let mut worker = Worker::new(&plane, 1);
        assert!(join(&mut worker.hands.ahead.company, &plane, &clients[0], time::now()));
        (0..2).for_each(|_| plane.crew.counts_in());
        plane.crew.rests();
        assert!(plane.queue.push_notice());
        assert!(worker.works() && plane.queue.len() == 1, "it is for the one that rests");
        assert!(matches!(plane.queue.take_now(), Some(Work::Leave)));
        let (mut given_back, _servers) = ahead(&plane, 1);
        given_back.disperse(&plane);
        assert!(worker.works() && plane.queue.is_empty() && worker.hands.ahead.len() == 1);
        plane.crew.rises();
        assert!(plane.queue.push_notice());
        assert!(!worker.works(), "nobody rests: it is for this one");
        assert!(clients[0].handover.is_parked() && worker.hands.ahead.is_alone());
    }
}
