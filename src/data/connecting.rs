//! Layer 2: a new connection to a server in the making: its addresses in turn, and TLS over it.

use super::context::{Context, Target};
use super::failure::Failure;
use super::meta::Meta;
use super::proxy_header::WithProxyHeader;
use super::server_pool::log_tls_failure;
use super::tls::Tls;
use super::transport::Transport;
use crate::base::time::Moment;
use crate::http1::proxy_protocol;
use crate::state::address::Address;
use crate::state::addresses::Candidates;
use crate::state::config::ToServers;
use crate::state::live::Live;
use crate::state::server::Server;
use std::net::SocketAddr;
use std::sync::Arc;

/// A new connection in the making: which of the server's addresses is tried.
#[derive(Debug)]
pub struct Connecting {
    candidates: Candidates,
    current: Option<SocketAddr>,
    settings: ToServers,
    /// Addresses that are left, the current one included.
    pub left: usize,
    /// Since when the current one is tried.
    pub since: Moment,
    unix: bool,
}

impl Connecting {
    /// To this server, from now on.
    pub fn new(server: &Server, now: Moment) -> Self {
        let candidates = server.addresses().candidates();
        Connecting {
            candidates,
            current: None,
            settings: server.connecting(),
            left: 1,
            since: now,
            unix: false,
        }
    }

    /// The next address to try; a Unix socket has one.
    pub fn next<'s>(&mut self, server: &'s Server) -> Option<Target<'s>> {
        match &server.address {
            Address::Unix(path) => (!std::mem::replace(&mut self.unix, true)).then_some(Target::Unix(path)),
            Address::Tcp { .. } => {
                let (address, left) = self.candidates.next()?;
                (self.current, self.left) = (Some(address), left);
                Some(Target::Tcp(address, self.settings.source))
            }
        }
    }

    /// Where the server gets PROXY headers, the transport begins with one, about the client of this request.
    pub fn with_proxy_header(&self, transport: Transport, meta: &Meta, live: &Live) -> Transport {
        let Some(version) = self.settings.send_proxy else { return transport };
        let port = live.listener(meta.listener).and_then(|listener| listener.place.port());
        let header = proxy_protocol::written(version, meta.client_socket(), port.unwrap_or(0));
        Transport::WithProxyHeader(Box::new(WithProxyHeader::new(transport, header)))
    }

    /// What was tried last is tried once more.
    pub fn again(&mut self) {
        self.unix = false;
    }

    /// Whether there are addresses behind the current one.
    pub fn has_more(&self) -> bool {
        self.current.is_some() && self.left > 1
    }

    /// The current address does not take the connection.
    pub fn failed(&mut self, server: &Server) {
        self.current.into_iter().for_each(|address| server.addresses().record_connect_failed(address));
    }

    /// The generation of the connection.
    pub fn succeeded(self, server: &Server) -> u64 {
        let addresses = server.addresses();
        self.current.map_or_else(|| addresses.generation(), |address| addresses.record_connect_ok(address))
    }
}

/// TLS over a new connection to a server, where its pool has it.
pub fn secured(transport: Transport, server: &Arc<Server>, cx: &Context) -> Result<Transport, Failure> {
    let Some(tls) = server.tls() else { return Ok(transport) };
    match tls.session(&server.address) {
        Ok(session) => Ok(Transport::Tls(Box::new(Tls::new(transport, session.into(), &[])))),
        Err(why) => {
            log_tls_failure(server, &why, cx.now);
            Err(Failure::TLS)
        }
    }
}
