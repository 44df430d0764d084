//! The names of servers, looked up in separate threads: a slow or unresponsive resolver delays no probe.
//! `policy::lookup` decides what is looked up when; this file has the threads and the results.

use super::threads::Threads;
use crate::base::ids::ServerId;
use crate::base::time::{self, Moment};
use crate::policy::lookup::{Lookups, RUNNING_MAX, TIME_LIMIT};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

/// Finds the addresses of a name, in the order in which they are to be tried; their port is ignored. It may take any
/// time.
#[derive(Clone)]
pub struct Resolver(Arc<Resolve>);

type Resolve = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl Resolver {
    /// A resolver that is this function, which is called by several threads at the same time.
    pub fn new(resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Resolver(Arc::new(resolve))
    }

    /// The system's resolver: hosts file and DNS, as configured, in the order of RFC 6724.
    pub fn of_system() -> Self {
        Resolver::new(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Resolver")
    }
}

/// The result of a look-up: the addresses of the name, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name.
    pub name: Arc<str>,
    /// At least one address, or a few words for a log line.
    pub outcome: Result<Vec<SocketAddr>, String>,
    /// It took no longer than the limit.
    pub in_time: bool,
}

/// The names of all servers.
#[derive(Debug)]
pub struct Names {
    lookups: Lookups,
    resolver: Resolver,
    threads: Threads,
    found: (Sender<Found>, Receiver<Found>),
    known: HashMap<Arc<str>, State>,
}

/// The state of a name.
#[derive(Debug, Default)]
struct State {
    servers: Vec<ServerId>,
    /// When it last resolved.
    found_at: Option<Moment>,
    /// Since when and why it does not resolve.
    fails: Option<(Moment, String)>,
}

impl Names {
    /// No names yet.
    pub fn new(resolver: Resolver) -> Self {
        Names {
            lookups: Lookups::default(),
            resolver,
            threads: Threads::new("look-up", RUNNING_MAX),
            found: unbounded(),
            known: HashMap::new(),
        }
    }

    /// The receiver of finished look-ups; each must be passed to [`Names::learn`].
    pub fn found(&self) -> &Receiver<Found> {
        &self.found.1
    }

    /// One more server uses this name. A new name is looked up at once.
    pub fn add(&mut self, name: &str, server: ServerId, now: Moment) {
        self.lookups.add(name, now);
        self.known.entry(name.into()).or_default().servers.push(server);
    }

    /// A server is gone. A name without servers is forgotten.
    pub fn remove(&mut self, name: &str, server: ServerId) {
        self.lookups.remove(name);
        let Some(state) = self.known.get_mut(name) else { return };
        state.servers.retain(|other| *other != server);
        if state.servers.is_empty() {
            self.known.remove(name);
        }
    }

    /// A connection failed: the name is looked up soon.
    pub fn request(&mut self, name: &str, now: Moment) {
        self.lookups.request(name, now);
    }

    /// Why there is no address of this name; `None` while the first look-up is running.
    pub fn failure(&self, name: &str) -> Option<&str> {
        self.known.get(name)?.fails.as_ref().map(|(_, words)| words.as_str())
    }

    /// When [`Names::start_due`] is to be called next.
    pub fn next(&self) -> Moment {
        self.lookups.next()
    }

    /// Starts the look-ups that are due. Those that exceeded the limit are returned as failed.
    pub fn start_due(&mut self, now: Moment) -> Vec<Found> {
        let mut late = Vec::new();
        while let Some(name) = self.lookups.late(now) {
            let words =
                format!("the resolver has not responded for {}", humantime::format_duration(TIME_LIMIT));
            late.push(Found { name, outcome: Err(words), in_time: false });
        }
        while let Some(name) = self.lookups.begin(now) {
            let (resolver, found, asked) = (self.resolver.clone(), self.found.0.clone(), Arc::clone(&name));
            let job = move || {
                let outcome = look_up(&resolver, &asked);
                let _ = found.send(Found { name: asked, outcome, in_time: true });
            };
            if !self.threads.run(job) {
                self.lookups.finish(&name, false, now);
                return late;
            }
        }
        late
    }

    /// A look-up has finished: schedules the next one.
    pub fn finish(&mut self, found: &mut Found, now: Moment) {
        found.in_time = self.lookups.finish(&found.name, found.outcome.is_ok(), now);
    }

    /// Records the result, and logs when a name is lost and when it is back. Returns the servers with this name.
    pub fn learn(&mut self, found: &Found, now: Moment) -> Vec<ServerId> {
        let name = &found.name;
        let Some(state) = self.known.get_mut(name) else { return Vec::new() };
        match &found.outcome {
            Ok(addresses) => {
                // A resolver that is always slow is logged only once.
                if let Some((since, _)) = state.fails.take_if(|_| found.in_time) {
                    let time = time::rounded(now.since(since));
                    log::info!("name {name} resolves after {time}: {}", show(addresses));
                }
                state.found_at = Some(now);
            }
            Err(words) if state.fails.is_none() => {
                state.fails = Some((now, words.clone()));
                match state.found_at {
                    Some(at) => log::warn!(
                        "name {name} does not resolve: {words}; its servers keep the addresses found {} ago",
                        time::rounded(now.since(at))
                    ),
                    None => log::warn!("name {name} does not resolve: {words}; it is tried again"),
                }
            }
            Err(_) => {}
        }
        state.servers.clone()
    }
}

fn look_up(resolver: &Resolver, name: &str) -> Result<Vec<SocketAddr>, String> {
    let found = resolver.0(name).map_err(|error| error.to_string())?;
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}

fn show(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a name counts as lost after these look-ups: an address or none, in time or late.
    fn check(lookups: &[(bool, bool)], fails: bool) {
        let mut names = Names::new(Resolver::new(|_| Ok(Vec::new())));
        names.add("a.test", ServerId(1), Moment::START);
        for (found, in_time) in lookups {
            let outcome = match found {
                true => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]),
                false => Err("no such name".to_owned()),
            };
            let found = Found { name: "a.test".into(), outcome, in_time: *in_time };
            assert_eq!(names.learn(&found, Moment::START), [ServerId(1)]);
        }
        assert_eq!(names.failure("a.test").is_some(), fails, "{lookups:?}");
    }

    #[test]
    fn a_loss_ends_with_a_look_up_that_is_in_time() {
        check(&[], false);
        check(&[(true, true)], false);
        check(&[(false, true)], true);
        check(&[(false, true), (true, true)], false);
        check(&[(true, true), (false, false), (true, false)], true);
        check(&[(false, false), (true, false), (true, true)], false);
    }

    #[test]
    fn a_name_without_a_server_is_no_longer_known() {
        let mut names = Names::new(Resolver::new(|_| Ok(Vec::new())));
        names.add("a.test", ServerId(1), Moment::START);
        names.remove("a.test", ServerId(1));
        let found = Found { name: "a.test".into(), outcome: Err("late".into()), in_time: true };
        assert!(names.learn(&found, Moment::START).is_empty() && names.failure("a.test").is_none());
    }

    #[test]
    fn the_system_knows_this_machine() {
        let found = look_up(&Resolver::of_system(), "localhost").unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        let nothing = Resolver::new(|_| Ok(Vec::new()));
        assert_eq!(look_up(&nothing, "a.test"), Err("the name has no address".to_owned()));
    }
}
