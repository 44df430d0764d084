//! The socket addresses of one server: all addresses of its name, the one that responded last, and which idle
//! connections may still be used.
//!
//! All connections of one *generation* go to the same address. When another address becomes the preferred one, or the
//! idle connections must be closed, the generation is incremented, and connections of an earlier one are not reused.

use super::address::Address;
use crate::base::limits;
use crate::base::time::Moment;
use parking_lot::{Mutex, RwLock};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The most addresses that one attempt tries. The next attempt begins after those that failed, so that with more
/// addresses all of them are tried in turn.
const TRIED_MAX: usize = 8;
/// The generation of a connection that must not be kept: no server ever has it.
const OUTDATED: u64 = 0;

/// The addresses of a server.
#[derive(Debug)]
pub struct Addresses {
    known: RwLock<Known>,
    generation: AtomicU64,
    idle_paused: AtomicBool,
    loss: Mutex<Option<Loss>>,
}

#[derive(Debug)]
struct Known {
    list: Arc<[SocketAddr]>,
    /// The index of the address that responded last.
    preferred: usize,
}

/// The name does not resolve at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When it was lost.
    pub since: Moment,
    /// The resolver's error, or that it did not respond.
    pub words: String,
}

/// What a look-up changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The address in use is still one of the name's.
    Kept,
    /// The first addresses of this server.
    First,
    /// The address that was in use no longer belongs to the name; connections to it are not reused.
    Moved {
        /// The address in use until now.
        from: SocketAddr,
        /// The address that is tried first from now on.
        to: SocketAddr,
    },
}

impl Addresses {
    /// The addresses of a server: none yet when a name has to be looked up, and never any for a Unix socket.
    pub fn of(address: &Address) -> Self {
        let list = literal(address).into_iter().collect();
        Addresses {
            known: RwLock::new(Known { list, preferred: 0 }),
            generation: AtomicU64::new(OUTDATED + 1),
            idle_paused: AtomicBool::new(false),
            loss: Mutex::new(None),
        }
    }

    /// The one address of a server whose name has others, too.
    pub fn only(address: SocketAddr) -> Self {
        let known = Known { list: Arc::new([address]), preferred: 0 };
        Addresses {
            known: RwLock::new(known),
            generation: AtomicU64::new(OUTDATED + 1),
            idle_paused: AtomicBool::new(false),
            loss: Mutex::new(None),
        }
    }

    /// The addresses to try, in order: the one that responded last, then those after it, 8 at most.
    pub fn candidates(&self) -> Candidates {
        let known = self.known.read();
        let (list, next) = (Arc::clone(&known.list), known.preferred);
        let left = list.len().min(TRIED_MAX);
        Candidates { list, next, left }
    }

    /// All addresses, in the order of the resolver.
    pub fn all(&self) -> Arc<[SocketAddr]> {
        Arc::clone(&self.known.read().list)
    }

    /// A connection to this address was made: it is tried first from now on. Returns the generation of the connection.
    pub fn record_connect_ok(&self, address: SocketAddr) -> u64 {
        {
            let known = self.known.read();
            if known.list.get(known.preferred) == Some(&address) {
                return self.generation();
            }
        }
        let mut known = self.known.write();
        let Some(place) = known.list.iter().position(|other| *other == address) else { return OUTDATED };
        if std::mem::replace(&mut known.preferred, place) != place {
            self.outdate();
        }
        self.generation()
    }

    /// No connection to this address could be made. If it was tried first until now, the next one is tried first from
    /// now on.
    pub fn record_connect_failed(&self, address: SocketAddr) {
        let is_first =
            |known: &Known| known.list.get(known.preferred) == Some(&address) && known.list.len() > 1;
        if !is_first(&self.known.read()) {
            return;
        }
        let mut known = self.known.write();
        if is_first(&known) {
            known.preferred = (known.preferred + 1) % known.list.len();
            self.outdate();
        }
    }

    /// The generation of a new connection. For a Unix socket, which has one address.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether a connection of this generation may be kept idle and reused.
    pub fn keeps_idle(&self, generation: u64) -> bool {
        generation == self.generation() && !self.idle_paused.load(Ordering::Acquire)
    }

    /// Idle connections are not reused.
    pub fn close_idle(&self) {
        self.outdate();
    }

    /// Like [`Addresses::close_idle`], and no connection is kept idle until [`Addresses::resume_idle`]: a server that
    /// serves one connection at a time is then free for a probe.
    pub fn pause_idle(&self) {
        self.idle_paused.store(true, Ordering::Release);
        self.outdate();
    }

    /// Connections are kept idle again.
    pub fn resume_idle(&self) {
        self.idle_paused.store(false, Ordering::Release);
    }

    /// The control plane looked the name up and found these addresses, in the order in which they are to be tried.
    /// An empty list changes nothing.
    pub fn replace(&self, list: Vec<SocketAddr>) -> Replaced {
        *self.loss.lock() = None;
        let mut known = self.known.write();
        let before = known.list.get(known.preferred).copied();
        let Some(&first) = list.first() else { return Replaced::Kept };
        let place = list.iter().position(|address| Some(*address) == before);
        *known = Known { list: list.into(), preferred: place.unwrap_or(0) };
        match (before, place) {
            (None, _) => Replaced::First,
            (Some(_), Some(_)) => Replaced::Kept,
            (Some(from), None) => {
                self.outdate();
                Replaced::Moved { from, to: first }
            }
        }
    }

    /// The control plane looked the name up and found nothing. The addresses stay as they are.
    pub fn record_loss(&self, words: &str, now: Moment) {
        self.loss.lock().get_or_insert_with(|| Loss { since: now, words: words.to_owned() });
    }

    /// The current loss, if the name does not resolve.
    pub fn loss(&self) -> Option<Loss> {
        self.loss.lock().clone()
    }

    fn outdate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// Addresses to try, one after the other. Each comes with the number of those that are left, including itself.
#[derive(Clone, Debug)]
pub struct Candidates {
    list: Arc<[SocketAddr]>,
    next: usize,
    left: usize,
}

impl Candidates {
    /// The same addresses, starting this many places later.
    pub fn rotated(self, places: usize) -> Self {
        Candidates { next: self.next.wrapping_add(places % self.list.len().max(1)), ..self }
    }

    /// The same hosts at another port.
    pub fn at_port(self, port: u16) -> Self {
        let list = self.list.iter().map(|address| SocketAddr::new(address.ip(), port)).collect();
        Candidates { list, ..self }
    }

    /// Whether there is more than one.
    pub fn are_several(&self) -> bool {
        self.left > 1
    }
}

impl Iterator for Candidates {
    type Item = (SocketAddr, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left;
        self.left = left.checked_sub(1)?;
        let address = self.list.get(self.next % self.list.len().max(1)).copied()?;
        self.next += 1;
        Some((address, left))
    }
}

/// The part of the remaining time that one of `left` addresses may take: an equal share, so that an address that does
/// not respond leaves time for the others, and the last one gets all that remains.
pub fn share(remaining: Duration, left: usize) -> Duration {
    remaining / u32::try_from(left.max(1)).unwrap_or(u32::MAX)
}

/// Which error of several addresses to report: the first, unless it is a limitation of this machine (such as an IPv6
/// address without IPv6) and a later one is not.
pub fn first_error(first: Option<io::Error>, next: io::Error) -> io::Error {
    match first {
        Some(first) if !limits::is_exhausted(&first) || limits::is_exhausted(&next) => first,
        _ => next,
    }
}

fn literal(address: &Address) -> Option<SocketAddr> {
    match address {
        Address::Tcp { host, port } => host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, *port)),
        Address::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    /// A server by name with these addresses.
    fn named(last: &[u8]) -> Addresses {
        let addresses = Addresses::of(&"app.test:80".parse().unwrap());
        assert_eq!(addresses.candidates().count(), 0);
        assert_eq!(addresses.replace(last.iter().map(|last| address(*last)).collect()), Replaced::First);
        addresses
    }

    fn order(addresses: &Addresses) -> Vec<u8> {
        let last = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        addresses.candidates().map(|(address, _)| last(address)).collect()
    }

    #[test]
    fn the_address_that_responded_is_tried_first() {
        let addresses = named(&[1, 2, 3]);
        assert_eq!(order(&addresses), [1, 2, 3]);
        let old = addresses.record_connect_ok(address(1));
        addresses.record_connect_failed(address(1));
        addresses.record_connect_failed(address(1));
        assert_eq!(order(&addresses), [2, 3, 1], "one step, however many connects failed");
        assert!(!addresses.keeps_idle(old), "connections to the first address are not used again");
        let new = addresses.record_connect_ok(address(3));
        assert_eq!(order(&addresses), [3, 1, 2]);
        assert!(addresses.keeps_idle(new));
        assert_eq!(addresses.record_connect_ok(address(3)), new);
    }

    #[test]
    fn a_single_address_stays_whatever_fails() {
        let addresses = Addresses::of(&"10.0.0.1:80".parse().unwrap());
        let generation = addresses.record_connect_ok(address(1));
        addresses.record_connect_failed(address(1));
        assert_eq!((order(&addresses), addresses.keeps_idle(generation)), (vec![1], true));
    }

    /// The order after a look-up, and whether connections to the address in use stay usable.
    fn check_replace(before: &[u8], used: u8, after: &[u8], expected: &[u8], keeps: bool) {
        let addresses = named(before);
        let generation = addresses.record_connect_ok(address(used));
        let replaced = addresses.replace(after.iter().map(|last| address(*last)).collect());
        assert_eq!(order(&addresses), expected, "{before:?} to {after:?}");
        assert_eq!(addresses.keeps_idle(generation), keeps, "{before:?} to {after:?}");
        assert_eq!(matches!(replaced, Replaced::Kept), keeps);
    }

    #[test]
    fn connections_move_with_the_name() {
        check_replace(&[1], 1, &[1], &[1], true);
        check_replace(&[1], 1, &[2], &[2], false);
        check_replace(&[1], 1, &[2, 1], &[1, 2], true);
        check_replace(&[1, 2], 2, &[2, 1], &[2, 1], true);
        check_replace(&[1, 2], 2, &[1, 3], &[1, 3], false);
        check_replace(&[1, 2], 2, &[], &[2, 1], true);
    }

    #[test]
    fn a_connection_to_an_address_that_was_left_is_not_kept() {
        let addresses = named(&[1]);
        addresses.replace(vec![address(2)]);
        let generation = addresses.record_connect_ok(address(1));
        assert!(!addresses.keeps_idle(generation));
    }

    #[test]
    fn a_lost_name_keeps_its_addresses() {
        let addresses = named(&[1]);
        addresses.record_loss("no such name", Moment::from_millis(5));
        addresses.record_loss("another word", Moment::from_millis(9));
        let since = Moment::from_millis(5);
        assert_eq!(addresses.loss(), Some(Loss { since, words: "no such name".into() }));
        assert_eq!(order(&addresses), [1]);
        addresses.replace(vec![address(1)]);
        assert_eq!(addresses.loss(), None);
    }

    #[test]
    fn no_connection_is_kept_while_idle_ones_are_not_wanted() {
        let addresses = named(&[1]);
        let before = addresses.record_connect_ok(address(1));
        addresses.pause_idle();
        let meanwhile = addresses.record_connect_ok(address(1));
        assert!(!addresses.keeps_idle(before) && !addresses.keeps_idle(meanwhile));
        addresses.resume_idle();
        assert!(!addresses.keeps_idle(before) && addresses.keeps_idle(meanwhile));
        addresses.close_idle();
        assert!(!addresses.keeps_idle(meanwhile));
    }

    #[test]
    fn many_addresses_get_their_turn_and_their_share() {
        let all: Vec<u8> = (1..=20).collect();
        let addresses = named(&all);
        assert_eq!(order(&addresses), (1..=8).collect::<Vec<u8>>());
        (1..=8).for_each(|last| addresses.record_connect_failed(address(last)));
        assert_eq!(order(&addresses), (9..=16).collect::<Vec<u8>>());
        let rotated: Vec<_> = addresses.candidates().rotated(13).map(|(address, _)| address).collect();
        assert_eq!(rotated.first(), Some(&address(2)));
        let whole = Duration::from_secs(2);
        assert_eq!([1, 2, 8].map(|left| share(whole, left).as_millis()), [2_000, 1_000, 250]);
    }

    #[test]
    fn the_error_that_says_something_of_the_server_is_reported() {
        use rustix::io::Errno;
        let error = |errno: Errno| io::Error::from(errno);
        for (first, next, expected) in [
            (Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::CONNREFUSED),
            (Errno::ADDRNOTAVAIL, Errno::CONNREFUSED, Errno::CONNREFUSED),
            (Errno::CONNREFUSED, Errno::ADDRNOTAVAIL, Errno::CONNREFUSED),
            (Errno::MFILE, Errno::MFILE, Errno::MFILE),
        ] {
            let reported = first_error(Some(error(first)), error(next));
            assert_eq!(reported.raw_os_error(), Some(expected.raw_os_error()), "{first}, {next}");
        }
    }
}
