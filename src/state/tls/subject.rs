//! What a server is told of a client's certificate.

use super::certificate;
use crate::base::cryptography::provider;
use crate::http1::names::{Name, name_of};
use rustls_pki_types::CertificateDer;
use std::fmt::Write;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::X509Name;

/// A client's certificate, in texts that can stand in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The distinguished name (RFC 4514): `CN=alice,O=Example`.
    pub subject: String,
    /// SHA-256 of the certificate, 64 hexadecimal digits in lower case.
    pub fingerprint: String,
}

/// The value of a header `X-Client-Cert-…` as servers get it, for conditions, limits and placeholders: what its client wrote into
/// such a header proves nothing. Nor does what it wrote of where it came from (`X-Forwarded-…`, `Forwarded`, `X-Real-IP`), which no
/// server gets. `None`: the header has another name, or came from a trusted proxy, and counts as it came.
pub fn told<'c>(
    name: &[u8],
    certificate: Option<&'c ClientCertificate>,
    peer_trusted: bool,
) -> Option<Option<&'c str>> {
    match name_of(name) {
        Name::XClientCert if !peer_trusted || certificate.is_some() => {}
        kind if !peer_trusted && kind.is_of_proxies() => return Some(None),
        _ => return None,
    }
    let is =
        |own: &str| name.len() == own.len() && name.iter().zip(own.bytes()).all(|(a, b)| dashed(*a) == b);
    Some(certificate.and_then(|certificate| {
        let subject = is("x-client-cert-subject").then_some(&certificate.subject);
        let found = subject.or_else(|| is("x-client-cert-fingerprint").then_some(&certificate.fingerprint));
        found.map(String::as_str)
    }))
}

fn dashed(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

impl ClientCertificate {
    /// Of a certificate that was verified.
    pub fn of(der: &CertificateDer<'_>) -> Self {
        let parsed = certificate::parsed(der);
        let subject = parsed.map(|certificate| distinguished_name(certificate.subject()));
        ClientCertificate { subject: subject.unwrap_or_default(), fingerprint: fingerprint(der) }
    }
}

/// Taken from a cipher suite, because the provider names its hash functions nowhere else.
fn fingerprint(der: &[u8]) -> String {
    let suites = &provider().cipher_suites;
    let suites = suites.iter().filter_map(|suite| suite.tls13());
    let mut hashes = suites.map(|suite| suite.common.hash_provider);
    let sha256 = hashes.find(|hash| hash.output_len() == 32);
    sha256.map_or(String::new(), |sha256| hexadecimal(sha256.hash(der).as_ref()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// In visible ASCII: whatever could end a header, or look like a further attribute, is escaped.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let attributes = rdn.iter().map(|attribute| {
                let kind = oid2abbrev(attribute.attr_type(), oid_registry());
                let kind = kind.map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
                let value = attribute
                    .as_str()
                    .map_or_else(|_| format!("#{}", hexadecimal(attribute.as_slice())), escaped);
                format!("{kind}={value}")
            });
            attributes.collect::<Vec<_>>().join("+")
        })
        .collect();
    // The most specific one is the last in the certificate and the first in the text (RFC 4514 section 2.1).
    parts.reverse();
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' | b'=' => text.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if at == 0 || at + 1 == value.len() => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => _ = write!(text, "\\{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_can_end_a_header_or_look_like_another_attribute() {
        let check = |value: &str, expected: &str| assert_eq!(escaped(value), expected);
        check("alice", "alice");
        check("Doe, Jane+x=y", "Doe\\, Jane\\+x\\=y");
        check(" a ", "\\ a\\ ");
        check("#1", "\\#1");
        check("a\r\nX-Admin: 1", "a\\0D\\0AX-Admin: 1");
        check("Zoë", "Zo\\C3\\AB");
    }

    #[test]
    fn what_a_stranger_writes_into_the_headers_of_proxies_counts_for_nothing() {
        let alice = ClientCertificate { subject: "CN=alice".into(), fingerprint: "ab".into() };
        let check = |name: &str, certificate, trusted, expected| {
            assert_eq!(told(name.as_bytes(), certificate, trusted), expected, "{name}");
        };
        check("x-client-cert-subject", Some(&alice), false, Some(Some("CN=alice")));
        check("X_Client_Cert_Fingerprint", Some(&alice), true, Some(Some("ab")));
        check("x-client-cert-chain", Some(&alice), true, Some(None));
        check("x-client-cert-subject", None, false, Some(None));
        check("x-client-cert-subject", None, true, None);
        check("x-client", Some(&alice), false, None);
        for name in ["x-forwarded-for", "x-forwarded-proto", "X_Forwarded_User", "x-real-ip", "forwarded"] {
            check(name, None, false, Some(None));
            check(name, None, true, None);
        }
    }

    #[test]
    fn a_fingerprint_is_that_of_openssl() {
        // printf abc | sha256sum
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprint(b"abc"), expected);
    }
}
