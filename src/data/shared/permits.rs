//! Rights that are bounded over all threads: to be an open connection, a copied request, a tunnel. Each is counted for as long as it
//! lives, and given back when it is dropped.

use super::Shared;
use crate::state::listener::OpenListener;
use crate::state::stats::Counter;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Connections beyond the limit that get a response at the same time; further ones are closed at once.
const REJECTED_MAX: usize = 64;

/// Copied requests on their way to mirrors, each with at most 64 KiB in memory and a connection.
const MIRRORS_MAX: usize = 256;

/// The right to one of the tunnels that `limits.tunnels` allows; given back when dropped.
#[derive(Debug)]
pub struct TunnelPermit(Arc<Shared>);

impl TunnelPermit {
    /// Takes one, if fewer than `most` are taken.
    pub fn take(shared: &Arc<Shared>, most: usize) -> Option<Self> {
        let permit = TunnelPermit(Arc::clone(shared));
        let taken = shared.tunnels.fetch_add(1, Relaxed);
        (taken < most).then_some(permit)
    }
}

impl Drop for TunnelPermit {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Relaxed);
    }
}

/// The right to have one copied request on its way to a mirror. Given back when it is dropped.
#[derive(Debug)]
pub struct MirrorPermit(Arc<Shared>);

impl MirrorPermit {
    /// `None`: there are as many as may be. A mirror that is slower than the traffic misses some of it.
    pub fn take(shared: &Arc<Shared>) -> Option<Self> {
        let taken = shared.mirrors.fetch_add(1, Relaxed);
        // Dropping the permit corrects the count.
        let permit = MirrorPermit(Arc::clone(shared));
        (taken < MIRRORS_MAX).then_some(permit)
    }
}

impl Drop for MirrorPermit {
    fn drop(&mut self) {
        self.0.mirrors.fetch_sub(1, Relaxed);
    }
}

/// An open client connection is counted for as long as its permit lives.
#[derive(Debug)]
pub struct ConnectionPermit {
    shared: Arc<Shared>,
    listener: Arc<OpenListener>,
    address: Option<IpAddr>,
    rejected: bool,
}

impl ConnectionPermit {
    /// Counts a connection that this listener accepted from there; for its address, too, where `by_address`.
    pub fn new(
        shared: &Arc<Shared>,
        listener: &Arc<OpenListener>,
        peer: Option<SocketAddr>,
        by_address: bool,
    ) -> Self {
        let address = peer.map(|peer| peer.ip()).filter(|_| by_address);
        if let Some(address) = address {
            *shared.by_address.lock().entry(address).or_default() += 1;
        }
        shared.open.fetch_add(1, Relaxed);
        shared.stats.shard(0).count(Counter::Accepted);
        ConnectionPermit {
            shared: Arc::clone(shared),
            listener: Arc::clone(listener),
            address,
            rejected: false,
        }
    }

    /// The connection is beyond the limit, and is to get a response. False: so many get one already that it is closed
    /// at once; what is rejected must not take the descriptors that requests in flight need.
    pub fn reject(&mut self) -> bool {
        self.rejected = self.shared.rejected.fetch_add(1, Relaxed) < REJECTED_MAX;
        if !self.rejected {
            self.shared.rejected.fetch_sub(1, Relaxed);
        }
        self.rejected
    }

    /// The listener, as it was then.
    pub fn listener(&self) -> &Arc<OpenListener> {
        &self.listener
    }

    /// Whether the connection is beyond the limit.
    pub fn is_rejected(&self) -> bool {
        self.rejected
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Relaxed);
        self.shared.rejected.fetch_sub(usize::from(self.rejected), Relaxed);
        self.shared.stats.shard(0).count(Counter::Closed);
        let Some(address) = self.address else { return };
        let mut by_address = self.shared.by_address.lock();
        let left = by_address.get_mut(&address).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            by_address.remove(&address);
        }
    }
}
