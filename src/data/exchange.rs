//! Layer 3: an exchange, one request and its response, as a value. [`Exchange::advance`] moves it as far as it goes without
//! blocking; what it waits for then is in the value, not on a stack.
//!
//! ```text
//!   begin ──▶ Choose ──▶ Connect ──▶ Relay ──▶ Finish ──▶ done: the client's connection stays, closes, or is a tunnel
//!     │        ▲ │ ▲        │          │ │        ▲
//!     │        │ ▼ └────────┴──────────┘ └────────┤  (tried again, where that is safe; a tunnel needs no Finish)
//!     │       Queue ──────────────────────────────┤  (a response of our own)
//!     └───────────────────────────────────────────┘
//! ```
//!
//! A request that the guards let pass later waits in `Guard`, between `begin` and `Choose`; the body of a chunked request to an
//! HTTP/1.0 server is received in `Collect`, before `Connect`. A request that no server takes the connection of may wait in
//! `AwaitServer` and go back to `Choose`. In `Relay` both directions move: the request goes on while a response comes, and the
//! other way round.
//!
//! This file has the value, its states, and what leads from one to another: [`State::leads_to`], `advance`, and `fail` for an
//! attempt that failed. What is done in a state is in the file of its name: `guard`, `choose`, `queue`, `await_server`, `collect`,
//! `connect`, `relay`, `finish`; each says in a [`Flow`] where that leads. `begin` has what comes before the first state, `respond`
//! the responses of our own, `retry` what is tried again, `deadline` how long all of it may take.

mod await_server;
mod begin;
mod choose;
mod collect;
mod connect;
mod deadline;
mod decision;
mod event_stream;
mod finish;
mod forward_auth;
mod guard;
mod hedge;
mod info;
mod judge;
mod lease;
mod load;
mod mirror;
mod owner;
mod queue;
mod relay;
mod respond;
mod retry;
mod retry_on_down;
mod retry_on_status;
mod session;
mod tunnel;

pub use info::Waiting;

use super::client::Client;
use super::connecting::Connecting;
use super::context::Context;
use super::download::Download;
use super::failure::Failure;
use super::guard::Guarded;
use super::meta::Meta;
use super::phases::Phases;
use super::route::MatchedRoute;
use super::shared::MirrorPermit;
use super::tunnel::Tunnel;
use super::upload::Upload;
use super::upstream::Tried;
use crate::base::ids::{ConnectionKey, PoolId};
use crate::base::time::Moment;
use crate::http1::encoding::Coding;
use crate::http1::reason::Reason;
use crate::policy::retry::Retry;
use crate::state::decisions::Recorded;
use crate::state::queue::QueueToken;
use crate::state::server::{Lease, Server};
use crate::state::stats::Counter;
use crate::state::table::View;
use await_server::Absence;
use forward_auth::HeldRequest;
use guard::AfterGuards;
use hedge::OtherAttempt;
use session::Session;
use std::ops::ControlFlow;
use std::sync::Arc;
use tunnel::AskedTunnel;

/// How far an advance came.
#[derive(Debug)]
pub enum Step {
    /// It waits for an event of its client or its server, until then at the most.
    Suspend(Moment),
    /// It can go on, after others had their turn.
    Yield,
    /// It is over.
    Done(Disposition),
}

/// What becomes of the client's connection.
#[derive(Debug)]
pub enum Disposition {
    /// The next request may come.
    Keep,
    /// It is over, as the client asked for; the response went out whole.
    Close,
    /// It is over, and the client may still be sending.
    Linger,
    /// It is over in the middle of a response, which only a reset can tell.
    Abort,
    /// It is a tunnel now.
    Tunnel(Box<Tunnel>),
}

/// Where an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It passes the guards later, if at all.
    Guard,
    /// It needs a server.
    Choose,
    /// All servers that qualify have as many requests as they may.
    Queue,
    /// No server can be connected to.
    AwaitServer,
    /// Its server knows no chunks: the body is collected.
    Collect,
    /// It needs a connection to its server.
    Connect,
    /// Request and response are on their way.
    Relay,
    /// What is left goes to the client.
    Finish,
}

impl State {
    /// Whether this transition exists. From every state but the last a fault leads to a response of our own.
    fn leads_to(self, next: State) -> bool {
        match self {
            State::Guard => matches!(next, State::Choose | State::Finish),
            State::Choose => {
                matches!(
                    next,
                    State::Queue | State::AwaitServer | State::Collect | State::Connect | State::Finish
                )
            }
            State::AwaitServer => matches!(next, State::Choose | State::Finish),
            State::Queue => matches!(next, State::Choose | State::Finish),
            State::Collect => matches!(next, State::Connect | State::Finish),
            State::Connect => {
                matches!(next, State::Choose | State::AwaitServer | State::Relay | State::Finish)
            }
            State::Relay => matches!(
                next,
                State::Choose | State::AwaitServer | State::Collect | State::Connect | State::Finish
            ),
            State::Finish => false,
        }
    }
}

/// One request and its response.
#[derive(Debug)]
pub struct Exchange {
    state: State,
    /// What is kept of the request.
    pub meta: Meta,
    /// The configuration under which it began, to the end, and the servers of that moment.
    view: View,
    /// Its route, if one matched.
    matched: Option<Box<MatchedRoute>>,
    /// The pool that serves it.
    pool: PoolId,
    /// It was given to its pool, which counts it.
    in_pool: bool,
    /// When its response is worthless: as its client or its route says.
    expires: Moment,
    /// The connection of the client in its worker: key and generation.
    owner: ConnectionKey,
    upload: Upload,
    download: Download,

    /// What the guards have to do with it.
    guarded: Option<Box<Guarded>>,
    /// What is to be done once they let it pass.
    after_guards: Option<Box<AfterGuards>>,
    /// While a pool is asked whether it may pass: the request itself.
    held: Option<Box<HeldRequest>>,

    /// What a hash algorithm goes by.
    hash_key: u64,
    /// Which server its client belongs to, where its pool keeps sessions.
    session: Option<Box<Session>>,
    /// Its choices are recorded, for this reason.
    recorded: Option<Recorded>,
    queue_token: Option<QueueToken>,

    lease: Option<Lease>,
    /// The server that it was sent to last.
    server: Option<Arc<Server>>,
    /// The connection to it, in the worker's pool.
    connection: Option<usize>,
    /// A new connection in the making.
    connecting: Option<Box<Connecting>>,
    /// When this attempt began to connect.
    attempt_at: Moment,
    /// When the server had all of the request.
    asked_at: Option<Moment>,
    tries: Tries,
    /// It has waited, or waits, because no server could be connected to.
    absence: Option<Box<Absence>>,
    /// The other one of two attempts at once.
    other_attempt: Option<Box<OtherAttempt>>,
    /// A second attempt was begun, or could not be.
    is_hedge_spent: bool,

    /// For a request that may become a tunnel.
    tunnel: Option<Box<AskedTunnel>>,
    /// The coding that its client takes, where responses are compressed.
    coding: Option<Coding>,
    /// It asks by a weak tag, where responses are compressed.
    has_weak_tag: bool,
    /// Whether the response is good is not known yet.
    is_unjudged: bool,
    /// While draining: when its event stream is to end.
    ends_at: Option<Moment>,

    /// The pool that gets a copy of it, once it was sent.
    mirror: Option<PoolId>,
    /// The copy, for its worker to take in.
    copy: Option<Box<Exchange>>,
    /// It is the copy of another one: no client waits for its response, and only its server counts it.
    copy_permit: Option<MirrorPermit>,

    phases: Phases,
    /// Why it did not end well.
    reason: Option<Reason>,
    end: End,
    is_counted: bool,
}

/// How the client's connection goes on after `Finish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As the head of the response says.
    AsAnnounced,
    Linger,
    Abort,
}

/// What was tried so far.
#[derive(Debug, Default)]
struct Tries {
    servers: Tried,
    /// Attempts that failed to connect.
    connects_failed: u32,
    /// Attempts that failed on a pooled connection, which had ended.
    reuses_failed: u32,
    /// Attempts that failed otherwise.
    others_failed: u32,
    last: Option<Failure>,
    /// The next attempt goes to the server of the last, on a new connection.
    same_server: bool,
    /// The status of the last response after which another server is tried.
    after_status: Option<u16>,
}

/// Where what was done in a state leads.
enum Flow {
    /// To this state.
    To(State),
    /// There is more to be done in the same one.
    Again,
    /// It waits in the same one, for an event, until then at the most.
    Wait(Moment),
    /// It waits in this one.
    WaitIn(State, Moment),
    /// It can go on in the same one, after others had their turn.
    Yield,
    /// All of the response is out.
    Done,
    /// It is a tunnel now.
    Tunnel(Box<Tunnel>),
}

impl Exchange {
    /// Moves it as far as it goes now.
    pub fn advance(&mut self, client: &mut Client, cx: &mut Context) -> Step {
        // Until when the other one of two attempts waits.
        let mut waited = None;
        loop {
            let flow = match self.state {
                _ if client.stream.is_reset() => Err(Failure::last(Reason::ClientGone)),
                State::Guard => self.wait_at_guards(cx),
                State::Choose => self.choose(cx),
                State::Queue => self.wait_in_queue(cx),
                State::AwaitServer => self.await_server(cx),
                State::Collect => self.collect(client, cx),
                State::Connect => self.connect(cx),
                State::Relay => self.relay(client, cx),
                State::Finish => self.send_rest(client, cx),
            };
            let until = match flow {
                Ok(Flow::To(next)) => {
                    self.enter(next);
                    continue;
                }
                Ok(Flow::Again) => continue,
                Ok(Flow::Wait(until)) => until,
                Ok(Flow::WaitIn(state, until)) => {
                    self.enter(state);
                    until
                }
                Ok(Flow::Yield) => return Step::Yield,
                Ok(Flow::Done) => return Step::Done(self.done(cx)),
                Ok(Flow::Tunnel(tunnel)) => {
                    self.count(cx);
                    return Step::Done(Disposition::Tunnel(tunnel));
                }
                Err(failure) => match self.fail(failure, cx) {
                    ControlFlow::Continue(next) => {
                        self.enter(next);
                        continue;
                    }
                    ControlFlow::Break(disposition) => return Step::Done(disposition),
                },
            };
            if let Some(until) = self.wait_or_switch(until, &mut waited, cx) {
                return Step::Suspend(until);
            }
        }
    }

    /// A hedged request has two attempts, which change places with their states (`hedge`); every other transition is here.
    fn enter(&mut self, next: State) {
        debug_assert!(self.state == next || self.state.leads_to(next), "{:?} to {next:?}", self.state);
        self.state = next;
    }

    /// An attempt failed: tried again where that is safe, reported to the client, or the end of the connection.
    fn fail(&mut self, failure: Failure, cx: &mut Context) -> ControlFlow<Disposition, State> {
        if super::finish::is_servers(failure.reason) && self.leave_to_other_attempt(&failure, cx) {
            return ControlFlow::Continue(self.state);
        }
        self.cancel_other_attempt(cx);
        self.close_connection(cx);
        self.connecting = None;
        self.leave_queue(cx);
        self.note_leaving(failure.reason, cx);
        let is_over = is_clients(failure.reason) || self.download.has_begun();
        // Past its deadline no attempt is begun.
        let retry = if is_over || cx.now >= self.expires { Retry::No } else { self.may_retry(&failure, cx) };
        self.record_failure(&failure, retry, cx);
        self.tries.same_server = retry == Retry::SameServer;
        if retry != Retry::No {
            cx.shard().count(Counter::Retries);
        }
        match retry {
            Retry::SameServer => {
                self.attempt_at = cx.now;
                self.phases.begin_attempt(cx.now);
                return ControlFlow::Continue(State::Connect);
            }
            Retry::OtherServer => {
                self.leave_lease();
                (self.tries.last, self.tries.after_status) = (Some(failure), None);
                return ControlFlow::Continue(State::Choose);
            }
            Retry::No => self.leave_lease(),
        }
        if !is_over && self.may_await_server(&failure, cx) {
            return ControlFlow::Continue(State::AwaitServer);
        }
        match is_over {
            true => self.break_off(failure.reason, cx),
            false => ControlFlow::Continue(self.reject(failure.reason, cx)),
        }
    }

    /// The response has begun, or the client is gone: there is nothing more to say.
    fn break_off(&mut self, reason: Reason, cx: &mut Context) -> ControlFlow<Disposition, State> {
        if self.download.is_done() {
            // Only the rest of the request is missing: nothing is left to do but to let the client read.
            self.end = End::Linger;
            return ControlFlow::Break(self.done(cx));
        }
        // A response of our own that the client does not take has its reason already.
        self.reason.get_or_insert(reason);
        if is_clients(reason) || self.download.is_until_close() || self.state == State::Finish {
            self.end = End::Abort;
            return ControlFlow::Break(self.done(cx));
        }
        // The framing shows that the response is truncated, so the client may read what there is of it.
        self.end = End::Linger;
        ControlFlow::Continue(State::Finish)
    }
}

/// Whether the client is at fault, which then gets no response.
fn is_clients(reason: Reason) -> bool {
    matches!(reason, Reason::ClientGone | Reason::ClientStalled)
}

// glibc keeps freed memory of up to 1,032 bytes for the thread that freed it; longer blocks cost some 300 instructions more
// per request (malloc.c, tcache).
const _: () = assert!(size_of::<Exchange>() <= 1032);
