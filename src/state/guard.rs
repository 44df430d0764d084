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
        let is_either = self.config.access.satisfy == Satisfy::Any && self.login.is_some();
        let is_known = is_either && self.has_lists() && self.admits(visit.client).is_ok();
        if !is_either {
            self.admits(visit.client)?;
        }
        let mut passed = Passed::default();
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
mod tests {
    use super::super::config;
    use super::*;
    use crate::http1::head::{Limits, Parsed, Slots, request};
    use std::path::Path;

    fn guard(text: &str, folder: &Path) -> Guard {
        Guard::new(&config::parse(text, folder).unwrap().guards, &Guard::default(), &Guard::default())
    }

    /// Judges a request of this client with these headers.
    fn judge(guard: &Guard, client: &str, headers: &str, ms: u64) -> Result<Passed, Rejected> {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let mut slots = Slots::new();
        let Ok(Parsed::Complete(head)) = request(text.as_bytes(), &Limits::default(), &mut slots) else {
            panic!("{text}")
        };
        let now = Moment::from_millis(1_000_000 + ms);
        guard.judge(&Visit {
            client: client.parse().ok(),
            fields: head.fields,
            certificate: None,
            peer_trusted: false,
            route: "r",
            now,
        })
    }

    #[track_caller]
    fn check(guard: &Guard, client: &str, headers: &str, expected: Option<Reason>) {
        let reason = judge(guard, client, headers, 0).err().map(|rejected| rejected.reason);
        assert_eq!(reason, expected, "{client} {headers}");
    }

    #[test]
    fn deny_comes_before_allow_and_without_an_address_only_all_may_come() {
        let both = guard(r#"{"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}"#, Path::new(""));
        check(&both, "10.2.0.1", "", None);
        check(&both, "10.1.0.1", "", Some(Reason::AccessDenied));
        check(&both, "192.0.2.1", "", Some(Reason::AccessDenied));
        check(&both, "no address", "", Some(Reason::AccessDenied));
        let deny = guard(r#"{"deny": ["10.1.0.0/16"]}"#, Path::new(""));
        check(&deny, "no address", "", None);
        check(&deny, "::ffff:10.1.2.3", "", Some(Reason::AccessDenied));
    }

    #[test]
    fn a_rate_is_reported_and_what_is_over_it_is_rejected() {
        let guard = guard(r#"{"rate_limit": {"requests": 2, "per": "1m"}}"#, Path::new(""));
        let lines = |result: Result<Passed, Rejected>| match result {
            Ok(passed) => (None, String::from_utf8(passed.lines).unwrap()),
            Err(rejected) => (Some(rejected.retry_after), String::from_utf8(rejected.lines).unwrap()),
        };
        let told = |r: u32, t: u32| {
            format!("RateLimit-Policy: \"client\";q=2;w=60\r\nRateLimit: \"client\";r={r};t={t}\r\n")
        };
        assert_eq!(lines(judge(&guard, "10.0.0.1", "", 0)), (None, told(1, 30)));
        assert_eq!(lines(judge(&guard, "10.0.0.1", "", 0)), (None, told(0, 60)));
        let retry_after = Some(Duration::from_secs(20));
        assert_eq!(lines(judge(&guard, "10.0.0.1", "", 10_000)), (retry_after, told(0, 20)));
        assert_eq!(lines(judge(&guard, "10.0.0.2", "", 10_000)), (None, told(1, 30)));
    }

    #[test]
    fn limits_count_by_header_cookie_or_route() {
        let by =
            |by: &str| guard(&format!(r#"{{"rate_limit": {{"requests": 1, "by": {by:?}}}}}"#), Path::new(""));
        let over = Some(Reason::RateLimited);
        let key = by("header:X-Api-Key");
        check(&key, "10.0.0.1", "X-Api-Key: a\r\n", None);
        check(&key, "10.0.0.2", "x-api-KEY: a\r\n", over);
        check(&key, "10.0.0.2", "X-Api-Key: b\r\n", None);
        check(&key, "10.0.0.1", "", None);
        check(&key, "10.0.0.1", "", over);
        check(&key, "10.0.0.3", "X_Api_Key: a\r\n", over);
        check(&key, "10.0.0.3", "X-Api-Key: a\r\nX-Api-Key: a\r\n", over);
        for n in 0..3 {
            let several = format!("X-Api-Key: {n}\r\nX-Api-Key: a\r\n");
            check(&key, "10.0.0.4", &several, if n == 0 { None } else { over });
            let several = format!("X-Api-Key: {n}\r\nX_Api-Key: a\r\n");
            check(&key, "10.0.0.4", &several, over);
        }
        let forged = by("header:X-Real-IP");
        check(&forged, "10.0.0.1", "X-Real-IP: 1.1.1.1\r\n", None);
        check(&forged, "10.0.0.1", "X_Real_IP: 1.1.1.2\r\n", over);
        let session = by("cookie:s");
        check(&session, "10.0.0.1", "Cookie: ss=1; s=a\r\n", None);
        check(&session, "10.0.0.2", "Cookie: t=1\r\nCookie: s=a;x=y\r\n", over);
        check(&session, "10.0.0.3", "Cookie: s=b; s=a\r\n", None);
        check(&session, "10.0.0.3", "Cookie: s=c\r\nCookie: s=a\r\n", over);
        let route = by("route");
        check(&route, "10.0.0.1", "", None);
        check(&route, "10.0.0.2", "", over);
    }

    #[test]
    fn a_dry_run_counts_and_rejects_nothing() {
        let guard = guard(r#"{"rate_limit": {"requests": 1, "dry_run": true}}"#, Path::new(""));
        let is_over = || {
            judge(&guard, "10.0.0.1", "", 0).map(|passed| (passed.is_over_rate, passed.lines.len())).unwrap()
        };
        assert_eq!([is_over(), is_over()], [(false, 0), (true, 0)]);
    }

    #[test]
    fn requests_at_once_are_counted_until_they_end() {
        let guard = guard(r#"{"concurrency_limit": {"requests": 1}}"#, Path::new(""));
        let first = judge(&guard, "10.0.0.1", "", 0).unwrap();
        check(&guard, "10.0.0.1", "", Some(Reason::ConcurrencyLimited));
        check(&guard, "10.0.0.2", "", None);
        drop(first);
        check(&guard, "10.0.0.1", "", None);
    }

    #[test]
    fn credentials_are_verified_once_and_attempts_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("ann:{}", bcrypt::hash("open", 4).unwrap());
        std::fs::write(folder.path().join("users"), line).unwrap();
        let guard = guard(r#"{"basic_auth": {"file": "users", "realm": "R"}}"#, folder.path());
        let rejected = judge(&guard, "10.0.0.1", "", 0).unwrap_err();
        assert_eq!(rejected.reason, Reason::Unauthorized);
        assert_eq!(rejected.lines, b"WWW-Authenticate: Basic realm=\"R\", charset=\"UTF-8\"\r\n");
        let right = "Authorization: Basic YW5uOm9wZW4=\r\n";
        let unverified = judge(&guard, "10.0.0.1", right, 0).unwrap().unverified.unwrap();
        assert!(unverified.verify());
        assert!(judge(&guard, "10.0.0.1", right, 0).unwrap().unverified.is_none());
        let wrong = "Authorization: Basic YW5uOnNodXQ=\r\n";
        for other in [wrong, right, "authorization: Bearer x\r\n"] {
            check(&guard, "10.0.0.1", &format!("{right}{other}"), Some(Reason::Unauthorized));
            check(&guard, "10.0.0.1", &format!("{other}{right}"), Some(Reason::Unauthorized));
        }
        assert!(!judge(&guard, "10.0.0.2", wrong, 0).unwrap().unverified.unwrap().verify());
        check(&guard, "10.0.0.2", wrong, Some(Reason::Unauthorized));
        // 20 guesses of one client, the one above among them, and one more each second.
        let guess =
            |n: u32| format!("Authorization: Basic {}\r\n", ["YTox", "YToy", "YToz", "YTo0"][n as usize % 4]);
        let verdicts: Vec<_> =
            (0..20).map(|n| judge(&guard, "10.0.0.2", &guess(n), 0).map_err(|r| r.reason)).collect();
        assert!(verdicts[..19].iter().all(Result::is_ok));
        assert_eq!(verdicts[19].as_ref().unwrap_err(), &Reason::AuthAttempts);
        assert!(judge(&guard, "10.0.0.3", &guess(0), 0).is_ok(), "another client may try");
        assert!(judge(&guard, "10.0.0.1", right, 0).is_ok(), "what is known costs no attempt");
    }

    #[test]
    fn with_any_an_address_or_a_password_does() {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("ann:{}", bcrypt::hash("open", 4).unwrap());
        std::fs::write(folder.path().join("users"), line).unwrap();
        let text = r#"{"satisfy": "any", "allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"], "basic_auth": {"file": "users"}}"#;
        let either = guard(text, folder.path());
        let right = "Authorization: Basic YW5uOm9wZW4=\r\n";
        check(&either, "10.2.0.1", "", None);
        for (client, headers, expected) in [
            ("10.1.0.1", "", Some(Reason::Unauthorized)),
            ("192.0.2.1", "", Some(Reason::Unauthorized)),
            ("no address", "", Some(Reason::Unauthorized)),
            ("192.0.2.1", right, None),
        ] {
            check(&either, client, headers, expected);
        }
        assert!(judge(&either, "10.2.0.1", "", 0).unwrap().unverified.is_none());
        assert!(judge(&either, "192.0.2.1", right, 0).unwrap().unverified.is_some());
        let both = guard(&text.replace("any", "all"), folder.path());
        check(&both, "10.2.0.1", "", Some(Reason::Unauthorized));
        check(&both, "192.0.2.1", right, Some(Reason::AccessDenied));
    }

    #[test]
    fn a_route_counts_together_with_the_top_only_where_it_has_its_guard_from_there() {
        let top = config::parse(r#"{"rate_limit": {"requests": 1}}"#, Path::new("")).unwrap().guards;
        let own = config::parse(r#"{"rate_limit": {"requests": 1}}"#, Path::new("")).unwrap().guards;
        let none = Guard::default();
        let above = Guard::new(&top, &none, &none);
        let (inherits, has_own) = (Guard::new(&top.clone(), &above, &none), Guard::new(&own, &above, &none));
        check(&above, "10.0.0.1", "", None);
        check(&inherits, "10.0.0.1", "", Some(Reason::RateLimited));
        check(&has_own, "10.0.0.1", "", None);
    }
    #[test]
    fn what_a_reload_leaves_as_it_is_counts_on() {
        let guards = |text: &str| config::parse(text, Path::new("")).unwrap().guards;
        let one = r#"{"rate_limit": {"requests": 1}, "concurrency_limit": {"requests": 1}}"#;
        let none = Guard::default();
        let before = Guard::new(&guards(one), &none, &none);
        let _held = judge(&before, "10.0.0.1", "", 0).unwrap();
        let over = Some(Reason::RateLimited);
        check(&Guard::new(&guards(one), &Guard::like(&before), &before), "10.0.0.1", "", over);
        let told = r#"{"rate_limit": {"requests": 1, "headers": false}}"#;
        check(&Guard::new(&guards(told), &Guard::like(&before), &before), "10.0.0.1", "", over);
        let two = r#"{"rate_limit": {"requests": 2}, "concurrency_limit": {"requests": 1}}"#;
        let changed = Guard::new(&guards(two), &Guard::like(&before), &before);
        check(&changed, "10.0.0.1", "", Some(Reason::ConcurrencyLimited));
        // A route that had its limit from the top and has one of its own now does not count for the top.
        let top = guards(r#"{"rate_limit": {"requests": 1}}"#);
        let above = Guard::new(&top, &none, &none);
        let inherits = Guard::new(&top.clone(), &above, &none);
        let own = Guard::new(&guards(r#"{"rate_limit": {"requests": 1}}"#), &above, &inherits);
        check(&own, "10.0.0.1", "", None);
        check(&above, "10.0.0.1", "", None);
    }
}
