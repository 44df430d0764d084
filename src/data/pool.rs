//! Idle connections to servers: last in, first out, so that the warmest is used and the rest grow old and
//! are closed.

use super::dial::Link;
use crate::base::ids::ServerId;
use crate::base::time::Moment;
use crate::state::server::Server;
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
#[derive(Debug)]
struct Shelf {
    server: Arc<Server>,
    idle: Mutex<VecDeque<Idle>>,
}

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

    /// The connection that was used last, and for how long it has been idle; unless it has grown old, or the server's
    /// idle connections are not to be used any more.
    pub fn take(&self, server: &Server, now: Moment) -> Option<(Link, Duration)> {
        let shelf = self.shelf(server.id)?;
        loop {
            let idle = shelf.idle.lock().pop_back()?;
            let idle_for = now.since(idle.since);
            if idle_for >= self.idle_time {
                return None;
            }
            if server.addresses().keeps_idle(idle.link.generation) {
                return Some((idle.link, idle_for));
            }
        }
    }

    /// Keeps a connection that is between two requests. When there is no room, or the server's connections are not to
    /// be kept, it is closed.
    pub fn put(&self, server: &Arc<Server>, link: Link, now: Moment) {
        if !server.addresses().keeps_idle(link.generation) {
            return;
        }
        let shelf = self.shelf(server.id).unwrap_or_else(|| self.new_shelf(server));
        let excess = {
            let mut idle = shelf.idle.lock();
            idle.push_back(Idle { link, since: now });
            if idle.len() > self.per_server { idle.pop_front() } else { None }
        };
        drop(excess);
    }

    /// Closes what has grown old, what is not to be used any more, and what belongs to servers that were removed.
    pub fn sweep(&self, now: Moment) {
        let shelves: Vec<_> = self.servers.read().values().cloned().collect();
        for shelf in shelves {
            let removed = shelf.server.is_removed();
            self.close(&shelf, |idle| {
                removed
                    || now.since(idle.since) >= self.idle_time
                    || !shelf.server.addresses().keeps_idle(idle.link.generation)
            });
            if removed {
                self.servers.write().remove(&shelf.server.id);
            }
        }
    }

    /// Closes all connections of a server: it failed, and the rest are most likely dead as well.
    pub fn clear(&self, server: ServerId) {
        if let Some(shelf) = self.shelf(server) {
            self.close(&shelf, |_| true);
        }
    }

    /// Closes all connections of all servers: their descriptors are needed.
    pub fn clear_all(&self) {
        self.sweep(Moment::NEVER);
    }

    /// Closes these connections, outside of the lock.
    fn close(&self, shelf: &Shelf, is_closed: impl Fn(&Idle) -> bool) {
        let closed: VecDeque<Idle> = {
            let mut idle = shelf.idle.lock();
            if !idle.iter().any(&is_closed) {
                return;
            }
            let (closed, kept) = std::mem::take(&mut *idle).into_iter().partition(is_closed);
            *idle = kept;
            closed
        };
        drop(closed);
    }

    fn shelf(&self, server: ServerId) -> Option<Arc<Shelf>> {
        self.servers.read().get(&server).cloned()
    }

    fn new_shelf(&self, server: &Arc<Server>) -> Arc<Shelf> {
        let shelf = || Arc::new(Shelf { server: Arc::clone(server), idle: Mutex::default() });
        Arc::clone(self.servers.write().entry(server.id).or_insert_with(shelf))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pick::{Algorithm, Weight};
    use crate::state::config::ServerSpec;
    use crate::state::table::Table;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    fn link(server: &Server) -> (Link, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let socket = std::os::fd::OwnedFd::from(near).into();
        (Link { socket, reused: false, berth: None, generation: server.addresses().generation() }, far)
    }

    /// A table of two servers.
    fn table() -> (Table, [Arc<Server>; 2]) {
        let spec = |name: &str, address: &str| ServerSpec {
            name: name.into(),
            address: address.parse().unwrap(),
            weight: Weight(1),
            backup: false,
        };
        let list = [spec("a", "127.0.0.1:9001"), spec("b", "127.0.0.1:9002")];
        let table = Table::new(Algorithm::Dynamic, false, &list);
        let servers = ["a", "b"].map(|name| table.find(name).unwrap());
        (table, servers)
    }

    fn closed(ends: &[UnixStream]) -> Vec<bool> {
        ends.iter().map(|mut far| std::io::Read::read(&mut far, &mut [0]).is_ok()).collect()
    }

    #[test]
    fn the_last_in_is_the_first_out_and_the_oldest_makes_room() {
        let (_table, [a, _]) = table();
        let pool = Pool::new(2, Duration::from_secs(30));
        let (links, _far): (Vec<_>, Vec<_>) = (0..3).map(|_| link(&a)).unzip();
        let fds: Vec<_> = links.iter().map(|link: &Link| link.socket.raw()).collect();
        for (at, link) in links.into_iter().enumerate() {
            pool.put(&a, link, Moment::from_millis(at as u64));
        }
        let take = || pool.take(&a, Moment::from_millis(10)).map(|(link, _)| link.socket.raw());
        assert_eq!([take(), take(), take()], [Some(fds[2]), Some(fds[1]), None]);
    }

    #[test]
    fn what_grew_old_or_lost_its_server_is_closed() {
        let (table, [a, b]) = table();
        let pool = Pool::new(4, Duration::from_millis(100));
        let ends: Vec<_> = (0..3u64)
            .map(|at| {
                let server = if at < 2 { &a } else { &b };
                let (near, far) = link(server);
                pool.put(server, near, Moment::from_millis(at * 60));
                far
            })
            .collect();
        pool.sweep(Moment::from_millis(120));
        assert_eq!(closed(&ends), [true, false, false], "{:?}", ends[0].as_raw_fd());
        table.remove("b");
        pool.sweep(Moment::from_millis(120));
        assert_eq!(closed(&ends), [true, false, true]);
        assert!(pool.take(&a, Moment::from_millis(160)).is_none(), "too old to use");
        pool.clear(a.id);
        assert_eq!(closed(&ends), [true, true, true]);
        let (near, far) = link(&a);
        pool.put(&a, near, Moment::from_millis(160));
        pool.clear_all();
        assert_eq!(closed(&[far]), [true]);
    }

    #[test]
    fn connections_of_an_earlier_generation_are_neither_kept_nor_used() {
        let (_table, [a, b]) = table();
        let pool = Pool::new(4, Duration::from_secs(30));
        let now = Moment::from_millis(1);
        let (old, far) = link(&a);
        let (late, far_late) = link(&a);
        let (other, far_other) = link(&b);
        pool.put(&a, old, now);
        pool.put(&b, other, now);
        a.addresses().close_idle();
        pool.put(&a, late, now);
        assert_eq!(closed(&[far_late]), [true], "it was in use meanwhile");
        pool.sweep(now);
        assert_eq!(closed(&[far, far_other]), [true, false]);
        let (old, far) = link(&a);
        pool.put(&a, old, now);
        let (new, _far) = {
            a.addresses().close_idle();
            link(&a)
        };
        pool.put(&a, new, now);
        assert!(pool.take(&a, now).is_some(), "the new one");
        assert!(pool.take(&a, now).is_none());
        assert_eq!(closed(&[far]), [true]);
    }
}
