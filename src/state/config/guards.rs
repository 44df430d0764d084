//! What a request has to pass before a server gets it: `rate_limit`, `concurrency_limit`, `allow`, `deny` and
//! `basic_auth`; and `error_pages`, what a client sees of a rejection. At the top level they hold for all requests; a route that has one of these keys has it in the place of
//! the one at the top, and with null none.

mod compression;
pub(super) mod files;
mod pages;

pub use pages::ErrorPages;

use super::reader::Section;
use super::tree::{Node, Value};
use super::{networks, pool_name, rules, units};
use crate::base::ids::PoolId;
use crate::base::network::Network;
use crate::http1::encoding::Compression;
use crate::policy::networks::Networks;
use crate::policy::password::Users;
use crate::policy::rate::Rate;
use crate::state::stamp::Stamped;
use compression::compression;
use files::{LIST_MAX, in_file, read_file};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Requests in a second that a rate limit tells apart.
const RATE_MAX: u128 = 1_000_000;

/// The guards of a route, or of all requests. Those that several routes have from the top are the same `Arc`, and count
/// together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guards {
    /// `allow` and `deny`.
    pub access: Access,
    /// `rate_limit`.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// `concurrency_limit`.
    pub concurrency_limit: Option<Arc<ConcurrencyLimit>>,
    /// `basic_auth`.
    pub basic_auth: Option<Arc<BasicAuth>>,
    /// `forward_auth`.
    pub forward_auth: Option<Arc<ForwardAuth>>,
    /// `error_pages`.
    pub error_pages: Option<Arc<ErrorPages>>,
    /// `compression`.
    pub compression: Option<Arc<Compression>>,
}

/// Which clients may come in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// Only these; `None` is all.
    pub allow: Option<Arc<Networks>>,
    /// Not these, even where `allow` has them.
    pub deny: Option<Arc<Networks>>,
    /// Whether a password does where the lists do not let a client in, or both are needed.
    pub satisfy: Satisfy,
}

/// `satisfy`: what lets a client in, where there are lists and logins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Satisfy {
    /// Its address and its password.
    #[default]
    All,
    /// Its address or its password.
    Any,
}

/// `rate_limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests of one key pass.
    pub rate: Rate,
    /// What has a count of its own.
    pub by: CountBy,
    /// Keys that are remembered, 1 to 10,000,000, in some 80 bytes each.
    pub keys: usize,
    /// Requests over the limit are counted, and pass.
    pub dry_run: bool,
    /// Responses tell the state of the limit in `RateLimit` and `RateLimit-Policy`.
    pub headers: bool,
}

/// `concurrency_limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimit {
    /// Requests of one key at once, 1 to 1,000,000.
    pub requests: u32,
    /// What has a count of its own.
    pub by: CountBy,
    /// Requests over the limit are counted, and pass.
    pub dry_run: bool,
}

/// What a limit counts separately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountBy {
    /// Each client: an IPv4 address, or the /64 of an IPv6 address.
    Client,
    /// Each route: all of its requests together.
    Route,
    /// Each value of this header, in lower case; requests without it by client.
    Header(String),
    /// Each value of this cookie; requests without it by client.
    Cookie(String),
}

/// `basic_auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The file of the users.
    pub file: PathBuf,
    /// The users.
    pub users: Users,
    /// What the client is told that it logs in to; no quotes and no control characters.
    pub realm: String,
}

/// `forward_auth`: a pool is asked whether a request may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardAuth {
    /// Which.
    pub pool: PoolId,
    /// The target of the question.
    pub path: String,
    /// Headers of its response that the request gets, in lower case; the client's own are removed.
    pub copy_headers: Vec<String>,
    /// Headers of its response that the client's response gets, in lower case.
    pub copy_to_response: Vec<String>,
    /// Until its response must have begun, waits and tries included; `None`: the limits of any request.
    pub timeout: Option<Duration>,
}

impl CountBy {
    /// The name of the limit in `RateLimit`.
    pub fn name(&self) -> &'static str {
        match self {
            CountBy::Client => "client",
            CountBy::Route => "route",
            CountBy::Header(_) => "header",
            CountBy::Cookie(_) => "cookie",
        }
    }
}

/// Reads the keys of a section. Those that it does not have are those above.
pub(super) fn read(s: &mut Section<'_, '_>, folder: &Path, pools: &[&str], above: &Guards) -> Guards {
    let allow = networks(s, "allow", folder);
    let deny = networks(s, "deny", folder);
    let rate = s.section_or_null("rate_limit", rate_limit);
    let concurrency = s.section_or_null("concurrency_limit", concurrency_limit);
    let auth = s.section_or_null("basic_auth", |s| basic_auth(s, folder));
    let forward = s.section_or_null("forward_auth", |s| forward_auth(s, pools));
    let pages = s.section_or_null("error_pages", |s| Some(pages::read(s, folder)));
    let has_compression = s.has("compression");
    let compression = s.optional_or_true("compression", compression);
    let compression = has_compression.then_some(compression);
    let words = [("all", Satisfy::All), ("any", Satisfy::Any)];
    let satisfy = s.get("satisfy", above.access.satisfy, |node| rules::word(node, &words));
    let (allow, deny) = (given(allow, &above.access.allow), given(deny, &above.access.deny));
    warn_of_a_closed_door(s, &allow, &deny);
    let auth = given(auth, &above.basic_auth);
    let forward = given(forward, &above.forward_auth);
    let is_either = s.has("satisfy") && satisfy == Satisfy::Any;
    if is_either && (auth.is_none() && forward.is_none() || allow.is_none() && deny.is_none()) {
        let advice = "has no effect without addresses and a login to choose from; write \"allow\": [ \"10.0.0.0/8\" ] and \"basic_auth\" or \"forward_auth\" beside it";
        s.warn("satisfy", advice.to_owned());
    }
    Guards {
        access: Access { allow, deny, satisfy },
        rate_limit: given(rate, &above.rate_limit),
        concurrency_limit: given(concurrency, &above.concurrency_limit),
        basic_auth: auth,
        forward_auth: forward,
        error_pages: given(pages, &above.error_pages),
        compression: given(compression, &above.compression),
    }
}

fn given<T>(here: Option<Option<T>>, above: &Option<Arc<T>>) -> Option<Arc<T>> {
    here.map_or_else(|| above.clone(), |here| here.map(Arc::new))
}

fn rate_limit(s: &mut Section<'_, '_>) -> Option<RateLimit> {
    let counts = || rules::whole::<u32>(1..=1_000_000);
    let requests = s.required("requests", counts());
    let per = s.get("per", Duration::from_secs(1), rules::duration(MS..=DAY));
    let burst = s.maybe("burst", None, counts());
    let by = s.get("by", CountBy::Client, count_by);
    let at_once = s.get("nodelay", u32::MAX, first_of_burst);
    let max_wait = s.get("max_wait", Duration::from_secs(5), rules::duration(MS..=DAY));
    let keys = s.get("keys", 100_000, rules::whole(1..=10_000_000));
    let (dry_run, headers) = (s.get("dry_run", false, rules::flag), s.get("headers", true, rules::flag));
    let requests = requests?;
    if u128::from(requests) * 1_000_000_000 > RATE_MAX * per.as_nanos() {
        let shown = units::show_duration(per);
        s.fault("requests", format!("{requests} in {shown} is more than {RATE_MAX} a second; write less"));
    }
    let burst = burst.unwrap_or(requests);
    if at_once > burst && at_once != u32::MAX {
        let advice =
            format!("{at_once} is more than the burst, which is {burst}; write less, or true for all of it");
        s.fault("nodelay", advice);
    }
    let longest_wait = if at_once == u32::MAX { Duration::ZERO } else { max_wait };
    let rate = Rate { requests, per, burst, at_once: at_once.min(burst), longest_wait };
    Some(RateLimit { rate, by, keys, dry_run, headers })
}

/// How many requests of a burst pass at once: `true` stands for all, `false` for the first one.
fn first_of_burst(node: &Node) -> Result<u32, String> {
    match node.unquoted().as_ref().unwrap_or(&node.value) {
        Value::Flag(true) => Ok(u32::MAX),
        Value::Flag(false) => Ok(1),
        Value::Whole(_) => {
            rules::whole::<u32>(1..=1_000_000)(node).map_err(|advice| format!("{advice}, or true, or false"))
        }
        _ => Err(format!(
            "expected true, false or a number, found {node}; write true, or how many requests of a burst pass at once"
        )),
    }
}

fn concurrency_limit(s: &mut Section<'_, '_>) -> Option<ConcurrencyLimit> {
    let requests = s.required("requests", rules::whole(1..=1_000_000));
    let by = s.get("by", CountBy::Client, count_by);
    let dry_run = s.get("dry_run", false, rules::flag);
    Some(ConcurrencyLimit { requests: requests?, by, dry_run })
}

fn basic_auth(s: &mut Section<'_, '_>, folder: &Path) -> Option<BasicAuth> {
    let realm = s.get("realm", "Restricted".to_owned(), realm);
    let named = RefCell::new(None);
    let read = s.required("file", |node| {
        let file = rules::path(folder)(node)?;
        named.replace(Some(Stamped::now(&file)));
        let told = |faults: Vec<String>| in_file(&file, faults);
        let users = read_file(&file, LIST_MAX).and_then(|text| Users::parse(&text).map_err(told))?;
        Ok((file, users))
    });
    s.has_contents(named.take());
    let (file, users) = read?;
    Some(BasicAuth { file, users, realm })
}

fn forward_auth(s: &mut Section<'_, '_>, pools: &[&str]) -> Option<ForwardAuth> {
    let pool = s.required("pool", |node| pool_name::pool(node, pools));
    let path = s.get("path", "/".to_owned(), rules::target);
    let copy_headers = s.values("copy_headers", copied_header).unwrap_or_default();
    let copy_to_response = s.values("copy_to_response", added_header).unwrap_or_default();
    let timeout = s.maybe("timeout", None, rules::duration(MS..=DAY));
    Some(ForwardAuth { pool: pool?, path, copy_headers, copy_to_response, timeout })
}

/// A header that a response can have from another server than its own: none that describes the content.
fn added_header(node: &Node) -> Result<String, String> {
    const OF_CONTENT: &str =
        "content-encoding content-language content-range content-type date etag last-modified location";
    let name = copied_header(node)?;
    match OF_CONTENT.split(' ').any(|own| own == name) {
        true => Err(format!("{node} belongs to the server's own response; write one such as \"Set-Cookie\"")),
        false => Ok(name),
    }
}

/// A header that a request can have from another server than its client's.
fn copied_header(node: &Node) -> Result<String, String> {
    const OURS: [&str; 12] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "max-forwards",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
    ];
    let advice = "write the name of a header such as \"X-Auth-User\"";
    let name = rules::text(node, advice)?.to_ascii_lowercase();
    match OURS.contains(&&*name) {
        true => Err(format!("{node} belongs to the connection or to the balancer; {advice}")),
        false if is_token(&name) => Ok(name),
        false => Err(format!("{node} is not a valid name; {advice}")),
    }
}

fn is_token(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=128).contains(&name.len()) && name.bytes().all(is_plain)
}

/// A list of networks and of files of networks, which may be null.
fn networks(s: &mut Section<'_, '_>, key: &'static str, folder: &Path) -> Option<Option<Networks>> {
    let is_given = s.has(key);
    let list = networks::list_or_null(s, key, folder);
    is_given.then(|| list.map(|list| Networks::new(list.iter().map(Network::parts))))
}

/// Lists with which no client gets in: hardly what was meant.
fn warn_of_a_closed_door(
    s: &mut Section<'_, '_>,
    allow: &Option<Arc<Networks>>,
    deny: &Option<Arc<Networks>>,
) {
    if s.has("allow") && allow.as_ref().is_some_and(|allow| allow.is_empty()) {
        let advice =
            "has no network, so that all clients are rejected; write null, or leave it out, to serve all";
        s.warn("allow", advice.to_owned());
    }
    let key = ["deny", "allow"].into_iter().find(|key| s.has(key));
    let (Some(key), Some(allow), Some(deny)) = (key, allow, deny) else { return };
    if !allow.is_empty() && deny.has_all_of(allow) {
        let advice = "has all that is in \"allow\", so that all clients are rejected; leave it out: a client that is not in \"allow\" is rejected anyway";
        s.warn(key, advice.to_owned());
    }
}

fn count_by(node: &Node) -> Result<CountBy, String> {
    let advice = "write \"client\", \"route\", \"header:NAME\" or \"cookie:NAME\"";
    if matches!(&node.value, Value::Text(text) if matches!(text.as_str(), "$binary_remote_addr" | "$remote_addr"))
    {
        return Err(format!("{node} is nginx's name for the client; write \"client\""));
    }
    let text = rules::text(node, advice)?;
    match text.split_once(':') {
        None if text == "client" => Ok(CountBy::Client),
        None if text == "route" => Ok(CountBy::Route),
        Some(("header", name)) if is_token(name) => Ok(CountBy::Header(name.to_ascii_lowercase())),
        Some(("cookie", name)) if is_token(name) => Ok(CountBy::Cookie(name.to_owned())),
        None if matches!(
            text,
            "ip" | "client_ip" | "remote_ip" | "remote_addr" | "src" | "address" | "source"
        ) =>
        {
            Err(format!("{node} is not known; write \"client\""))
        }
        None if text.contains('-') && is_token(text) => {
            Err(format!("{node} is not known; write \"header:{text}\" for the header of that name"))
        }
        _ => Err(format!("{node} is not known; {advice}")),
    }
}

fn realm(node: &Node) -> Result<String, String> {
    let advice = "write 1 to 128 characters without quotes and backslashes";
    let text = rules::text(node, advice)?;
    let is_plain = |char: char| !char.is_control() && !"\"\\".contains(char);
    match (1..=128).contains(&text.chars().count()) && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(format!("{node} is not a valid realm; {advice}")),
    }
}

/// The keys of guards.
#[cfg(test)]
pub(super) const KEYS: [&str; 9] = [
    "rate_limit",
    "concurrency_limit",
    "allow",
    "deny",
    "satisfy",
    "basic_auth",
    "forward_auth",
    "error_pages",
    "compression",
];

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use std::net::IpAddr;

    fn guards(text: &str, folder: &Path) -> Result<Guards, Vec<String>> {
        let told = |faults: Vec<super::super::Fault>| {
            faults.iter().map(|fault| format!("{}: {}", fault.path, fault.advice)).collect()
        };
        parse(text, folder).map(|config| config.guards).map_err(told)
    }

    #[test]
    fn limits_are_read() {
        let guards = guards(
            r#"{ "rate_limit": { "requests": 100, "per": "1m", "burst": 20, "by": "header:X-Api-Key", "dry_run": true },
                 "concurrency_limit": { "requests": 4, "by": "cookie:session" } }"#,
            Path::new(""),
        )
        .unwrap();
        let limit = guards.rate_limit.unwrap();
        let rate = Rate {
            requests: 100,
            per: Duration::from_secs(60),
            burst: 20,
            at_once: 20,
            longest_wait: Duration::ZERO,
        };
        assert_eq!((limit.rate, &limit.by), (rate, &CountBy::Header("x-api-key".to_owned())));
        assert!(limit.dry_run && limit.headers);
        let limit = guards.concurrency_limit.unwrap();
        assert_eq!((limit.requests, &limit.by), (4, &CountBy::Cookie("session".to_owned())));
    }

    #[test]
    fn a_queue_has_a_longest_wait() {
        let wait = |text: &str| guards(text, Path::new("")).unwrap().rate_limit.unwrap().rate.longest_wait;
        assert_eq!(wait(r#"{"rate_limit": {"requests": 1, "nodelay": false}}"#), Duration::from_secs(5));
        assert_eq!(wait(r#"{"rate_limit": {"requests": 1}}"#), Duration::ZERO);
        let set = r#"{"rate_limit": {"requests": 1, "nodelay": false, "max_wait": "2s"}}"#;
        assert_eq!(wait(set), Duration::from_secs(2));
    }

    #[test]
    fn files_are_read_with_their_comments() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        file("office.txt", "# the office\n10.1.0.0/16 # ground floor\n\n2001:db8::/32\n");
        file("users", &format!("ann:{}", bcrypt::hash("open", 4).unwrap()));
        let text = r#"{ "allow": ["192.0.2.1", "file:office.txt"], "deny": ["10.1.2.0/24"],
                        "basic_auth": { "file": "users", "realm": "The office" } }"#;
        let guards = guards(text, folder.path()).unwrap();
        let has = |list: &Option<Arc<Networks>>, address: &str| {
            list.as_ref().unwrap().contains(address.parse::<IpAddr>().unwrap())
        };
        assert!(
            ["192.0.2.1", "10.1.2.3", "2001:db8::1"].iter().all(|address| has(&guards.access.allow, address))
        );
        assert!(!has(&guards.access.allow, "192.0.2.2") && has(&guards.access.deny, "10.1.2.3"));
        let auth = guards.basic_auth.unwrap();
        assert_eq!((auth.users.len(), &*auth.realm), (1, "The office"));
    }

    #[test]
    fn what_is_not_here_is_from_above_and_null_is_none() {
        let above =
            guards(r#"{"rate_limit": {"requests": 5}, "deny": ["10.0.0.0/8"]}"#, Path::new("")).unwrap();
        let inherited = given::<RateLimit>(None, &above.rate_limit);
        assert!(Arc::ptr_eq(&inherited.unwrap(), above.rate_limit.as_ref().unwrap()));
        assert_eq!(given(Some(None), &above.rate_limit), None);
        let none =
            guards(r#"{"rate_limit": null, "allow": null, "basic_auth": null}"#, Path::new("")).unwrap();
        assert_eq!(none, Guards::default());
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        file("bad.txt", "10.0.0.1\n10.0.0.300\n\nexample.org\n");
        file("md5", "ann:$apr1$ihpI83gC$OHr8NQOaA2r.9VeDkHKz61\n");
        file("empty", "# nothing yet\n");
        let told = guards(text, folder.path()).unwrap_err();
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn faults_say_what_to_write() {
        check(r#"{"rate_limit": {}}"#, &["rate_limit.requests: is missing"]);
        check(
            r#"{"rate_limit": 100}"#,
            &["expected an object, found 100; write { \"requests\": 100, \"per\": \"1s\" }"],
        );
        check(r#"{"rate_limit": {"requests": 0}}"#, &["too small"]);
        check(r#"{"rate_limit": {"requests": 10, "per": 60}}"#, &["has no unit"]);
        check(
            r#"{"rate_limit": {"requests": 10, "by": "X-Api-Key"}}"#,
            &["write \"header:X-Api-Key\" for the header of that name"],
        );
        check(r#"{"rate_limit": {"requests": 10, "by": "header:"}}"#, &["header:NAME"]);
        check(r#"{"rate_limit": {"requests": 2000, "per": "1ms"}}"#, &["more than 1000000 a second"]);
        check(r#"{"rate_limit": {"request": 10}}"#, &["is missing", "did you mean \"requests\"?"]);
        check(r#"{"concurrency_limit": {"by": "client"}}"#, &["concurrency_limit.requests: is missing"]);
        check(r#"{"allow": ["10.0.0.5/8"]}"#, &["write \"10.0.0.0/8\" or \"10.0.0.5\""]);
        check(r#"{"allow": "10.0.0.0/8"}"#, &["expected a list"]);
        check(r#"{"deny": ["file:none.txt"]}"#, &["none.txt; look at the path"]);
        check(r#"{"deny": ["file:bad.txt"]}"#, &["bad.txt: line 2: \"10.0.0.300\" is not a valid network"]);
        check(r#"{"basic_auth": {"file": "none"}}"#, &["none; look at the path"]);
        check(r#"{"basic_auth": {"file": "md5"}}"#, &["the hash is MD5"]);
        check(r#"{"basic_auth": {"file": "empty"}}"#, &["has no users"]);
        check(r#"{"basic_auth": {"realm": "a\"b"}}"#, &["basic_auth.file: is missing", "not a valid realm"]);
        check(r#"{"rate_limits": {"requests": 10}}"#, &["did you mean \"rate_limit\"?"]);
    }
}
