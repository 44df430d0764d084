//! What is valid in a certificate of a listener, and makes clients reject it all the same.

use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_HASH_SHA1, OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA, Oid,
};
use x509_parser::prelude::{X509Certificate, X509Version};

/// `ecdsa-with-SHA1` (RFC 3279 section 2.2.3), as its numbers.
const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";
/// `id-ad-caIssuers` (RFC 5280 section 4.2.2.1): where the certificate of the issuer can be had.
const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";

/// Parts of sentences that begin with the file of this chain.
pub(super) fn of(chain: &[X509Certificate<'_>]) -> Vec<String> {
    let Some(first) = chain.first() else { return Vec::new() };
    let mut doubts = Vec::new();
    if first.version() == X509Version::V1 {
        let advice = "is of version 1, without extensions, and so without names of hosts (subjectAltName), so that browsers and \
                      many clients reject it; have it issued again with the names (`openssl x509 -req … -extfile`)";
        doubts.push(advice.to_owned());
    } else if !has_names(first) {
        let advice = "names no host or address (subjectAltName), and browsers do not look at the common name; have it \
                      issued again with the names";
        doubts.push(advice.to_owned());
    }
    if !is_for_servers(first) {
        let advice = "is not for servers (its extendedKeyUsage has no serverAuth), so that clients reject it; have it issued again";
        doubts.push(advice.to_owned());
    }
    if chain.iter().any(|one| is_signed_weakly(one) && one.subject().as_raw() != one.issuer().as_raw()) {
        let advice = "is signed with SHA-1 or MD5, which clients reject; have it issued again";
        doubts.push(advice.to_owned());
    }
    if chain.len() == 1 && names_where_its_issuer_is(first) {
        doubts.push(format!(
            "has no certificate of its issuer, \"{}\", without which most clients reject it; add that behind it, or write the file \
             of the whole chain (fullchain.pem)",
            first.issuer()
        ));
    }
    doubts
}

fn has_names(certificate: &X509Certificate<'_>) -> bool {
    certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .is_some_and(|names| !names.value.general_names.is_empty())
}

fn is_for_servers(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.extended_key_usage().ok().flatten();
    usage.is_none_or(|usage| usage.value.server_auth || usage.value.any)
}

fn is_signed_weakly(certificate: &X509Certificate<'_>) -> bool {
    let weak = [OID_SHA1_WITH_RSA, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_MD5WITHRSAENC, OID_HASH_SHA1];
    let algorithm: &Oid<'_> = &certificate.signature_algorithm.algorithm;
    weak.contains(algorithm) || algorithm.to_id_string() == ECDSA_WITH_SHA1
}

/// Roots do so, too, where they issue certificates of servers themselves; public ones do not issue any.
fn names_where_its_issuer_is(certificate: &X509Certificate<'_>) -> bool {
    certificate.extensions().iter().any(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            access.accessdescs.iter().any(|one| one.access_method.to_id_string() == CA_ISSUERS)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, KeyPair};
    use x509_parser::prelude::FromDer;

    /// SEQUENCE of one AccessDescription: `caIssuers`, and `http://a` as its URI.
    const ACCESS: &[u8] = b"\x30\x16\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x02\x86\x08http://a";

    #[track_caller]
    fn check(names: &[&str], change: impl Fn(&mut CertificateParams), expected: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, parsed) = X509Certificate::from_der(made.der()).unwrap();
        let doubts = of(&[parsed]);
        assert_eq!(doubts.len(), expected.len(), "{doubts:?}");
        doubts.iter().zip(expected).for_each(|(doubt, part)| assert!(doubt.contains(part), "{doubt}"));
    }

    #[test]
    fn what_clients_reject_is_told() {
        check(&["a.test"], |_| {}, &[]);
        check(&["127.0.0.1"], |_| {}, &[]);
        check(&[], |_| {}, &["names no host"]);
        let usage = |purpose: ExtendedKeyUsagePurpose| {
            move |params: &mut CertificateParams| params.extended_key_usages = vec![purpose.clone()]
        };
        check(&["a.test"], usage(ExtendedKeyUsagePurpose::ServerAuth), &[]);
        check(&["a.test"], usage(ExtendedKeyUsagePurpose::ClientAuth), &["not for servers"]);
        let access = |params: &mut CertificateParams| {
            let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
            params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, ACCESS.to_vec())];
        };
        check(&["a.test"], access, &["no certificate of its issuer"]);
    }
}
