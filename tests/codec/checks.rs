//! What must hold of the codec for any bytes: used by the property tests and by the fuzz targets.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "several crates include this file as a module, each uses a part"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a check fails")]

use evenkeel::base::ids::RequestId;
use evenkeel::http1::body::{Body, CHUNK_HEAD_MAX, chunk_head};
use evenkeel::http1::client::client_address;
use evenkeel::http1::forward::{self, Hop, ResponseHop, Rewritten};
use evenkeel::http1::framing::{Framing, Method};
use evenkeel::http1::head::{self, Limits, Parsed, RequestHead, Slots, Version, may_be_complete};
use evenkeel::http1::names::Name;
use evenkeel::http1::proxy_protocol::{self, PREAMBLE_MAX, Preamble};
use evenkeel::http1::reason::Reason;
use httparse::Status::Complete;

/// Small, so that they are met.
pub const LIMITS: Limits = Limits { head: 600, headers: 12, uri: 120, trace: true };

/// For what we wrote ourselves, which is longer than what came.
const WIDE: Limits = Limits { head: 65_536, headers: 64, uri: 65_536, trace: true };

/// Of a parse: the length of what is complete, None while more is needed.
pub type Verdict = Result<Option<usize>, Reason>;

/// What the codec says of a request head.
pub fn request_verdict(bytes: &[u8]) -> Verdict {
    Ok(match head::request(bytes, &LIMITS, &mut Slots::new())? {
        Parsed::Complete(head) => Some(head.len),
        Parsed::Partial => None,
    })
}

/// What the codec says of a response head.
pub fn response_verdict(bytes: &[u8], method: Method) -> Verdict {
    Ok(match head::response(bytes, method, &LIMITS, &mut Slots::new())? {
        Parsed::Complete(head) => Some(head.len),
        Parsed::Partial => None,
    })
}

/// A request head: the same verdict for any split, and what is accepted goes on as the same request.
pub fn request(bytes: &[u8]) {
    same_for_any_split(bytes, request_verdict);
    let mut slots = Slots::new();
    if let Ok(Parsed::Complete(head)) = head::request(bytes, &LIMITS, &mut slots) {
        agrees_with_httparse(bytes, &head);
        goes_on_as_the_same_request(&head);
    }
}

/// A response head, likewise.
pub fn response(bytes: &[u8]) {
    for method in [Method::Other, Method::Head] {
        same_for_any_split(bytes, |bytes| response_verdict(bytes, method));
        let mut slots = Slots::new();
        let Ok(Parsed::Complete(head)) = head::response(bytes, method, &LIMITS, &mut slots) else { continue };
        let framing = head.framing;
        let told = head.declared_length.filter(|_| framing == Framing::None);
        let mut out = Vec::new();
        forward::response(&head, &response_hop(framing), &mut out);
        let strict = Strict::read(&out);
        let status = head.status.to_string();
        assert!(strict.line.starts_with(format!("HTTP/1.1 {status} ").as_bytes()));
        let expected = told.map_or(framing, Framing::Length);
        assert_eq!(strict.framing(), if expected == Framing::UntilClose { Framing::None } else { expected });
        let mut slots = Slots::new();
        let Ok(Parsed::Complete(again)) = head::response(&out, method, &WIDE, &mut slots) else {
            panic!("{out:?}")
        };
        assert_eq!(
            (again.status, again.framing, again.declared_length),
            (head.status, framing, head.declared_length)
        );
        assert_eq!((again.len, again.phrase), (out.len(), head.phrase));
    }
}

/// A preamble of the PROXY protocol: the same verdict for any split, within its bounds.
pub fn preamble(bytes: &[u8]) {
    let read = |bytes: &[u8]| match proxy_protocol::parse(bytes) {
        Ok(Parsed::Complete(preamble)) => Ok(Some(preamble)),
        Ok(Parsed::Partial) => Ok(None),
        Err(reason) => Err(reason),
    };
    let whole = read(bytes);
    for end in 0..bytes.len() {
        match (read(&bytes[..end]), whole) {
            (Ok(None), Ok(Some(Preamble { len, .. }))) => assert!(end < len, "late at {end} of {len}"),
            (Ok(None), _) => {}
            (early, whole) => assert_eq!(early, whole, "after {end} bytes of {bytes:?}"),
        }
    }
    match whole {
        Ok(Some(Preamble { source, destination, len })) => {
            assert!(len <= PREAMBLE_MAX.min(bytes.len()) && source.is_some() == destination.is_some());
            assert_eq!(read(&[bytes, b"more"].concat()), whole);
        }
        Ok(None) => assert!(bytes.len() < PREAMBLE_MAX),
        Err(reason) => assert!(reason.is_silent()),
    }
}

/// Whatever a client writes into the fields that say where it came from: what the trusted proxy appended counts.
pub fn client(forged: &[u8]) {
    let is_text = |byte: &u8| *byte >= b' ' && *byte != 0x7f || *byte == b'\t';
    let forged: Vec<u8> = forged.iter().copied().filter(is_text).take(300).collect();
    for (name, appended) in
        [(&b"X-Forwarded-For: "[..], &b", 192.0.2.7"[..]), (b"Forwarded: ", b", for=192.0.2.7")]
    {
        let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", name, &forged, appended, b"\r\n\r\n"].concat();
        let mut slots = Slots::new();
        let Ok(Parsed::Complete(head)) = head::request(&head, &LIMITS, &mut slots) else {
            panic!("{head:?}")
        };
        let (proxy, client) = ([10, 0, 0, 1].into(), [192, 0, 2, 7].into());
        assert_eq!(client_address(&head, Some(proxy), |peer| peer == proxy), Some(client));
        assert_eq!(client_address(&head, Some(client), |peer| peer == proxy), Some(client));
        assert!(client_address(&head, Some(proxy), |_| true).is_some());
    }
}

/// What the codec says of a preamble.
pub fn preamble_verdict(bytes: &[u8]) -> Verdict {
    Ok(match proxy_protocol::parse(bytes)? {
        Parsed::Complete(preamble) => Some(preamble.len),
        Parsed::Partial => None,
    })
}

/// What the codec says of a chunked body.
pub fn chunked_verdict(bytes: &[u8]) -> Verdict {
    let found = by_steps(Framing::Chunked, &[bytes]);
    found.fault.map_or(Ok(found.whole.then_some(found.used)), Err)
}

/// A chunked body, cut in several ways that come from its own bytes.
pub fn chunked(bytes: &[u8]) {
    let cuts: Vec<usize> = bytes.iter().step_by(3).map(|byte| usize::from(byte % 9)).collect();
    body(Framing::Chunked, bytes, &cuts);
    round_trip(bytes, &cuts);
}

/// A whole request, head and body: what we accept and frame again, a parser that others wrote reads as the same
/// request, and nothing of it is left over.
pub fn request_message(bytes: &[u8]) {
    let mut slots = Slots::new();
    let Ok(Parsed::Complete(head)) = head::request(bytes, &LIMITS, &mut slots) else { return };
    let Some((payload, trailers)) = read_body(head.body(), &bytes[head.len..]) else { return };
    let mut out = Vec::new();
    if forward::request(&head, &hop(head.len % 2 == 0), &mut out).is_err() {
        return;
    }
    write_body(head.framing, &payload, &trailers, &mut out);
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut theirs = httparse::Request::new(&mut fields);
    let Ok(Complete(len)) = theirs.parse(&out) else { panic!("not read: {out:?}") };
    let target = [if head.slash_first { &b"/"[..] } else { b"" }, head.target].concat();
    assert_eq!(theirs.method.map(str::as_bytes), Some(head.method));
    assert_eq!(theirs.path.map(str::as_bytes), Some(target.as_slice()));
    their_body(theirs.headers, &out[len..], &payload);
    let nominated = head.fields.values(Name::Connection).flat_map(|value| value.split(|byte| *byte == b','));
    without_nominated(nominated, theirs.headers, &trailers);
}

/// A whole response, likewise; one until the close goes on chunked.
pub fn response_message(bytes: &[u8]) {
    let mut slots = Slots::new();
    let parsed = head::response(bytes, Method::Other, &LIMITS, &mut slots);
    let Ok(Parsed::Complete(head)) = parsed else { return };
    let Some((payload, trailers)) = read_body(head.body(), &bytes[head.len..]) else { return };
    let framing = if head.framing == Framing::UntilClose { Framing::Chunked } else { head.framing };
    let mut out = Vec::new();
    forward::response(&head, &response_hop(framing), &mut out);
    write_body(framing, &payload, &trailers, &mut out);
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut theirs = httparse::Response::new(&mut fields);
    let Ok(Complete(len)) = theirs.parse(&out) else { panic!("not read: {out:?}") };
    assert_eq!(theirs.code, Some(head.status));
    if framing == Framing::None {
        assert_eq!((len, payload.len()), (out.len(), 0));
    } else {
        their_body(theirs.headers, &out[len..], &payload);
    }
    let nominated = head.fields.values(Name::Connection).flat_map(|value| value.split(|byte| *byte == b','));
    without_nominated(nominated, theirs.headers, &trailers);
}

/// A body: the same payload, end and fault for any pieces, by steps and in place.
pub fn body(framing: Framing, bytes: &[u8], cuts: &[usize]) {
    let whole = by_steps(framing, &[bytes]);
    let singles: Vec<&[u8]> = bytes.chunks(1).collect();
    let pieces = cut(bytes, cuts);
    assert_eq!(by_steps(framing, &singles), whole);
    assert_eq!(by_steps(framing, &pieces), whole);
    assert_eq!(by_compact(framing, &pieces), whole);
    assert_eq!(by_compact(framing, &[bytes]), whole);
}

/// What we encode, we decode.
pub fn round_trip(payload: &[u8], cuts: &[usize]) {
    let mut coded = Vec::new();
    for piece in cut(payload, cuts).into_iter().filter(|piece| !piece.is_empty()).chain([&[][..]]) {
        let mut room = [0; CHUNK_HEAD_MAX];
        let start = chunk_head(piece.len(), &mut room);
        coded.extend_from_slice(&room[start..]);
        coded.extend_from_slice(piece);
        coded.extend_from_slice(b"\r\n");
    }
    let coded_len = coded.len();
    coded.extend_from_slice(b"GET / HTTP/1.1\r\n");
    body(Framing::Chunked, &coded, cuts);
    let found = by_steps(Framing::Chunked, &cut(&coded, cuts));
    assert_eq!(
        (found.data.as_slice(), found.used, found.fault, found.whole),
        (payload, coded_len, None, true)
    );
}

fn same_for_any_split(bytes: &[u8], verdict: impl Fn(&[u8]) -> Verdict) {
    let whole = verdict(bytes);
    let (mut seen, mut told) = (0, false);
    for end in 0..bytes.len() {
        let early = verdict(&bytes[..end]);
        match (early, whole) {
            (Ok(None), Ok(Some(len))) => assert!(end < len, "late at {end} of {len}"),
            (Ok(None), _) => {}
            (early, whole) => assert_eq!(early, whole, "after {end} bytes of {bytes:?}"),
        }
        // A caller who parses only when told to must see a complete head as soon as it is there.
        if may_be_complete(&bytes[..end], seen) {
            seen = end;
            told |= matches!(early, Ok(Some(_)));
        } else {
            assert!(told || !matches!(early, Ok(Some(_))), "not told of a complete head after {end}");
        }
    }
}

/// The same request, seen by a parser that others wrote.
fn agrees_with_httparse(bytes: &[u8], head: &RequestHead<'_, '_>) {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut theirs = httparse::Request::new(&mut fields);
    match theirs.parse(bytes) {
        Ok(Complete(len)) => assert_eq!(len, head.len),
        // HTTP/1.x with x > 1, which it does not know.
        Err(httparse::Error::Version) => return,
        other => panic!("httparse: {other:?} for {bytes:?}"),
    }
    assert_eq!(theirs.method.map(str::as_bytes), Some(head.method));
    let path = theirs.path.unwrap_or_default().as_bytes();
    assert!(path.ends_with(head.target) || head.target == b"*");
    let ours: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
    let theirs: Vec<_> = theirs.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    assert_eq!(ours, theirs);
}

fn goes_on_as_the_same_request(head: &RequestHead<'_, '_>) {
    let mut out = Vec::new();
    if let Err(reason) = forward::request(head, &hop(head.len % 2 == 0), &mut out) {
        assert!(reason == Reason::LoopDetected && out.is_empty());
        return;
    }
    let target = [if head.slash_first { &b"/"[..] } else { b"" }, head.target].concat();
    let host = if head.host.is_empty() { b"origin.test" } else { head.host };
    let strict = Strict::read(&out);
    assert_eq!(strict.line, [head.method, b" ", &target, b" HTTP/1.1"].concat());
    assert_eq!(strict.framing(), head.framing);
    assert_eq!(strict.values("host"), [host]);
    let mut slots = Slots::new();
    let Ok(Parsed::Complete(again)) = head::request(&out, &WIDE, &mut slots) else { panic!("{out:?}") };
    assert_eq!((again.method, again.target, again.host), (head.method, target.as_slice(), host));
    assert_eq!((again.framing, again.len), (head.framing, out.len()));
    assert_eq!((again.upgrade, again.expects_continue), (head.upgrade, head.expects_continue));
}

fn hop(peer_trusted: bool) -> Hop<'static> {
    Hop {
        peer: Some([192, 0, 2, 1].into()),
        peer_trusted,
        proto: "http",
        client_certificate: None,
        pseudonym: "pseudonym-of-the-test",
        request_id: Some(RequestId::new(1, 2)),
        trace_parent: None,
        forwarded: true,
        authority: "origin.test",
        rewritten: Rewritten::default(),
        edits: None,
    }
}

fn response_hop(framing: Framing) -> ResponseHop<'static> {
    let client = Version::Http11;
    let (keep_alive, pseudonym, served_by, request_id) = (false, "p", None, None);
    let (coding, varies, date, lines, edits) = (None, false, "d", &b""[..], None);
    ResponseHop {
        client,
        framing,
        keep_alive,
        pseudonym,
        hides_load_metrics: false,
        served_by,
        request_id,
        coding,
        weakens_tag: false,
        page: None,
        varies,
        date,
        session: b"",
        lines,
        edits,
    }
}

/// Payload and trailers of a body that is whole.
fn read_body(mut body: Body, bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut room = bytes.to_vec();
    let (_, len) = body.compact(&mut room).ok()?;
    room.truncate(len);
    body.close().then(|| (room, body.trailers().to_vec()))
}

/// The body as it goes on, in chunks of three bytes.
fn write_body(framing: Framing, payload: &[u8], trailers: &[u8], out: &mut Vec<u8>) {
    if framing != Framing::Chunked {
        out.extend_from_slice(payload);
        return;
    }
    let mut room = [0; CHUNK_HEAD_MAX];
    for chunk in payload.chunks(3) {
        let start = chunk_head(chunk.len(), &mut room);
        [&room[start..], chunk, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part));
    }
    [b"0\r\n", trailers, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part));
}

/// The body by the other parser's reading of the framing: the same payload, to the last byte.
fn their_body(fields: &[httparse::Header<'_>], mut rest: &[u8], payload: &[u8]) {
    let named = |name: &str| {
        fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value).collect()
    };
    let (lengths, codings): (Vec<&[u8]>, Vec<&[u8]>) = (named("content-length"), named("transfer-encoding"));
    if codings.is_empty() {
        let length =
            lengths.first().map_or(0, |length| std::str::from_utf8(length).unwrap().parse().unwrap());
        assert!(lengths.len() <= 1 && length == payload.len() && rest == payload);
        return;
    }
    assert!(lengths.is_empty() && codings == [b"chunked"]);
    let mut found = Vec::new();
    loop {
        let Ok(Complete((start, size))) = httparse::parse_chunk_size(rest) else { panic!("chunk: {rest:?}") };
        rest = &rest[start..];
        if size == 0 {
            break;
        }
        let (chunk, after) = rest.split_at(size as usize);
        found.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").expect("the end of a chunk");
    }
    let mut trailers = vec![httparse::EMPTY_HEADER; 1024];
    let Ok(Complete((len, trailers))) = httparse::parse_headers(rest, &mut trailers) else {
        panic!("trailers: {rest:?}")
    };
    assert_eq!((len, found.as_slice()), (rest.len(), payload));
    for forbidden in ["content-length", "transfer-encoding", "host", "connection", "authorization", "cookie"]
    {
        assert!(!trailers.iter().any(|field| field.name.eq_ignore_ascii_case(forbidden)), "{forbidden}");
    }
}

/// What Connection named is neither among the fields nor among the trailers, unless it is ours.
fn without_nominated<'n>(
    names: impl Iterator<Item = &'n [u8]>,
    fields: &[httparse::Header<'_>],
    trailers: &[u8],
) {
    let lines = String::from_utf8_lossy(trailers).to_lowercase();
    for name in names {
        // Only what the grammar calls white space.
        let name = String::from_utf8_lossy(name).trim_matches([' ', '\t']).to_lowercase();
        if !name.starts_with("x-a") {
            continue;
        }
        assert!(!fields.iter().any(|field| field.name.eq_ignore_ascii_case(&name)), "{name}");
        assert!(!lines.split("\r\n").any(|line| line.split(':').next() == Some(&name)), "{name}");
    }
}

/// A second parser, as plain and strict as can be: lines by CRLF, fields by the first colon.
struct Strict<'b> {
    line: &'b [u8],
    fields: Vec<(String, &'b [u8])>,
}

impl<'b> Strict<'b> {
    fn read(head: &'b [u8]) -> Self {
        let lines = head.strip_suffix(b"\r\n\r\n").expect("ends with an empty line");
        let mut lines =
            lines.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let line = lines.next().expect("a first line");
        let fields = lines.map(Self::field).collect();
        assert_eq!(
            head.iter().filter(|byte| **byte == b'\r').count(),
            head.iter().filter(|byte| **byte == b'\n').count()
        );
        Strict { line, fields }
    }

    fn field(line: &'b [u8]) -> (String, &'b [u8]) {
        let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
        let name = std::str::from_utf8(&line[..colon]).expect("ASCII").to_lowercase();
        assert!(
            !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control()),
            "{name:?}"
        );
        let value = line[colon + 1..].trim_ascii();
        assert!(value.iter().all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t'));
        (name, value)
    }

    fn values(&self, name: &str) -> Vec<&'b [u8]> {
        self.fields.iter().filter(|field| field.0 == name).map(|field| field.1).collect()
    }

    fn framing(&self) -> Framing {
        match (self.values("content-length").as_slice(), self.values("transfer-encoding").as_slice()) {
            ([], []) => Framing::None,
            ([length], []) => Framing::Length(std::str::from_utf8(length).unwrap().parse().unwrap()),
            ([], [b"chunked"]) => Framing::Chunked,
            both => panic!("ambiguous: {both:?}"),
        }
    }
}

/// What a body comes to.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    data: Vec<u8>,
    used: usize,
    trailers: Vec<u8>,
    fault: Option<Reason>,
    whole: bool,
}

impl Found {
    /// After a fault, how much payload was seen before it depends on the pieces; that it came does not.
    fn of(mut body: Body, data: Vec<u8>, used: usize, fault: Option<Reason>) -> Found {
        match fault {
            Some(_) => Found { data: Vec::new(), used: 0, trailers: Vec::new(), fault, whole: body.close() },
            None => Found { data, used, whole: body.close(), trailers: body.trailers().to_vec(), fault },
        }
    }
}

fn by_steps(framing: Framing, pieces: &[&[u8]]) -> Found {
    let mut body = Body::new(framing);
    let (mut data, mut used) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() && !body.is_done() {
            match body.step(rest) {
                Err(reason) => return Found::of(body, data, used, Some(reason)),
                Ok(step) => {
                    assert!(step.consumed > 0, "goes on");
                    data.extend_from_slice(step.data);
                    used += step.consumed;
                    rest = &rest[step.consumed..];
                }
            }
        }
    }
    Found::of(body, data, used, None)
}

fn by_compact(framing: Framing, pieces: &[&[u8]]) -> Found {
    let mut body = Body::new(framing);
    let (mut data, mut used) = (Vec::new(), 0);
    for piece in pieces {
        let mut room = piece.to_vec();
        match body.compact(&mut room) {
            Err(reason) => return Found::of(body, data, used, Some(reason)),
            Ok((consumed, len)) => {
                assert!(len <= consumed && (consumed == piece.len() || body.is_done()));
                assert_eq!(room[consumed..], piece[consumed..], "what is left over stays");
                data.extend_from_slice(&room[..len]);
                used += consumed;
            }
        }
    }
    Found::of(body, data, used, None)
}

/// Pieces of the bytes, of the lengths in `cuts`; what remains is the last.
fn cut<'b>(bytes: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for len in cuts {
        let (piece, after) = rest.split_at((*len).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}
