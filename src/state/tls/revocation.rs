//! Lists of revoked certificates (CRL, RFC 5280 section 5) of the authorities of clients, or of servers, read from a PEM file and checked before
//! they are used. Each fault is a sentence that names the file and says what to do.

use super::certificate::{self, contains};
use super::listener::Expiry;
use crate::base::files::{self, unreadable};
use crate::base::trust::date;
use rustls::CertRevocationListError;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::path::Path;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// The largest file of lists that is read, in bytes: the longest lists of public authorities have some tens of MiB.
const FILE_MAX: u64 = 128 * 1024 * 1024;

/// The lists of a file.
#[derive(Debug)]
pub(super) struct Lists {
    /// The newest first: of several lists of one authority the first one counts.
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
    /// Until when they hold.
    pub(super) expiries: Vec<Expiry>,
}

/// What counts of one list.
#[derive(Clone, Debug)]
struct List {
    at: usize,
    issuer: Vec<u8>,
    name: String,
    from: i64,
    until: i64,
    is_of_version_1: bool,
}

/// Why a file of lists cannot be opened: to be told beside a fault of the authorities, without which it is not judged.
pub(super) fn unopened(path: Option<&Path>) -> Option<String> {
    path.and_then(|path| files::open(path).err().map(|error| unreadable(path, &error)))
}

/// Reads a file of lists. `authorities` are the certificates of `ca`, the file that is named there; `now` is in seconds since 1970.
/// The error is for the operator.
pub(super) fn load(
    path: &Path,
    ca: &Path,
    authorities: &[CertificateDer<'_>],
    now: i64,
) -> Result<Lists, String> {
    let shown = path.display();
    let all = all(path)?;
    let read = all.iter().enumerate().map(|(at, der)| List::of(at, der)).collect::<Option<Vec<_>>>();
    let mut read = read.ok_or_else(|| {
        format!(
            "{shown} has a list that cannot be read, or that has no time of the next one (nextUpdate); export it again"
        )
    })?;
    if read.iter().any(|list| list.is_of_version_1) {
        return Err(format!(
            "{shown} has a list of version 1, which is not supported; make one of version 2: set \"crlnumber\" in the configuration of \
             `openssl ca`"
        ));
    }
    read.sort_by_key(|list| std::cmp::Reverse(list.from));
    let in_time: Vec<_> = read.iter().filter(|list| list.until > now).cloned().collect();
    let is_replaced = |old: &List| in_time.iter().any(|list| list.issuer == old.issuer);
    if let Some(old) = read.iter().find(|list| list.until <= now && !is_replaced(list)) {
        return Err(format!(
            "{shown} has expired: the list of \"{}\" was valid until {}; get the next one from that authority",
            old.name,
            date(old.until)
        ));
    }
    let subjects = authorities.iter().filter_map(certificate::parsed);
    let is_known = subjects.map(|authority| authority.subject().as_raw().to_vec());
    if !is_known.into_iter().any(|subject| in_time.iter().any(|list| list.issuer == subject)) {
        return Err(format!(
            "{shown} has no list of an authority in {}, so that every certificate would be rejected; write the lists of all \
             authorities that a chain leads through into this file",
            ca.display()
        ));
    }
    let expiries = in_time.iter().map(|list| list.expiry(path)).collect();
    let mut all: Vec<_> = all.into_iter().map(Some).collect();
    let lists = in_time.iter().filter_map(|list| all.get_mut(list.at)?.take()).collect();
    Ok(Lists { lists, expiries })
}

/// Why lists that can be read cannot be used, as a part of a sentence behind the name of the file.
pub(super) fn unusable(error: &CertRevocationListError) -> String {
    let what = match error {
        CertRevocationListError::UnsupportedDeltaCrl => "a delta list (delta CRL)",
        CertRevocationListError::UnsupportedIndirectCrl => "a list by another authority (indirect CRL)",
        CertRevocationListError::UnsupportedRevocationReason => "a list for some reasons alone",
        CertRevocationListError::UnsupportedCriticalExtension => {
            "a list with a critical extension that is unknown here"
        }
        _ => return "has a list that cannot be read; export it again".to_owned(),
    };
    format!("has {what}, which is not supported; write a complete list of the authority (CRL version 2)")
}

fn all(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let text = certificate::read(path, FILE_MAX)?;
    let shown = path.display();
    let found = CertificateRevocationListDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|_| format!("{shown} is not a valid PEM file; export the list again"))?;
    if !found.is_empty() {
        return Ok(found);
    }
    Err(if contains(&text, b"BEGIN CERTIFICATE-----") {
        format!(
            "{shown} has a certificate and no list of revoked ones (-----BEGIN X509 CRL-----); write the file of the list here"
        )
    } else if text.starts_with(&[0x30]) {
        format!(
            "{shown} is in DER form; convert it with `openssl crl -inform der -in {shown} -out {shown}.pem`"
        )
    } else {
        format!(
            "{shown} has no list of revoked certificates (-----BEGIN X509 CRL-----); write a PEM file that has"
        )
    })
}

impl List {
    fn of(at: usize, der: &CertificateRevocationListDer<'_>) -> Option<Self> {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        Some(List {
            at,
            issuer: list.issuer().as_raw().to_vec(),
            name: list.issuer().to_string(),
            from: list.last_update().timestamp(),
            until: list.next_update()?.timestamp(),
            is_of_version_1: list.version().is_none(),
        })
    }

    /// Authorities publish the next list well before the end: less than a tenth of its time left means that it did not come.
    fn expiry(&self, path: &Path) -> Expiry {
        Expiry {
            name: self.name.clone(),
            file: path.to_owned(),
            not_after: self.until,
            warn_before: self.until.saturating_sub(self.from) / 10,
        }
    }
}
