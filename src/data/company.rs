//! Step 9, in company: a worker with nothing else to do waits for several clients at once, and for the answers to
//! what it has sent ahead for them ([`super::ahead`]). When it is kept by one request alone, company ends: all clients
//! are parked, and whatever they have sent meanwhile goes through the queue.
//!
//! A client in company is not watched by the poller: the accept thread does not wake up for it.

use super::Plane;
use super::close;
use super::park::{Carry, Connection};
use super::rest::Resting;
use super::socket::Socket;
use crate::base::load::{self, Used};
use crate::base::time::Moment;
use crate::policy::company::{self, Seen};
use crate::policy::rest::Why;
use crate::state::stats::Counter;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// A worker that hears of nobody for so long parks all who have said nothing since then. As long as it would linger
/// with one client.
pub const STAY: Duration = Duration::from_millis(4);
/// While others speak, who says nothing costs little: about as much in this time as to be parked and to come back.
const LONG_STAY: Duration = Duration::from_millis(20);
/// How often a company looks whether there are too many clients for all.
const WINDOW: Duration = Duration::from_millis(10);

/// All companies of a plane.
#[derive(Debug)]
pub struct Companies {
    processors: usize,
    count: AtomicUsize,
    clients: AtomicUsize,
    /// Requests of clients that found no place, ever.
    without_place: AtomicU64,
    rest: Resting,
}

/// The clients that one worker stays with.
#[derive(Debug, Default)]
pub struct Company {
    clients: VecDeque<Client>,
    /// So many in front have sent something.
    ready: usize,
    place: Option<Place>,
}

/// A client in company.
#[derive(Debug)]
pub struct Client {
    /// Its connection, which the worker holds.
    pub connection: Arc<Connection>,
    /// What goes with it.
    pub carry: Carry,
    since: Moment,
}

/// A place among the companies; given back when dropped.
#[derive(Debug)]
struct Place {
    companies: Arc<Companies>,
    begun: Moment,
    /// So many clients are counted for it: as many as there were at its last look.
    told: usize,
    window: Window,
    used: load::Heard,
    /// Its thread holds up its clients.
    wants_another: bool,
}

#[derive(Debug)]
struct Window {
    since: Moment,
    served: u64,
    /// The count of all when it began.
    without_place: u64,
}

impl Companies {
    /// None, on this machine.
    pub fn new() -> Arc<Self> {
        Arc::new(Companies {
            processors: load::processors(),
            count: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            without_place: AtomicU64::new(0),
            rest: Resting::default(),
        })
    }

    /// Whether there is one: then clients go there, and no worker stays with one alone.
    pub fn exist(&self) -> bool {
        self.count() > 0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// The clients of all, as far as they are told.
    pub fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    fn seen(&self, plane: &Plane) -> Seen {
        Seen {
            processors: self.processors,
            connections: plane.lot.open(),
            queued: plane.queue.len(),
            idle: plane.crew.idle(),
            companies: self.count(),
            clients: self.clients(),
        }
    }

    fn place(self: &Arc<Self>, seen: Seen, now: Moment) -> Option<Place> {
        if !company::may_begin(seen) {
            if company::is_crowd(seen) {
                self.without_place.fetch_add(1, Relaxed);
            }
            return None;
        }
        let here = seen.companies;
        self.count.compare_exchange(here, here + 1, Relaxed, Relaxed).ok()?;
        let window = Window { since: now, served: 0, without_place: self.without_place.load(Relaxed) };
        let companies = Arc::clone(self);
        let used = load::Heard::default();
        Some(Place { companies, begun: now, told: 0, window, used, wants_another: false })
    }
}

impl Place {
    fn tell(&mut self, clients: usize) {
        let all = &self.companies.clients;
        if clients >= self.told {
            all.fetch_add(clients - self.told, Relaxed);
        } else {
            all.fetch_sub(self.told - clients, Relaxed);
        }
        self.told = clients;
    }

    /// After a look at the processors: whether another company is wanted. As long as nobody is idle who could begin it,
    /// the crew hears of it once in a window.
    fn weighs(&mut self, plane: &Plane, used: Option<Used>, now: Moment) {
        let seen = self.companies.seen(plane);
        if let Some(used) = used {
            self.wants_another = company::wants_another(seen, used);
        }
        if self.wants_another && seen.idle == 0 {
            plane.crew.asks_for(seen.companies + 1, now);
        }
    }

    /// Once in a window: whether there are too many clients for all companies.
    fn is_crowded(&mut self, plane: &Plane, now: Moment) -> bool {
        if now.since(self.window.since) < WINDOW {
            return false;
        }
        let used = plane.crew.used(&mut self.used, now);
        self.weighs(plane, used, now);
        let without_place = self.companies.without_place.load(Relaxed);
        let window = Window { since: now, served: 0, without_place };
        let before = std::mem::replace(&mut self.window, window);
        company::should_part(before.served, without_place.saturating_sub(before.without_place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tell(0);
        self.companies.count.fetch_sub(1, Relaxed);
    }
}

impl Company {
    /// Whether no client is waited for; requests of the company's may still be on their way.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether the worker keeps company.
    pub fn is_kept(&self) -> bool {
        self.place.is_some()
    }

    /// Takes a client that was answered. `sent`: so many others have a request on its way. It comes back where the
    /// worker keeps no company, or this one has no place for it.
    pub fn joins(
        &mut self,
        plane: &Plane,
        connection: &Arc<Connection>,
        carry: Carry,
        sent: usize,
        now: Moment,
    ) -> Option<Carry> {
        let clients = self.clients.len() + sent;
        let seen = plane.companies.seen(plane);
        if let Some(rest) = company::rest_for_queue(seen) {
            plane.companies.rest.lasts_for(rest, now);
        }
        let may = carry.credit.is_good() && is_time(plane, now) && plane.queue.is_quick();
        let has_place = may
            && match &self.place {
                Some(place) => company::may_grow(seen, clients, place.wants_another),
                None => {
                    self.place = plane.companies.place(seen, now);
                    self.place.is_some()
                }
            };
        if !has_place {
            return Some(carry);
        }
        plane.lot.unwatch(connection);
        self.clients.push_back(Client { connection: Arc::clone(connection), carry, since: now });
        None
    }

    /// The sockets of all, in order.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.clients.iter().map(|client| &client.connection.socket)
    }

    /// Those in these places have sent something.
    pub fn are_ready(&mut self, is_ready: impl Fn(usize) -> bool) {
        self.ready = 0;
        for at in (0..self.clients.len()).filter(|at| is_ready(*at)) {
            self.clients.swap(self.ready, at);
            self.ready += 1;
        }
    }

    /// Whether somebody has sent something.
    pub fn has_ready(&self) -> bool {
        self.ready > 0
    }

    /// The next that has sent something.
    pub fn next_ready(&mut self) -> Option<Client> {
        self.ready = self.ready.checked_sub(1)?;
        let mut client = self.clients.pop_front()?;
        client.carry.credit = client.carry.credit.paid();
        if let Some(place) = &mut self.place {
            place.window.served += 1;
        }
        Some(client)
    }

    /// Between two waits, of which the last may have heard of nobody: parks who said nothing for long, or everybody
    /// where it is not the time for company.
    pub fn look(&mut self, plane: &Plane, sent: usize, heard: bool, now: Moment) {
        let Some(place) = &mut self.place else { return };
        place.tell(self.clients.len() + sent);
        let is_crowded = place.is_crowded(plane, now);
        if is_crowded {
            place.companies.rest.begins(place.begun, Why::Crowd, now);
        }
        if is_crowded || !is_time(plane, now) {
            return self.let_go(plane, now);
        }
        let stay = if heard { LONG_STAY } else { STAY };
        // Those with something to say are in front.
        while let Some(at) =
            (self.ready..self.clients.len()).find(|at| now.since(self.clients[*at].since) >= stay)
        {
            let Some(mut client) = self.clients.remove(at) else { return };
            client.carry.credit = client.carry.credit.wasted();
            plane.stats.shard(0).count(Counter::LingersWasted);
            park(plane, client, now);
        }
    }

    /// The worker is kept by one request alone: company ends, here and for a while everywhere.
    pub fn parts(&mut self, plane: &Plane, why: Why, now: Moment) {
        if let Some(place) = &self.place {
            place.companies.rest.begins(place.begun, why, now);
            self.let_go(plane, now);
        }
    }

    /// Company ends.
    pub fn let_go(&mut self, plane: &Plane, now: Moment) {
        (self.ready, self.place) = (0, None);
        self.clients.drain(..).for_each(|client| park(plane, client, now));
    }
}

/// What companies have sent ahead at the most, where there are so many workers.
pub fn sent_at_most(workers: usize) -> usize {
    company::MOST * company::most(load::processors()).min(workers)
}

/// No company while the plane drains, while requests are away (then there are hundreds), or after all have parted.
fn is_time(plane: &Plane, now: Moment) -> bool {
    !plane.is_draining()
        && plane.away.count() == 0
        && !plane.watch.is_kept()
        && !plane.companies.rest.is_on(now)
}

fn park(plane: &Plane, client: Client, now: Moment) {
    let Client { connection, mut carry, .. } = client;
    loop {
        match plane.lot.park(&connection, carry, now, now.after(plane.config.timeouts.keep_alive)) {
            Ok(None) => return,
            // An edge from before it was in company. When it is watched anew, the poller tells of what is there.
            Ok(Some(back)) => carry = back,
            Err(error) => return close::unwatched(plane, &connection, &error),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::ahead::tests::plane;
    use super::*;
    use crate::state::crew::Crew;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    /// A plane that knows its servers as quick, so many clients of its, and their ends.
    pub(in crate::data) fn gathering(count: usize) -> (Arc<Plane>, Vec<Arc<Connection>>, Vec<UnixStream>) {
        let plane = plane();
        plane.queue.adapt(Duration::from_millis(1));
        // Beside them there are enough for company to make sense.
        let all = count + 3 * plane.companies.processors;
        let (mut connections, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..all {
            let (near, far) = UnixStream::pair().unwrap();
            connections.push(plane.lot.enter(Socket::from(OwnedFd::from(near)), None));
            ends.push(far);
        }
        connections.truncate(count);
        (plane, connections, ends)
    }

    pub(in crate::data) fn join(
        company: &mut Company,
        plane: &Plane,
        connection: &Arc<Connection>,
        now: Moment,
    ) -> bool {
        company.joins(plane, connection, Carry::default(), 0, now).is_none()
    }

    #[test]
    fn those_who_speak_are_heard_and_those_who_do_not_are_parked() {
        let (plane, clients, _ends) = gathering(3);
        let (begin, mut company) = (Moment::from_millis(100), Company::default());
        assert!(clients.iter().all(|client| join(&mut company, &plane, client, begin)));
        company.look(&plane, 0, true, begin);
        assert_eq!((plane.companies.clients(), company.has_ready()), (3, false));
        company.are_ready(|at| at == 1);
        let late = begin.after(STAY);
        company.look(&plane, 0, true, late);
        assert!(clients.iter().all(|client| !client.handover.is_parked()), "somebody speaks");
        company.look(&plane, 0, false, late);
        assert!(clients[0].handover.is_parked() && clients[2].handover.is_parked());
        assert_eq!(plane.stats.total(Counter::LingersWasted), 2);
        let heard = company.next_ready().unwrap();
        assert!(Arc::ptr_eq(&heard.connection, &clients[1]) && !clients[1].handover.is_parked());
        assert!(company.next_ready().is_none() && company.is_empty() && company.is_kept());
        company.let_go(&plane, late);
        assert_eq!((plane.companies.clients(), plane.companies.exist()), (0, false));
    }

    #[test]
    fn who_is_let_go_with_bytes_under_way_is_told_of_by_the_poller() {
        let (plane, clients, mut ends) = gathering(2);
        let now = Moment::from_millis(100);
        let mut company = Company::default();
        // One that was watched before, and stirred meanwhile.
        plane.lot.watch(&clients[0]).unwrap();
        clients[0].handover.edge();
        assert!(clients.iter().all(|client| join(&mut company, &plane, client, now)));
        ends[0].write_all(b"GET").unwrap();
        company.parts(&plane, Why::Kept, now);
        assert!(
            clients.iter().all(|client| client.handover.is_parked()),
            "nothing is lost, and nobody is held"
        );
        assert!(!join(&mut company, &plane, &clients[1], now), "companies rest");
    }

    #[test]
    fn where_its_thread_holds_them_up_it_asks_for_another_and_leaves_it_clients() {
        let (plane, clients, _ends) = gathering(40);
        let (now, mut company) = (Moment::from_millis(100), Company::default());
        for client in &clients[..38] {
            assert!(join(&mut company, &plane, client, now));
            company.look(&plane, 0, true, now);
        }
        let Some(place) = &mut company.place else { panic!("it has a place") };
        place.weighs(&plane, Some(Used { own: 1.0, idle: 0.0 }), now);
        assert_eq!(plane.crew.asked(now), 0, "nothing is left for another");
        place.weighs(&plane, Some(Used { own: 1.0, idle: 0.5 }), now);
        let is_one_of_many = plane.companies.processors > 1;
        let expected = if is_one_of_many { (2, 1) } else { (0, 0) };
        assert_eq!((plane.crew.asked(now), plane.crew.nudges().len()), expected);
        assert_eq!(plane.crew.asked(now.after(Crew::ASKED)), 0, "that was long ago");
        assert!(join(&mut company, &plane, &clients[38], now), "nobody else could take it");
        plane.crew.rests();
        assert_eq!(join(&mut company, &plane, &clients[39], now), !is_one_of_many);
    }

    #[test]
    fn no_company_before_slow_servers_or_while_draining() {
        let (plane, clients, _ends) = gathering(2);
        let (now, mut company) = (Moment::from_millis(100), Company::default());
        plane.queue.adapt(Duration::from_millis(5));
        assert!(!join(&mut company, &plane, &clients[0], now));
        plane.queue.adapt(Duration::from_millis(1));
        assert!(join(&mut company, &plane, &clients[0], now));
        plane.drain(Moment::NEVER);
        company.look(&plane, 0, true, now);
        assert!(company.is_empty() && clients[0].handover.is_parked());
        assert!(!join(&mut company, &plane, &clients[1], now));
    }
}
