//! Step 9, lingering: a client that was answered and sent nothing more is not parked at once. The worker stays with
//! it, among others ([`super::company`]) or with it alone: its next request may be on its way.

use super::admit::Work;
use super::attend::Worker;
use super::company::Client;
use super::input::Read;
use super::park::{Carry, Connection};
use crate::base::time::{self, Moment};
use crate::policy::linger::{self, Seen};
use crate::state::stats::Counter;
use std::sync::Arc;

/// How a worker stayed with a client.
pub(super) enum Stayed {
    /// It waits for it among others.
    InCompany,
    /// For a moment, with it alone; or not at all.
    Alone(Carry, Read),
}

impl Worker {
    /// Whether there may be more to come of a client that has sent nothing behind its last request.
    pub(super) fn may_stay(&self, connection: &Connection, carry: &Carry) -> bool {
        carry.requests > 0
            && !connection.has_ended()
            && !self.hands.stream.has_left()
            && !self.plane.is_draining()
    }

    /// Stays with it, where that pays.
    pub(super) fn stay(&mut self, connection: &Arc<Connection>, carry: Carry, now: Moment) -> Stayed {
        let ahead = &mut self.hands.ahead;
        let sent = ahead.len();
        match ahead.company.joins(&self.plane, connection, carry, sent, now) {
            None => Stayed::InCompany,
            Some(mut back) if self.may_linger(&back) => {
                let read = self.linger(connection, &mut back);
                Stayed::Alone(back, read)
            }
            Some(back) => Stayed::Alone(back, Read::Nothing),
        }
    }

    fn may_linger(&self, carry: &Carry) -> bool {
        let crew = &self.plane.crew;
        self.hands.ahead.keeps_nobody_waiting()
            && !self.plane.companies.exist()
            && linger::may(Seen {
                queued: self.plane.queue.len(),
                idle: crew.idle(),
                workers: crew.workers(),
                connections: self.plane.lot.open(),
                credit: carry.credit,
            })
    }

    fn linger(&mut self, connection: &Connection, carry: &mut Carry) -> Read {
        connection.handover.reads();
        let got = connection.socket.recv_slice(&mut self.input.buffer);
        let read = self.input.took(0, got);
        let paid = matches!(read, Read::Bytes);
        carry.credit = if paid { carry.credit.paid() } else { carry.credit.wasted() };
        let counter = if paid { Counter::LingersPaid } else { Counter::LingersWasted };
        self.hands.shard(&self.plane).count(counter);
        read
    }

    /// The next work of a worker that has nothing else. Before it rests, its place among the companies is free.
    pub(super) fn next_in_the_queue(&mut self) -> Work {
        loop {
            if let Some(work) = self.hands.ahead.watch.take_told().or_else(|| self.plane.queue.take_now()) {
                return work;
            }
            if self.hands.ahead.company.is_kept() {
                self.hands.ahead.company.let_go(&self.plane, time::now());
            }
            if !self.hands.ahead.watch.waits(&self.plane, &mut self.input.buffer) {
                return self.plane.queue.take(&self.plane.crew);
            }
        }
    }

    /// A notice that found a worker in company while others rest is for one of those.
    pub(super) fn passes_notice_on(&self) -> bool {
        self.plane.crew.idle() > 0 && self.plane.queue.push_notice()
    }

    /// Serves the next client in company that has something to say.
    pub(super) fn hear_of_next(&mut self) {
        let Some(client) = self.hands.ahead.company.next_ready() else { return };
        self.hands.shard(&self.plane).count(Counter::LingersPaid);
        self.input.begin(&[], 0);
        let Client { connection, carry, .. } = client;
        self.guard(&connection, |worker| worker.attend(&connection, carry, time::now()));
    }
}
