//! The guards of a route at work: what its limits have counted, and the verdict on a request, before a server is chosen.

use super::config::guards::{
    BasicAuth, ConcurrencyLimit, CountBy, ErrorPages, ForwardAuth, Guards, RateLimit, Satisfy,
};
use super::tls::subject::{ClientCertificate, told};
use crate::base::time::Moment;
use crate::http1::challenge::{self, Quota};
use crate::http1::encoding::Compression;
use crate::http1::fields::Fields;
use crate::http1::names::is_same_dashed;
use crate::http1::reason::Reason;
use crate::policy::concurrency::{InFlight, Permit};
use crate::policy::key::{Key, Keys};
use crate::policy::password::{Credentials, Remembered};
use crate::policy::rate::{Limiter, Rate, Verdict};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Credentials that are remembered for each user file, of each kind.
const REMEMBERED: usize = 10_000;
/// Attempts to log in that cost a password hash: so many at once, then one a second, for each client.
const ATTEMPTS: Rate =
    Rate { requests: 1, per: Duration::from_secs(1), burst: 20, at_once: 20, longest_wait: Duration::ZERO };
/// Clients whose attempts are remembered.
const ATTEMPTS_KEYS: usize = 10_000;

/// The guards of a route.
#[derive(Clone, Debug)]
pub struct Guard {
    config: Guards,
    is_open: bool,
    keys: Keys,
    limiter: Option<Arc<Limiter>>,
    in_flight: Option<Arc<InFlight>>,
    login: Option<Arc<Login>>,
}

/// The users of a route, and what is remembered of their credentials.
#[derive(Debug)]
pub struct Login {
    /// The users.
    pub config: Arc<BasicAuth>,
    /// What came of recent credentials.
    pub remembered: Remembered,
    attempts: Limiter,
}

/// What guards look at in a request.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// The client, or whom a trusted proxy names.
    pub client: Option<IpAddr>,
    /// The headers.
    pub fields: Fields<'a, 'a>,
    /// What it showed of a certificate.
    pub certificate: Option<&'a ClientCertificate>,
    /// It came from a trusted proxy.
    pub peer_trusted: bool,
    /// The name of its route.
    pub route: &'a str,
    /// The time.
    pub now: Moment,
}

/// A request may pass, perhaps later.
#[derive(Debug, Default)]
pub struct Passed {
    /// Header lines for the response, each with its line end.
    pub lines: Vec<u8>,
    /// The request goes on after this.
    pub wait: Duration,
    /// Held until the exchange is over.
    pub permit: Option<Permit>,
    /// Credentials that have to be verified first.
    pub unverified: Option<Unverified>,
    /// It comes from an address that needs no login.
    pub is_known: bool,
    /// It was over a rate limit that only counts.
    pub is_over_rate: bool,
    /// It was over a concurrency limit that only counts.
    pub is_over_concurrency: bool,
}

/// Credentials of which it is not known whether they are right.
#[derive(Debug)]
pub struct Unverified {
    /// Whose they may be.
    pub login: Arc<Login>,
    /// The credentials.
    pub credentials: Credentials,
}

/// A request does not pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// When another one may.
    pub retry_after: Duration,
    /// Header lines for the response, each with its line end.
    pub lines: Vec<u8>,
}

impl Default for Guard {
    /// No guards.
    fn default() -> Self {
        let (config, keys) = (Guards::default(), Keys::default());
        Guard { config, is_open: true, keys, limiter: None, in_flight: None, login: None }
    }
}

impl Guard {
    /// Without guards, and with the keys of the other one, so that what both count is counted under the same.
    pub fn like(other: &Guard) -> Self {
        Guard { keys: other.keys, ..Guard::default() }
    }

    /// The guards of this configuration. Those that it has from `above` count together with it; those that are as they
    /// were in `before`, which a reload replaces, go on counting.
    pub fn new(config: &Guards, above: &Guard, before: &Guard) -> Self {
        let (limit, limit_above) = (&config.rate_limit, &above.config.rate_limit);
        let counts_same = |one: &RateLimit, other: &RateLimit| {
            (&one.rate, &one.by, one.keys) == (&other.rate, &other.by, other.keys)
        };
        let known = kept(limit, &before.config.rate_limit, &before.limiter, &above.limiter, counts_same);
        let limiter =
            shared(limit, limit_above, &above.limiter, known, |limit| Limiter::new(limit.rate, limit.keys));
        let (limit, limit_above) = (&config.concurrency_limit, &above.config.concurrency_limit);
        let limit_before = &before.config.concurrency_limit;
        let counts_same = |one: &ConcurrencyLimit, other: &ConcurrencyLimit| {
            (one.requests, &one.by) == (other.requests, &other.by)
        };
        let known = kept(limit, limit_before, &before.in_flight, &above.in_flight, counts_same);
        let in_flight =
            shared(limit, limit_above, &above.in_flight, known, |limit| InFlight::new(limit.requests));
        let auth = &config.basic_auth;
        let known = kept(auth, &before.config.basic_auth, &before.login, &above.login, PartialEq::eq);
        let login = shared(auth, &above.config.basic_auth, &above.login, known, |auth| Login {
            config: Arc::clone(auth),
            remembered: Remembered::new(REMEMBERED),
            attempts: Limiter::new(ATTEMPTS, ATTEMPTS_KEYS),
        });
        let has_lists = config.access.allow.is_some() || config.access.deny.is_some();
        let is_open = !has_lists && limiter.is_none() && in_flight.is_none() && login.is_none();
        Guard { config: config.clone(), is_open, keys: above.keys, limiter, in_flight, login }
    }

    /// Whether it lets everything pass.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The pages of rejections.
    pub fn error_pages(&self) -> Option<&ErrorPages> {
        self.config.error_pages.as_deref()
    }

    /// The pool that is asked whether a request may pass.
    pub fn forward_auth(&self) -> Option<&ForwardAuth> {
        self.config.forward_auth.as_deref()
    }

    /// Which responses are compressed.
    pub fn compression(&self) -> Option<&Compression> {
        self.config.compression.as_deref()
    }

    /// Judges a request, which counts from now on where it passes.
    pub fn judge(&self, visit: &Visit<'_>) -> Result<Passed, Rejected> {
        let has_login = self.login.is_some() || self.config.forward_auth.is_some();
        let is_either = self.config.access.satisfy == Satisfy::Any && has_login;
        let is_known = is_either && self.has_lists() && self.admits(visit.client).is_ok();
        if !is_either {
            self.admits(visit.client)?;
        }
        let mut passed = Passed { is_known, ..Passed::default() };
        self.limit_rate(visit, &mut passed)?;
        if let (Some(limit), Some(in_flight)) = (&self.config.concurrency_limit, &self.in_flight) {
            let key = self.key(&limit.by, visit);
            let (permit, is_over) = match limit.dry_run {
                true => in_flight.begin_any(key),
                false => (in_flight.begin(key).ok_or(Rejected::of(Reason::ConcurrencyLimited))?, false),
            };
            (passed.permit, passed.is_over_concurrency) = (Some(permit), is_over);
        }
        if let Some(login) = self.login.as_ref().filter(|_| !is_known) {
            passed.unverified = self.log_in(login, visit)?;
        }
        Ok(passed)
    }

    fn has_lists(&self) -> bool {
        self.config.access.allow.is_some() || self.config.access.deny.is_some()
    }

    fn admits(&self, client: Option<IpAddr>) -> Result<(), Rejected> {
        let access = &self.config.access;
        let is_in = |networks: &Arc<_>| {
            let networks: &crate::policy::networks::Networks = networks;
            client.is_some_and(|client| networks.contains(client))
        };
        match access.deny.as_ref().is_some_and(is_in) || !access.allow.as_ref().is_none_or(is_in) {
            true => Err(Rejected::of(Reason::AccessDenied)),
            false => Ok(()),
        }
    }

    fn limit_rate(&self, visit: &Visit<'_>, passed: &mut Passed) -> Result<(), Rejected> {
        let (Some(limit), Some(limiter)) = (&self.config.rate_limit, &self.limiter) else { return Ok(()) };
        let verdict = limiter.ask(self.key(&limit.by, visit), visit.now);
        if limit.dry_run {
            passed.is_over_rate = !matches!(verdict, Verdict::Allowed { .. });
            return Ok(());
        }
        let quota = |remaining, reset| {
            let Rate { requests, per, .. } = limit.rate;
            Quota { name: limit.by.name(), requests, per, remaining, reset }
        };
        match verdict {
            Verdict::Allowed { remaining, reset } if limit.headers => {
                challenge::rate_limit(&quota(remaining, reset), &mut passed.lines);
            }
            Verdict::Allowed { .. } => {}
            Verdict::Wait(wait) => passed.wait = wait,
            Verdict::Rejected { retry_after } => {
                let mut rejected = Rejected { retry_after, ..Rejected::of(Reason::RateLimited) };
                challenge::rate_limit(&quota(0, retry_after), &mut rejected.lines);
                return Err(rejected);
            }
        }
        Ok(())
    }

    /// The credentials where they have to be verified; `None` where they are known to be right. There must be one header:
    /// of two a server may read the other one, and take its name for that of the client.
    fn log_in(&self, login: &Arc<Login>, visit: &Visit<'_>) -> Result<Option<Unverified>, Rejected> {
        let mut values = header(&visit.fields, b"authorization");
        let value = values.next().filter(|_| values.next().is_none());
        let credentials = value.and_then(Credentials::parse).ok_or_else(|| login.challenge())?;
        match login.remembered.get(&login.config.users, &credentials) {
            Some(true) => Ok(None),
            Some(false) => Err(login.challenge()),
            None => {
                let client = self.keys.of_client(visit.client);
                if let Verdict::Rejected { retry_after } = login.attempts.ask(client, visit.now) {
                    return Err(Rejected { retry_after, ..Rejected::of(Reason::AuthAttempts) });
                }
                Ok(Some(Unverified { login: Arc::clone(login), credentials }))
            }
        }
    }

    /// What a limit counts a request under. Of several values a server may read another one than is counted here, and
    /// the client would choose a new bucket for each request: they count by client.
    fn key(&self, by: &CountBy, visit: &Visit<'_>) -> Key {
        let found = match by {
            CountBy::Client => None,
            CountBy::Route => return self.keys.of(&[b"route", visit.route.as_bytes()]),
            CountBy::Header(name) => match told(name.as_bytes(), visit.certificate, visit.peer_trusted) {
                Some(of_certificate) => of_certificate.map(str::as_bytes),
                None => only(header(&visit.fields, name.as_bytes())),
            },
            CountBy::Cookie(name) => only(cookies(&visit.fields, name.as_bytes())),
        };
        match found {
            Some(value) => self.keys.of(&[b"value", value]),
            None => self.keys.of_client(visit.client),
        }
    }
}

impl Login {
    /// Asks for other credentials.
    pub fn challenge(&self) -> Rejected {
        let mut rejected = Rejected::of(Reason::Unauthorized);
        challenge::basic(&self.config.realm, &mut rejected.lines);
        rejected
    }
}

impl Unverified {
    /// Verifies the credentials, and remembers what came of it. Takes tens of milliseconds of a processor.
    pub fn verify(&self) -> bool {
        let Login { config, remembered, .. } = &*self.login;
        // Another request may have had them verified in the meantime.
        if let Some(known) = remembered.get(&config.users, &self.credentials) {
            return known;
        }
        let is_right = config.users.verify(&self.credentials);
        remembered.set(&config.users, &self.credentials, is_right);
        is_right
    }
}

impl Rejected {
    /// For this reason; another request may come after a second.
    pub fn of(reason: Reason) -> Self {
        Rejected { reason, retry_after: Duration::from_secs(1), lines: Vec::new() }
    }
}

/// What a part of the configuration counts: that of the part above if it is the same one, else what it has counted
/// before, or something new.
fn shared<C, T>(
    config: &Option<Arc<C>>,
    config_above: &Option<Arc<C>>,
    above: &Option<Arc<T>>,
    before: Option<Arc<T>>,
    new: impl FnOnce(&Arc<C>) -> T,
) -> Option<Arc<T>> {
    let config = config.as_ref()?;
    let is_same = config_above.as_ref().is_some_and(|above| Arc::ptr_eq(above, config));
    above.clone().filter(|_| is_same).or(before).or_else(|| Some(Arc::new(new(config))))
}

/// What a part of the configuration that is replaced has counted, where the new one counts the same. What it counted
/// together with the part above stays there.
fn kept<C, T>(
    config: &Option<Arc<C>>,
    config_before: &Option<Arc<C>>,
    before: &Option<Arc<T>>,
    above: &Option<Arc<T>>,
    counts_same: impl FnOnce(&C, &C) -> bool,
) -> Option<Arc<T>> {
    let is_same =
        config.as_ref().zip(config_before.as_ref()).is_some_and(|(now, before)| counts_same(now, before));
    let is_above = |before: &Arc<T>| above.as_ref().is_some_and(|above| Arc::ptr_eq(above, before));
    before.clone().filter(|before| is_same && !is_above(before))
}

/// The values of the headers of this name, which is in lower case. An underscore counts as a dash: servers behind CGI-like
/// interfaces cannot distinguish them.
fn header<'a>(fields: &Fields<'a, 'a>, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    fields.iter().filter(move |field| is_same_dashed(field.name, name)).map(|field| field.value)
}

/// The values of the cookies of this name (RFC 6265 section 4.2).
fn cookies<'a>(fields: &Fields<'a, 'a>, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let pairs = header(fields, b"cookie").flat_map(|value| value.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).filter_map(move |pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

/// The value, unless there are others.
fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

#[cfg(test)]
mod tests;
