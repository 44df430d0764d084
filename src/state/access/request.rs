//! What the access log and traces say of a request as its client sent it: in one allocation.

/// The request line, and the headers that logs have. Empty where nothing is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestText {
    bytes: Box<[u8]>,
    /// Where the request line, the host and the referer end; the rest is the user agent.
    ends: [u32; 3],
}

impl RequestText {
    /// Of a request line, `Host`, `Referer` and `User-Agent`.
    pub fn of(line: &[&[u8]], host: &[u8], referer: &[u8], user_agent: &[u8]) -> Self {
        let line_len: usize = line.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(line_len + host.len() + referer.len() + user_agent.len());
        line.iter().for_each(|part| bytes.extend_from_slice(part));
        [host, referer, user_agent].iter().for_each(|part| bytes.extend_from_slice(part));
        let ends = [line_len, line_len + host.len(), line_len + host.len() + referer.len()];
        RequestText { bytes: bytes.into(), ends: ends.map(|end| end as u32) }
    }

    /// Method, target and version with spaces between, as received.
    pub fn line(&self) -> &[u8] {
        self.part(0, self.ends[0])
    }

    /// Before the first space.
    pub fn method(&self) -> &[u8] {
        self.line().split(|byte| *byte == b' ').next().unwrap_or_default()
    }

    /// Between the method and the version; of what is no request line, all behind the method.
    pub fn target(&self) -> &[u8] {
        let rest = self.line().get(self.method().len() + 1..).unwrap_or_default();
        let version = self.protocol().len();
        rest.get(..rest.len().saturating_sub(version + usize::from(version > 0))).unwrap_or_default()
    }

    /// `HTTP/1.1` or `HTTP/1.0`; empty where the line has none.
    pub fn protocol(&self) -> &[u8] {
        let line = self.line();
        let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        if last.len() < line.len() && last.starts_with(b"HTTP/") { last } else { &[] }
    }

    /// The value of `Host`.
    pub fn host(&self) -> &[u8] {
        self.part(self.ends[0], self.ends[1])
    }

    /// The value of `Referer`.
    pub fn referer(&self) -> &[u8] {
        self.part(self.ends[1], self.ends[2])
    }

    /// The value of `User-Agent`.
    pub fn user_agent(&self) -> &[u8] {
        self.part(self.ends[2], self.bytes.len() as u32)
    }

    fn part(&self, from: u32, to: u32) -> &[u8] {
        self.bytes.get(from as usize..to as usize).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, method: &str, target: &str, protocol: &str) {
        let text = RequestText::of(&[line.as_bytes()], b"h", b"r", b"ua");
        let parts = [text.line(), text.method(), text.target(), text.protocol()];
        assert_eq!(
            parts.map(|part| String::from_utf8_lossy(part).into_owned()),
            [line, method, target, protocol]
        );
        assert_eq!((text.host(), text.referer(), text.user_agent()), (&b"h"[..], &b"r"[..], &b"ua"[..]));
    }

    #[test]
    fn a_line_has_its_parts_whatever_it_is() {
        check("GET /x?a=b HTTP/1.1", "GET", "/x?a=b", "HTTP/1.1");
        check("GET /a b HTTP/1.0", "GET", "/a b", "HTTP/1.0");
        check("GET /x", "GET", "/x", "");
        check("GET", "GET", "", "");
        check("HTTP/1.1", "HTTP/1.1", "", "");
        check("GET HTTP/1.1", "GET", "", "HTTP/1.1");
        check("", "", "", "");
        check(" ", "", "", "");
    }
}
