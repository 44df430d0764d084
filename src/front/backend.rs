//! tiny_http on its private socket, and the threads that take requests from it; started again when it has ended.

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
/// So many looks in a row that find a connection which is not accepted mean that the accept loop of tiny_http has ended
/// without a word: accepting takes microseconds, and a look comes once a second.
const LOOKS: u32 = 3;
/// What helpers get to finish what they are at; none of them waits for a client.
const FAREWELL: Duration = Duration::from_millis(200);

/// tiny_http, seen from the front.
pub(super) struct Backend {
    name: &'static str,
    service: Arc<dyn Service>,
    helpers: usize,
    private: Private,
    /// None: it could not be started, for want of threads.
    round: Option<Round>,
    looks: u32,
    /// A response has come since the last look.
    responded: bool,
}

/// One life of tiny_http's accept loop.
struct Round {
    server: Arc<tiny_http::Server>,
    helpers: usize,
    /// The end of the accept loop is told here.
    broken: Receiver<String>,
    /// Disconnected when all helpers have left.
    left: Receiver<Infallible>,
}

impl Backend {
    /// Starts it; a failure is tried again at each look.
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

    /// Connects and closes. Of two connections at nearly the same time tiny_http may give both to one idle thread, and
    /// looks at the second no sooner than some other connection ends: this one does, at once.
    pub(super) fn rouse(&self) {
        drop(self.private.connect());
    }

    /// A response has come: the accept loop lives, whatever waits there.
    pub(super) fn responded(&mut self) {
        self.responded = true;
    }

    /// Starts tiny_http again when its accept loop has ended: any accept error ends it, and a thread that it cannot start.
    pub(super) fn look(&mut self) {
        let reason = match &self.round {
            None => return self.start(),
            Some(round) => round.broken.try_recv().ok(),
        };
        let responded = std::mem::take(&mut self.responded);
        self.looks = if !responded && self.is_awaited() { self.looks + 1 } else { 0 };
        let died = (self.looks >= LOOKS).then(|| "its accept loop has died".to_owned());
        if let Some(reason) = reason.or(died) {
            log::error!("{}: tiny_http stopped accepting ({reason}); it is started again", self.name);
            self.looks = 0;
            self.finish_round();
            self.start();
        }
    }

    /// Lets the helpers go, once they have done what they are at.
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
        // An error either way: all have left, or time is up.
        let _ = left.recv_timeout(FAREWELL);
        // With its server gone, the accept loop ends at the next connection.
        self.rouse();
    }

    /// Whether a connection waits to be accepted at this moment.
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
        // Without a thread for its accept loop it panics.
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

/// One thread that serves.
struct Helper {
    service: Arc<dyn Service>,
    server: Arc<tiny_http::Server>,
    breaks: Sender<String>,
    /// Dropped when the thread ends, and the last: then it holds the server no more.
    _stays: Sender<Infallible>,
}

impl Helper {
    fn run(self) {
        loop {
            match self.server.recv() {
                // What panics is told by the panic itself; the request is answered 500 when it is dropped.
                Ok(request) => drop(catch_unwind(AssertUnwindSafe(|| self.service.serve(request)))),
                // An end that was asked for looks the same; then the channel is not read.
                Err(error) => return drop(self.breaks.try_send(error.to_string())),
            }
        }
    }
}
