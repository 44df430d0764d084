//! Which rule of the configuration a request matches: compiled once, found by looking up host and path.
//!
//! The order of rules that match:
//!
//! 1. A rule for some listeners, then rules for any: what a listener has of its own is not taken over by the others.
//! 2. An exact host, then wildcards (the longest first), then rules for any host.
//! 3. In a host: an exact path; then the longest text, where a prefix counts without its `/*` and an expression with its
//!    whole text (before a prefix of the same length).
//! 4. The order of the file.
//!
//! Where the other conditions of a rule (methods, headers, ...) do not hold, the next rule in this order is tried, then
//! the next class of hosts. The cost of a lookup depends on the labels of the host and the segments of the path, not on
//! the number of rules; only rules of the same path with different conditions, and expressions that begin with the same
//! segments, are tried one by one. Nothing is allocated, except for encoded query parameters where a rule has some, and for
//! the cache of an expression once in each thread.

mod paths;
mod pattern;
mod rule;
pub mod share;

pub use pattern::{Pattern, TEXT_MAX};
pub use rule::{Field, Host, Path, Rule, Test, cookie, cookies};

use paths::Paths;
use siphasher::sip::SipHasher13;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::{IpAddr, Ipv6Addr};

/// The longest host that can match a rule: DNS names have at most 253 bytes.
pub const HOST_MAX: usize = 255;

/// By bytes, with the same order of buckets in every process: a lookup costs the same each time. Clients cannot add keys,
/// so they cannot make chains of equal hashes.
type Map<T> = HashMap<Box<[u8]>, T, BuildHasherDefault<SipHasher13>>;

/// What rules ask of a request.
pub trait Request {
    /// The authority in any case, with or without a port; empty when there is none.
    fn host(&self) -> &[u8];
    /// The normalised path.
    fn path(&self) -> &[u8];
    /// The query without its `?`.
    fn query(&self) -> &[u8];
    /// The method.
    fn method(&self) -> &[u8];
    /// Calls `each` with the values of a header until it returns true, and returns whether it did. The name is in lower
    /// case.
    fn header(&self, name: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) -> bool;
    /// The client's address, if it has one.
    fn client(&self) -> Option<IpAddr>;
    /// The name of the listener that it came in through; empty where that is not known.
    fn listener(&self) -> &str {
        ""
    }
}

/// The compiled rules.
#[derive(Debug, Default)]
pub struct Router {
    rules: Vec<Rule>,
    /// Those for some listeners; `None` when there are none.
    of_listeners: Option<Box<Table>>,
    /// Those for any listener.
    rest: Table,
}

/// Rules by host.
#[derive(Debug, Default)]
struct Table {
    exact: Map<Paths>,
    /// By what follows the `*.`.
    under: Map<Paths>,
    any: Paths,
}

impl Router {
    /// Compiles rules; their order is that of the file.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut router = Router::default();
        for (number, rule) in (0..).zip(&rules) {
            let table = match rule.listeners.is_empty() {
                true => &mut router.rest,
                false => router.of_listeners.get_or_insert_default(),
            };
            table.of(&rule.host).add(&rule.path, number);
        }
        router.rules = rules;
        router
    }

    /// The index of the rule that the request matches.
    pub fn find(&self, request: &impl Request) -> Option<usize> {
        let mut buffer = [0; HOST_MAX];
        let host = plain_host(request.host(), &mut buffer);
        let holds = |rule: u32| self.rules.get(rule as usize).is_some_and(|rule| rule.holds(request));
        let tables = self.of_listeners.as_deref().into_iter().chain([&self.rest]);
        let mut found = tables
            .filter_map(|table| table.classes(host).find_map(|paths| paths.find(request.path(), holds)));
        found.next().map(|rule| rule as usize)
    }

    /// The rule of an index.
    pub fn rule(&self, index: usize) -> Option<&Rule> {
        self.rules.get(index)
    }
}

impl Table {
    /// The rules of a host, made when there are none yet.
    fn of(&mut self, host: &Host) -> &mut Paths {
        match host {
            Host::Any => &mut self.any,
            Host::Exact(host) => self.exact.entry(host.clone()).or_default(),
            Host::Under(host) => self.under.entry(host.clone()).or_default(),
        }
    }

    /// The rules for a host, in the order in which they are tried.
    fn classes<'r>(&'r self, host: &'r [u8]) -> impl Iterator<Item = &'r Paths> {
        self.exact.get(host).into_iter().chain(self.wildcards(host)).chain([&self.any])
    }

    /// The wildcards that a host is under, the longest first.
    fn wildcards<'r>(&'r self, host: &'r [u8]) -> impl Iterator<Item = &'r Paths> {
        let dots = memchr::memchr_iter(b'.', if self.under.is_empty() { b"" } else { host });
        // A name has at least one label before the dot.
        dots.filter(|dot| *dot > 0).filter_map(|dot| self.under.get(&host[dot + 1..]))
    }
}

/// The host in lower case without its port and without a dot at its end; empty when it is too long for any rule.
fn plain_host<'b>(host: &[u8], buffer: &'b mut [u8; HOST_MAX]) -> &'b [u8] {
    let name = without_port(host);
    let literal = literal(name);
    let name = literal.as_deref().map_or(name, str::as_bytes);
    let name = name.strip_suffix(b".").unwrap_or(name);
    let Some(out) = buffer.get_mut(..name.len()) else { return b"" };
    out.copy_from_slice(name);
    out.make_ascii_lowercase();
    out
}

/// The shortest form of an IPv6 address in brackets: `[::1]` of `[0:0:0:0:0:0:0:1]`.
pub fn literal(host: &[u8]) -> Option<String> {
    let inner = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let address: Ipv6Addr = std::str::from_utf8(inner).ok()?.parse().ok()?;
    Some(format!("[{address}]"))
}

/// The host of an authority: `[::1]` of `[::1]:80`.
pub fn without_port(authority: &[u8]) -> &[u8] {
    let after_literal = memchr::memrchr(b']', authority).map_or(0, |at| at + 1);
    match memchr::memchr(b':', &authority[after_literal..]) {
        Some(colon) => &authority[..after_literal + colon],
        None => authority,
    }
}

#[cfg(test)]
mod tests;
