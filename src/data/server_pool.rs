//! Layer 1: a worker's connections to servers: those that exchanges use, and idle ones that are kept for the next. All of
//! them are watched by the worker's poller for as long as they live: a server that closes an idle connection, or says
//! something unasked on it, is noticed at once, and that connection is not used again (RFC 9112 section 9.2).

use super::poller::{Poller, Ready, Side, Token};
use super::shared::LOG_INTERVAL;
use super::transport::{Stream, Transport};
use crate::base::ids::ServerId;
use crate::base::time::Moment;
use crate::state::config::Config;
use crate::state::server::Server;
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A connection to a server.
#[derive(Debug)]
pub struct ServerConnection {
    /// The connection.
    pub stream: Stream,
    /// The server.
    pub server: Arc<Server>,
    /// It has carried a request before: the server may have closed it meanwhile.
    pub reused: bool,
    /// The generation of the server's addresses under which it was made.
    pub addresses_generation: u64,
    user: User,
    /// It has carried credentials that authenticate a connection: only the client that sent them may use it.
    is_bound: bool,
}

impl ServerConnection {
    /// Whether it may carry another request, and is watched until then.
    fn may_wait(&mut self, poller: &Poller) -> bool {
        // Bytes behind the response, or an end: it must not.
        let is_quiet = !self.stream.may_read() || self.stream.is_quiet();
        let is_current = self.server.addresses().keeps_idle(self.addresses_generation);
        is_quiet && is_current && !self.server.is_retired() && self.stream.watch(poller).is_ok()
    }

    /// Logs what is wrong with its TLS session.
    pub fn log_tls_trouble(&self, now: Moment) {
        if let Some(why) = self.stream.tls_trouble() {
            log_tls_failure(&self.server, &why, now);
        }
    }
}

/// Logs why TLS with a server failed.
pub fn log_tls_failure(server: &Server, why: &str, now: Moment) {
    if server.tells_tls_failure(LOG_INTERVAL, now) {
        log::warn!("server {} ({}): TLS: {why}", server.label, server.address);
    }
}

/// What uses a connection to a server.
#[derive(Clone, Copy, Debug)]
enum User {
    /// The exchange of the client connection with this key.
    Exchange(usize),
    /// Nothing; the next exchange of the client connection with this key has it.
    Client(usize),
    /// Nothing; idle since then.
    Idle(Moment),
}

/// All connections of one worker to servers.
#[derive(Debug, Default)]
pub struct ServerPool {
    connections: Slab<ServerConnection>,
    /// Keys of idle connections, the one that was used last at the back: the warmest is used, the others grow old.
    idle: BTreeMap<ServerId, VecDeque<usize>>,
    idle_count: usize,
    /// By the key of a client's connection the key of the one that is bound to it, while no exchange has it.
    bound: BTreeMap<usize, usize>,
    generation: u32,
}

impl ServerPool {
    /// Takes in a connection for the exchange of the client connection with that key.
    pub fn insert(&mut self, transport: Transport, server: &Arc<Server>, client: usize) -> usize {
        let token = self.next_token();
        let (stream, server) = (Stream::new(transport, token), Arc::clone(server));
        let addresses_generation = server.addresses().generation();
        self.connections.insert(ServerConnection {
            stream,
            server,
            reused: false,
            addresses_generation,
            user: User::Exchange(client),
            is_bound: false,
        })
    }

    /// The connection with this key.
    pub fn get_mut(&mut self, key: usize) -> Option<&mut ServerConnection> {
        self.connections.get_mut(key)
    }

    /// An idle connection to the server, no older than `idle_time`, for the exchange of the client connection with that key.
    /// Unless the caller trusts the last events it is looked at once more, which costs a system call: since they were
    /// reported the server may have closed it, or sent something unasked.
    pub fn take(
        &mut self,
        server: ServerId,
        client: usize,
        idle_time: Duration,
        now: Moment,
        trusts_events: bool,
    ) -> Option<usize> {
        loop {
            let key = self.idle.get_mut(&server)?.pop_back()?;
            self.idle_count -= 1;
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let is_young = matches!(connection.user, User::Idle(since) if now.since(since) < idle_time);
            let is_current = connection.server.addresses().keeps_idle(connection.addresses_generation);
            connection.server.idle_ends();
            if is_young && is_current && (trusts_events || connection.stream.is_quiet()) {
                (connection.user, connection.reused) = (User::Exchange(client), true);
                return Some(key);
            }
            self.connections.remove(key);
        }
    }

    /// Keeps a connection that is between two requests, or closes it where its pool has no room for it.
    pub fn put(&mut self, key: usize, poller: &Poller, config: &Config, now: Moment) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let may_wait = connection.may_wait(poller);
        if !may_wait || !connection.server.idle_begins(config.pool(connection.server.pool).pool.idle) {
            self.connections.remove(key);
            return;
        }
        connection.user = User::Idle(now);
        self.idle.entry(connection.server.id).or_default().push_back(key);
        self.idle_count += 1;
    }

    /// Closes a connection that an exchange has.
    pub fn close(&mut self, key: usize) {
        self.connections.try_remove(key);
    }

    /// Closes all that the exchange of this client connection has; after a panic, which has lost the key.
    pub fn close_all_of(&mut self, client: usize) {
        self.close_bound(client);
        self.connections
            .retain(|_, connection| !matches!(connection.user, User::Exchange(other) if other == client));
    }

    /// Takes in what an event said. The key of the client connection whose exchange it concerns; an idle connection is
    /// closed: whatever came, it is no response.
    pub fn notify(&mut self, token: Token, ready: Ready) -> Option<usize> {
        let key = token.key as usize;
        let connection = self
            .connections
            .get_mut(key)
            .filter(|connection| connection.stream.token().generation == token.generation)?;
        connection.stream.notify(ready);
        match connection.user {
            User::Exchange(client) => return Some(client),
            // What came may belong to TLS, such as tickets; anything else is unsolicited.
            _ if !connection.stream.may_read() || connection.stream.is_quiet() => {}
            User::Client(client) => self.close_bound(client),
            User::Idle(_) => self.close_idle(key),
        }
        None
    }

    /// Moves a connection out, for another worker.
    pub fn detach(&mut self, key: usize, poller: &Poller) -> Option<ServerConnection> {
        let mut connection = self.connections.try_remove(key)?;
        let token = connection.stream.token();
        connection.stream.unwatch(poller, token);
        Some(connection)
    }

    /// Takes in a connection of another worker, for the exchange of the client connection with that key.
    pub fn attach(&mut self, mut connection: ServerConnection, poller: &Poller, client: usize) -> usize {
        let token = self.next_token();
        connection.stream.unwatch(poller, token);
        connection.user = User::Exchange(client);
        self.connections.insert(connection)
    }

    /// Closes idle connections that have grown old, those that must not be used again, and those to servers that get no
    /// traffic any more.
    pub fn sweep(&mut self, config: &Config, now: Moment) {
        self.close_idle_where(|connection, since| {
            now.since(since) >= config.pool(connection.server.pool).pool.idle_time
                || !connection.server.is_open()
                || connection.server.is_retired()
                || !connection.server.addresses().keeps_idle(connection.addresses_generation)
        });
        // Servers come and go, and each has an id of its own.
        self.idle.retain(|_, keys| !keys.is_empty());
    }

    /// Closes all idle connections: their descriptors are needed.
    pub fn clear(&mut self) {
        self.close_idle_where(|_, _| true);
    }

    /// Idle connections.
    pub fn idle(&self) -> usize {
        self.idle_count
    }

    /// All connections, those of exchanges among them.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Closes those of the idle connections of which this is true, with the moment since when they are idle.
    fn close_idle_where(&mut self, is_over: impl Fn(&ServerConnection, Moment) -> bool) {
        let old = |connection: &ServerConnection| matches!(connection.user, User::Idle(since) if is_over(connection, since));
        let keys: Vec<usize> =
            self.connections.iter().filter(|(_, connection)| old(connection)).map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.close_idle(key));
    }

    fn close_idle(&mut self, key: usize) {
        let Some(connection) = self.connections.try_remove(key) else { return };
        connection.server.idle_ends();
        self.idle_count -= 1;
        if let Some(keys) = self.idle.get_mut(&connection.server.id) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.idle.remove(&connection.server.id);
            }
        }
    }

    /// Keys are reused and generations are not, so that an event for the connection before names nothing.
    fn next_token(&mut self) -> Token {
        self.generation = self.generation.wrapping_add(1);
        Token::new(Side::Server, self.connections.vacant_key(), self.generation)
    }
}

/// Connections that are bound to a client's, because a server takes all that follows on them for the same user's. A client has
/// one at the most.
impl ServerPool {
    /// Keeps a connection between two requests of the client connection with that key, or closes it.
    pub fn bind(&mut self, key: usize, client: usize, poller: &Poller) {
        self.close_bound(client);
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !connection.may_wait(poller) {
            return self.close(key);
        }
        (connection.user, connection.is_bound) = (User::Client(client), true);
        self.bound.insert(client, key);
    }

    /// Whether it may be used by one client only.
    pub fn is_bound(&self, key: usize) -> bool {
        self.connections.get(key).is_some_and(|connection| connection.is_bound)
    }

    /// The server of the connection that waits for the next request of this client.
    pub fn bound_to(&self, client: usize) -> Option<&Arc<Server>> {
        // Hardly a client has one.
        let key = if self.bound.is_empty() { None } else { self.bound.get(&client) }?;
        Some(&self.connections.get(*key)?.server)
    }

    /// The connection that waits for the next request of this client, if it is one to this server and is still good.
    pub fn take_bound(&mut self, client: usize, server: ServerId) -> Option<usize> {
        self.bound_to(client).filter(|bound| bound.id == server)?;
        let key = self.bound.remove(&client)?;
        let connection = self.connections.get_mut(key)?;
        if !connection.server.addresses().keeps_idle(connection.addresses_generation)
            || !connection.stream.is_quiet()
        {
            self.close(key);
            return None;
        }
        (connection.user, connection.reused) = (User::Exchange(client), true);
        Some(key)
    }

    /// The same, to go with its client to another worker, or to the accept thread.
    pub fn detach_bound(&mut self, client: usize, poller: &Poller) -> Option<ServerConnection> {
        let key = self.bound.remove(&client)?;
        self.detach(key, poller)
    }

    /// Closes what waits for the next request of this client.
    pub fn close_bound(&mut self, client: usize) {
        self.bound.remove(&client).into_iter().for_each(|key| self.close(key));
    }
}

impl Drop for ServerPool {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::Wire;
    use super::*;
    use crate::policy::pick::Algorithm;
    use crate::state::config::{Pool, ServerSpec};
    use crate::state::table::Table;
    use std::io::IoSlice;

    const CLIENT: usize = 7;
    const AT: Moment = Moment::from_millis(1000);

    /// A pool with an idle connection, whose far end comes back as well.
    struct Idle {
        pool: ServerPool,
        poller: Poller,
        server: Arc<Server>,
        far: Wire,
        config: Config,
        _table: Table,
    }

    fn idle() -> Idle {
        let address = "127.0.0.1:9001".parse().unwrap();
        let spec = ServerSpec::new("a", address);
        let table = Table::new(Algorithm::Dynamic, false, None, &[spec]);
        let server = table.find("a").unwrap();
        let (near, far) = Wire::pair(1000);
        let poller = Poller::new().unwrap();
        let mut config = Config::default();
        config.servers.pool = Pool { idle: 2, idle_time: Duration::from_secs(30) };
        let mut pool = ServerPool::default();
        let key = pool.insert(Transport::Simulated(near), &server, CLIENT);
        pool.put(key, &poller, &config, AT);
        Idle { pool, poller, server, far, config, _table: table }
    }

    impl Idle {
        /// What the poller has to tell of the connection.
        fn events(&mut self) {
            let edge = self.far.shared().lock().take_edge();
            edge.into_iter().for_each(|(token, ready)| assert_eq!(self.pool.notify(token, ready), None));
        }

        fn arrives(&mut self, bytes: &[u8]) {
            self.far.send(&[IoSlice::new(bytes)]).unwrap();
            self.far.shared().lock().deliver(1, bytes.len());
        }

        fn take(&mut self) -> Option<usize> {
            self.pool.take(self.server.id, CLIENT, self.config.servers.pool.idle_time, AT, false)
        }
    }

    #[test]
    fn an_idle_connection_is_used_again() {
        let mut idle = idle();
        idle.events();
        let key = idle.take().unwrap();
        assert!(idle.pool.get_mut(key).unwrap().reused);
        assert_eq!((idle.pool.idle(), idle.pool.len()), (0, 1));
    }

    #[test]
    fn bytes_that_come_unasked_close_it() {
        let mut told = idle();
        told.arrives(b"HTTP/1.1 200 OK\r\n\r\n");
        told.events();
        assert_eq!((told.take(), told.pool.len()), (None, 0));
        let mut untold = idle();
        untold.events();
        untold.arrives(b"x");
        assert_eq!(
            (untold.take(), untold.pool.len()),
            (None, 0),
            "a look sees what no event has reported yet"
        );
    }

    #[test]
    fn an_end_closes_it_and_so_do_age_and_a_new_generation() {
        let mut ended = idle();
        ended.far.finish_writing();
        ended.far.shared().lock().deliver(1, 1);
        ended.events();
        assert_eq!(ended.pool.len(), 0);
        let mut old = idle();
        let later = AT.after(Duration::from_secs(31));
        assert_eq!(old.pool.take(old.server.id, CLIENT, Duration::from_secs(30), later, true), None);
        let mut moved = idle();
        moved.server.addresses().close_idle();
        moved.pool.sweep(&moved.config, AT);
        assert_eq!((moved.pool.len(), moved.pool.idle()), (0, 0));
    }

    #[test]
    fn no_more_are_kept_than_wanted_and_leftovers_are_not() {
        let mut idle = idle();
        for kept in [2, 2] {
            let (near, _far) = Wire::pair(1000);
            let key = idle.pool.insert(Transport::Simulated(near), &idle.server, CLIENT);
            // The far end of it is closed, but that has not arrived yet.
            idle.pool.put(key, &idle.poller, &idle.config, AT);
            assert_eq!(idle.pool.idle(), kept);
        }
        let (near, mut far) = Wire::pair(1000);
        let key = idle.pool.insert(Transport::Simulated(near), &idle.server, CLIENT);
        far.send(&[IoSlice::new(b"more than the response")]).unwrap();
        far.shared().lock().deliver(1, 100);
        idle.pool.put(key, &idle.poller, &idle.config, AT);
        assert_eq!(idle.pool.len(), 2);
    }
}
