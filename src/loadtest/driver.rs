//! One thread of the load generator: drives many nonblocking connections from one poller.
//!
//! Edge-triggered, and with no unnecessary system calls: a read that does not fill the buffer has emptied the socket,
//! so a response costs one read and one write, and a share of a wait. Only if the event reported the end of the
//! connection is there more to read: the end itself, which causes no second event.

use super::connect;
use super::connection::Connection;
use super::pace::{Pace, Ticker};
use super::plan::{Plan, Share};
use super::response::Fault;
use super::secure::{self, Stream};
use super::tally::{Asked, Failure, Tally};
use super::target::Request;
use crate::base::time::{self, Moment};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The longest wait, so that a stop and a timeout are noticed soon.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// The pause of a connection after a failure, so that a refusing server is not flooded.
const PAUSE: Duration = Duration::from_millis(10);
const BUFFER: usize = 64 << 10;
const TICK: Token = Token(usize::MAX);

/// Runs a share of the plan.
pub(super) fn drive(plan: &Plan, share: Share) -> Result<Tally, String> {
    let mut driver = Driver::new(plan, share).map_err(|error| format!("cannot poll: {error}"))??;
    driver.run().map_err(|error| format!("cannot poll: {error}"))?;
    Ok(driver.tally)
}

struct Driver<'p> {
    plan: &'p Plan,
    poll: Poll,
    connections: Vec<Connection>,
    /// Connections that may start a request, the one that has been free longest first.
    free: VecDeque<usize>,
    /// Connections that pause after a failure, with the time at which they are free again.
    resting: VecDeque<(Moment, usize)>,
    in_flight: usize,
    left: Option<u64>,
    /// What chooses the next entry of the mix: drivers begin far apart.
    number: u64,
    pace: Pace,
    /// Requests were due and no connection was free: what is sent late now is late for that reason.
    behind: bool,
    ticker: Option<Ticker>,
    now: Moment,
    /// The current event reported that the server closed its side.
    closing: bool,
    next_sweep: Moment,
    /// The warm-up is over.
    counts: bool,
    tally: Tally,
    buffer: Vec<u8>,
}

impl<'p> Driver<'p> {
    fn new(plan: &'p Plan, share: Share) -> std::io::Result<Result<Self, String>> {
        let poll = Poll::new()?;
        let ticker = match share.pace {
            Pace::Closed => None,
            Pace::Open(_) => match Ticker::start(mio::Waker::new(poll.registry(), TICK)?) {
                Ok(ticker) => Some(ticker),
                Err(error) => return Ok(Err(error)),
            },
        };
        let origins = plan.origins.len();
        Ok(Tally::new(plan.mix.entries.len(), plan.start).map(|tally| Driver {
            plan,
            poll,
            connections: (0..share.connections).map(|_| Connection::new(origins)).collect(),
            free: (0..share.connections).collect(),
            resting: VecDeque::new(),
            in_flight: 0,
            left: share.requests,
            number: (share.number as u64) << 32,
            pace: share.pace,
            behind: false,
            ticker,
            now: time::now(),
            closing: false,
            next_sweep: Moment::START,
            counts: plan.start == plan.begun,
            tally,
            buffer: vec![0; BUFFER],
        }))
    }

    fn run(&mut self) -> std::io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            self.now = time::now();
            if self.is_over() {
                break;
            }
            self.end_warm_up();
            self.wake_resting();
            self.start_due();
            self.sweep();
            let wait = self.wait();
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let before = self.tally.responses;
            let origins = self.plan.origins.len();
            for event in events.iter().filter(|event| event.token() != TICK) {
                self.serve(event.token().0 / origins, event.token().0 % origins, event.is_read_closed());
            }
            self.plan.progress.fetch_add(self.tally.responses - before, Ordering::Relaxed);
        }
        self.tally.unsent = self.pace.overdue(self.plan.end.min(self.now), self.left);
        Ok(())
    }

    /// True when stopped, or when nothing may be started and everything started has ended.
    fn is_over(&self) -> bool {
        let exhausted = self.left == Some(0) || self.has_ended();
        self.plan.stop.load(Ordering::Relaxed) || (exhausted && self.in_flight == 0)
    }

    fn has_ended(&self) -> bool {
        self.now >= self.plan.end
    }

    /// The counts of the warm-up are discarded; requests in flight continue, and count when they end.
    fn end_warm_up(&mut self) {
        if !self.counts && self.now >= self.plan.start {
            self.counts = true;
            self.tally.forget();
            self.tally.started = self.in_flight as u64;
        }
    }

    fn wake_resting(&mut self) {
        while self.resting.front().is_some_and(|(until, _)| *until <= self.now) {
            let woken = self.resting.pop_front();
            self.free.extend(woken.map(|(_, index)| index));
        }
    }

    /// Starts every request that is due and has a free connection.
    fn start_due(&mut self) {
        while !self.has_ended() && self.left != Some(0) && !self.free.is_empty() {
            let Some(due) = self.pace.take(self.now) else {
                self.behind = false;
                return;
            };
            let Some(index) = self.free.pop_front() else { return };
            if !self.behind && self.ticker.is_some() {
                let late = self.now.since(due).as_nanos() as u64;
                self.tally.lateness.saturating_record(late.max(1));
            }
            self.start(index, due);
        }
        self.behind |= self.free.is_empty();
    }

    /// How long to wait for events: until the next timed action.
    fn wait(&mut self) -> Duration {
        let mut until = self.now.after(LONGEST_WAIT).min(self.plan.end.max(self.now));
        if self.has_ended() {
            until = self.now.after(LONGEST_WAIT);
        }
        if let Some((rested, _)) = self.resting.front() {
            until = until.min(*rested);
        }
        if let (Some(ticker), Some(due), false) = (&mut self.ticker, self.pace.next(), self.free.is_empty()) {
            // The poller waits in whole milliseconds, which is too coarse: the ticker wakes it.
            ticker.wake_at(due);
        }
        until.since(self.now)
    }

    /// Fails the requests that have timed out.
    fn sweep(&mut self) {
        if self.now < self.next_sweep {
            return;
        }
        self.next_sweep = self.now.after(LONGEST_WAIT);
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            if connection.busy && connection.deadline <= self.now {
                let connecting = connection.connecting;
                let timed_out = Failure::Connect(ErrorKind::TimedOut);
                self.fail(index, if connecting { timed_out } else { Failure::Timeout });
            }
        }
    }

    /// Starts a request whose latency counts from `begun`.
    fn start(&mut self, index: usize, begun: Moment) {
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        self.tally.started += 1;
        self.in_flight += 1;
        let number = self.plan.mix.entry(self.number);
        self.number += 1;
        let entry = &self.plan.mix.entries[number];
        let connection = &mut self.connections[index];
        (connection.entry, connection.origin) = (number, entry.origin);
        connection.busy = true;
        connection.begun = begun;
        connection.deadline = self.now.after(self.plan.timeout);
        connection.sent = 0;
        connection.response.expect(entry.request.is_head());
        if connection.stream().is_none() {
            if let Err(error) = self.open(index) {
                return self.fail(index, Failure::Connect(error.kind()));
            }
        }
        self.write(index);
    }

    /// The request that a connection sends.
    fn request(&self, index: usize) -> &'p Request {
        &self.plan.mix.entries[self.connections[index].entry].request
    }

    fn open(&mut self, index: usize) -> std::io::Result<()> {
        // A request that is sent in one write, alone on its connection, is never delayed.
        let nodelay = self.plan.keep_alive || self.request(index).total() > BUFFER as u64;
        let connection = &mut self.connections[index];
        let origin = &self.plan.origins[connection.origin];
        let socket = connect::begin(origin.address, nodelay)?;
        let token = Token(index * self.plan.origins.len() + connection.origin);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, interest)?;
        connection.streams[connection.origin] = Some(Stream::over(socket, origin.tls.as_ref())?);
        connection.connecting = true;
        Ok(())
    }

    /// Writes the rest of the request, as far as the socket accepts it.
    fn write(&mut self, index: usize) {
        let request = self.request(index);
        loop {
            let connection = &mut self.connections[index];
            let piece = request.piece_after(connection.sent);
            let (false, Some(stream)) = (piece.is_empty(), connection.stream()) else { return };
            match stream.write(piece) {
                Ok(count) => {
                    if connection.connecting {
                        connection.connecting = false;
                        self.connected(index);
                    }
                    self.connections[index].sent += count as u64;
                    self.tally.sent += count as u64;
                    if !self.has_ended() {
                        self.tally.sent_in_time += count as u64;
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => return,
                    kind if connection.connecting => {
                        let handshake = secure::handshake_failure(&error).map(Failure::Tls);
                        return self.fail(index, handshake.unwrap_or(Failure::Connect(kind)));
                    }
                    // The server may have responded before the write failed: the following read finds out.
                    _ => {
                        self.closing = true;
                        return self.read(index);
                    }
                },
            }
        }
    }

    /// On kept connections, connecting is not part of a request's latency.
    fn connected(&mut self, index: usize) {
        if self.plan.keep_alive && matches!(self.pace, Pace::Closed) {
            self.connections[index].begun = time::now();
        }
    }

    /// An event arrived for a connection to an origin.
    fn serve(&mut self, index: usize, origin: usize, closing: bool) {
        let connection = &mut self.connections[index];
        if connection.origin != origin {
            // Nothing is in flight there: it was closed, or it says something unasked.
            connection.streams[origin] = None;
            return;
        }
        self.closing = closing;
        if connection.busy && connection.sent < self.request(index).total() {
            self.write(index);
        }
        self.read(index);
    }

    fn read(&mut self, index: usize) {
        let origin = self.connections[index].origin;
        loop {
            let connection = &self.connections[index];
            if connection.connecting || connection.origin != origin {
                // The next request has begun on another connection.
                return;
            }
            let Some(stream) = self.connections[index].stream() else { return };
            let is_plain = stream.is_plain();
            match stream.read(&mut self.buffer) {
                Ok(0) => return self.closed(index),
                Ok(count) => {
                    self.take(index, count);
                    if is_plain && count < self.buffer.len() && !self.closing {
                        return;
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted => {}
                    kind => return self.lost(index, Failure::Reset(kind)),
                },
            }
        }
    }

    /// Takes bytes of a response from the buffer.
    fn take(&mut self, index: usize, count: usize) {
        self.tally.received += count as u64;
        if !self.has_ended() {
            self.tally.received_in_time += count as u64;
        }
        let connection = &mut self.connections[index];
        if !connection.busy {
            connection.close();
            return self.tally.stray(Failure::BadResponse(Fault::Excess));
        }
        match connection.response.feed(&self.buffer[..count], &mut self.tally.names) {
            Ok(false) => {}
            Ok(true) => self.complete(index),
            Err(fault) => self.fail(index, Failure::BadResponse(fault)),
        }
    }

    fn closed(&mut self, index: usize) {
        let connection = &self.connections[index];
        if connection.busy && connection.response.feed_end() {
            self.complete(index);
        } else {
            self.lost(index, Failure::ClosedEarly);
        }
    }

    /// The connection is gone; a failure only if a request was in flight on it.
    fn lost(&mut self, index: usize, failure: Failure) {
        if self.connections[index].busy {
            self.fail(index, failure);
        } else {
            self.connections[index].close();
        }
    }

    fn asked(&self, index: usize) -> Asked {
        let connection = &self.connections[index];
        Asked {
            entry: connection.entry,
            begun: connection.begun,
            now: self.now,
            in_time: self.now < self.plan.end,
        }
    }

    /// Counts the response and starts the next request on the connection, in the closed loop.
    fn complete(&mut self, index: usize) {
        self.now = time::now();
        let (asked, total) = (self.asked(index), self.request(index).total());
        let connection = &mut self.connections[index];
        self.tally.response(&connection.response, asked);
        let early = connection.sent < total;
        if early || self.closing || connection.response.closes() || !self.plan.keep_alive {
            connection.close();
            self.closing = false;
        }
        connection.busy = false;
        self.in_flight -= 1;
        let next = matches!(self.pace, Pace::Closed) && !self.has_ended() && self.left != Some(0);
        if next { self.start(index, self.now) } else { self.free.push_back(index) }
    }

    fn fail(&mut self, index: usize, failure: Failure) {
        self.tally.failure(failure, self.asked(index));
        let connection = &mut self.connections[index];
        connection.close();
        connection.busy = false;
        self.in_flight -= 1;
        self.resting.push_back((self.now.after(PAUSE), index));
    }
}
