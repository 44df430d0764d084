//! What a route changes in the headers of a request and of its response, with the server's name in its places.

use super::MatchedRoute;
use crate::data::request_view::{SERVER_NAME, TemplateValues};
use crate::data::upload::{NameSlot, Named};
use crate::http1::fields::Fields;
use crate::http1::forward::{Change, Edits};
use crate::http1::names::is_same_dashed;
use crate::policy::route::cookies;
use crate::state::config::NAME_BYTES_MAX;
use crate::state::route::HeaderEdits;
use crate::state::table::Pool;
use std::cell::RefCell;

/// Copies rendered lines, with the server's name in its places.
pub(super) fn with_server(lines: &[u8], server: &str, out: &mut Vec<u8>) {
    for (at, part) in lines.split(|byte| *byte == SERVER_NAME).enumerate() {
        if at > 0 {
            out.extend_from_slice(server.as_bytes());
        }
        out.extend_from_slice(part);
    }
}

/// Takes a byte out of what was appended.
fn remove_from(start: usize, byte: u8, out: &mut Vec<u8>) {
    if out[start..].contains(&byte) {
        let rest = out.split_off(start);
        out.extend(rest.into_iter().filter(|each| *each != byte));
    }
}

/// What changes in the headers for the server.
pub(super) struct RequestEdits<'a> {
    pub(super) of_route: Option<(&'a HeaderEdits, &'a TemplateValues<'a>)>,
    pub(super) without: &'a [String],
    /// The cookie that is the balancer's own, which no server gets.
    pub(super) own_cookie: Option<&'a str>,
    /// How long the name of a server of its pool can be.
    pub(super) longest_name: &'a dyn Fn() -> usize,
    /// Where the server's name belongs in what was appended.
    pub(super) name_slots: RefCell<Vec<NameSlot>>,
}

impl Edits for RequestEdits<'_> {
    fn change(&self, name: &[u8]) -> Change {
        match self.of_route.map_or(Change::Keep, |(edits, _)| edits.change(name)) {
            Change::Drop => Change::Drop,
            _ if self.without.iter().any(|lower| is_same_dashed(name, lower.as_bytes())) => Change::Drop,
            _ if self.own_cookie.is_some() && is_cookie(name) => Change::Replace,
            other => other,
        }
    }

    fn sets(&self, name: &[u8]) -> bool {
        self.of_route.is_some_and(|(edits, _)| edits.sets(name))
    }

    fn append_replaced(&self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let others =
            self.own_cookie.filter(|_| is_cookie(name)).map(|own| other_cookies(value, own.as_bytes()));
        let value = others.as_deref().unwrap_or(value);
        let Some((edits, known)) = self.of_route else { return out.extend_from_slice(value) };
        let start = out.len();
        edits.append_replaced(&edits.inserted(known), name, value, out);
        // The server is not chosen yet, and here there is no room for its name.
        remove_from(start, SERVER_NAME, out);
    }

    fn append(&self, _fields: &Fields<'_, '_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.of_route.into_iter().for_each(|(edits, known)| edits.append(known, out));
        // The server is not chosen yet: room for its name is left.
        if out[start..].contains(&SERVER_NAME) {
            let lines = out.split_off(start);
            lines.split_inclusive(|byte| *byte == b'\n').for_each(|line| self.append_line(line, out));
        }
    }
}

fn is_cookie(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"cookie")
}

/// The cookies of a line but for those of this name, with what is between the others as it came: it may be part of a quoted value.
fn other_cookies(line: &[u8], name: &[u8]) -> Vec<u8> {
    if !cookies(line).any(|(known, _)| known == name) {
        return line.to_vec();
    }
    let pairs = line.split(|byte| *byte == b';');
    let others = pairs.filter(|pair| !cookies(pair).any(|(known, _)| known == name));
    others.collect::<Vec<_>>().join(&b";"[..]).trim_ascii().to_vec()
}

/// How long the name of a server of the pool can be, one that comes later included; one that is called by its address may have
/// a longer one than a name can be.
pub(super) fn longest_name(pool: &Pool) -> usize {
    let names = pool.ready.iter().chain(&pool.beside).chain(&pool.reserve).map(|server| server.name.len());
    names.max().unwrap_or(0).max(NAME_BYTES_MAX)
}

/// How long the host and port of a server of the pool can be.
pub(super) fn longest_authority(pool: &Pool) -> usize {
    let servers = pool.ready.iter().chain(&pool.beside).chain(&pool.reserve);
    servers.map(|server| server.authority().len()).max().unwrap_or(0).max(NAME_BYTES_MAX)
}

impl RequestEdits<'_> {
    /// Appends a line, and room where the server's name belongs.
    fn append_line(&self, line: &[u8], out: &mut Vec<u8>) {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        let around: Vec<Vec<u8>> = text.split(|byte| *byte == SERVER_NAME).map(<[u8]>::to_vec).collect();
        if around.len() == 1 {
            return out.extend_from_slice(line);
        }
        let (at, names) = (out.len(), around.len() - 1);
        let len = text.len() - names + names * (self.longest_name)();
        out.resize(at + len, b' ');
        out.extend_from_slice(b"\r\n");
        self.name_slots.borrow_mut().push(NameSlot { at, len, around, named: Named::Name });
    }
}

/// What a route changes in the headers for the client.
#[derive(Debug)]
pub struct ResponseEdits<'w> {
    pub(super) matched: &'w MatchedRoute,
    pub(super) server: &'w str,
}

impl Edits for ResponseEdits<'_> {
    fn change(&self, name: &[u8]) -> Change {
        self.matched.route.response_headers.change(name)
    }

    fn sets(&self, name: &[u8]) -> bool {
        self.matched.route.response_headers.sets(name)
    }

    fn append_replaced(&self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        self.matched.route.response_headers.append_replaced(&self.matched.inserted, name, value, out);
    }

    fn append(&self, fields: &Fields<'_, '_>, out: &mut Vec<u8>) {
        with_server(&self.matched.response_lines, self.server, out);
        if let Some(security) = self.matched.route.security_headers {
            let edits = &self.matched.route.response_headers;
            let is_there = |name: &str| {
                edits.set.iter().chain(&edits.add).any(|(own, _)| own.matches(name.as_bytes()))
                    || fields.iter().any(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))
            };
            security.append(self.matched.is_tls, is_there, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_cookies_goes_on_without_those_of_one_name() {
        let check = |line: &str, expected: &str| {
            let others = other_cookies(line.as_bytes(), b"s");
            assert_eq!(String::from_utf8(others).unwrap(), expected, "{line}");
        };
        check("s=1", "");
        check("a=1; s=2; b=3", "a=1; b=3");
        check("s=1;s=2;a=1;", "a=1;");
        check("s=1;  a=\"x;y\";b=2;s=3", "a=\"x;y\";b=2");
        check("s=1; s=2;", "");
        check("ss=1; S=2;a; =3", "ss=1; S=2;a; =3");
        check(" s ; a=\"s=1\"", "a=\"s=1\"");
        check("", "");
    }
}
