//! A certificate with its chain and its key, read from PEM files and checked before it is used. Each fault is a sentence that
//! names the file and says what to do.

use crate::base::cryptography::provider;
use crate::base::files::{self, unreadable};
use crate::base::trust::date;
use crate::state::config::Certificate;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt::Display;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Version};

mod doubts;

/// The largest file of certificates or keys that is read, in bytes: some hundred certificates.
const FILE_MAX: u64 = 1024 * 1024;

/// A certificate that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The chain and the key.
    pub key: Arc<CertifiedKey>,
    /// The names it is for, in lower case; `*.example.com` is a wildcard.
    pub names: Vec<String>,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
    /// Why clients may reject it, as parts of sentences that begin with its file.
    pub doubts: Vec<String>,
}

/// Which of the two files is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// That of the certificate.
    Certificate,
    /// That of the key.
    Key,
}

/// What is wrong with one of the two files, for the operator.
pub type Flaw = (Part, String);

/// Reads both files. `now` is in seconds since 1970. All that is wrong with them is in the error.
pub fn load(files: &Certificate, now: i64) -> Result<Loaded, Vec<Flaw>> {
    let certificates = chain(&files.certificate).map_err(|advice| (Part::Certificate, advice));
    match (certificates, signing(&files.key).map_err(|advice| (Part::Key, advice))) {
        (Ok(chain), Ok(signing)) => pair(files, CertifiedKey::new(chain, signing), now),
        (Err(one), Err(other)) if files.key == files.certificate && one.1 == other.1 => Err(vec![one]),
        (one, other) => Err(one.err().into_iter().chain(other.err()).collect()),
    }
}

/// A certificate and a key that could be read: whether they belong together and can be used now.
fn pair(files: &Certificate, certified: CertifiedKey, now: i64) -> Result<Loaded, Vec<Flaw>> {
    let shown = files.certificate.display();
    let of_certificate = |advice: String| (Part::Certificate, format!("{shown} {advice}"));
    let parsed = certified.cert.iter().map(|der| parsed(der)).collect::<Option<Vec<_>>>();
    let parsed = parsed.ok_or_else(|| {
        vec![of_certificate("has a certificate that cannot be read; export it again".into())]
    })?;
    let is_its_key = fits(&certified, files);
    let is_usable = in_order(&parsed).and_then(|()| in_time(&parsed, now)).map_err(of_certificate);
    let flaws: Vec<_> = is_its_key.err().into_iter().chain(is_usable.err()).collect();
    if !flaws.is_empty() {
        return Err(flaws);
    }
    let (names, not_after) = match parsed.first() {
        Some(first) => (names(first), first.validity().not_after.timestamp()),
        None => (Vec::new(), 0),
    };
    let doubts = doubts::of(&parsed);
    Ok(Loaded { key: Arc::new(certified), names, not_after, doubts })
}

/// The certificates of a file, at least one. The error is for the operator.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path, FILE_MAX)?;
    let shown = path.display();
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, pem::Error>>();
    let found =
        found.map_err(|_| format!("{shown} is not a valid PEM file; export the certificate again"))?;
    if !found.is_empty() {
        return Ok(found);
    }
    if let Some(advice) = other_form(&text, &shown) {
        return Err(advice);
    }
    Err(match kind(&text) {
        Kind::Key => format!(
            "{shown} has a private key and no certificate; write the file of the certificate here, and this one as the key"
        ),
        Kind::Request => {
            format!("{shown} is a request for a certificate; write the certificate that it was answered with")
        }
        Kind::Other if is_der(&text) => format!(
            "{shown} is in DER form; convert it with `openssl x509 -inform der -in {shown} -out {shown}.pem`"
        ),
        Kind::Other
            if contains(&text, b"TRUSTED CERTIFICATE-----") || contains(&text, b"X509 CERTIFICATE-----") =>
        {
            format!(
                "{shown} has a certificate in a form of OpenSSL; convert it with `openssl x509 -in {shown} -out {shown}.pem`"
            )
        }
        Kind::Other if contains(&text, b"-----BEGIN CERTIFICATE-----") => {
            format!(
                "{shown} has white space in front of -----BEGIN CERTIFICATE-----; remove it from all lines"
            )
        }
        Kind::Other => {
            format!("{shown} has no certificate (-----BEGIN CERTIFICATE-----); write a PEM file that has")
        }
    })
}

/// The private key of a file, to sign with.
fn signing(path: &Path) -> Result<Arc<dyn SigningKey>, String> {
    provider().key_provider.load_private_key(key(path)?).map_err(|_| {
        let advice = "has a private key of a kind that is not supported; use RSA with 2048 bits or more, ECDSA (P-256, \
                      P-384) or Ed25519";
        format!("{} {advice}", path.display())
    })
}

/// The private key of a file.
fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path, FILE_MAX)?;
    let shown = path.display();
    if contains(&text, b"ENCRYPTED") {
        return Err(format!(
            "{shown} is encrypted with a passphrase, which cannot be asked for here; decrypt it with `openssl pkey -in \
             {shown} -out {shown}.plain`, and keep that file readable to this user alone"
        ));
    }
    let other = other_form(&text, &shown).or_else(|| other_key(&text, &shown));
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if other.is_some() => other.unwrap_or_default(),
        pem::Error::NoItemsFound if contains(&text, b"BEGIN CERTIFICATE") => {
            format!("{shown} has a certificate and no private key; write the file of the key here")
        }
        pem::Error::NoItemsFound => {
            format!("{shown} has no private key (-----BEGIN PRIVATE KEY-----); write a PEM file that has")
        }
        _ => format!("{shown} is not a valid PEM file; export the key again"),
    })
}

/// The contents of a file of at most `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| unreadable(path, &error);
    let mut text = Vec::new();
    files::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut text)).map_err(cannot)?;
    match text.len() as u64 > max {
        true => Err(format!("{} is larger than {} MiB; write another file", path.display(), max >> 20)),
        false => Ok(text),
    }
}

enum Kind {
    Key,
    Request,
    Other,
}

/// What to do with a file that has a certificate or a key, and is no PEM file.
fn other_form(text: &[u8], shown: &impl Display) -> Option<String> {
    // A PFX begins with its version, 3 (RFC 7292 section 4).
    let is_pkcs12 = is_der(text) && text.get(4..7) == Some(&[2, 1, 3]);
    Some(match text {
        _ if is_pkcs12 => format!(
            "{shown} is a PKCS#12 file; convert it with `openssl pkcs12 -nodes -in {shown} -out {shown}.pem`, which has the \
             certificate and the key, and keep that file readable to this user alone"
        ),
        _ if contains(text, b"BEGIN PKCS7-----") => format!(
            "{shown} is a PKCS#7 file; convert it with `openssl pkcs7 -print_certs -in {shown} -out {shown}.pem`"
        ),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => format!("{shown} is in UTF-16; save it as plain text (UTF-8)"),
        [0xef, 0xbb, 0xbf, ..] => {
            format!("{shown} begins with a byte order mark; save it as UTF-8 without one")
        }
        _ => return None,
    })
}

/// What to do with a key that is not a private key in PEM form.
fn other_key(text: &[u8], shown: &impl Display) -> Option<String> {
    Some(match text {
        _ if contains(text, b"OPENSSH PRIVATE KEY-----") => format!(
            "{shown} is a key of OpenSSH, which certificates are not made for; write the key that the certificate was requested with"
        ),
        _ if contains(text, b"PUBLIC KEY-----") => {
            format!(
                "{shown} has a public key; write the file of the private key (-----BEGIN PRIVATE KEY-----)"
            )
        }
        _ if is_der(text) => format!(
            "{shown} is in DER form; convert it with `openssl pkey -inform der -in {shown} -out {shown}.pem`"
        ),
        _ => return None,
    })
}

/// A sequence of some hundred bytes or more, or a shorter one that is all there is.
fn is_der(text: &[u8]) -> bool {
    match text {
        [0x30, 0x81 | 0x82, ..] => true,
        [0x30, length @ ..=0x7f, rest @ ..] => rest.len() == usize::from(*length),
        _ => false,
    }
}

fn kind(text: &[u8]) -> Kind {
    if contains(text, b"PRIVATE KEY-----") {
        Kind::Key
    } else if contains(text, b"CERTIFICATE REQUEST-----") {
        Kind::Request
    } else {
        Kind::Other
    }
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// A certificate that was read.
pub fn parsed<'d>(der: &'d CertificateDer<'_>) -> Option<X509Certificate<'d>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

/// Whether this is the key of the first certificate. webpki reads none of version 1; clients that name it, or do not verify, take one.
fn keys_match(certified: &CertifiedKey) -> Result<(), Error> {
    let first = certified.cert.first().and_then(|der| parsed(der));
    match first.filter(|first| first.version() == X509Version::V1).zip(certified.key.public_key()) {
        Some((first, key)) if first.public_key().raw == key.as_ref() => Ok(()),
        Some(_) => Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)),
        None => certified.keys_match(),
    }
}

/// Whether the key is that of the first certificate.
fn fits(certified: &CertifiedKey, files: &Certificate) -> Result<(), Flaw> {
    match keys_match(certified) {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => return Ok(()),
        Err(Error::InconsistentKeys(_)) => {}
        Err(_) => {
            let advice = "has a certificate that cannot be used for TLS, such as one with a critical extension that is not \
                          known; have it issued again";
            return Err((Part::Certificate, format!("{} {advice}", files.certificate.display())));
        }
    }
    let is_its = |der: &CertificateDer<'static>| {
        keys_match(&CertifiedKey::new(vec![der.clone()], Arc::clone(&certified.key))).is_ok()
    };
    if certified.cert.iter().skip(1).any(is_its) {
        let advice = "has its certificates in the wrong order; write that of the key first, then its issuer, and so on";
        return Err((Part::Certificate, format!("{} {advice}", files.certificate.display())));
    }
    let advice = format!(
        "{} is not the key of {}; write the two files that belong together",
        files.key.display(),
        files.certificate.display()
    );
    Err((Part::Key, advice))
}

/// Each certificate has issued one in front of it: mostly the one right there, as older clients want it. Of two with the
/// same name and key, such as an authority that two others have signed (cross-signed), clients take the one that suits them.
fn in_order(chain: &[X509Certificate<'_>]) -> Result<(), String> {
    for (at, next) in chain.iter().enumerate().skip(1) {
        let (before, _) = chain.split_at(at);
        let Some(last) = before.last() else { continue };
        if before.iter().any(|one| one.issuer().as_raw() == next.subject().as_raw()) {
            continue;
        }
        return Err(format!(
            "has its certificates in the wrong order: certificate {at} was issued by \"{}\", but certificate {} is \"{}\"; \
             write each in front of its issuer, and leave out what does not belong to the chain",
            last.issuer(),
            at + 1,
            next.subject()
        ));
    }
    Ok(())
}

/// All of them are valid now.
fn in_time(chain: &[X509Certificate<'_>], now: i64) -> Result<(), String> {
    for certificate in chain {
        let (subject, validity) = (certificate.subject(), certificate.validity());
        let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        if now > until {
            return Err(format!("has expired: \"{subject}\" was valid until {}; renew it", date(until)));
        }
        if now < from {
            return Err(format!(
                "is not valid yet: \"{subject}\" is valid from {}; look at the clock of this machine, or wait",
                date(from)
            ));
        }
    }
    Ok(())
}

/// The DNS names that a certificate is for; the common name stands in where there are no others.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let others = certificate.subject_alternative_name().ok().flatten();
    let others = others.iter().flat_map(|extension| &extension.value.general_names);
    let mut names: Vec<String> = others
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(str::to_ascii_lowercase));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    fn of(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    #[test]
    fn each_certificate_has_issued_one_in_front_of_it() {
        let key = || KeyPair::generate().unwrap();
        let (between_key, root_key, other_key) = (key(), key(), key());
        let roots =
            [of("root").self_signed(&root_key).unwrap(), of("other").self_signed(&other_key).unwrap()];
        let (root, other) = (Issuer::new(of("root"), root_key), Issuer::new(of("other"), other_key));
        // Cross-signed: one key and name, and a certificate by each root.
        let between = [&root, &other].map(|issuer| of("between").signed_by(&between_key, issuer).unwrap());
        let site = of("site").signed_by(&key(), &Issuer::new(of("between"), between_key)).unwrap();
        let all = [site.der(), between[0].der(), between[1].der(), roots[0].der(), roots[1].der()];
        let check = |order: &[usize], expected: Result<(), &str>| {
            let chain: Vec<_> = order.iter().map(|at| parsed(all[*at]).unwrap()).collect();
            match (in_order(&chain), expected) {
                (Ok(()), Ok(())) => {}
                (Err(told), Err(part)) => assert!(told.contains(part), "{told}"),
                (told, _) => panic!("{order:?}: {told:?}"),
            }
        };
        for good in [&[0][..], &[0, 1], &[0, 1, 3], &[0, 1, 2], &[0, 1, 2, 3, 4], &[0, 1, 3, 2, 4]] {
            check(good, Ok(()));
        }
        check(
            &[0, 3, 1],
            Err("certificate 1 was issued by \"CN=between\", but certificate 2 is \"CN=root\""),
        );
        check(&[0, 1, 4], Err("certificate 2 was issued by \"CN=root\", but certificate 3 is \"CN=other\""));
        check(&[1, 0], Err("wrong order"));
    }
}
