//! tiny_http on its private socket, and the threads that take requests from it; it is restarted when it has ended.

use super::{Private, Service};
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The stack of a helper: the buffers are on the heap.
const HELPER_STACK: usize = 256 * 1024;
/// After this many checks in a row that find a connection waiting to be accepted, the accept loop of tiny_http has
/// ended silently: accepting takes microseconds, and a check runs once a second.
const CHECKS: u32 = 3;
/// The time that helpers get to finish; none of them waits for a client.
const STOP_TIMEOUT: Duration = Duration::from_millis(200);

/// tiny_http, as seen by the front.
pub(super) struct Backend {
    name: &'static str,
    service: Arc<dyn Service>,
    helpers: usize,
    private: Private,
    /// None: it could not be started, because no thread was available.
    round: Option<Round>,
    looks: u32,
    /// A response has arrived since the last check.
    responded: bool,
}

/// One run of tiny_http's accept loop.
struct Round {
    server: Arc<tiny_http::Server>,
    helpers: usize,
    /// Receives the end of the accept loop.
    broken: Receiver<String>,
    /// Disconnected when all helpers have ended.
    left: Receiver<Infallible>,
}

impl Backend {
    /// Starts it; after a failure each check tries again.
    pub(super) fn open(
        name: &'static str,
        service: Arc<dyn Service>,
        helpers: usize,
        private: Private,
    ) -> Backend {
        let mut backend =
            Backend { name, service, helpers, private, round: None, looks: 0, responded: false };
        backend.start();
        backend
    }

    /// A connection for one request.
    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        self.private.connect()
    }

    /// Connects and closes. Of two connections at nearly the same time tiny_http may assign both to one idle thread,
    /// which gets to the second only when some other connection ends: this one does, at once. While one waits to be
    /// accepted no other is added: once tiny_http was started again, it would need descriptors for all of them at once.
    pub(super) fn connect_empty(&self) {
        if !self.is_awaited() {
            drop(self.private.connect());
        }
    }

    /// A response has arrived: the accept loop is alive, whatever is waiting there.
    pub(super) fn responded(&mut self) {
        self.responded = true;
    }

    /// Restarts tiny_http when its accept loop has ended: any accept error ends it, and so does a thread that it cannot
    /// start.
    pub(super) fn look(&mut self) {
        let reason = match &self.round {
            None => return self.start(),
            Some(round) => round.broken.try_recv().ok(),
        };
        let responded = std::mem::take(&mut self.responded);
        self.looks = if !responded && self.is_awaited() { self.looks + 1 } else { 0 };
        let died = (self.looks >= CHECKS).then(|| "its accept loop has died".to_owned());
        if let Some(reason) = reason.or(died) {
            log::error!("{}: tiny_http stopped accepting ({reason}); it is started again", self.name);
            self.looks = 0;
            self.finish_round();
            self.start();
        }
    }

    /// Ends the helpers, once they have finished their work.
    pub(super) fn end(&mut self) {
        self.finish_round();
    }

    fn start(&mut self) {
        match Round::start(self.name, &self.service, self.helpers, &self.private) {
            Ok(round) => self.round = Some(round),
            Err(error) => log::error!("{}: cannot serve ({error}); trying again", self.name),
        }
    }

    fn finish_round(&mut self) {
        let Some(Round { server, helpers, left, .. }) = self.round.take() else { return };
        (0..helpers).for_each(|_| server.unblock());
        drop(server);
        // An error either way: all have ended, or the time is over.
        let _ = left.recv_timeout(STOP_TIMEOUT);
        // Without its server, the accept loop ends at the next connection.
        self.connect_empty();
    }

    /// Whether a connection is waiting to be accepted.
    fn is_awaited(&self) -> bool {
        let Ok(listener) = self.private.listener() else { return false };
        let mut slots = [PollFd::new(&listener, PollFlags::IN)];
        matches!(poll(&mut slots, Some(&Timespec::default())), Ok(1))
    }
}

impl Round {
    fn start(
        name: &str,
        service: &Arc<dyn Service>,
        helpers: usize,
        private: &Private,
    ) -> Result<Round, String> {
        let listener = private.listener().map_err(|error| error.to_string())?;
        // It panics if it cannot start a thread for its accept loop.
        let server = catch_unwind(AssertUnwindSafe(|| tiny_http::Server::from_listener(listener, None)));
        let server = server.map_err(|_| "no thread can be started".to_owned())?;
        let server = Arc::new(server.map_err(|error| error.to_string())?);
        let (breaks, broken) = bounded(1);
        let (stays, left) = bounded(0);
        let start = |number: usize| {
            let (service, server) = (Arc::clone(service), Arc::clone(&server));
            let helper = Helper { service, server, breaks: breaks.clone(), _stays: stays.clone() };
            let thread = thread::Builder::new().name(format!("{name}-{number}")).stack_size(HELPER_STACK);
            thread.spawn(move || helper.run())
        };
        match (1..=helpers).filter_map(|number| start(number).ok()).count() {
            0 => Err("no thread can be started".to_owned()),
            helpers => Ok(Round { server, helpers, broken, left }),
        }
    }
}

/// One serving thread.
struct Helper {
    service: Arc<dyn Service>,
    server: Arc<tiny_http::Server>,
    breaks: Sender<String>,
    /// Dropped last when the thread ends: it then no longer holds the server.
    _stays: Sender<Infallible>,
}

impl Helper {
    fn run(self) {
        loop {
            match self.server.recv() {
                // The panic hook reports the panic; the client gets 500 when the request is dropped.
                Ok(request) => drop(catch_unwind(AssertUnwindSafe(|| self.service.serve(request)))),
                // A requested end looks the same; the channel is not read in that case.
                Err(error) => return drop(self.breaks.try_send(error.to_string())),
            }
        }
    }
}
