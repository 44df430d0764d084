//! A listener as it was opened: what its connections need to know of where they came in.

use super::config::{Listener, Place};
use super::tls::listener::ListenerTls;
use super::traffic::Traffic;
use crate::base::ids::ListenerId;
use std::sync::Arc;
use std::time::Duration;

/// A listening socket, with what the configuration says of it. A reload that changes only what it says makes another
/// value with the same id, for the same socket.
#[derive(Clone, Debug)]
pub struct OpenListener {
    /// Stays the same for as long as the socket is open.
    pub id: ListenerId,
    /// Its name.
    pub name: Arc<str>,
    /// As configured.
    pub settings: Listener,
    /// Where it is, with the port that the kernel chose.
    pub place: Place,
    /// Its TLS; `None` in clear text.
    pub tls: Option<Arc<ListenerTls>>,
    /// What is counted of its requests, and of those of all listeners of its name.
    pub traffic: Arc<Traffic>,
}

impl OpenListener {
    /// How long a client may take for its handshake; `client_head` where the listener has no limit of its own.
    pub fn handshake_timeout(&self, client_head: Duration) -> Duration {
        self.tls.as_ref().map_or(client_head, |tls| tls.handshake_timeout)
    }
}
