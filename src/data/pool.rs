//! Idle connections to servers: last in, first out, so that the warmest is used and the rest grow old and
//! are closed.

use super::dial::Link;
use crate::base::ids::ServerId;
use crate::base::time::Moment;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Idle connections of all servers.
#[derive(Debug)]
pub struct Pool {
    servers: RwLock<HashMap<ServerId, Arc<Shelf>>>,
    per_server: usize,
    idle_time: Duration,
}

/// Idle connections of one server; the oldest in front.
type Shelf = Mutex<VecDeque<Idle>>;

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Moment,
}

impl Pool {
    /// A pool that keeps so many connections for each server, each for so long.
    pub fn new(per_server: usize, idle_time: Duration) -> Self {
        Pool { servers: RwLock::default(), per_server, idle_time }
    }

    /// The connection that was used last, and for how long it has been idle; unless it has grown old.
    pub fn take(&self, server: ServerId, now: Moment) -> Option<(Link, Duration)> {
        let idle = self.shelf(server)?.lock().pop_back()?;
        let idle_for = now.since(idle.since);
        (idle_for < self.idle_time).then_some((idle.link, idle_for))
    }

    /// Keeps a connection that is between two requests. When there is no room it is closed.
    pub fn put(&self, server: ServerId, link: Link, now: Moment) {
        let shelf = self.shelf(server).unwrap_or_else(|| self.new_shelf(server));
        let excess = {
            let mut shelf = shelf.lock();
            shelf.push_back(Idle { link, since: now });
            if shelf.len() > self.per_server { shelf.pop_front() } else { None }
        };
        drop(excess);
    }

    /// Closes what has grown old, and what belongs to servers that `is_known` does not know any more.
    pub fn sweep(&self, now: Moment, is_known: impl Fn(ServerId) -> bool) {
        let shelves: Vec<_> =
            self.servers.read().iter().map(|(id, shelf)| (*id, Arc::clone(shelf))).collect();
        for (id, shelf) in shelves {
            let known = is_known(id);
            let old: Vec<_> = {
                let mut shelf = shelf.lock();
                let old = |idle: &Idle| !known || now.since(idle.since) >= self.idle_time;
                let count = shelf.iter().take_while(|idle| old(idle)).count();
                shelf.drain(..count).collect()
            };
            drop(old);
            if !known {
                self.servers.write().remove(&id);
            }
        }
    }

    /// Closes all connections of a server: it failed, and the rest are most likely dead as well.
    pub fn clear(&self, server: ServerId) {
        if let Some(shelf) = self.shelf(server) {
            let all = std::mem::take(&mut *shelf.lock());
            drop(all);
        }
    }

    /// Closes all connections of all servers: their descriptors are needed.
    pub fn clear_all(&self) {
        self.sweep(Moment::NEVER, |_| true);
    }

    fn shelf(&self, server: ServerId) -> Option<Arc<Shelf>> {
        self.servers.read().get(&server).cloned()
    }

    fn new_shelf(&self, server: ServerId) -> Arc<Shelf> {
        Arc::clone(self.servers.write().entry(server).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    fn link() -> (Link, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let socket = std::os::fd::OwnedFd::from(near).into();
        (Link { socket, reused: false, berth: None }, far)
    }

    const A: ServerId = ServerId(1);

    #[test]
    fn the_last_in_is_the_first_out_and_the_oldest_makes_room() {
        let pool = Pool::new(2, Duration::from_secs(30));
        let (links, _far): (Vec<_>, Vec<_>) = (0..3).map(|_| link()).unzip();
        let fds: Vec<_> = links.iter().map(|link: &Link| link.socket.raw()).collect();
        for (at, link) in links.into_iter().enumerate() {
            pool.put(A, link, Moment::from_millis(at as u64));
        }
        let take = || pool.take(A, Moment::from_millis(10)).map(|(link, _)| link.socket.raw());
        assert_eq!([take(), take(), take()], [Some(fds[2]), Some(fds[1]), None]);
    }

    #[test]
    fn what_grew_old_or_lost_its_server_is_closed() {
        let pool = Pool::new(4, Duration::from_millis(100));
        let ends: Vec<_> = (0..3u64)
            .map(|at| {
                let (near, far) = link();
                far.set_nonblocking(true).unwrap();
                pool.put(if at < 2 { A } else { ServerId(2) }, near, Moment::from_millis(at * 60));
                far
            })
            .collect();
        let closed = || -> Vec<bool> {
            ends.iter().map(|mut far| std::io::Read::read(&mut far, &mut [0]).is_ok()).collect()
        };
        pool.sweep(Moment::from_millis(120), |_| true);
        assert_eq!(closed(), [true, false, false], "{:?}", ends[0].as_raw_fd());
        pool.sweep(Moment::from_millis(120), |id| id == A);
        assert_eq!(closed(), [true, false, true]);
        assert!(pool.take(A, Moment::from_millis(160)).is_none(), "too old to use");
        pool.clear(A);
        assert_eq!(closed(), [true, true, true]);
        let (near, mut far) = link();
        pool.put(A, near, Moment::from_millis(160));
        pool.clear_all();
        assert_eq!(std::io::Read::read(&mut far, &mut [0]).unwrap(), 0);
    }
}
