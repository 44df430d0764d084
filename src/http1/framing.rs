//! Where a message ends (RFC 9112 section 6), decided only here, for requests and for responses.

use super::fields::{Claim, decimal, list};
use super::head::Version;
use super::names::Name;
use super::reason::Reason;
use super::scan::is_token;

/// How the end of a body is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and none may follow. For a request: no field indicates a length.
    None,
    /// Exactly this many bytes. A request with `Content-Length: 0` is `Length(0)` and is forwarded as such.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the server closes; for responses only.
    UntilClose,
}

/// A request's method, as far as the framing of its response depends on it (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// HEAD: the response never has a body.
    Head,
    /// Any other method.
    Other,
}

impl Method {
    /// By its name, whose case matters.
    pub fn of(name: &[u8]) -> Method {
        match name {
            b"HEAD" => Method::Head,
            _ => Method::Other,
        }
    }
}

/// What the fields of one head claim about its length; filled while they are parsed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'b> {
    length: Claim<'b>,
    coding: Claim<'b>,
}

impl<'b> Claims<'b> {
    /// Adds one field; all except Content-Length and Transfer-Encoding are ignored.
    pub fn note(&mut self, kind: Name, value: &'b [u8]) {
        match kind {
            Name::ContentLength => self.length.note(value),
            Name::TransferEncoding => self.coding.note(value),
            _ => {}
        }
    }

    /// A body is announced, whether or not that is valid.
    pub(super) fn promise_a_body(&self) -> bool {
        self.coding != Claim::Absent || self.length().is_some_and(|length| length > 0)
    }

    /// The one valid Content-Length: HEAD and 304 forward it unchanged, without a body.
    pub(super) fn length(&self) -> Option<u64> {
        match self.length {
            Claim::One(value) => decimal(value),
            Claim::Absent | Claim::Several => None,
        }
    }
}

/// The framing of a request. Nothing ambiguous is accepted: both lengths, several, a list even of equal ones, a coding
/// that is not exactly `chunked`, any coding in HTTP/1.0.
pub fn request(version: Version, claims: &Claims<'_>) -> Result<Framing, Reason> {
    match (claims.coding, claims.length) {
        (Claim::Absent, Claim::Absent) => Ok(Framing::None),
        (Claim::Absent, Claim::One(value)) => {
            decimal(value).map(Framing::Length).ok_or(Reason::BadContentLength)
        }
        (Claim::Absent, Claim::Several) => Err(Reason::BadContentLength),
        (_, Claim::One(_) | Claim::Several) => Err(Reason::LengthConflict),
        (_, Claim::Absent) if version == Version::Http10 => Err(Reason::BadTransferEncoding),
        (Claim::Several, Claim::Absent) => Err(Reason::BadTransferEncoding),
        (Claim::One(value), Claim::Absent) => coding(value),
    }
}

/// The framing of a response. HEAD, 204, 304 and 1xx have no body, whatever their fields claim (RFC 9112 section
/// 6.3, rule 1; no CONNECT is forwarded).
pub fn response(
    method: Method,
    status: u16,
    version: Version,
    claims: &Claims<'_>,
) -> Result<Framing, Reason> {
    if method == Method::Head || matches!(status, 100..=199 | 204 | 304) {
        return Ok(Framing::None);
    }
    match request(version, claims).map_err(|_| Reason::BadResponse)? {
        Framing::None => Ok(Framing::UntilClose),
        claimed => Ok(claimed),
    }
}

/// `chunked`, or what is wrong with it. If the last coding is not `chunked` the length cannot be determined: 400 (RFC
/// 9112 section 6.3, rule 4). An unknown coding before it is 501 (section 6.1).
fn coding(value: &[u8]) -> Result<Framing, Reason> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let unknown = list(value).take_while(|coding| !is_chunked(coding)).count();
    let all = list(value).count();
    let well_formed = list(value).all(is_token) && value.split(|byte| *byte == b',').count() == all;
    if well_formed && unknown > 0 && unknown + 1 == all {
        Err(Reason::TransferCodingUnknown)
    } else {
        Err(Reason::BadTransferEncoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reason::{BadContentLength, BadResponse, BadTransferEncoding, LengthConflict, TransferCodingUnknown};

    const CL: Name = Name::ContentLength;
    const TE: Name = Name::TransferEncoding;

    fn claims(fields: &[(Name, &'static str)]) -> Claims<'static> {
        let mut claims = Claims::default();
        fields.iter().for_each(|(kind, value)| claims.note(*kind, value.as_bytes()));
        claims
    }

    #[track_caller]
    fn check(fields: &[(Name, &'static str)], expected: Result<Framing, Reason>) {
        assert_eq!(request(Version::Http11, &claims(fields)), expected);
        let of_response = expected.map_err(|_| BadResponse).map(|framing| match framing {
            Framing::None => Framing::UntilClose,
            framing => framing,
        });
        assert_eq!(response(Method::Other, 200, Version::Http11, &claims(fields)), of_response);
    }

    #[test]
    fn lengths() {
        check(&[], Ok(Framing::None));
        check(&[(CL, "0")], Ok(Framing::Length(0)));
        check(&[(CL, "18446744073709551615")], Ok(Framing::Length(u64::MAX)));
        for bad in
            ["", "+1", "-1", "1,1", "1, 1", "18446744073709551616", "0x10", "1 1", "1;", "\u{b2}", "1\u{b}"]
        {
            check(&[(CL, bad)], Err(BadContentLength));
        }
        check(&[(CL, "1"), (CL, "1")], Err(BadContentLength));
        check(&[(CL, "1"), (CL, "1"), (CL, "2")], Err(BadContentLength));
        check(&[(CL, "1"), (TE, "chunked")], Err(LengthConflict));
        check(&[(TE, "chunked"), (CL, "x")], Err(LengthConflict));
        check(&[(TE, "gzip"), (CL, "1")], Err(LengthConflict));
    }

    #[test]
    fn codings() {
        check(&[(TE, "chunked")], Ok(Framing::Chunked));
        check(&[(TE, "ChUnKeD")], Ok(Framing::Chunked));
        for unknown in ["gzip, chunked", "x,y , chunked", "identity, chunked"] {
            check(&[(TE, unknown)], Err(TransferCodingUnknown));
        }
        // The last coding is not `chunked`: the length cannot be determined.
        for last in ["gzip", "identity", "xchunked", "chunked1", "chunked, gzip", "gzip, deflate"] {
            check(&[(TE, last)], Err(BadTransferEncoding));
        }
        for bad in ["", ",", "chunked, chunked", "chunked,", ",chunked", "gzip, chunked, chunked"] {
            check(&[(TE, bad)], Err(BadTransferEncoding));
        }
        for bad in [
            "chunked;q=1",
            "chunked;",
            "\"chunked\"",
            "chunked gzip",
            "gzip;q=1",
            "\u{b}chunked",
            "ch\u{fc}nked",
        ] {
            check(&[(TE, bad)], Err(BadTransferEncoding));
        }
        check(&[(TE, "chunked"), (TE, "chunked")], Err(BadTransferEncoding));
        check(&[(TE, "gzip"), (TE, "chunked")], Err(BadTransferEncoding));
    }

    #[test]
    fn http_1_0_has_no_codings() {
        let coded = claims(&[(TE, "chunked")]);
        assert_eq!(request(Version::Http10, &coded), Err(BadTransferEncoding));
        assert_eq!(response(Method::Other, 200, Version::Http10, &coded), Err(BadResponse));
        assert_eq!(request(Version::Http10, &claims(&[(CL, "3")])), Ok(Framing::Length(3)));
    }

    #[test]
    fn responses_without_a_body() {
        let check = |method, status, expected| {
            for fields in [&[][..], &[(CL, "5")], &[(TE, "chunked")]] {
                let framing = response(method, status, Version::Http11, &claims(fields)).unwrap();
                assert_eq!(framing == Framing::None, expected, "{method:?} {status} {fields:?}");
            }
        };
        [100, 101, 103, 199, 204, 304].into_iter().for_each(|status| check(Method::Other, status, true));
        [200, 201, 205, 206, 301, 303, 305, 404, 500, 999]
            .into_iter()
            .for_each(|status| check(Method::Other, status, false));
        [200, 204, 304, 404, 500].into_iter().for_each(|status| check(Method::Head, status, true));
    }
}
