//! What comes before the first request on a listener with TLS: a PROXY header where one is due, then a handshake. The session
//! is made when the first bytes show that TLS is spoken: a client that sends none costs a socket.

use super::{Advance, Connection, Phase};
use crate::data::context::Context;
use crate::data::tls_info::TlsInfo;
use crate::data::transport::Moved;
use crate::http1::reason::Reason;
use crate::state::stats::Counter;
use crate::state::tls::failure::HandshakeFailure;
use crate::state::tls::listener::Hello;
use rustls::{HandshakeKind, ServerConnection};
use rustls_pki_types::UnixTime;
use std::io;
use std::sync::Arc;

/// The first byte of a handshake record (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// Whether bytes begin like a TLS handshake: the kind of record, and the version that they all have.
pub(super) fn is_tls(bytes: &[u8]) -> bool {
    bytes.starts_with(&[HANDSHAKE_RECORD, 3])
}

/// Whether bytes begin like a request, whose method is in upper case.
fn is_http(first: u8) -> bool {
    first.is_ascii_uppercase()
}

/// How a handshake began.
enum Begun {
    /// The connection is in its next phase.
    Goes,
    /// More bytes have to come first.
    Partial,
    /// It is over.
    Ends(Advance),
}

impl From<Option<Advance>> for Begun {
    fn from(advance: Option<Advance>) -> Self {
        advance.map_or(Begun::Goes, Begun::Ends)
    }
}

impl Connection {
    /// Whether what comes before the first request is not complete.
    pub(super) fn is_before_requests(&self) -> bool {
        matches!(self.phase, Phase::BeforeTls | Phase::Handshake)
    }

    /// Reads in clear text up to the first byte of TLS.
    pub(super) fn read_before_tls(&mut self, cx: &mut Context) -> Option<Advance> {
        loop {
            let mut input = std::mem::take(&mut cx.input);
            let received = self.client.stream.recv(&mut input);
            if let Ok(Moved::Bytes(count)) = received {
                self.client.input.extend_from_slice(&input[..count]);
            }
            cx.input = input;
            match received {
                Ok(Moved::Bytes(_)) => {}
                Ok(Moved::Blocked) => return self.wait_for_client(cx),
                Ok(Moved::End) if is_tls(&self.client.input) => {
                    return self.fail_handshake(HandshakeFailure::ClientGone, cx);
                }
                // A connection on which nothing comes, such as the probe of a port, is no failure.
                Ok(Moved::End) | Err(_) => return Some(Advance::Closed),
            }
            let bytes = std::mem::take(&mut self.client.input);
            match self.skip_proxy_header(&bytes) {
                Ok(Some(skipped)) => match bytes.get(skipped..).unwrap_or_default() {
                    [] => {}
                    records => match self.begin_tls(records, cx) {
                        Begun::Goes => return None,
                        Begun::Ends(advance) => return Some(advance),
                        // Without the PROXY header, which is done with.
                        Begun::Partial => self.client.input = records.to_vec(),
                    },
                },
                Ok(None) => self.client.input = bytes,
                Err(reason) => {
                    cx.shard().reject(reason);
                    self.client.stream.reset_on_close();
                    return Some(Advance::Closed);
                }
            }
        }
    }

    fn begin_tls(&mut self, records: &[u8], cx: &mut Context) -> Begun {
        match records.first() {
            Some(&HANDSHAKE_RECORD) => {}
            Some(first) if is_http(*first) => {
                self.client.input = records.to_vec();
                self.begin_rejection(Reason::HttpOnHttpsPort, cx);
                return Begun::Goes;
            }
            _ => return self.fail_handshake(HandshakeFailure::NotTls, cx).into(),
        }
        let was = self.listener();
        let now = was.and_then(|was| cx.live().listener(was.id));
        let tls = [now, was].into_iter().flatten().find_map(|listener| listener.tls.as_ref());
        let session = match tls.map(|tls| tls.config(records)) {
            Some(Some(Hello::Partial)) => return Begun::Partial,
            Some(None) => return self.fail_handshake(HandshakeFailure::Malformed, cx).into(),
            Some(Some(Hello::Complete(config))) => ServerConnection::new(config).ok(),
            None => None,
        };
        let Some(session) = session else {
            cx.shard().reject(Reason::Internal);
            return Begun::Ends(Advance::Closed);
        };
        self.client.stream.secure(session.into(), records);
        self.phase = Phase::Handshake;
        Begun::Goes
    }

    /// Goes on with the handshake.
    pub(super) fn handshake(&mut self, cx: &mut Context) -> Option<Advance> {
        match self.client.stream.handshake() {
            Ok(false) => self.wait_for_client(cx),
            Ok(true) => {
                let tls = self.client.stream.tls()?;
                cx.shard().count(Counter::TlsHandshakes);
                if tls.session().handshake_kind() == Some(HandshakeKind::Resumed) {
                    cx.shard().count(Counter::TlsResumed);
                }
                let secure = TlsInfo::of(tls.session());
                if let Err(failure) = self.verify_again(&secure, cx) {
                    return self.fail_handshake(failure, cx);
                }
                self.secure = Some(Arc::new(secure));
                (self.phase, self.since) = (Phase::Head, cx.now);
                None
            }
            Err(error) => {
                let failure = self.client.stream.tls().and_then(|tls| tls.failure());
                let failure = match failure {
                    Some(failure) => HandshakeFailure::of(failure),
                    None if error.kind() == io::ErrorKind::InvalidData => HandshakeFailure::Malformed,
                    None => HandshakeFailure::ClientGone,
                };
                self.fail_handshake(failure, cx)
            }
        }
    }

    /// A session that is resumed skips the verification of its client's certificate, which may be no longer good.
    fn verify_again(&self, secure: &TlsInfo, cx: &Context) -> Result<(), HandshakeFailure> {
        let Some(session) = self.client.stream.tls().map(|tls| tls.session()) else { return Ok(()) };
        let chain = session.peer_certificates().unwrap_or_default();
        let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let listener = self.listener().filter(|_| is_resumed && !chain.is_empty());
        let Some(tls) = listener.and_then(|was| cx.live().known_listener(was.id)?.tls.as_ref()) else {
            return Ok(());
        };
        let verified = tls.verify_again(secure.server_name.as_deref(), chain, UnixTime::now());
        verified.map_err(|error| HandshakeFailure::of(&error))
    }

    /// The connection closes; an alert that was sent is left to the client to read.
    fn fail_handshake(&mut self, failure: HandshakeFailure, cx: &mut Context) -> Option<Advance> {
        cx.shard().handshake_fails(failure);
        let peer = self.peer().map_or_else(|| "a Unix socket".to_owned(), |peer| peer.to_string());
        log::debug!("{}: {peer}: TLS: {}: {}", cx.shared.name, failure.name(), failure.sentence());
        match failure {
            HandshakeFailure::Timeout | HandshakeFailure::ClientGone => Some(Advance::Closed),
            _ => self.linger(cx),
        }
    }

    fn wait_for_client(&mut self, cx: &mut Context) -> Option<Advance> {
        let deadline = self.head_deadline(&cx.live().config);
        let has_begun = !matches!(self.phase, Phase::BeforeTls) || !self.client.input.is_empty();
        if !has_begun && cx.now >= cx.shared.idle_end() {
            return Some(Advance::Closed);
        }
        if cx.now >= deadline.min(cx.shared.drain_deadline()) {
            return self.fail_handshake(HandshakeFailure::Timeout, cx);
        }
        self.wait_or_park(deadline, has_begun, cx)
    }
}
