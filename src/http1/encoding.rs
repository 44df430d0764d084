//! Compression of responses: which coding a client takes (RFC 9110 section 12.5.3), which responses may be compressed,
//! and the encoder, which takes a body piece by piece.

use super::fields::{Field, Fields, decimal, list, trim};
use super::framing::{Framing, Method};
use super::head::{ResponseHead, Version};
use super::names::Name;
use flate2::write::GzEncoder;
use std::fmt;
use std::io::{self, Write};

/// gzip in steps from 1 to 9: beyond this the time grows faster than what it saves.
const GZIP_LEVEL: u32 = 5;
/// zstd in steps from 1 to 19; about as fast as gzip at its 1.
const ZSTD_LEVEL: i32 = 3;
/// The window of zstd, 256 KiB, which bounds its memory for each response. Decoders must take up to 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 18;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// All codings, by name.
    pub const ALL: [(&'static str, Coding); 2] = [("gzip", Coding::Gzip), ("zstd", Coding::Zstd)];

    /// The word in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        }
    }
}

/// Which responses are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// The codings that are offered, the best first.
    pub codings: Vec<Coding>,
    /// Media types in lower case: `text/html`, or `text/*` for all of a kind.
    pub types: Vec<String>,
    /// Shorter bodies are not worth it; those of unknown length are compressed.
    pub min_bytes: u64,
}

impl Compression {
    /// The coding for a client that sends these headers: the one with the highest weight; among equals, the one that is
    /// offered first. `None`: it wants none of them at least as much as no coding at all, or no change of the content.
    pub fn coding_for(&self, fields: &Fields<'_, '_>) -> Option<Coding> {
        let values = || fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"accept-encoding"));
        values().next()?;
        if fields.iter().any(|field| forbids_change(&field)) {
            return None;
        }
        let weight = |name: &str| {
            let elements = || values().flat_map(|field| list(field.value)).filter_map(element);
            let named = elements().find(|(coding, _)| is(coding, name)).map(|(_, weight)| weight);
            named.or_else(|| elements().find(|(coding, _)| *coding == b"*").map(|(_, weight)| weight))
        };
        let identity = values().flat_map(|field| list(field.value)).filter_map(element);
        let identity = identity.filter(|(coding, _)| is(coding, "identity")).map(|(_, weight)| weight).max();
        let mut best = None;
        for coding in &self.codings {
            let weight = weight(coding.name()).unwrap_or(0);
            if weight > best.map_or(0, |(_, most)| most) {
                best = Some((*coding, weight));
            }
        }
        best.filter(|(_, weight)| *weight >= identity.unwrap_or(0)).map(|(coding, _)| coding)
    }

    /// Whether responses like this one are compressed for clients that take a coding: what caches have to know, too.
    pub fn suits(&self, head: &ResponseHead<'_, '_>, method: Method) -> bool {
        let mut suits = matches!(head.status, 200..=203 | 207..) && head.status != 304;
        suits &= match head.framing {
            Framing::Length(length) => length >= self.min_bytes.max(1),
            Framing::Chunked | Framing::UntilClose => true,
            Framing::None => {
                method == Method::Head && head.declared_length.is_none_or(|length| length >= self.min_bytes)
            }
        };
        if !suits {
            return false;
        }
        let (mut has_type, mut tags) = (false, 0);
        for field in head.fields.iter() {
            match field.kind {
                Name::ContentType => has_type = self.has_type(field.value),
                Name::Other if is(field.name, "content-encoding") || is(field.name, "content-range") => {
                    return false;
                }
                Name::Other if is(field.name, "etag") => {
                    tags += 1;
                    // Of a tag that is none, or of two, no weak one can be made.
                    if tags > 1 || !is_tag(field.value) {
                        return false;
                    }
                }
                Name::Other if forbids_change(&field) => return false,
                _ => {}
            }
        }
        has_type
    }

    /// Whether this response says that one which may have been compressed is still good (304): it has the headers of that
    /// (RFC 9110 section 15.4.5). Most servers leave the type out.
    pub fn renews(&self, head: &ResponseHead<'_, '_>) -> bool {
        head.status == 304
            && head.fields.iter().all(|field| match field.kind {
                Name::ContentType => self.has_type(field.value),
                Name::Other => !is(field.name, "content-encoding") && !forbids_change(&field),
                _ => true,
            })
    }

    fn has_type(&self, value: &[u8]) -> bool {
        let media = trim(value.split(|byte| *byte == b';').next().unwrap_or_default());
        self.types.iter().any(|known| match known.strip_suffix('*') {
            Some(start) => media.get(..start.len()).is_some_and(|media| is(media, start)),
            None => is(media, known),
        })
    }
}

/// Whether this response is sent in a coding: it suits, its client takes one, and the body can be sent in chunks.
pub fn may_encode(suits: bool, method: Method, client: Version) -> bool {
    suits && method != Method::Head && client == Version::Http11
}

/// Whether `Vary` says already that the response depends on what the client accepts.
pub fn is_varied(fields: &Fields<'_, '_>) -> bool {
    let mut vary = fields.iter().filter(|field| is(field.name, "vary")).flat_map(|field| list(field.value));
    vary.any(|name| is(name, "accept-encoding") || name == b"*")
}

/// Whether a header of a response does not hold for the encoded content.
pub fn is_void(name: &[u8]) -> bool {
    const VOID: [&str; 5] = ["accept-ranges", "content-digest", "repr-digest", "digest", "content-md5"];
    VOID.iter().any(|void| is(name, void))
}

/// Whether a request asks by a weak tag: what its client has may have been encoded on its way.
pub fn has_weak_tag(fields: &Fields<'_, '_>) -> bool {
    let mut tags =
        fields.iter().filter(|field| is(field.name, "if-none-match")).flat_map(|field| list(field.value));
    tags.any(|tag| tag.starts_with(b"W/"))
}

/// The entity tag of the encoded content: weak, since it is not the same bytes (RFC 9110 section 8.8.1). What is no tag
/// stays as it is.
pub fn weak_tag(value: &[u8], out: &mut Vec<u8>) {
    if !value.starts_with(b"W/") && is_tag(value) {
        out.extend_from_slice(b"W/");
    }
    out.extend_from_slice(value);
}

/// Whether proxies must not change the content (RFC 9111 sections 5.2.1.6 and 5.2.2.6).
fn forbids_change(field: &Field<'_>) -> bool {
    is(field.name, "cache-control") && list(field.value).any(|one| is(one, "no-transform"))
}

/// Whether it is an entity tag (RFC 9110 section 8.8.3).
fn is_tag(value: &[u8]) -> bool {
    matches!(value.strip_prefix(b"W/").unwrap_or(value), [b'"', inner @ .., b'"'] if !inner.contains(&b'"'))
}

fn is(bytes: &[u8], lower: &str) -> bool {
    bytes.eq_ignore_ascii_case(lower.as_bytes())
}

/// A coding and its weight in thousandths: `gzip;q=0.5`. `None` where the weight is malformed.
fn element(element: &[u8]) -> Option<(&[u8], u32)> {
    let mut parts = element.split(|byte| *byte == b';').map(trim);
    let coding = parts.next()?;
    // x-gzip is another name of gzip (RFC 9110 section 8.4.1.3).
    let coding = if is(coding, "x-gzip") { b"gzip" } else { coding };
    match parts.next() {
        None => Some((coding, 1000)),
        Some([b'q' | b'Q', b'=', weight @ ..]) => Some((coding, thousandths(weight)?)),
        Some(_) => Some((coding, 1000)),
    }
}

/// The weight of an element of a list in thousandths: that of its parameter `q`, the highest where there is none that is valid.
pub fn weight(element: &[u8]) -> u32 {
    let mut parameters = element.split(|byte| *byte == b';').skip(1).map(trim);
    let weight = parameters.find_map(|parameter| match parameter {
        [b'q' | b'Q', b'=', weight @ ..] => Some(weight),
        _ => None,
    });
    weight.and_then(thousandths).unwrap_or(1000)
}

/// `0`, `0.5`, `1.000` (RFC 9110 section 12.4.2).
fn thousandths(weight: &[u8]) -> Option<u32> {
    let (whole, fraction) = match weight {
        [whole] | [whole, b'.'] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digits = if fraction.is_empty() { 0 } else { decimal(fraction)? as u32 };
    let fraction = digits * [1000, 100, 10, 1][fraction.len()];
    match whole {
        b'0' => Some(fraction),
        b'1' if fraction == 0 => Some(1000),
        _ => None,
    }
}

/// Encodes a body, piece by piece.
pub struct Encoder(Kind);

enum Kind {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// An encoder; an error is a shortage of memory.
    pub fn new(coding: Coding) -> io::Result<Self> {
        Ok(Encoder(match coding {
            Coding::Gzip => Kind::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                Kind::Zstd(encoder)
            }
        }))
    }

    /// Encodes a piece, which is the end of the body if `ends`; what came of it. That is all that the client needs to
    /// decode what was there so far, since the server may pause now. It is not much longer than the piece.
    pub fn encode(&mut self, piece: &[u8], ends: bool) -> io::Result<&[u8]> {
        let is_nothing = piece.is_empty() && !ends;
        match &mut self.0 {
            Kind::Gzip(encoder) => {
                encoder.get_mut().clear();
                encoder.write_all(piece)?;
                match ends {
                    true => encoder.try_finish()?,
                    false if is_nothing => {}
                    false => encoder.flush()?,
                }
                Ok(encoder.get_ref())
            }
            Kind::Zstd(encoder) => {
                encoder.get_mut().clear();
                encoder.write_all(piece)?;
                match ends {
                    true => encoder.do_finish()?,
                    false if is_nothing => {}
                    false => encoder.flush()?,
                }
                Ok(encoder.get_ref())
            }
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.0 {
            Kind::Gzip(_) => "gzip encoder",
            Kind::Zstd(_) => "zstd encoder",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::{self, Limits, Parsed, Slots};
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn rules() -> Compression {
        let types = ["text/*", "application/json"].map(str::to_owned).to_vec();
        Compression { codings: vec![Coding::Zstd, Coding::Gzip], types, min_bytes: 100 }
    }

    #[track_caller]
    fn check_coding(accept: &str, expected: Option<Coding>) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{accept}\r\n");
        let mut slots = Slots::new();
        let Ok(Parsed::Complete(head)) = head::request(text.as_bytes(), &Limits::default(), &mut slots)
        else {
            panic!("{text}")
        };
        assert_eq!(rules().coding_for(&head.fields), expected, "{accept}");
    }

    #[test]
    fn the_client_chooses_the_coding() {
        check_coding("", None);
        for (accept, expected) in [
            ("", None),
            ("gzip", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("x-GZIP", Some(Coding::Gzip)),
            ("zstd;q=0.5, gzip;q=0.8", Some(Coding::Gzip)),
            ("zstd;q=0, gzip;q=0.001", Some(Coding::Gzip)),
            ("gzip;q=0", None),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.5, zstd;q=0", Some(Coding::Gzip)),
            ("*;q=0", None),
            ("identity", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some(Coding::Gzip)),
            ("gzip;q=1.5, zstd;q=abc", None),
            ("gzip; q=0.9 , br", Some(Coding::Gzip)),
            ("deflate, br", None),
        ] {
            check_coding(&format!("Accept-Encoding: {accept}\r\n"), expected);
        }
        check_coding("Accept-Encoding: br\r\naccept-encoding: gzip\r\n", Some(Coding::Gzip));
        check_coding("Accept-Encoding: gzip\r\nCache-Control: max-age=0, no-transform\r\n", None);
        check_coding("Accept-Encoding: gzip\r\nCache-Control: no-cache\r\n", Some(Coding::Gzip));
    }

    #[track_caller]
    fn check_suits(method: Method, came: &str, expected: bool) {
        let text = format!("HTTP/1.1 {}\r\n\r\n", came.replace('|', "\r\n"));
        let mut slots = Slots::new();
        let Ok(Parsed::Complete(head)) =
            head::response(text.as_bytes(), method, &Limits::default(), &mut slots)
        else {
            panic!("{text}")
        };
        assert_eq!(rules().suits(&head, method), expected, "{came}");
    }

    #[test]
    fn responses_are_compressed_once_and_where_it_is_worth_it() {
        let get = Method::Other;
        check_suits(get, "200 OK|Content-Type: text/html; charset=utf-8|Content-Length: 100", true);
        check_suits(get, "200 OK|Content-Type: Application/JSON|Transfer-Encoding: chunked", true);
        check_suits(get, "200 OK|Content-Type: text/css", true);
        check_suits(get, "404 Not Found|Content-Type: text/css|Content-Length: 1000", true);
        check_suits(get, "200 OK|Content-Type: text/html|Content-Length: 99", false);
        check_suits(get, "200 OK|Content-Type: image/png|Content-Length: 1000", false);
        check_suits(get, "200 OK|Content-Length: 1000", false);
        for never in
            ["Content-Encoding: br", "Content-Range: bytes 0-1/2", "Cache-Control: private, No-Transform"]
        {
            check_suits(get, &format!("200 OK|Content-Type: text/html|{never}|Content-Length: 1000"), false);
        }
        for status in ["201 Created", "202 Accepted", "203 Non-Authoritative Information", "207 Multi-Status"]
        {
            check_suits(get, &format!("{status}|Content-Type: text/html|Content-Length: 1000"), true);
        }
        check_suits(get, "206 Partial Content|Content-Type: text/html|Content-Length: 1000", false);
        check_suits(get, "204 No Content|Content-Type: text/html", false);
        check_suits(get, "304 Not Modified|Content-Type: text/html", false);
        check_suits(Method::Head, "200 OK|Content-Type: text/html|Content-Length: 1000", true);
    }

    #[test]
    fn a_tag_that_cannot_become_weak_keeps_the_content_as_it_is() {
        let suits = |tags: &str, expected| {
            check_suits(Method::Other, &format!("200 OK|Content-Type: text/html{tags}"), expected);
        };
        for tag in ["\"123\"", "W/\"456\"", "\"W/789\"", "\"\"", "W/\"\""] {
            suits(&format!("|ETag: {tag}"), true);
        }
        for none in [
            "\"invalid",
            "invalid\"",
            "invalid",
            "W/\"invalid",
            "W/invalid\"",
            "W/invalid",
            "\"",
            "w/\"a\"",
            "",
        ] {
            suits(&format!("|ETag: {none}"), false);
        }
        suits("|ETag: \"one\"|ETag: \"two\"", false);
        suits("|ETag: \"one\"|etag: \"one\"", false);
    }

    #[test]
    fn a_response_to_head_or_for_an_old_client_is_not_encoded() {
        assert!(may_encode(true, Method::Other, Version::Http11));
        assert!(!may_encode(true, Method::Head, Version::Http11));
        assert!(!may_encode(true, Method::Other, Version::Http10));
        assert!(!may_encode(false, Method::Other, Version::Http11));
    }

    #[test]
    fn tags_become_weak() {
        for (tag, expected) in
            [("\"a\"", "W/\"a\""), ("none", "none"), ("W/\"a\"", "W/\"a\""), ("\"W/a\"", "W/\"W/a\"")]
        {
            let mut out = Vec::new();
            weak_tag(tag.as_bytes(), &mut out);
            assert_eq!(out, expected.as_bytes());
        }
    }

    fn decoded(coding: Coding, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out)?,
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)?.read_to_end(&mut out)?,
        };
        Ok(out)
    }

    #[test]
    fn what_is_here_can_be_decoded_before_the_end() {
        for (_, coding) in Coding::ALL {
            let (mut encoder, mut out) = (Encoder::new(coding).unwrap(), Vec::new());
            out.extend_from_slice(encoder.encode(b"data: 1\n\n", false).unwrap());
            let mut seen = [0; 9];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&out[..]).read_exact(&mut seen).unwrap(),
                Coding::Zstd => {
                    zstd::stream::read::Decoder::new(&out[..]).unwrap().read_exact(&mut seen).unwrap()
                }
            }
            assert_eq!(&seen, b"data: 1\n\n", "{coding:?}");
            out.extend_from_slice(encoder.encode(b"", true).unwrap());
            assert_eq!(decoded(coding, &out).unwrap(), b"data: 1\n\n");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_in_pieces_is_decoded_as_a_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5_000), 0..8),
            zstd: bool,
        ) {
            let coding = if zstd { Coding::Zstd } else { Coding::Gzip };
            let (mut encoder, mut out) = (Encoder::new(coding).unwrap(), Vec::new());
            for piece in &pieces {
                let encoded = encoder.encode(piece, false).unwrap();
                // Noise does not become much longer, so a call's output is bounded by its input.
                prop_assert!(encoded.len() <= piece.len() + piece.len() / 100 + 64);
                out.extend_from_slice(encoded);
            }
            out.extend_from_slice(encoder.encode(b"", true).unwrap());
            prop_assert_eq!(decoded(coding, &out).unwrap(), pieces.concat());
        }
    }
}
