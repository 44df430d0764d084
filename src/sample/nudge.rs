//! Frees connections that tiny_http accepted and then forgot.
//!
//! tiny_http gives each connection a thread. It counts the threads that wait, and while that count is not
//! zero it queues a connection for them instead of starting a thread. The count falls only when a thread
//! has woken, so of a burst of connections some are queued for nobody, and stay there until another
//! connection ends: forever, behind a balancer that keeps its connections. Seen in a test.
//!
//! A connection to ourselves that is closed at once is the cure: it gets a thread, and that thread
//! takes a forgotten connection next. One is made shortly after each time of traffic. A connection freed
//! thereby brings requests, which are traffic, so this goes on until none is left, and costs an idle
//! server nothing.

use super::{spawn, wait};
use crossbeam_channel::{Receiver, Sender, bounded, never};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Between traffic and the connection that follows it.
const PAUSE: Duration = Duration::from_millis(20);
/// For one connection to ourselves.
const CONNECT: Duration = Duration::from_millis(500);

/// Tells of traffic.
#[derive(Clone, Debug)]
pub(super) struct Nudge(Sender<()>);

impl Nudge {
    /// There is traffic. Never waits.
    pub(super) fn traffic(&self) {
        // Full means that it has been told already.
        let _ = self.0.try_send(());
    }
}

/// Starts the thread that nudges a server at `address`; it ends with the last [`Nudge`].
pub(super) fn start(address: SocketAddr) -> Result<Nudge, String> {
    let (traffic, seen) = bounded(1);
    spawn("nudge", move || nudge_after_traffic(address, &seen))?;
    Ok(Nudge(traffic))
}

fn nudge_after_traffic(address: SocketAddr, seen: &Receiver<()>) {
    while seen.recv().is_ok() {
        wait(PAUSE, &never());
        if let Err(error) = TcpStream::connect_timeout(&address, CONNECT) {
            log::trace!("the server does not answer itself: {error}");
        }
    }
}
