//! Texts with placeholders from a small closed set, such as `https://{host}{uri}`: parsed once, rendered into a buffer.
//!
//! A brace is written twice to stand for itself: `{{` and `}}`. A rendered value never ends a line: control bytes in it
//! are replaced, in URIs they are percent-encoded.

use std::fmt;

/// What a template can name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// The client's address without a port.
    ClientIp,
    /// The host that was asked for, without a port.
    Host,
    /// The path, without the query.
    Path,
    /// The query, without its `?`; empty when there is none.
    Query,
    /// Path and query as they came, with the `?` between them.
    Uri,
    /// The method.
    Method,
    /// `http` or `https`: what the client used.
    Scheme,
    /// The id of the request, as in the log.
    RequestId,
    /// The TLS version of the client's connection, such as `TLSv1.3`; empty without TLS.
    TlsVersion,
    /// The name of the server that was chosen; empty while none is.
    Server,
    /// The name of the route.
    Route,
    /// The name of the pool.
    Pool,
    /// The port that the client connected to; empty on a Unix socket.
    Port,
    /// The first value of a header of the request, as the client sent it.
    Header(Box<str>),
    /// A group of a regular expression, 1 to 9: that of the route's path, or that of a replacement.
    Capture(u8),
}

/// All placeholders but the headers and the captures, by name.
static NAMED: [(&str, Placeholder); 13] = [
    ("client_ip", Placeholder::ClientIp),
    ("host", Placeholder::Host),
    ("port", Placeholder::Port),
    ("path", Placeholder::Path),
    ("query", Placeholder::Query),
    ("uri", Placeholder::Uri),
    ("method", Placeholder::Method),
    ("scheme", Placeholder::Scheme),
    ("request_id", Placeholder::RequestId),
    ("tls_version", Placeholder::TlsVersion),
    ("server", Placeholder::Server),
    ("route", Placeholder::Route),
    ("pool", Placeholder::Pool),
];

impl Placeholder {
    /// The names of all but the headers and the captures.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }

    /// The placeholder of a name, of `header:NAME`, or of the digit of a capture.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(header) = name.strip_prefix("header:") {
            return is_token(header).then(|| Placeholder::Header(header.into()));
        }
        match name.as_bytes() {
            [digit @ b'1'..=b'9'] => Some(Placeholder::Capture(digit - b'0')),
            _ => NAMED.iter().find(|(known, _)| *known == name).map(|(_, placeholder)| placeholder.clone()),
        }
    }
}

/// Where the values of placeholders come from.
pub trait Values {
    /// Appends the value; nothing when there is none. Any bytes may be appended: the template masks what is not safe.
    fn write(&self, placeholder: &Placeholder, out: &mut Vec<u8>);
}

/// A parsed text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Value(Placeholder),
}

/// A piece of a text that is rendered but for the groups of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it is written.
    Text(Vec<u8>),
    /// A group, 1 to 9.
    Capture(u8),
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No placeholder has this name.
    Unknown(String),
    /// A brace without its partner.
    Brace(char),
    /// A control character, which could end a line.
    Control,
}

impl fmt::Display for Fault {
    /// What is wrong, to follow the text itself: `has no placeholder {hots}`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unknown(name) => write!(out, "has {{{name}}}, which is not a placeholder"),
            Fault::Brace(brace) => {
                write!(
                    out,
                    "has a single {brace}; write a name between braces, or {brace}{brace} for the brace itself"
                )
            }
            Fault::Control => out.write_str("has a control character; write visible characters"),
        }
    }
}

impl Template {
    /// Parses a text.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.chars().any(|char| char.is_control() && char != '\t') {
            return Err(Fault::Control);
        }
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                plain.push_str(&brace[..1]);
                rest = after;
                continue;
            }
            let inside = brace.strip_prefix('{').ok_or(Fault::Brace('}'))?;
            let (name, after) = inside.split_once('}').ok_or(Fault::Brace('{'))?;
            let placeholder = Placeholder::named(name).ok_or_else(|| Fault::Unknown(name.to_owned()))?;
            push_text(&mut parts, &mut plain);
            parts.push(Part::Value(placeholder));
            rest = after;
        }
        plain.push_str(rest);
        push_text(&mut parts, &mut plain);
        Ok(Template { parts })
    }

    /// The text when it has no placeholder.
    pub fn constant(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text before the first placeholder.
    pub fn start(&self) -> &[u8] {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => b"",
        }
    }

    /// The placeholders, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(placeholder) => Some(placeholder),
            Part::Text(_) => None,
        })
    }

    /// The highest capture that is named; 0 when none is.
    pub fn captures(&self) -> u8 {
        let number = |placeholder: &Placeholder| {
            if let Placeholder::Capture(number) = placeholder { *number } else { 0 }
        };
        self.placeholders().map(number).max().unwrap_or(0)
    }

    /// Appends the text for a header value. Control bytes of values become `_`.
    pub fn render(&self, values: &(impl Values + ?Sized), out: &mut Vec<u8>) {
        self.each(values, out, |out, start| {
            for byte in out.iter_mut().skip(start).filter(|byte| is_control(**byte)) {
                *byte = b'_';
            }
        });
    }

    /// Appends the text for a URI. Bytes of values that a URI cannot have, and `#`, are percent-encoded.
    pub fn render_uri(&self, values: &(impl Values + ?Sized), out: &mut Vec<u8>) {
        self.each(values, out, |out, start| encode_from(out, start, is_uri));
    }

    /// The same for a path that may be followed by a query: a value cannot begin a query, nor a parameter in one.
    pub fn render_path(&self, values: &(impl Values + ?Sized), out: &mut Vec<u8>) {
        let begin = out.len();
        self.each(values, out, |out, start| {
            let is_query = out.get(begin..start).is_some_and(|before| before.contains(&b'?'));
            encode_from(out, start, if is_query { is_parameter } else { is_path });
        });
    }

    /// The text for a header value, in which groups are still to be inserted.
    pub fn pieces(&self, values: &(impl Values + ?Sized)) -> Vec<Piece> {
        let piece = |part: &Part| match part {
            Part::Text(text) => Piece::Text(text.to_vec()),
            Part::Value(Placeholder::Capture(number)) => Piece::Capture(*number),
            Part::Value(placeholder) => {
                let mut text = Vec::new();
                values.write(placeholder, &mut text);
                text.iter_mut().filter(|byte| is_control(**byte)).for_each(|byte| *byte = b'_');
                Piece::Text(text)
            }
        };
        self.parts.iter().map(piece).collect()
    }

    fn each(&self, values: &(impl Values + ?Sized), out: &mut Vec<u8>, mask: impl Fn(&mut Vec<u8>, usize)) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Value(placeholder) => {
                    let start = out.len();
                    values.write(placeholder, out);
                    mask(out, start);
                }
            }
        }
    }
}

fn push_text(parts: &mut Vec<Part>, plain: &mut String) {
    if !plain.is_empty() {
        parts.push(Part::Text(std::mem::take(plain).into_bytes().into()));
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(is_char)
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// Whether a byte may stand in a URI as it is. What a request target had is left as it came, so this is wider than RFC
/// 3986.
fn is_uri(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\')
}

fn is_path(byte: u8) -> bool {
    is_uri(byte) && byte != b'?'
}

fn is_parameter(byte: u8) -> bool {
    is_path(byte) && !matches!(byte, b'&' | b'=' | b';' | b'+')
}

/// Percent-encodes from an offset on; copies only when there is something to encode.
fn encode_from(out: &mut Vec<u8>, start: usize, is_plain: fn(u8) -> bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let Some(first) = out.iter().skip(start).position(|byte| !is_plain(*byte)) else { return };
    for byte in out.split_off(start + first) {
        match is_plain(byte) {
            true => out.push(byte),
            false => out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same value for every placeholder.
    struct Same<'v>(&'v [u8]);

    impl Values for Same<'_> {
        fn write(&self, placeholder: &Placeholder, out: &mut Vec<u8>) {
            match placeholder {
                Placeholder::Capture(number) => out.push(b'0' + number),
                _ => out.extend_from_slice(self.0),
            }
        }
    }

    fn rendered(text: &str, value: &[u8]) -> String {
        let mut out = Vec::new();
        Template::parse(text).unwrap().render(&Same(value), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn texts_are_rendered() {
        let check = |text: &str, expected: &str| assert_eq!(rendered(text, b"v"), expected, "{text}");
        check("", "");
        check("plain", "plain");
        check("https://{host}{uri}", "https://vv");
        check("{1}/{9}", "1/9");
        check("{{host}}", "{host}");
        check("{{{host}}}", "{v}");
        check("a{{b", "a{b");
        for name in Placeholder::names().chain(["header:X-Env"]) {
            check(&format!("<{{{name}}}>"), "<v>");
        }
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let check = |text: &str, expected: Fault| assert_eq!(Template::parse(text), Err(expected), "{text}");
        check("{hots}", Fault::Unknown("hots".into()));
        check("{header:}", Fault::Unknown("header:".into()));
        check("{header:a b}", Fault::Unknown("header:a b".into()));
        check("{0}", Fault::Unknown("0".into()));
        check("{10}", Fault::Unknown("10".into()));
        check("{}", Fault::Unknown(String::new()));
        check("{Host}", Fault::Unknown("Host".into()));
        check("a{host", Fault::Brace('{'));
        check("a}b", Fault::Brace('}'));
        check("a\r\nb", Fault::Control);
        check("\0", Fault::Control);
        assert!(Fault::Brace('{').to_string().contains("{{"));
    }

    #[test]
    fn what_a_template_names_is_known() {
        let template = Template::parse("/a/{2}{host}{1}").unwrap();
        assert_eq!((template.captures(), template.start()), (2, &b"/a/"[..]));
        assert_eq!(template.constant(), None);
        assert_eq!(Template::parse("x").unwrap().constant(), Some(&b"x"[..]));
        assert_eq!(Template::parse("").unwrap().constant(), Some(&b""[..]));
        assert_eq!(Template::parse("{host}").unwrap().start(), b"");
    }

    #[test]
    fn groups_are_left_for_later() {
        let pieces = Template::parse("https://{host}/{2}").unwrap().pieces(&Same(b"a\r"));
        let text = |text: &str| Piece::Text(text.into());
        assert_eq!(pieces, [text("https://"), text("a_"), text("/"), Piece::Capture(2)]);
    }

    #[test]
    fn a_value_cannot_end_a_line() {
        assert_eq!(rendered("{host}", b"a\r\nX: 1\0\x7f\tb"), "a__X: 1__\tb");
        let mut out = b"# ".to_vec();
        Template::parse("/{host}#f").unwrap().render_uri(&Same(b"a\r\n#\xff b%20"), &mut out);
        assert_eq!(out, b"# /a%0D%0A%23%FF%20b%20#f");
    }

    #[test]
    fn a_value_cannot_begin_a_query_or_a_parameter() {
        let mut out = b"GET /?".to_vec();
        Template::parse("/{host}?a={host}&b").unwrap().render_path(&Same(b"x?y&z=1%41"), &mut out);
        assert_eq!(out, b"GET /?/x%3Fy&z=1%41?a=x%3Fy%26z%3D1%41&b");
    }

    proptest! {
        #[test]
        fn any_value_leaves_no_control_byte(value in prop::collection::vec(any::<u8>(), 0..20)) {
            let template = Template::parse("a{host}b").unwrap();
            let (mut plain, mut uri) = (Vec::new(), Vec::new());
            template.render(&Same(&value), &mut plain);
            template.render_uri(&Same(&value), &mut uri);
            prop_assert!(!plain.iter().any(|byte| is_control(*byte)));
            prop_assert!(uri.iter().all(|byte| is_uri(*byte)));
        }

        #[test]
        fn any_text_is_parsed_or_has_a_fault(text in "[{}a-z0-9]{0,20}") {
            if let Ok(template) = Template::parse(&text) {
                template.render(&Same(b""), &mut Vec::new());
            }
        }
    }
}
