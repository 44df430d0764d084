//! Routes as the data plane uses them: what a request matches, and what is done with it. Compiled once for a
//! configuration.

mod headers;
mod rewrite;
mod split;

pub use headers::{HeaderEdits, HeaderName, Replacement, Security, append_headers};
pub use rewrite::{NewHost, Redirect, Rewrite};
pub use split::{Key, Split};

use super::config::RouteSpec;
use super::traffic::{Registry, Traffic};
use crate::base::files::{self, unreadable};
use crate::base::ids::PoolId;
use crate::base::template::Template;
use crate::policy::backlog::Priority;
use crate::policy::hedge;
use crate::policy::retry;
use crate::policy::route::{Path, Pattern, Request, Router};
use std::io::Read;
use std::net::IpAddr;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

/// The largest file that is sent as a response, in bytes: it is kept in memory.
pub const BODY_MAX: u64 = 1024 * 1024;

/// All routes of a configuration.
#[derive(Debug, Default)]
pub struct Routes {
    router: Router,
    /// The route of each rule of the router.
    of_rule: Vec<u32>,
    list: Vec<Arc<Route>>,
}

/// What is done with the requests that match.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Unique; 1 to 64 visible ASCII characters that need no escape in a URL path, a header or a metric.
    pub name: String,
    /// Where the request goes.
    pub action: Action,
    /// What changes in the request line and in Host.
    pub rewrite: Option<Rewrite>,
    /// What changes in the headers that go to the server.
    pub request_headers: HeaderEdits,
    /// What changes in the headers that go to the client.
    pub response_headers: HeaderEdits,
    /// Headers for browsers, where the response does not have them.
    pub security_headers: Option<Security>,
    /// In place of those of the configuration.
    pub timeouts: OwnTimeouts,
    /// In place of those of the configuration.
    pub retries: Option<retry::Rules>,
    /// Bytes of a request body; the inner `None` is unlimited, the outer one leaves it to the configuration.
    pub body_limit: Option<Option<u64>>,
    /// Whether its requests have a line in the access log.
    pub access_log: bool,
    /// Where copies go.
    pub mirror: Option<Mirror>,
    /// The place of its requests in the queue in front of the servers.
    pub priority: Priority,
    /// When a second attempt is made for its requests; `None` is as its pool says, `Some(None)` never.
    pub hedge: Option<Option<hedge::Rules>>,
    /// How long the first attempts for them take, for a percentile of its own.
    pub attempt_time: Arc<hedge::Estimate>,
    /// What is counted of its requests.
    pub traffic: Arc<Traffic>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// To a server of a pool.
    Pool(PoolId),
    /// To a server of one of several pools.
    Split(Split),
    /// To another URL.
    Redirect(Redirect),
    /// Nowhere: the balancer responds.
    Respond(Respond),
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// Its headers, but the framing.
    pub headers: Vec<(HeaderName, Template)>,
    /// Its body; of a file when [`Routes::new`] has read it.
    pub body: Arc<[u8]>,
}

/// Time limits of a pool or a route; `None` leaves one to what is around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnTimeouts {
    /// Connecting to a server.
    pub connect: Option<Duration>,
    /// The first byte of a server's response, then between reads from it.
    pub response: Option<Duration>,
    /// Between reads of a request body.
    pub client_body: Option<Duration>,
    /// From the complete head to the end of the response; `Some(None)` is unlimited.
    pub request: Option<Option<Duration>>,
    /// A tunnel without traffic.
    pub tunnel: Option<Duration>,
}

/// Copies of requests for another pool, whose responses are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where they go.
    pub pool: PoolId,
    /// Which share of the requests is copied, 1 to 100.
    pub percent: u8,
    /// Requests with a longer body, or one of unknown length, are not copied; in bytes.
    pub body_max: u64,
}

/// The route of a request.
#[derive(Clone, Copy, Debug)]
pub struct Found<'r> {
    /// Its number, in the order of the file.
    pub index: usize,
    /// The route.
    pub route: &'r Arc<Route>,
    /// The expression in its path, for captures.
    pub pattern: Option<&'r Pattern>,
}

/// A server may read the path as one that leads to another route: 400 `unsafe_path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escapes;

/// A file that cannot be sent as a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyFault {
    /// The number of the route, in the order of the file.
    pub route: usize,
    /// What is wrong and what to do.
    pub advice: String,
}

impl Routes {
    /// Compiles the routes and reads the files of responses. Every file that cannot be read is in the error.
    pub fn new(specs: &[RouteSpec]) -> Result<Self, Vec<BodyFault>> {
        let (mut rules, mut of_rule, mut list, mut faults) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, spec) in specs.iter().enumerate() {
            rules.extend(spec.rules.iter().cloned());
            of_rule.extend(spec.rules.iter().map(|_| index as u32));
            let mut route = spec.route.clone();
            if let (Action::Respond(respond), Some(file)) = (&mut route.action, &spec.body_file) {
                match read(file) {
                    Ok(body) => respond.body = body,
                    Err(advice) => faults.push(BodyFault { route: index, advice }),
                }
            }
            list.push(Arc::new(route));
        }
        match faults.is_empty() {
            true => Ok(Routes { router: Router::new(rules), of_rule, list }),
            false => Err(faults),
        }
    }

    /// The route of a request; `None` when no route matches, and the request goes to the default pool. `others` are those
    /// of [`Normalised`](crate::http1::path::Normalised).
    pub fn find(&self, request: &impl Request, others: &[Vec<u8>]) -> Result<Option<Found<'_>>, Escapes> {
        let rule = self.router.find(request);
        let route_of = |rule: Option<usize>| rule.and_then(|rule| self.of_rule.get(rule));
        let is_elsewhere =
            |path: &Vec<u8>| route_of(self.router.find(&WithPath { request, path })) != route_of(rule);
        if others.iter().any(is_elsewhere) {
            return Err(Escapes);
        }
        Ok(rule.and_then(|rule| self.found(rule)))
    }

    /// The same routes, which count where routes of their names have counted before.
    pub fn counted_by(mut self, registry: &Registry) -> Self {
        for route in &mut self.list {
            let traffic = registry.route(&route.name);
            Arc::make_mut(route).traffic = traffic;
        }
        self
    }

    /// All routes, in the order of the file.
    pub fn list(&self) -> &[Arc<Route>] {
        &self.list
    }

    fn found(&self, rule: usize) -> Option<Found<'_>> {
        let index = *self.of_rule.get(rule)? as usize;
        let pattern = match &self.router.rule(rule)?.path {
            Path::Pattern(pattern) => Some(pattern),
            Path::Exact(_) | Path::Prefix(_) => None,
        };
        Some(Found { index, route: self.list.get(index)?, pattern })
    }
}

impl Route {
    /// The pools that its requests may go to, mirrors included.
    pub fn pools(&self) -> Vec<PoolId> {
        let mirror = self.mirror.map(|mirror| mirror.pool);
        let own = match &self.action {
            Action::Pool(pool) => vec![*pool],
            Action::Split(split) => split.pools().map(|(pool, _)| pool).collect(),
            Action::Redirect(_) | Action::Respond(_) => Vec::new(),
        };
        own.into_iter().chain(mirror).collect()
    }

    /// The highest capture that its templates name; 0 when captures need not be looked for.
    pub fn captures(&self) -> u8 {
        self.templates().map(Template::captures).max().unwrap_or(0)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let (target, headers): (Option<&Template>, &[_]) = match &self.action {
            Action::Redirect(redirect) => (Some(&redirect.target), &[]),
            Action::Respond(respond) => (None, &respond.headers),
            Action::Pool(_) | Action::Split(_) => (None, &[]),
        };
        let edits = self.request_headers.templates().chain(self.response_headers.templates());
        let rewrite = self.rewrite.iter().flat_map(Rewrite::templates);
        target.into_iter().chain(headers.iter().map(|(_, template)| template)).chain(edits).chain(rewrite)
    }
}

impl Mirror {
    /// Whether a request is copied, by a random number.
    pub fn takes(&self, random: u64) -> bool {
        random % 100 < u64::from(self.percent)
    }
}

/// A request with another path.
struct WithPath<'r, R> {
    request: &'r R,
    path: &'r [u8],
}

impl<R: Request> Request for WithPath<'_, R> {
    fn host(&self) -> &[u8] {
        self.request.host()
    }
    fn path(&self) -> &[u8] {
        self.path
    }
    fn query(&self) -> &[u8] {
        self.request.query()
    }
    fn method(&self) -> &[u8] {
        self.request.method()
    }
    fn header(&self, name: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.request.header(name, each)
    }
    fn client(&self) -> Option<IpAddr> {
        self.request.client()
    }
    fn listener(&self) -> &str {
        self.request.listener()
    }
}

/// A file of bounded size.
fn read(path: &FilePath) -> Result<Arc<[u8]>, String> {
    let cannot = |error: std::io::Error| unreadable(path, &error);
    let mut body = Vec::new();
    let file = files::open(path).map_err(cannot)?;
    file.take(BODY_MAX + 1).read_to_end(&mut body).map_err(cannot)?;
    match body.len() as u64 > BODY_MAX {
        true => Err(format!("{} is larger than 1MiB; let a server send it", path.display())),
        false => Ok(body.into()),
    }
}

#[cfg(test)]
mod testing {
    //! Values for tests of templates.

    use crate::base::template::{Placeholder, Values};

    /// A request's values.
    pub(super) struct Sample {
        pub(super) uri: String,
        pub(super) capture: String,
        pub(super) server: String,
    }

    impl Default for Sample {
        fn default() -> Self {
            Sample { uri: "/a".to_owned(), capture: "seven".to_owned(), server: "s".to_owned() }
        }
    }

    impl Values for Sample {
        fn write(&self, placeholder: &Placeholder, out: &mut Vec<u8>) {
            let value = match placeholder {
                Placeholder::ClientIp => "10.1.2.3",
                Placeholder::Host => "www.example.com",
                Placeholder::Uri => &self.uri,
                Placeholder::Capture(_) => &self.capture,
                Placeholder::Server => &self.server,
                _ => "",
            };
            out.extend_from_slice(value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
