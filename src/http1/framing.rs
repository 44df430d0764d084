//! Where a message ends (RFC 9112 section 6), decided once, here, for requests and for responses.

use super::fields::{Claim, decimal, list};
use super::head::Version;
use super::names::Name;
use super::reason::Reason;
use super::scan::is_token;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and none may follow. For a request: no field says anything of a length.
    None,
    /// Exactly so many bytes. A request with `Content-Length: 0` is `Length(0)` and goes on as such.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the server closes; for responses only.
    UntilClose,
}

/// The method of the request that a response answers, as far as framing cares (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// HEAD: the answer never has a body.
    Head,
    /// CONNECT: a 2xx opens a tunnel.
    Connect,
    /// Any other method.
    Other,
}

impl Asked {
    /// What a request's method means for the framing of its answer. Methods have a case.
    pub fn by(method: &[u8]) -> Asked {
        match method {
            b"HEAD" => Asked::Head,
            b"CONNECT" => Asked::Connect,
            _ => Asked::Other,
        }
    }
}

/// What the fields of one head claim about its length; filled while they are walked over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'b> {
    length: Claim<'b>,
    coding: Claim<'b>,
}

impl<'b> Claims<'b> {
    /// Takes in one field; others than Content-Length and Transfer-Encoding say nothing.
    pub fn note(&mut self, kind: Name, value: &'b [u8]) {
        match kind {
            Name::ContentLength => self.length.note(value),
            Name::TransferEncoding => self.coding.note(value),
            _ => {}
        }
    }

    /// A body is claimed to follow, with right or not.
    pub(super) fn promise_a_body(&self) -> bool {
        self.coding != Claim::Absent || self.length().is_some_and(|length| length > 0)
    }

    /// The one good Content-Length: what HEAD and 304 pass on, without a body, as it came.
    pub(super) fn length(&self) -> Option<u64> {
        match self.length {
            Claim::One(value) => decimal(value),
            Claim::Absent | Claim::Several => None,
        }
    }
}

/// The framing of a request. Nothing ambiguous is accepted: both lengths, several, a list even of equal ones,
/// a coding that is not exactly `chunked`, any coding in HTTP/1.0.
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

/// The framing of a response. HEAD, 204, 304, 1xx and 2xx to CONNECT have no body whatever they claim; what
/// they claim must hold together all the same.
pub fn response(asked: Asked, status: u16, version: Version, claims: &Claims<'_>) -> Result<Framing, Reason> {
    let claimed = request(version, claims).map_err(|_| Reason::BadAnswer)?;
    match (asked, status) {
        (Asked::Head, _) | (_, 100..=199 | 204 | 304) | (Asked::Connect, 200..=299) => Ok(Framing::None),
        _ if claimed == Framing::None => Ok(Framing::UntilClose),
        _ => Ok(claimed),
    }
}

/// `chunked`, or what is wrong with it: 501 for a coding that is well formed and unknown (RFC 9112 section 6.1), alone
/// or before a last `chunked`; 400 for everything whose end could be seen in two ways. Section 6.3 would have 400
/// where the last is not `chunked`, in which two clauses are at odds; either way nothing goes on and the connection
/// closes.
fn coding(value: &[u8]) -> Result<Framing, Reason> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let unknown = list(value).take_while(|coding| !is_chunked(coding)).count();
    let all = list(value).count();
    let well_formed = list(value).all(is_token) && value.split(|byte| *byte == b',').count() == all;
    let ends_well = all == 1 || unknown + 1 == all;
    if well_formed && unknown > 0 && ends_well {
        Err(Reason::TransferCodingUnknown)
    } else {
        Err(Reason::BadTransferEncoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reason::{BadAnswer, BadContentLength, BadTransferEncoding, LengthConflict, TransferCodingUnknown};

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
        let answer = expected.map_err(|_| BadAnswer).map(|framing| match framing {
            Framing::None => Framing::UntilClose,
            framing => framing,
        });
        assert_eq!(response(Asked::Other, 200, Version::Http11, &claims(fields)), answer);
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
        for unknown in ["gzip", "identity", "xchunked", "chunked1", "gzip, chunked", "x,y , chunked"] {
            check(&[(TE, unknown)], Err(TransferCodingUnknown));
        }
        for bad in ["", ",", "chunked, chunked", "chunked, gzip", "gzip, deflate", "chunked,", ",chunked"] {
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
        assert_eq!(response(Asked::Other, 200, Version::Http10, &coded), Err(BadAnswer));
        assert_eq!(request(Version::Http10, &claims(&[(CL, "3")])), Ok(Framing::Length(3)));
    }

    #[test]
    fn answers_without_a_body() {
        let check = |asked, status, expected| {
            for fields in [&[][..], &[(CL, "5")], &[(TE, "chunked")]] {
                let framing = response(asked, status, Version::Http11, &claims(fields)).unwrap();
                assert_eq!(framing == Framing::None, expected, "{asked:?} {status} {fields:?}");
            }
        };
        [100, 101, 103, 199, 204, 304].into_iter().for_each(|status| check(Asked::Other, status, true));
        [200, 201, 205, 206, 301, 303, 305, 404, 500, 999]
            .into_iter()
            .for_each(|status| check(Asked::Other, status, false));
        [200, 204, 304, 404, 500].into_iter().for_each(|status| check(Asked::Head, status, true));
        [200, 299, 204].into_iter().for_each(|status| check(Asked::Connect, status, true));
        [300, 407, 502].into_iter().for_each(|status| check(Asked::Connect, status, false));
    }
}
