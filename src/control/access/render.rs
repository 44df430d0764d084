//! The forms of the access log's lines. No value of a request can end a line, or look like another value of it.

use crate::base::time;
use crate::policy::backlog::Priority;
use crate::state::access::{Field, Format, Line, Part};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Lines in their final form.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Whole lines.
    pub(super) bytes: Vec<u8>,
    /// The last second that was written, and its text.
    date: (u64, String),
}

impl Batch {
    /// Takes the lines out.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends a line.
    pub(super) fn push(&mut self, line: &Line, format: &Format) {
        match format {
            Format::Default => self.push_default(line),
            Format::Combined => self.push_combined(line),
            Format::Json => push_json(line, &mut self.bytes),
            Format::Template(template) => {
                for part in template.parts() {
                    match part {
                        Part::Text(text) => self.bytes.extend_from_slice(text.as_bytes()),
                        Part::Field(field) => push_field(*field, line, &mut self.bytes),
                    }
                }
                self.bytes.push(b'\n');
            }
        }
    }

    fn push_default(&mut self, line: &Line) {
        self.push_common(line);
        let Batch { bytes, .. } = self;
        let server = line.server.as_ref().map_or("-", |server| &server.name);
        let reason = line.reason.map_or("-", |reason| reason.name());
        let (status, sent, id) = (line.status, line.bytes, &line.id);
        let took_ms = line.took.as_millis();
        let (whole, rest) = (took_ms / 1000, took_ms % 1000);
        // Writing to a Vec cannot fail, here and below.
        let _ = write!(bytes, "\" {status} {sent} {whole}.{rest:03} {server} {id} {reason}");
        let _ = match line.trace {
            Some(trace) => writeln!(bytes, " {trace:032x}"),
            None => writeln!(bytes),
        };
    }

    fn push_combined(&mut self, line: &Line) {
        self.push_common(line);
        let Batch { bytes, .. } = self;
        let _ = write!(bytes, "\" {} {} \"", line.status, line.body_bytes);
        escape_or_dash(line.request.referer(), bytes);
        bytes.extend_from_slice(b"\" \"");
        escape_or_dash(line.request.user_agent(), bytes);
        bytes.extend_from_slice(b"\"\n");
    }

    /// As the common form begins, up to the request line.
    fn push_common(&mut self, line: &Line) {
        let at = line.at_unix_ms / 1000;
        if self.date.1.is_empty() || self.date.0 != at {
            self.date = (at, date(at));
        }
        let Batch { bytes, date: (_, date) } = self;
        let _ = match line.client {
            Some(client) => write!(bytes, "{client}"),
            None => write!(bytes, "-"),
        };
        let _ = write!(bytes, " - - [{date}] \"");
        escape_or_dash(line.request.line(), bytes);
    }
}

/// What a field is of a line.
enum Of<'l> {
    Nothing,
    Text(Cow<'l, [u8]>),
    Whole(u64),
    Ms(Duration),
    Flag(bool),
}

fn value(field: Field, line: &Line) -> Of<'_> {
    let bytes = |bytes| Of::Text(Cow::Borrowed(bytes));
    let text = |text: Option<&'_ str>| text.map_or(Of::Nothing, |text| Of::Text(Cow::Owned(text.into())));
    let shown = |shown: Option<String>| shown.map_or(Of::Nothing, |text| Of::Text(Cow::Owned(text.into())));
    let ms = |ms: Option<Duration>| ms.map_or(Of::Nothing, Of::Ms);
    let names = line.names.as_deref();
    let tls = names.and_then(|names| names.tls.as_ref());
    match field {
        Field::Time => {
            let at = UNIX_EPOCH + Duration::from_millis(line.at_unix_ms);
            shown(Some(humantime::format_rfc3339_millis(at).to_string()))
        }
        Field::Client => shown(line.client.map(|client| client.to_string())),
        Field::Peer => shown(line.peer.map(|peer| peer.to_string())),
        Field::Priority => text(Some(
            names
                .and_then(|names| names.route.as_ref())
                .map_or(Priority::default(), |route| route.priority)
                .name(),
        )),
        Field::DeadlineMs => ms(line.phases.deadline),
        Field::Listener => text(names.and_then(|names| names.listener.as_deref())),
        Field::Method => bytes(line.request.method()),
        Field::Target => bytes(line.request.target()),
        Field::Host => bytes(line.request.host()),
        Field::Protocol => bytes(line.request.protocol()),
        Field::Status => Of::Whole(u64::from(line.status)),
        Field::ReceivedBytes => Of::Whole(line.received),
        Field::SentBytes => Of::Whole(line.body_bytes),
        Field::TotalMs => Of::Ms(line.took),
        Field::QueueMs => ms(line.phases.queue),
        Field::ConnectMs => ms(line.phases.connect),
        Field::FirstByteMs => ms(line.phases.first_byte),
        Field::Route => text(names.and_then(|names| names.route.as_ref()).map(|route| route.name.as_str())),
        Field::Pool => text(names.and_then(|names| names.pool.as_deref())),
        Field::Server => text(line.server.as_ref().map(|server| server.name.as_str())),
        Field::Tries => Of::Whole(u64::from(line.phases.tries)),
        Field::Hedged => Of::Flag(line.phases.hedged),
        Field::Reason => text(line.reason.map(|reason| reason.name())),
        Field::Referer => bytes(line.request.referer()),
        Field::UserAgent => bytes(line.request.user_agent()),
        Field::TlsVersion => text(tls.map(|(version, _)| *version)),
        Field::TlsCipher => text(tls.map(|(_, cipher)| &**cipher)),
        Field::RequestId => shown(Some(line.id.to_string())),
        Field::TraceId => shown(line.trace.map(|trace| format!("{trace:032x}"))),
        Field::MalformedLine => match names.and_then(|names| names.malformed_line) {
            Some(at) => Of::Whole(u64::from(at)),
            None => Of::Nothing,
        },
    }
}

/// One object a line. What a request does not have is null.
fn push_json(line: &Line, out: &mut Vec<u8>) {
    let mut object = Map::new();
    for (name, field) in Field::ALL {
        let value = match value(field, line) {
            Of::Nothing => Value::Null,
            Of::Text(text) if text.is_empty() => Value::Null,
            Of::Text(text) => Value::String(String::from_utf8_lossy(&text).into_owned()),
            Of::Whole(number) => Value::Number(number.into()),
            Of::Flag(flag) => Value::Bool(flag),
            Of::Ms(took) => {
                Number::from_f64(took.as_micros() as f64 / 1000.0).map_or(Value::Null, Value::Number)
            }
        };
        object.insert(name.to_owned(), value);
    }
    // Keys are texts, so it cannot fail.
    let _ = serde_json::to_writer(&mut *out, &object);
    out.push(b'\n');
}

/// In a template: as the combined form escapes; `-` for nothing.
fn push_field(field: Field, line: &Line, out: &mut Vec<u8>) {
    match value(field, line) {
        Of::Nothing => out.push(b'-'),
        Of::Text(text) => escape_or_dash(&text, out),
        Of::Flag(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        Of::Whole(number) => _ = write!(out, "{number}"),
        Of::Ms(took) => {
            let us = took.as_micros();
            let _ = write!(out, "{}.{:03}", us / 1000, us % 1000);
        }
    }
}

fn escape_or_dash(text: &[u8], out: &mut Vec<u8>) {
    match text {
        [] => out.push(b'-'),
        text => escape(text, out),
    }
}

/// Escapes what could forge a line or a field of the log, in the way of nginx.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        match byte {
            b'"' | b'\\' | ..=0x1f | 0x7f.. => {
                out.extend_from_slice(&[
                    b'\\',
                    b'x',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
            }
            _ => out.push(*byte),
        }
    }
}

/// `23/Nov/2026:06:00:00 +0000`.
fn date(unix: u64) -> String {
    // The date of HTTP has the same parts: `Mon, 23 Nov 2026 06:00:00 GMT`.
    let http = time::http_date_at(unix);
    format!("{}/{}/{}:{} +0000", &http[5..7], &http[8..11], &http[12..16], &http[17..25])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::ids::{RequestId, TraceId};
    use crate::http1::reason::Reason;
    use crate::state::access::{LinePhases, Names, RequestText, Template};
    use proptest::prelude::*;

    /// A line of this request line.
    pub(in super::super) fn line(request: &[u8]) -> Line {
        Line {
            client: Some([127, 0, 0, 1].into()),
            peer: None,
            at_unix_ms: 1_795_413_600_250,
            request: RequestText::of(&[request], b"", b"", b""),
            status: 200,
            received: 0,
            bytes: 123,
            body_bytes: 23,
            took: Duration::from_micros(4_999),
            phases: LinePhases::default(),
            id: TraceId::new(None, RequestId::new(0x0123_4567_89ab_cdef, 42)),
            trace: None,
            server: None,
            reason: None,
            names: None,
        }
    }

    fn rendered(line: &Line, format: &Format) -> String {
        let mut batch = Batch::default();
        batch.push(line, format);
        String::from_utf8(batch.bytes).unwrap()
    }

    #[track_caller]
    fn check(line: &Line, format: &Format, expected: &str) {
        assert_eq!(rendered(line, format), format!("{expected}\n"));
    }

    #[test]
    fn lines_have_the_documented_form() {
        let id = "0123456789abcdef000000000000002a";
        let get = || line(b"GET /x HTTP/1.1");
        let begin = r#"127.0.0.1 - - [23/Nov/2026:06:00:00 +0000] "GET /x HTTP/1.1" 200"#;
        check(&get(), &Format::Default, &format!("{begin} 123 0.004 - {id} -"));
        let traced = Line { trace: Some(0xab), ..get() };
        let trace = "000000000000000000000000000000ab";
        check(&traced, &Format::Default, &format!("{begin} 123 0.004 - {id} - {trace}"));
        let rejected = Line {
            client: None,
            at_unix_ms: 0,
            status: 400,
            took: Duration::from_millis(61_020),
            reason: Some(Reason::BadHost),
            ..line(b"")
        };
        let expected = format!(r#"- - - [01/Jan/1970:00:00:00 +0000] "-" 400 123 61.020 - {id} bad_host"#);
        check(&rejected, &Format::Default, &expected);
        check(&get(), &Format::Combined, &format!(r#"{begin} 23 "-" "-""#));
        let request = RequestText::of(&[b"GET /x HTTP/1.1"], b"h", b"http://a/\"b", b"curl/8 (x)");
        let combined = Line { request, ..get() };
        check(&combined, &Format::Combined, &format!(r#"{begin} 23 "http://a/\x22b" "curl/8 (x)""#));
        let template = Template::parse("{client} {{{status}}} {total_ms} {queue_ms} {user_agent}").unwrap();
        check(&combined, &Format::Template(template), "127.0.0.1 {200} 4.999 - curl/8 (x)");
    }

    #[test]
    fn json_has_numbers_as_numbers_and_what_is_not_there_as_null() {
        let names = Names {
            pool: Some("api".into()),
            tls: Some(("TLSv1.3", "TLS_AES_128_GCM_SHA256".into())),
            ..Names::default()
        };
        let phases =
            LinePhases { first_byte: Some(Duration::from_micros(1500)), tries: 2, ..LinePhases::default() };
        let line = Line { names: Some(names.into()), phases, ..line(b"GET /x?y=\xff\" HTTP/1.1") };
        let value: Value = serde_json::from_str(&rendered(&line, &Format::Json)).unwrap();
        for (key, expected) in [
            ("time", "2026-11-23T06:00:00.250Z".into()),
            ("method", "GET".into()),
            ("target", "/x?y=\u{fffd}\"".into()),
            ("protocol", "HTTP/1.1".into()),
            ("status", 200.into()),
            ("total_ms", 4.999.into()),
            ("first_byte_ms", 1.5.into()),
            ("queue_ms", Value::Null),
            ("tries", 2.into()),
            ("pool", "api".into()),
            ("tls_version", "TLSv1.3".into()),
            ("referer", Value::Null),
            ("sent_bytes", 23.into()),
        ] {
            assert_eq!(value[key], expected, "{key}");
        }
        assert_eq!(value.as_object().unwrap().len(), Field::ALL.len());
    }

    /// The parts of a line of the combined form: nine, as strict readers take it apart.
    fn combined(line: &str) -> Option<[&str; 9]> {
        let (client, rest) = line.split_once(' ')?;
        let (ident, rest) = rest.split_once(' ')?;
        let (user, rest) = rest.split_once(" [")?;
        let (at, rest) = rest.split_once("] \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let (status, rest) = rest.split_once(' ')?;
        let (bytes, rest) = rest.split_once(" \"")?;
        let (referer, rest) = rest.split_once("\" \"")?;
        let agent = rest.strip_suffix("\"\n")?;
        let parts = [client, ident, user, at, request, status, bytes, referer, agent];
        let is_whole = |part: &&str| {
            !part.contains(['"', '\n']) && part.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        };
        parts.iter().all(is_whole).then_some(parts)
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_request_forge_or_break_a_line(
            request in prop::collection::vec(any::<u8>(), 0..60),
            host in prop::collection::vec(any::<u8>(), 0..20),
            referer in prop::collection::vec(any::<u8>(), 0..40),
            agent in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let text = RequestText::of(&[&request], &host, &referer, &agent);
            let line = Line { request: text, ..line(b"") };
            let json = rendered(&line, &Format::Json);
            prop_assert!(json.ends_with('\n') && json.matches('\n').count() == 1);
            let value: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(value["status"].as_u64(), Some(200));
            let text = rendered(&line, &Format::Combined);
            let parts = combined(&text);
            prop_assert!(parts.is_some(), "{}", text);
            prop_assert_eq!(parts.map(|parts| parts[5]), Some("200"));
            let template = Template::parse("{method}|{target}|{host}|{referer}|{user_agent}").unwrap();
            let text = rendered(&line, &Format::Template(template));
            prop_assert!(text.is_ascii() && text.matches('\n').count() == 1);
            prop_assert_eq!(rendered(&line, &Format::Default).matches('\n').count(), 1);
        }
    }
}
