//! The listeners in the status: where they are, and their certificates.

use super::View;
use super::status::unix_rfc3339;
use crate::state::config::{ClientAuth, TlsToClients};
use crate::state::listener::OpenListener;
use crate::state::tls::listener::{Expiry, ListenerTls};
use serde::Serialize;
use std::sync::Arc;

/// One listener.
#[derive(Debug, Serialize)]
pub(super) struct ListenerStatus {
    name: String,
    /// `0.0.0.0:8443` or `unix:/run/web.sock`.
    address: String,
    /// Null in clear text.
    tls: Option<TlsStatus>,
}

#[derive(Debug, Serialize)]
struct TlsStatus {
    min_version: &'static str,
    /// `none`, `request` or `require`.
    client_auth: &'static str,
    certificates: Vec<HostCertificateStatus>,
    /// Lists of revoked certificates of clients; `name` is the authority.
    crl: Vec<CertificateStatus>,
}

#[derive(Debug, Serialize)]
struct HostCertificateStatus {
    #[serde(flatten)]
    of: CertificateStatus,
    /// As in [`TlsStatus`].
    client_auth: &'static str,
}

#[derive(Debug, Serialize)]
struct CertificateStatus {
    name: String,
    file: String,
    /// RFC 3339, in UTC.
    expires: String,
}

/// Those of the configuration.
pub(super) fn all(view: &View) -> Vec<ListenerStatus> {
    let status = |listener: &Arc<OpenListener>| ListenerStatus {
        name: listener.settings.name.clone(),
        // With the port that the kernel chose.
        address: listener.place.to_string(),
        tls: listener.settings.tls.as_ref().map(|tls| tls_status(tls, listener.tls.as_deref())),
    };
    view.live().listeners.iter().map(status).collect()
}

fn tls_status(tls: &TlsToClients, open: Option<&ListenerTls>) -> TlsStatus {
    let certificate = |expiry: Expiry| CertificateStatus {
        name: expiry.name,
        file: expiry.file.display().to_string(),
        expires: unix_rfc3339(u64::try_from(expiry.not_after).unwrap_or(0)),
    };
    let expiries = open.map(ListenerTls::expiries).unwrap_or_default();
    let of_hosts = tls.certificates.iter().zip(expiries).map(|(settings, expiry)| HostCertificateStatus {
        of: certificate(expiry),
        client_auth: ClientAuth::name(settings.client_auth.as_ref()),
    });
    TlsStatus {
        min_version: tls.min_version.name(),
        client_auth: ClientAuth::name(tls.client_auth.as_ref()),
        certificates: of_hosts.collect(),
        crl: open.map(ListenerTls::lists).unwrap_or_default().into_iter().map(certificate).collect(),
    }
}
