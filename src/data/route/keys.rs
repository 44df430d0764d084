//! What keeps a request with one pool or server: its hashed key.

use super::target_of;
use crate::data::meta::Meta;
use crate::data::request_view::RequestView;
use crate::http1::head::RequestHead;
use crate::policy::pick::Algorithm;
use crate::policy::rendezvous::mix;
use crate::policy::route::{Request, cookie, without_port};
use crate::state::config::Servers;
use crate::state::route::Key;
use crate::state::server::stable_hash;

/// What keeps a request with one server of a pool, hashed; a random number where the request does not have it.
pub fn hash_key(head: &RequestHead<'_, '_>, meta: &Meta, servers: &Servers, random: u64) -> u64 {
    let (path, query) = target_of(head);
    let request = RequestView { head, path, query, meta, listener: None };
    let found = match servers.algorithm {
        // A client without an address, on a Unix socket, is one client.
        Algorithm::IpHash => Some(meta.client_key()),
        _ => key(&servers.hash.by, &request, meta),
    };
    match (found, servers.hash.seed.as_str()) {
        (None, _) => random,
        (Some(key), "") => key,
        (Some(key), seed) => mix(key, stable_hash(seed.as_bytes())),
    }
}

/// The key that keeps a request with one pool or server; `None`: a random one. An empty value is none: all clients whose
/// session has ended would go to one server.
pub(super) fn key(key: &Key, request: &RequestView<'_, '_, '_>, meta: &Meta) -> Option<u64> {
    let of_value = |value: &[u8]| (!value.is_empty()).then(|| stable_hash(value));
    let mut found = None;
    match key {
        Key::None => {}
        Key::Client => found = meta.client.map(|_| meta.client_key()),
        Key::Header(name) => {
            request.header(name.as_bytes(), &mut |value| {
                found = of_value(value);
                true
            });
        }
        Key::Cookie(name) => {
            request.header(b"cookie", &mut |line| {
                found = cookie(line, name.as_bytes()).and_then(of_value);
                found.is_some()
            });
        }
        Key::Query(name) => {
            let mut pairs = request.query().split(|byte| *byte == b'&').map(|pair| {
                let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
                (&pair[..at], pair.get(at + 1..).unwrap_or_default())
            });
            found = pairs.find(|(known, _)| *known == name.as_bytes()).and_then(|(_, value)| of_value(value));
        }
        Key::Path => found = Some(stable_hash(target_of(request.head).0)),
        Key::Uri => {
            let (path, query) = target_of(request.head);
            found = Some(mix(stable_hash(path), stable_hash(query.unwrap_or_default())));
        }
        Key::Host => {
            let host = without_port(request.head.host).to_ascii_lowercase();
            found = (!host.is_empty()).then(|| stable_hash(&host));
        }
    }
    found
}
