//! The request target and the authority it or Host names (RFC 9112 section 3.2, RFC 3986 section 3.2).

use super::reason::Reason;

/// The parts of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'b> {
    /// For the request line to the server: origin form, `*`, or the rest of an absolute form.
    pub(super) path: &'b [u8],
    /// Write a `/` before `path`.
    pub(super) slash_first: bool,
    /// The authority of an absolute form.
    pub(super) authority: Option<&'b [u8]>,
    /// The absolute form has the scheme `https`.
    pub(super) secure: bool,
}

/// Determines the form of the target. Never called for CONNECT.
pub(super) fn read<'b>(method: &[u8], target: &'b [u8]) -> Result<Target<'b>, Reason> {
    match target {
        [b'/', ..] => Ok(plain(target)),
        b"*" if method == b"OPTIONS" => Ok(plain(target)),
        _ => absolute(method, target).ok_or(Reason::BadTarget),
    }
}

/// A target that names no authority.
fn plain(path: &[u8]) -> Target<'_> {
    Target { path, slash_first: false, authority: None, secure: false }
}

/// `uri-host [ ":" port ]` with a host that is not empty (RFC 9110 sections 4.2.1 and 7.2). User information is
/// rejected: its `@` is not allowed in a host (RFC 9110 section 4.2.4). So is what a URI could have and no name has: a server
/// that decodes `%61` or splits at a comma would read another host than routes and `client_auth` do.
pub(super) fn is_authority(authority: &[u8]) -> bool {
    let (is_host, port) = match authority {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let (literal, port) = rest.split_at(end);
            (is_ip_literal(literal), port.get(1..).unwrap_or_default())
        }
        [] | [b':', ..] => return false,
        _ => {
            let end = authority.iter().position(|byte| !is_host_byte(*byte)).unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            (!has_empty_label(host), port)
        }
    };
    is_host && is_port(port)
}

/// No name has one, but for that of the root at its end, which routes leave out.
fn has_empty_label(host: &[u8]) -> bool {
    host.first() == Some(&b'.') || host.windows(2).any(|pair| pair == b"..")
}

/// Absolute form. `OPTIONS` for a whole server, which has an empty path, becomes `*` (RFC 9112 section 3.2.4).
fn absolute<'b>(method: &[u8], target: &'b [u8]) -> Option<Target<'b>> {
    let in_the_clear = after_prefix(target, b"http://");
    let secure = in_the_clear.is_none();
    let rest = in_the_clear.or_else(|| after_prefix(target, b"https://"))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !is_authority(authority) {
        return None;
    }
    Some(match path {
        [] if method == b"OPTIONS" => {
            Target { path: b"*", slash_first: false, authority: Some(authority), secure }
        }
        _ => Target { path, slash_first: path.first() != Some(&b'/'), authority: Some(authority), secure },
    })
}

fn after_prefix<'b>(target: &'b [u8], prefix: &[u8]) -> Option<&'b [u8]> {
    let (start, rest) = target.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Nothing, or `:` and digits; the digits may be missing, and must be a valid port.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':'] => true,
        [b':', digits @ ..] => super::fields::decimal(digits).is_some_and(|port| port <= 65_535),
        _ => false,
    }
}

/// IPv6 by the standard library; a future version (`v1.…`) by its grammar.
fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = literal {
        let Some(dot) = rest.iter().position(|byte| *byte == b'.') else { return false };
        let (version, address) = rest.split_at(dot);
        let address = address.get(1..).unwrap_or_default();
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|byte| is_host_byte(*byte) || *byte == b':');
    }
    std::str::from_utf8(literal).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_host_byte(byte: u8) -> bool {
    HOST_BYTES[byte as usize]
}

/// [`is_host_byte`] for each byte.
const HOST_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        allowed[byte] = is_unreserved_or_delimiter(byte as u8);
        byte += 1;
    }
    allowed
};

const fn is_unreserved_or_delimiter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+')
        || matches!(byte, b';' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        let check =
            |authority: &str, good| assert_eq!(is_authority(authority.as_bytes()), good, "{authority:?}");
        for good in ["a", "a.b", "a:80", "a:", "a:65535", "127.0.0.1:1", "[::1]", "[::1]:80", "[v1.a:b]"] {
            check(good, true);
        }
        for good in ["a_b", "xn--bcher-kva.example", "[::ffff:1.2.3.4]:", "a.", "a:0"] {
            check(good, true);
        }
        for bad in
            ["", ":80", "a:b", "a:80:80", "a:65536", "a:+8", "u@a", "u:p@a", "a b", "a/b", "a?b", "a#b"]
        {
            check(bad, false);
        }
        for bad in [".", "..", ".a", "a..", "a..b", "a..:80", ".:80"] {
            check(bad, false);
        }
        for bad in [
            "[::1",
            "::1",
            "[]",
            "[::1]80",
            "[::1]a",
            "[1.2.3.4]",
            "[v1.]",
            "[v.a]",
            "[fe80::1%25e]",
            "a%2",
            "a%gg",
            "a%62",
            "a%62:80",
            "a,b",
            "a,",
        ] {
            check(bad, false);
        }
        for bad in ["a\\b", "a\"", "a<", "a>", "a|b", "a^b", "a{b}", "\u{e9}", "a,b@c", "a\tb", "a\0"] {
            check(bad, false);
        }
    }

    #[track_caller]
    fn check(method: &str, target: &'static str, expected: Option<(&str, bool, Option<&str>)>) {
        let expected = expected.map(|(path, slash_first, authority)| Target {
            path: path.as_bytes(),
            slash_first,
            authority: authority.map(str::as_bytes),
            secure: target.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        });
        assert_eq!(read(method.as_bytes(), target.as_bytes()).ok(), expected, "{method} {target}");
    }

    #[test]
    fn forms() {
        check("GET", "/", Some(("/", false, None)));
        check("GET", "//a?b", Some(("//a?b", false, None)));
        check("OPTIONS", "*", Some(("*", false, None)));
        check("GET", "*", None);
        check("OPTIONS", "**", None);
        check("GET", "http://a/b", Some(("/b", false, Some("a"))));
        check("GET", "HTTPS://a:1", Some(("", true, Some("a:1"))));
        check("GET", "http://a?q", Some(("?q", true, Some("a"))));
        check("OPTIONS", "http://a:1", Some(("*", false, Some("a:1"))));
        check("OPTIONS", "http://a/", Some(("/", false, Some("a"))));
        check("OPTIONS", "http://a?q", Some(("?q", true, Some("a"))));
        for bad in [
            "a",
            "a:80",
            "a/b",
            "?q",
            "http:",
            "http:/a",
            "http://",
            "http:///a",
            "ftp://a/",
            "http://u@a/",
            "http://a:b/",
        ] {
            check("GET", bad, None);
        }
    }
}
