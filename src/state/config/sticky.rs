//! `servers.sticky`, and `sticky` of each pool: how a client stays with its server.

use super::reader::{Reader, Section};
use super::routes::is_token;
use super::tree::{Node, Value};
use super::{Config, rules};
use crate::base::ids::PoolId;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How a client stays with its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie that says which server it is.
    pub cookie: SessionCookie,
    /// What cookies are signed with; `None`: with the names of pool and cookie alone, which are no secret.
    pub secret: Option<String>,
    /// `Secure`: always, never, or with `None` over TLS.
    pub secure: Option<bool>,
    /// `HttpOnly`: scripts do not see the cookie.
    pub http_only: bool,
    /// `SameSite`; `None` leaves it to the browser.
    pub same_site: Option<SameSite>,
    /// `Path`; begins with `/`.
    pub path: String,
    /// `Domain`; `None` is the host of the request alone.
    pub domain: Option<String>,
    /// `Max-Age`, from the last response on, 1 s to 400 days; `None` is until the browser ends.
    pub max_age: Option<Duration>,
    /// For how long a draining server keeps its sessions; `None`: as long as it drains.
    pub drain: Option<Duration>,
    /// The most learned sessions, 1 to 10,000,000.
    pub entries: usize,
    /// A learned session that is not used for so long is forgotten.
    pub idle_time: Duration,
}

/// Whose cookie it is; the name is a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCookie {
    /// The balancer's own.
    Own(String),
    /// The servers': which server set which value is remembered.
    Learned(String),
}

/// The values of `SameSite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Not sent with requests from other sites.
    Strict,
    /// Sent with links from other sites.
    Lax,
    /// Sent with all requests; browsers want `Secure` with it.
    None,
}

impl SameSite {
    /// As in `Set-Cookie`.
    pub fn name(self) -> &'static str {
        match self {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        }
    }
}

impl SessionCookie {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            SessionCookie::Own(name) | SessionCookie::Learned(name) => name,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Browsers keep no cookie for longer (RFC 6265bis section 5.5).
const AGES: RangeInclusive<Duration> = SECOND..=Duration::from_secs(400 * 24 * 3600);
/// A shorter secret can be guessed.
const SECRET_SHORT: usize = 16;

/// Reads the key `sticky` of a pool.
pub(super) fn sticky(s: &mut Section<'_, '_>) -> Option<Sticky> {
    s.optional("sticky", |s| {
        let own = s.maybe("cookie", None, cookie_name);
        let learned = s.maybe("learn", None, cookie_name);
        let is_named = s.has("cookie") || s.has("learn");
        if own.is_some() && learned.is_some() {
            s.fault("learn", "excludes \"cookie\"; take one of them away".to_owned());
        } else if s.is_there() && !is_named {
            let advice =
                "is missing; write \"cookie\": \"NAME\", or \"learn\": \"NAME\" for a cookie of the servers";
            s.fault("cookie", advice.to_owned());
        }
        let cookie = own.map(SessionCookie::Own).or(learned.map(SessionCookie::Learned));
        Some(Sticky {
            secret: s.maybe("secret", None, secret),
            secure: s.get("secure", None, secure),
            http_only: s.get("http_only", true, rules::flag),
            same_site: s.maybe("same_site", Some(SameSite::Lax), same_site),
            path: s.get("path", "/".to_owned(), attribute_path),
            domain: s.maybe("domain", None, domain),
            max_age: s.maybe("max_age", None, rules::duration(AGES)),
            drain: s.maybe("drain", None, rules::duration(Duration::ZERO..=30 * DAY)),
            entries: s.get("entries", 100_000, rules::whole(1..=10_000_000)),
            idle_time: s.get("idle_time", Duration::from_secs(1800), rules::duration(SECOND..=30 * DAY)),
            cookie: cookie?,
        })
    })
    .flatten()
}

/// Keys of sticky sessions that contradict each other, and those that look like a mistake.
pub(super) fn contradictions(config: &Config, pool: PoolId, reader: &mut Reader) {
    let Some(sticky) = &config.pool(pool).sticky else { return };
    let key = |name: &str| format!("{}.sticky.{name}", config.pool_key(pool));
    if sticky.same_site == Some(SameSite::None) && sticky.secure == Some(false) {
        let advice = "is false, and browsers drop a cookie with SameSite=None that is not Secure; write true";
        reader.contradiction(&[&key("secure"), &key("same_site")], advice.to_owned());
    }
    let SessionCookie::Own(name) = &sticky.cookie else { return };
    match &sticky.secret {
        None => {
            let advice = "there is no secret: who knows the name of a server can make its cookie; write \"secret\": and 16 random characters or more";
            reader.warning(&[&key("secret"), &key("cookie")], advice.to_owned());
        }
        Some(secret) if secret.len() < SECRET_SHORT => {
            let advice = format!("is short; write {SECRET_SHORT} characters or more");
            reader.warning(&[&key("secret")], advice);
        }
        Some(_) => {}
    }
    let is_same = |other: &&PoolId| {
        let other = config.pool(**other).sticky.as_ref();
        other.is_some_and(|other| {
            other.cookie == sticky.cookie && other.path == sticky.path && other.domain == sticky.domain
        })
    };
    let before: Vec<PoolId> = config.pool_ids().take_while(|other| *other != pool).collect();
    if let Some(other) = before.iter().find(is_same) {
        let other = config.pool_key(*other);
        let advice = format!(
            "{name:?} is the cookie of {other} too: a client of both would lose its server; write another name or path"
        );
        reader.warning(&[&key("cookie")], advice);
    }
}

fn cookie_name(node: &Node) -> Result<String, String> {
    let advice = "write the name of a cookie, such as \"server\"";
    let text = rules::text(node, advice)?;
    match !text.is_empty() && text.len() <= 64 && is_token(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{node} is not the name of a cookie; write 1 to 64 letters, digits, - or _")),
    }
}

fn secret(node: &Node) -> Result<String, String> {
    let advice = "write 16 random characters or more, or \"${file:PATH}\" for the content of a file";
    match rules::text(node, advice)? {
        "" => Err(format!("is empty; {advice}")),
        text => Ok(text.to_owned()),
    }
}

fn secure(node: &Node) -> Result<Option<bool>, String> {
    match &node.value {
        Value::Text(text) if text == "auto" => Ok(None),
        Value::Text(_) if node.variables.is_none() => {
            Err(format!("{node} is not known; write \"auto\", true or false"))
        }
        _ => rules::flag(node).map(Some),
    }
}

fn same_site(node: &Node) -> Result<SameSite, String> {
    rules::word(node, &[("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)])
}

fn attribute_path(node: &Node) -> Result<String, String> {
    let path = rules::target(node)?;
    match path.contains([';', ',', '?']) {
        true => Err(format!("{node} is not the path of a cookie; write one such as \"/\" or \"/app\"")),
        false => Ok(path),
    }
}

fn domain(node: &Node) -> Result<String, String> {
    let advice = "write a domain such as \"example.org\"";
    let text = rules::text(node, advice)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    match !text.is_empty() && text.len() <= 255 && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(format!("{node} is not a domain; {advice}")),
    }
}
