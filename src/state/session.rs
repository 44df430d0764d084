//! Sessions: which server of a pool a client belongs to, as a cookie says it. The cookie is the balancer's own, or one of
//! the servers', whose values are remembered ("learned") with the server that set them.

use super::config::{SessionCookie, Sticky as Settings};
use super::server::Server;
use crate::base::time::Moment;
use crate::policy::key::{Key, Keys};
use crate::policy::recent::Recent;
use crate::policy::route::cookies;
pub use crate::policy::session::Tag;
use crate::policy::session::TagKey;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Learned sessions are kept in so many parts, each with a lock of its own.
const SHARDS: usize = 16;

/// How a pool keeps sessions, under one configuration.
#[derive(Debug)]
pub struct Sticky {
    settings: Settings,
    key: TagKey,
    /// `; Path=/; HttpOnly` and so on, without `Secure`.
    attributes: String,
}

/// What all requests of a pool share.
#[derive(Debug, Default)]
pub struct Sessions {
    learned: Learned,
    counts: [CachePadded<AtomicU64>; 3],
}

/// What became of a request's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// It had none.
    New,
    /// Its server got it.
    Kept,
    /// Its server could not take it, is not there any more, or the cookie was not ours.
    Moved,
}

impl Affinity {
    /// All of them.
    pub const ALL: [Affinity; 3] = [Affinity::New, Affinity::Kept, Affinity::Moved];

    /// The word in metrics and in the status.
    pub fn name(self) -> &'static str {
        match self {
            Affinity::New => "new",
            Affinity::Kept => "kept",
            Affinity::Moved => "moved",
        }
    }
}

/// What a request's cookies say of its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The server; it may not be there any more.
    pub tag: Option<Tag>,
    /// The learned session, where one is known.
    pub key: Option<Key>,
    /// There was a cookie of that name.
    pub is_given: bool,
}

impl Sticky {
    /// Of these settings of a pool.
    pub fn new(settings: &Settings, pool: &str) -> Self {
        let secret = settings.secret.as_deref().unwrap_or_default();
        Sticky {
            key: TagKey::new(secret, pool, settings.cookie.name()),
            attributes: attributes(settings),
            settings: settings.clone(),
        }
    }

    /// How it is configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What stands for a server.
    pub fn tag_of(&self, server: &Server) -> Tag {
        self.key.tag(&server.name)
    }

    /// The name of the balancer's own cookie.
    pub fn own(&self) -> Option<&str> {
        match &self.settings.cookie {
            SessionCookie::Own(name) => Some(name),
            SessionCookie::Learned(_) => None,
        }
    }

    /// The cookie of the servers that is learned.
    pub fn learns(&self) -> Option<&str> {
        match &self.settings.cookie {
            SessionCookie::Own(_) => None,
            SessionCookie::Learned(name) => Some(name),
        }
    }

    /// What these `Cookie` lines say. A browser may send several cookies of one name; the first that can be ours counts.
    pub fn asked<'l>(
        &self,
        lines: impl Iterator<Item = &'l [u8]>,
        sessions: &Sessions,
        now: Moment,
    ) -> Asked {
        let name = self.settings.cookie.name().as_bytes();
        let mut asked = Asked::default();
        for (_, value) in lines.flat_map(cookies).filter(|(known, _)| *known == name) {
            asked.is_given = true;
            match &self.settings.cookie {
                SessionCookie::Own(_) => asked.tag = Tag::read(value),
                SessionCookie::Learned(_) => {
                    let key = sessions.learned.key(value);
                    asked.tag = sessions.learned.server(key, self.settings.idle_time, now);
                    asked.key = asked.tag.map(|_| key);
                }
            }
            if asked.tag.is_some() {
                break;
            }
        }
        asked
    }

    /// The `Set-Cookie` line for a response of this server, where the client needs one: it has no cookie that names it, or
    /// one whose time begins again.
    pub fn line(&self, server: &Server, asked: Asked, is_tls: bool) -> Option<Vec<u8>> {
        let SessionCookie::Own(name) = &self.settings.cookie else { return None };
        let tag = self.tag_of(server);
        if asked.tag == Some(tag) && self.settings.max_age.is_none() {
            return None;
        }
        let mut line = format!("Set-Cookie: {name}=").into_bytes();
        tag.write(&mut line);
        line.extend_from_slice(self.attributes.as_bytes());
        if self.settings.secure.unwrap_or(is_tls) {
            line.extend_from_slice(b"; Secure");
        }
        line.extend_from_slice(b"\r\n");
        Some(line)
    }
}

impl Sessions {
    /// Counts a request that went to a server.
    pub fn count(&self, affinity: Affinity) {
        self.counts[affinity as usize].fetch_add(1, Relaxed);
    }

    /// Requests that went so, since the start.
    pub fn counted(&self, affinity: Affinity) -> u64 {
        self.counts[affinity as usize].load(Relaxed)
    }

    /// What stands for the value that a server has set, or `None` where it takes the cookie away.
    pub fn key_of(&self, set_cookie: &[u8], name: &str) -> Option<Key> {
        let (known, value) = cookies(set_cookie).next()?;
        (known == name.as_bytes() && !value.is_empty()).then(|| self.learned.key(value))
    }

    /// A session belongs to this server from now on.
    pub fn learn(&self, key: Key, server: Tag, sticky: &Sticky, now: Moment) {
        let Settings { entries, idle_time, .. } = sticky.settings;
        self.learned.learn(key, server, entries, idle_time, now);
    }

    /// Learned sessions that are remembered.
    pub fn learned(&self) -> usize {
        self.learned.shards.iter().map(|shard| shard.lock().1.len()).sum()
    }
}

/// The servers of a pool that sessions may go to, by their tags.
pub type ByTag = HashMap<Tag, Arc<Server>>;

/// Learned sessions, each with its server and the moment of its last use. A bounded number: for a new one the one that was
/// used least recently goes.
#[derive(Debug)]
struct Learned {
    keys: Keys,
    shards: [CachePadded<Mutex<Shard>>; SHARDS],
}

/// How many sessions it has room for, and these.
type Shard = (usize, Recent<(Tag, Moment)>);

impl Default for Learned {
    fn default() -> Self {
        let shard = |_| CachePadded::new(Mutex::new((0, Recent::new(1))));
        Learned { keys: Keys::default(), shards: std::array::from_fn(shard) }
    }
}

impl Learned {
    fn key(&self, value: &[u8]) -> Key {
        self.keys.of(&[value])
    }

    fn server(&self, key: Key, idle_time: Duration, now: Moment) -> Option<Tag> {
        let mut shard = self.shards[key.shard(SHARDS)].lock();
        let (server, used) = shard.1.get(key)?;
        if now.since(*used) > idle_time {
            return None;
        }
        *used = now;
        Some(*server)
    }

    fn learn(&self, key: Key, server: Tag, entries: usize, idle_time: Duration, now: Moment) {
        let mut shard = self.shards[key.shard(SHARDS)].lock();
        let room = entries.div_ceil(SHARDS);
        if shard.0 != room {
            // The first one, or another configuration: it begins empty.
            *shard = (room, Recent::new(room));
        }
        shard.1.set(key, (server, now), |(_, used)| now.since(*used) > idle_time);
    }
}

fn attributes(settings: &Settings) -> String {
    let mut out = Vec::new();
    // Writing to a vector cannot fail.
    let _ = write!(out, "; Path={}", settings.path);
    let _ = settings.domain.as_ref().map(|domain| write!(out, "; Domain={domain}"));
    let _ = settings.max_age.map(|age| write!(out, "; Max-Age={}", age.as_secs()));
    let _ = settings.http_only.then(|| write!(out, "; HttpOnly"));
    let _ = settings.same_site.map(|site| write!(out, "; SameSite={}", site.name()));
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{PoolId, ServerId};
    use crate::policy::health::Health;
    use crate::state::config;
    use std::path::Path;

    fn sticky(settings: &str) -> Sticky {
        let text = format!(r#"{{"servers": {{"sticky": {settings}}}}}"#);
        let config = config::parse(&text, Path::new("")).unwrap();
        Sticky::new(config.servers.sticky.as_ref().unwrap(), "default")
    }

    fn server(name: &str) -> Server {
        let spec = config::parse_server(
            &format!(r#"{{"name": "{name}", "address": "10.0.0.1:80"}}"#),
            config::Resolve::First,
        )
        .unwrap();
        Server::new(ServerId(0), PoolId(0), "default", &spec, Health::Up)
    }

    fn line(sticky: &Sticky, server: &Server, asked: Asked, is_tls: bool) -> String {
        String::from_utf8(sticky.line(server, asked, is_tls).unwrap_or_default()).unwrap()
    }

    fn asked(sticky: &Sticky, sessions: &Sessions, lines: &[&str], at_ms: u64) -> Asked {
        sticky.asked(lines.iter().map(|line| line.as_bytes()), sessions, Moment::from_millis(at_ms))
    }

    #[test]
    fn the_attributes_of_the_cookie() {
        let check = |settings: &str, is_tls: bool, expected: &str| {
            let line = line(&sticky(settings), &server("a"), Asked::default(), is_tls);
            let rest = line.strip_prefix("Set-Cookie: s=").and_then(|rest| rest.strip_suffix("\r\n"));
            assert_eq!(&rest.unwrap_or_else(|| panic!("{line}"))[22..], expected, "{settings}");
        };
        check(r#"{"cookie": "s"}"#, false, "; Path=/; HttpOnly; SameSite=Lax");
        check(r#"{"cookie": "s"}"#, true, "; Path=/; HttpOnly; SameSite=Lax; Secure");
        check(r#"{"cookie": "s", "secure": true}"#, false, "; Path=/; HttpOnly; SameSite=Lax; Secure");
        check(r#"{"cookie": "s", "secure": false}"#, true, "; Path=/; HttpOnly; SameSite=Lax");
        check(
            r#"{"cookie": "s", "http_only": false, "same_site": null, "path": "/app", "domain": "example.org", "max_age": "1h"}"#,
            false,
            "; Path=/app; Domain=example.org; Max-Age=3600",
        );
        check(r#"{"cookie": "s", "same_site": "none"}"#, true, "; Path=/; HttpOnly; SameSite=None; Secure");
    }

    #[test]
    fn a_cookie_is_set_once_and_again_where_its_time_begins_again() {
        let (sessions, a, b) = (Sessions::default(), server("a"), server("b"));
        for (settings, is_set_again) in
            [(r#"{"cookie": "s"}"#, false), (r#"{"cookie": "s", "max_age": "1h"}"#, true)]
        {
            let sticky = sticky(settings);
            let first = line(&sticky, &a, Asked::default(), false);
            let value = first.split(['=', ';']).nth(1).unwrap();
            let asked = asked(&sticky, &sessions, &["x=1; s=; s=forged", &format!("t=u; s={value}")], 0);
            assert_eq!(asked, Asked { tag: Some(sticky.tag_of(&a)), key: None, is_given: true });
            assert_eq!(sticky.line(&a, asked, false).is_some(), is_set_again);
            assert!(
                line(&sticky, &b, asked, false).starts_with("Set-Cookie: s="),
                "another server serves it now"
            );
        }
    }

    #[test]
    fn learned_sessions_are_bounded_and_forgotten_when_idle() {
        let sticky = sticky(r#"{"learn": "SID", "entries": 160, "idle_time": "10s"}"#);
        let (sessions, a) = (Sessions::default(), server("a"));
        let tag = sticky.tag_of(&a);
        let learn = |value: &str, at_ms| {
            let key = sessions.key_of(format!("SID={value}; Path=/").as_bytes(), "SID").unwrap();
            sessions.learn(key, tag, &sticky, Moment::from_millis(at_ms));
        };
        learn("one", 0);
        assert_eq!(asked(&sticky, &sessions, &["SID=one"], 9_000).tag, Some(tag));
        assert_eq!(
            asked(&sticky, &sessions, &["SID=one"], 18_000).tag,
            Some(tag),
            "each use begins the time again"
        );
        let idle = asked(&sticky, &sessions, &["SID=one"], 29_000);
        assert_eq!(idle, Asked { tag: None, key: None, is_given: true });
        assert_eq!(asked(&sticky, &sessions, &["SID=two; SIDE=one"], 0).tag, None);
        assert!(sticky.line(&a, Asked::default(), false).is_none(), "the cookie is the servers'");
        for value in 0..10_000 {
            learn(&value.to_string(), 30_000);
        }
        assert!((100..=160).contains(&sessions.learned()), "{}", sessions.learned());
        assert_eq!(asked(&sticky, &sessions, &["SID=9999"], 30_000).tag, Some(tag));
        for taken_away in ["SID=; Max-Age=0", "OTHER=1", ""] {
            assert_eq!(sessions.key_of(taken_away.as_bytes(), "SID"), None, "{taken_away}");
        }
    }
}
