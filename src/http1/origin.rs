//! The headers that tell a server where a request came from: `X-Forwarded-*`, and `Forwarded` (RFC 7239).

use super::forward::Hop;
use super::head::RequestHead;
use super::names::Name;
use super::write::{self, address};
use std::net::IpAddr;

/// Fields that a trusted peer has sent already.
#[derive(Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) proto: bool,
    pub(super) host: bool,
    pub(super) addresses: bool,
}

/// The origin of the request, but for what its route says of it.
pub(super) fn origin(head: &RequestHead<'_, '_>, hop: &Hop<'_>, known: Known, out: &mut Vec<u8>) {
    let is_set = |name: &str| hop.edits.is_some_and(|edits| edits.sets(name.as_bytes()));
    if (known.addresses || hop.peer.is_some()) && !is_set("X-Forwarded-For") {
        addresses(head, hop, known, out);
    }
    if !known.proto && !is_set("X-Forwarded-Proto") {
        write::field(out, "X-Forwarded-Proto", hop.proto.as_bytes());
    }
    if !known.host && !head.host.is_empty() && !is_set("X-Forwarded-Host") {
        write::field(out, "X-Forwarded-Host", head.host);
    }
    if let Some((subject, fingerprint)) = hop.client_certificate {
        write::field(out, "X-Client-Cert-Subject", subject.as_bytes());
        write::field(out, "X-Client-Cert-Fingerprint", fingerprint.as_bytes());
    }
    if hop.forwarded && !is_set("Forwarded") {
        forwarded(head, hop, out);
    }
}

/// X-Forwarded-For as one line: the trusted peer's value, then the peer.
fn addresses(head: &RequestHead<'_, '_>, hop: &Hop<'_>, known: Known, out: &mut Vec<u8>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    let mut separator: &[u8] = b"";
    if known.addresses {
        for value in head.fields.values(Name::XForwardedFor).filter(|value| !value.is_empty()) {
            out.extend_from_slice(separator);
            out.extend_from_slice(value);
            separator = b", ";
        }
    }
    if let Some(peer) = hop.peer {
        out.extend_from_slice(separator);
        address(out, peer);
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 7239: an IPv6 address and an authority need quotes (section 6), and none of their bytes needs an escape.
fn forwarded(head: &RequestHead<'_, '_>, hop: &Hop<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Forwarded: for=");
    match hop.peer.map(|peer| peer.to_canonical()) {
        None => out.extend_from_slice(b"unknown"),
        Some(peer @ IpAddr::V4(_)) => address(out, peer),
        Some(peer @ IpAddr::V6(_)) => {
            out.extend_from_slice(b"\"[");
            address(out, peer);
            out.extend_from_slice(b"]\"");
        }
    }
    if !head.host.is_empty() {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(head.host);
        out.push(b'"');
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(hop.proto.as_bytes());
    out.extend_from_slice(b"\r\n");
}
