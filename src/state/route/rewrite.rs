//! Changes to the target and the host of a request, and the targets of redirects.

use crate::base::template::{Placeholder, Template, Values};
use crate::http1::path::{self, EncodedSlash, Unsafe};

/// What a route changes in the target that is forwarded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrite {
    /// Whole segments that are taken from the start of the path, `/v1`; a path without them stays.
    pub strip_prefix: Option<Box<[u8]>>,
    /// Replaces the path. `{path}` in it is the normalised path after `strip_prefix`. May have a query, to which the
    /// request's own is appended.
    pub path: Option<Template>,
    /// Replaces the host.
    pub host: Option<NewHost>,
}

/// The host with which a request goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum NewHost {
    /// This one.
    Text(Template),
    /// The host and port of the server that was chosen, which is not known yet when the head is written.
    OfServer,
}

/// A redirect.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The value of `Location`.
    pub target: Template,
}

impl Rewrite {
    /// Appends the new target: a path that begins with `/` and the query, without bytes that a target cannot have. `path` is
    /// the normalised one. Nothing is appended when what was inserted made the path unsafe; that is 400 `unsafe_path`.
    /// Returns false, with nothing appended, when the target stays as it came.
    pub fn target(
        &self,
        path: &[u8],
        query: Option<&[u8]>,
        slash: EncodedSlash,
        values: &impl Values,
        out: &mut Vec<u8>,
    ) -> Result<bool, Unsafe> {
        // The asterisk of OPTIONS is for the whole server.
        if path == b"*" || (self.strip_prefix.is_none() && self.path.is_none()) {
            return Ok(false);
        }
        let start = out.len();
        let stripped = self.strip_prefix.as_deref().map_or(path, |prefix| without_prefix(path, prefix));
        match &self.path {
            None => out.extend_from_slice(stripped),
            Some(template) => {
                template.render_path(&WithPath { path: stripped, values }, out);
                if out.get(start) != Some(&b'/') {
                    out.insert(start, b'/');
                }
            }
        }
        if let Err(cause) = check(out.get(start..).unwrap_or_default(), slash) {
            out.truncate(start);
            return Err(cause);
        }
        append_query(query, start, out);
        Ok(true)
    }

    /// Appends the new host; false, with nothing appended, when it stays as it came, when it is that of the server, or when
    /// what was inserted is not a host.
    pub fn host(&self, values: &impl Values, out: &mut Vec<u8>) -> bool {
        let Some(NewHost::Text(template)) = &self.host else { return false };
        let start = out.len();
        template.render(values, out);
        let is_host = is_host(out.get(start..).unwrap_or_default());
        if !is_host {
            out.truncate(start);
        }
        is_host
    }

    /// Every template.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let host = match &self.host {
            Some(NewHost::Text(template)) => Some(template),
            Some(NewHost::OfServer) | None => None,
        };
        self.path.iter().chain(host)
    }
}

impl Redirect {
    /// Appends the value of `Location`. One slash at most begins it where the path of the request does, because
    /// `//host/` would lead to another host.
    pub fn location(&self, values: &impl Values, out: &mut Vec<u8>) {
        let start = out.len();
        self.target.render_uri(values, out);
        // A target that ends in `?{query}` or `&{query}`, for a request without a query.
        if (out.ends_with(b"?") || out.ends_with(b"&"))
            && self.target.placeholders().last() == Some(&Placeholder::Query)
        {
            out.pop();
        }
        if matches!(self.target.start(), b"" | b"/") {
            let slashes = out.iter().skip(start).take_while(|byte| **byte == b'/').count();
            out.drain(start..start + slashes.saturating_sub(1));
        }
    }
}

/// The path behind a prefix of whole segments, `/` at least.
fn without_prefix<'p>(path: &'p [u8], prefix: &[u8]) -> &'p [u8] {
    match path.strip_prefix(prefix) {
        Some(b"") => b"/",
        Some(rest) if rest.starts_with(b"/") => rest,
        _ => path,
    }
}

/// Whether a target's path is safe. Dot segments can only come from inserted values.
fn check(target: &[u8], slash: EncodedSlash) -> Result<(), Unsafe> {
    match path::normalise(path::split(target).0, slash)?.has_dot_dot {
        true => Err(Unsafe::AboveRoot),
        false => Ok(()),
    }
}

fn append_query(query: Option<&[u8]>, start: usize, out: &mut Vec<u8>) {
    let Some(query) = query else { return };
    let has_query = out.get(start..).is_some_and(|target| target.contains(&b'?'));
    match has_query {
        true if query.is_empty() => return,
        true if out.ends_with(b"?") => {}
        true => out.push(b'&'),
        false => out.push(b'?'),
    }
    out.extend_from_slice(query);
}

/// Letters, digits and what stands in hosts, ports and IPv6 literals.
fn is_host(host: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]~".contains(byte);
    !host.is_empty() && host.len() <= 255 && host.iter().all(is_plain)
}

/// Values with another path.
struct WithPath<'v, V> {
    path: &'v [u8],
    values: &'v V,
}

impl<V: Values> Values for WithPath<'_, V> {
    fn write(&self, placeholder: &Placeholder, out: &mut Vec<u8>) {
        match placeholder {
            Placeholder::Path => out.extend_from_slice(self.path),
            other => self.values.write(other, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sample;
    use super::*;
    use proptest::prelude::*;

    fn rewrite(strip: &str, path: &str) -> Rewrite {
        Rewrite {
            strip_prefix: (!strip.is_empty()).then(|| strip.as_bytes().into()),
            path: (!path.is_empty()).then(|| Template::parse(path).unwrap()),
            host: None,
        }
    }

    fn rewritten(rewrite: &Rewrite, target: &str, values: &Sample) -> Result<Option<String>, Unsafe> {
        let (path, query) = path::split(target.as_bytes());
        let mut out = b"GET ".to_vec();
        let changed = rewrite.target(path, query, EncodedSlash::Refuse, values, &mut out)?;
        let out = String::from_utf8(out.split_off(4)).unwrap();
        Ok(changed.then_some(out))
    }

    #[track_caller]
    fn check(strip: &str, path: &str, target: &str, expected: &str) {
        let found = rewritten(&rewrite(strip, path), target, &Sample::default());
        assert_eq!(found.unwrap().as_deref().unwrap_or(target), expected, "{strip} {path} {target}");
    }

    #[test]
    fn targets_keep_their_query() {
        check("", "", "/a?b", "/a?b");
        check("/v1", "", "/v1/a?b=c", "/a?b=c");
        check("/v1", "", "/v1", "/");
        check("/v1", "", "/v1?x", "/?x");
        check("/v1", "", "/v1/", "/");
        check("/v1", "", "/v10/a", "/v10/a");
        check("/v1", "/api/v2{path}", "/v1/a?b", "/api/v2/a?b");
        check("", "/app{path}", "/a", "/app/a");
        check("", "/new/{1}", "/old/7?x=1", "/new/seven?x=1");
        check("", "/show?id={1}", "/old/7?x=1", "/show?id=seven&x=1");
        check("", "/show?id={1}", "/old/7", "/show?id=seven");
        check("", "/show?id={1}", "/old/7?", "/show?id=seven");
        check("", "/index.php?", "/a?b", "/index.php?b");
        check("", "{1}", "/a", "/seven");
        check("/v1", "/x{path}", "*", "*");
    }

    #[test]
    fn inserted_values_cannot_leave_the_path() {
        let check = |value: &str, expected: Result<&str, Unsafe>| {
            let values = Sample { capture: value.to_owned(), ..Sample::default() };
            let found = rewritten(&rewrite("", "/files/{1}"), "/a", &values);
            assert_eq!(found.map(Option::unwrap), expected.map(str::to_owned), "{value}");
        };
        check("a b\r\nX: 1", Ok("/files/a%20b%0D%0AX:%201"));
        check("a#b", Ok("/files/a%23b"));
        check("a?b=c", Ok("/files/a%3Fb=c"));
        check("../etc", Err(Unsafe::AboveRoot));
        check("a/../b", Err(Unsafe::AboveRoot));
        check("%2e%2e/b", Err(Unsafe::AboveRoot));
        check("%2", Err(Unsafe::BadEncoding));
        check("a%2Fb", Err(Unsafe::EncodedSlash));
    }

    #[test]
    fn a_host_is_replaced_by_a_host_only() {
        let host = |text: &str, server: &str| {
            let rewrite =
                Rewrite { host: Some(NewHost::Text(Template::parse(text).unwrap())), ..Rewrite::default() };
            let values = Sample { server: server.to_owned(), ..Sample::default() };
            let mut out = Vec::new();
            rewrite.host(&values, &mut out).then(|| String::from_utf8(out).unwrap())
        };
        assert_eq!(host("internal.example", "").as_deref(), Some("internal.example"));
        assert_eq!(host("{server}.example", "a").as_deref(), Some("a.example"));
        assert_eq!(host("{server}", "a b"), None);
        assert_eq!(host("{server}", ""), None);
        assert!(!Rewrite::default().host(&Sample::default(), &mut Vec::new()));
    }

    #[test]
    fn a_redirect_stays_on_its_host() {
        let check = |target: &str, uri: &str, expected: &str| {
            let redirect = Redirect { status: 302, target: Template::parse(target).unwrap() };
            let values = Sample { uri: uri.to_owned(), ..Sample::default() };
            let mut out = Vec::new();
            redirect.location(&values, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{target} {uri}");
        };
        check("https://{host}{uri}", "/a?b=c", "https://www.example.com/a?b=c");
        check("/new/{1}?{query}", "/a", "/new/seven");
        check("/new?a=1&{query}", "/a", "/new?a=1");
        check("{uri}", "//evil.example/a", "/evil.example/a");
        check("/{uri}", "//evil.example/a", "/evil.example/a");
        check("/new{uri}", "/a", "/new/a");
        check("{uri}", "/a\r\nX: 1", "/a%0D%0AX:%201");
        check("{uri}", "/\\evil.example", "/%5Cevil.example");
        check("https://a.example//x", "", "https://a.example//x");
    }

    proptest! {
        #[test]
        fn any_value_gives_a_valid_target_or_none(value in prop::collection::vec(any::<char>(), 0..12)) {
            let values = Sample { capture: value.into_iter().collect(), ..Sample::default() };
            if let Ok(Some(target)) = rewritten(&rewrite("", "/a{1}/b?c={1}"), "/x?y", &values) {
                prop_assert!(target.starts_with('/') && target.ends_with("&y") && target.matches('?').count() == 1);
                prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
            }
        }
    }
}
