//! One rule: the conditions that a request must meet, all of them.

use super::{Pattern, Request};
use crate::base::network::Network;
use std::borrow::Cow;

/// The conditions of a route. Empty lists do not restrict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Which hosts.
    pub host: Host,
    /// Which paths.
    pub path: Path,
    /// Any of these methods, in their case.
    pub methods: Vec<Box<[u8]>>,
    /// All of these headers; names in lower case.
    pub headers: Vec<Field>,
    /// All of these query parameters.
    pub query: Vec<Field>,
    /// All of these cookies.
    pub cookies: Vec<Field>,
    /// Clients in any of these networks. A client without an address (a Unix socket) is in none.
    pub clients: Vec<Network>,
    /// Requests that came in through a listener of any of these names.
    pub listeners: Vec<Box<str>>,
}

/// Which hosts a rule is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Host {
    /// All, and requests without a host.
    #[default]
    Any,
    /// This one, in lower case and without a port.
    Exact(Box<[u8]>),
    /// Every name under this one, at any depth, but not itself: `*.example.com` has `example.com` here.
    Under(Box<[u8]>),
}

/// Which paths a rule is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Path {
    /// This one, in normalised form.
    Exact(Box<[u8]>),
    /// This one and everything below it: `/v1` for `/v1`, `/v1/` and `/v1/a`, not for `/v10`. Without a slash at its end;
    /// empty for every path.
    Prefix(Box<[u8]>),
    /// What the expression matches.
    Pattern(Pattern),
}

/// A condition on a header, a query parameter or a cookie.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name; of headers in lower case.
    pub name: Box<[u8]>,
    /// What its value must be.
    pub test: Test,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Anything: the name is there.
    Present,
    /// The name is not there.
    Absent,
    /// Exactly this.
    Exact(Box<[u8]>),
    /// Begins with this.
    Prefix(Box<[u8]>),
    /// What the expression matches.
    Pattern(Pattern),
}

impl Default for Path {
    fn default() -> Self {
        Path::Prefix(Box::default())
    }
}

impl Rule {
    /// Whether the request meets all conditions but host and path, of which it meets what can be looked up; an
    /// expression in the path is tried here.
    pub(super) fn holds(&self, request: &impl Request) -> bool {
        self.has_method(request)
            && self.has_client(request)
            && self.has_listener(request)
            && self.path.has_pattern(request.path())
            && self.headers.iter().all(|field| field.test.holds(|each| request.header(&field.name, each)))
            && self.query.iter().all(|field| field.holds_in_query(request.query()))
            && self.cookies.iter().all(|field| field.holds_in_cookies(request))
    }

    fn has_method(&self, request: &impl Request) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|method| **method == *request.method())
    }

    fn has_client(&self, request: &impl Request) -> bool {
        let is_in = |client| self.clients.iter().any(|network| network.contains(client));
        self.clients.is_empty() || request.client().is_some_and(is_in)
    }

    fn has_listener(&self, request: &impl Request) -> bool {
        self.listeners.is_empty() || self.listeners.iter().any(|name| **name == *request.listener())
    }
}

impl Path {
    /// Whether it is for this path, which is normalised.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Path::Exact(exact) => path == &**exact,
            Path::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            }
            Path::Pattern(pattern) => pattern.is_match(path),
        }
    }

    fn has_pattern(&self, path: &[u8]) -> bool {
        match self {
            Path::Pattern(pattern) => pattern.is_match(path),
            Path::Exact(_) | Path::Prefix(_) => true,
        }
    }
}

impl Test {
    /// `any` calls its argument with each value of the name until one returns true, and returns whether one did.
    fn holds(&self, any: impl Fn(&mut dyn FnMut(&[u8]) -> bool) -> bool) -> bool {
        match self {
            Test::Absent => !any(&mut |_| true),
            test => any(&mut |value| test.accepts(value)),
        }
    }

    fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Test::Present => true,
            Test::Absent => false,
            Test::Exact(exact) => value == &**exact,
            Test::Prefix(prefix) => value.starts_with(prefix),
            Test::Pattern(pattern) => pattern.is_match(value),
        }
    }
}

impl Field {
    fn holds_in_query(&self, query: &[u8]) -> bool {
        let pairs = || query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        self.test.holds(|each| {
            pairs().any(|pair| {
                let (name, value) = pair_at(pair, b'=');
                *decoded(name) == *self.name && each(&decoded(value))
            })
        })
    }

    fn holds_in_cookies(&self, request: &impl Request) -> bool {
        self.test.holds(|each| request.header(b"cookie", &mut |line| any_cookie(line, &self.name, each)))
    }
}

/// The first value of a cookie.
pub fn cookie<'r>(line: &'r [u8], name: &[u8]) -> Option<&'r [u8]> {
    cookies(line).find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn any_cookie(line: &[u8], name: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    cookies(line).any(|(known, value)| known == name && each(value))
}

/// `name=value` pairs between semicolons (RFC 6265 section 4.2.1).
pub fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').map(|pair| pair_at(pair.trim_ascii(), b'='))
}

/// Both sides of the first separator; the second is empty when there is none.
fn pair_at(pair: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(separator, pair) {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, b""),
    }
}

/// Percent-encoding and `+` resolved, as in a form; allocates only when there is some.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return Cow::Borrowed(text);
    }
    let hex = |digit: u8| char::from(digit).to_digit(16);
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [byte, after @ ..] = rest {
        let value = match after {
            [high, low, ..] if *byte == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        (out, rest) = match value {
            Some((high, low)) => {
                out.push((high * 16 + low) as u8);
                (out, &after[2..])
            }
            None => {
                out.push(if *byte == b'+' { b' ' } else { *byte });
                (out, after)
            }
        };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_compared_decoded() {
        let check = |test: Test, query: &str, expected: bool| {
            let field = Field { name: b"a".as_slice().into(), test };
            assert_eq!(field.holds_in_query(query.as_bytes()), expected, "{field:?} {query}");
        };
        let exact = |text: &str| Test::Exact(text.as_bytes().into());
        check(exact("1"), "a=1", true);
        check(exact("1"), "b=1&a=2&a=1", true);
        check(exact("1"), "%61=%31", true);
        check(exact("b c"), "a=b+c", true);
        check(exact("b c"), "a=b%20c", true);
        check(exact("50%"), "a=50%", true);
        check(exact(""), "a", true);
        check(exact("1"), "ab=1&&", false);
        check(Test::Present, "", false);
        check(Test::Present, "b&a", true);
        check(Test::Absent, "b=a", true);
        check(Test::Absent, "a", false);
        check(Test::Prefix(b"v1".as_slice().into()), "a=v1.2", true);
        check(Test::Pattern(Pattern::new("^[0-9]+$").unwrap()), "a=12&b", true);
        check(Test::Pattern(Pattern::new("^[0-9]+$").unwrap()), "a=x", false);
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(cookie(line.as_bytes(), b"id"), expected.map(str::as_bytes), "{line}");
        };
        check("id=1", Some("1"));
        check("a=b; id=1=2;id=3", Some("1=2"));
        check("xid=1; ID=2", None);
        check("id", Some(""));
        check("", None);
    }
}
