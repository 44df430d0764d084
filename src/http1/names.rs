//! Field names that the balancer interprets, distinguished by length and first byte, in any case.

/// A field name, as far as it matters for forwarding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Name {
    /// Not known here: forwarded.
    #[default]
    Other,
    /// `Host`: RFC 9110 section 7.2.
    Host,
    /// `Content-Length`: RFC 9110 section 8.6.
    ContentLength,
    /// `Transfer-Encoding`: RFC 9112 section 6.1.
    TransferEncoding,
    /// `Content_Length`, `Transfer_Encoding`: distinct names in HTTP, but framing for servers behind CGI-like
    /// interfaces. Rejected in requests.
    FramingLookalike,
    /// `Connection`: RFC 9110 section 7.6.1.
    Connection,
    /// `Close`: reserved, because `Connection: close` would name it (RFC 9112 section 9.6).
    Close,
    /// `Keep-Alive`: hop-by-hop by convention.
    KeepAlive,
    /// `Proxy-Connection`: never a standard, always removed (RFC 9112 appendix C.2.2).
    ProxyConnection,
    /// `TE`: RFC 9110 section 10.1.4.
    Te,
    /// `Trailer`: RFC 9110 section 6.6.2.
    Trailer,
    /// `Upgrade`: RFC 9110 section 7.8.
    Upgrade,
    /// `HTTP2-Settings`: part of the upgrade to h2c, which is not offered (RFC 9113 section 3.1).
    Http2Settings,
    /// `Expect`: RFC 9110 section 10.1.1.
    Expect,
    /// `Via`: RFC 9110 section 7.6.3.
    Via,
    /// `Max-Forwards`: RFC 9110 section 7.6.2.
    MaxForwards,
    /// `Forwarded`: RFC 7239.
    Forwarded,
    /// `X-Forwarded-For`: the addresses that the request has passed.
    XForwardedFor,
    /// `X-Forwarded-Proto`: the scheme the client used.
    XForwardedProto,
    /// `X-Forwarded-Host`: the authority the client asked for.
    XForwardedHost,
    /// Any other `X-Forwarded-…`: trusted only from a trusted peer, like the others.
    XForwardedOther,
    /// `X-Client-Cert-…`: what the balancer says of the client's certificate.
    XClientCert,
    /// `X-Request-Id`: names the request in logs.
    XRequestId,
    /// `X-Request-Deadline`: how much time is left until the response is worthless.
    XRequestDeadline,
    /// `X-Real-IP`: the client's address, as other proxies name it; trusted only from a trusted peer.
    XRealIp,
    /// `traceparent`: W3C Trace Context.
    TraceParent,
    /// `tracestate`: W3C Trace Context; belongs to `traceparent`.
    TraceState,
    /// `X-Served-By`: which server responded.
    XServedBy,
    /// `Accept`: RFC 9110 section 12.5.1.
    Accept,
    /// `Authorization`: RFC 9110 section 11.6.2.
    Authorization,
    /// `Date`: RFC 9110 section 6.6.1.
    Date,
    /// `Content-Type`: RFC 9110 section 8.3.
    ContentType,
    /// `endpoint-load-metrics` and `endpoint-load-metrics-bin`: what a server says of its load (ORCA).
    LoadMetrics,
}

impl Name {
    /// Whether it says where a request came from: only a proxy that is trusted may.
    pub fn is_of_proxies(self) -> bool {
        use Name::{Forwarded, XForwardedFor, XForwardedHost, XForwardedOther, XForwardedProto, XRealIp};
        matches!(
            self,
            Forwarded | XForwardedFor | XForwardedHost | XForwardedOther | XForwardedProto | XRealIp
        )
    }
}

/// Which name this is; ASCII case does not matter (RFC 9110 section 5.1).
///
/// In names that carry trust (`X-…`, `Forwarded` has no dash) an underscore counts as a dash: servers behind CGI-like
/// interfaces cannot distinguish `X_Forwarded_For` from `X-Forwarded-For`, so neither may we.
pub fn name_of(name: &[u8]) -> Name {
    let Some(first) = name.first() else { return Name::Other };
    match (name.len(), first | 0x20) {
        (2, b't') => known(name, b"te", Name::Te),
        (3, b'v') => known(name, b"via", Name::Via),
        (4, b'h') => known(name, b"host", Name::Host),
        (4, b'd') => known(name, b"date", Name::Date),
        (5, b'c') => known(name, b"close", Name::Close),
        (6, b'a') => known(name, b"accept", Name::Accept),
        (6, b'e') => known(name, b"expect", Name::Expect),
        (7, b'u') => known(name, b"upgrade", Name::Upgrade),
        (7, b't') => known(name, b"trailer", Name::Trailer),
        (9, b'x') if same_dashed(name, b"x-real-ip") => Name::XRealIp,
        (9, b'f') => known(name, b"forwarded", Name::Forwarded),
        (10, b't') => known(name, b"tracestate", Name::TraceState),
        (11, b't') => known(name, b"traceparent", Name::TraceParent),
        (10, b'c') => known(name, b"connection", Name::Connection),
        (10, b'k') => known(name, b"keep-alive", Name::KeepAlive),
        (12, b'c') => known(name, b"content-type", Name::ContentType),
        (12, b'm') => known(name, b"max-forwards", Name::MaxForwards),
        (13, b'a') => known(name, b"authorization", Name::Authorization),
        (14, b'c') => dashed(name, b"content-length", Name::ContentLength),
        (14, b'h') => known(name, b"http2-settings", Name::Http2Settings),
        (16, b'p') => known(name, b"proxy-connection", Name::ProxyConnection),
        (17, b't') => dashed(name, b"transfer-encoding", Name::TransferEncoding),
        (21, b'e') => known(name, b"endpoint-load-metrics", Name::LoadMetrics),
        (25, b'e') => known(name, b"endpoint-load-metrics-bin", Name::LoadMetrics),
        (11.., b'x') => extension(name),
        _ => Name::Other,
    }
}

fn known<const LEN: usize>(name: &[u8], lower: &[u8; LEN], kind: Name) -> Name {
    // With a length that the compiler knows all bytes are compared at once.
    let Some(name) = name.first_chunk::<LEN>().filter(|_| name.len() == LEN) else { return Name::Other };
    let differs = name.iter().zip(lower).fold(0, |bits, (byte, low)| bits | byte.to_ascii_lowercase() ^ low);
    if differs == 0 { kind } else { Name::Other }
}

/// A name that frames, or one that could be mistaken for it.
fn dashed<const LEN: usize>(name: &[u8], lower: &[u8; LEN], kind: Name) -> Name {
    match known(name, lower, kind) {
        Name::Other if same_dashed(name, lower) => Name::FramingLookalike,
        kind => kind,
    }
}

/// The names that begin with `X-`.
fn extension(name: &[u8]) -> Name {
    const FAMILY: &[u8] = b"x-forwarded-";
    const CERTIFICATE: &[u8] = b"x-client-cert-";
    let is = |lower: &[u8]| name.len() == lower.len() && same_dashed(name, lower);
    if is(b"x-served-by") {
        Name::XServedBy
    } else if is(b"x-request-id") {
        Name::XRequestId
    } else if is(b"x-request-deadline") {
        Name::XRequestDeadline
    } else if name.get(..CERTIFICATE.len()).is_some_and(|start| same_dashed(start, CERTIFICATE)) {
        Name::XClientCert
    } else if !name.get(..FAMILY.len()).is_some_and(|start| same_dashed(start, FAMILY)) {
        Name::Other
    } else if is(b"x-forwarded-for") {
        Name::XForwardedFor
    } else if is(b"x-forwarded-host") {
        Name::XForwardedHost
    } else if is(b"x-forwarded-proto") {
        Name::XForwardedProto
    } else {
        Name::XForwardedOther
    }
}

/// Whether two names are the same to servers that cannot distinguish an underscore from a dash.
pub fn is_same_dashed(one: &[u8], other: &[u8]) -> bool {
    let dashed = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(dashed).eq(other.iter().map(dashed))
}

/// The same in the way of each request's headers: the caller knows that the lengths are equal, and the second name is in lower
/// case with dashes.
fn same_dashed(name: &[u8], lower: &[u8]) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.iter().zip(lower).all(|(&ours, &theirs)| dashed(ours) == theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Name) {
        for name in [name.to_string(), name.to_lowercase(), name.to_uppercase()] {
            assert_eq!(name_of(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn every_name_is_known_in_any_case() {
        check("Host", Name::Host);
        check("Content-Length", Name::ContentLength);
        check("Transfer-Encoding", Name::TransferEncoding);
        check("Connection", Name::Connection);
        check("Close", Name::Close);
        check("Keep-Alive", Name::KeepAlive);
        check("Proxy-Connection", Name::ProxyConnection);
        check("TE", Name::Te);
        check("Trailer", Name::Trailer);
        check("Upgrade", Name::Upgrade);
        check("HTTP2-Settings", Name::Http2Settings);
        check("Expect", Name::Expect);
        check("Via", Name::Via);
        check("Max-Forwards", Name::MaxForwards);
        check("Forwarded", Name::Forwarded);
        check("X-Forwarded-For", Name::XForwardedFor);
        check("X-Forwarded-Proto", Name::XForwardedProto);
        check("X-Forwarded-Host", Name::XForwardedHost);
        check("X-Forwarded-Port", Name::XForwardedOther);
        check("X-Request-Id", Name::XRequestId);
        check("X-Request-Deadline", Name::XRequestDeadline);
        check("x_request_deadline", Name::XRequestDeadline);
        check("X-Served-By", Name::XServedBy);
        check("X-Client-Cert-Subject", Name::XClientCert);
        check("X_Client-Cert_Fingerprint", Name::XClientCert);
        check("X-Real-IP", Name::XRealIp);
        check("traceparent", Name::TraceParent);
        check("tracestate", Name::TraceState);
        check("Accept", Name::Accept);
        check("Authorization", Name::Authorization);
        check("Date", Name::Date);
        check("Content-Type", Name::ContentType);
        check("Endpoint-Load-Metrics", Name::LoadMetrics);
        check("endpoint-load-metrics-bin", Name::LoadMetrics);
    }

    #[test]
    fn an_underscore_does_not_hide_a_name_that_carries_trust() {
        check("X_Forwarded_For", Name::XForwardedFor);
        check("X-Forwarded_Proto", Name::XForwardedProto);
        check("X_Request-Id", Name::XRequestId);
        check("X_Real_IP", Name::XRealIp);
        check("Content_Length", Name::FramingLookalike);
        check("Transfer_Encoding", Name::FramingLookalike);
        check("Max_Forwards", Name::Other);
    }

    #[test]
    fn near_misses_are_other_names() {
        for name in [
            "",
            "Hos",
            "Hosts",
            "Most",
            "Content-Lengths",
            "Content-Lengtg",
            "Xost",
            "X-Forwarded",
            "X-Other-Name-1",
        ] {
            check(name, Name::Other);
        }
    }
}
