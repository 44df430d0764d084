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
//! `connect`, `relay`, `finish`; each says in a [`Flow`] where that leads. `begin` has what comes before the first state, `attempt`
//! what belongs to one attempt, `respond` the responses of our own, `retry` what is tried again, `deadline` how long all of it
//! may take.

mod attempt;
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
use super::context::Context;
use super::download::Download;
use super::failure::Failure;
use super::meta::Meta;
use super::route::MatchedRoute;
use super::tunnel::Tunnel;
use super::upload::Upload;
use crate::base::ids::{ConnectionKey, PoolId};
use crate::base::time::Moment;
use crate::http1::reason::Reason;
use crate::policy::retry::Retry;
use crate::state::stats::Counter;
use crate::state::table::View;
use attempt::Attempt;
use choose::Choice;
use guard::Guards;
use hedge::OtherAttempt;
use mirror::Mirror;
use respond::Accepts;
use retry::Tries;
use std::ops::ControlFlow;
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
    guards: Guards,
    choice: Choice,
    tries: Tries,
    /// The last one, or the one of two at once that is moved.
    attempt: Attempt,
    other_attempt: Option<Box<OtherAttempt>>,
    /// For a request that may become a tunnel.
    tunnel: Option<Box<AskedTunnel>>,
    accepts: Accepts,
    mirror: Mirror,
    /// While draining: when its event stream is to end; [`Moment::NEVER`] before.
    ends_at: Moment,
    ending: Ending,
}

/// How it ends, as far as that is known.
#[derive(Debug, Default)]
struct Ending {
    /// Why it does not end well.
    reason: Option<Reason>,
    end: End,
    is_counted: bool,
}

/// How the client's connection goes on after `Finish`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// As the head of the response says.
    #[default]
    AsAnnounced,
    Linger,
    Abort,
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
        self.leave_queue(cx);
        self.note_leaving(failure.reason == Reason::ClientGone && !self.download.has_begun(), cx);
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
                self.attempt.begin_again(cx.now);
                self.tries.begun += 1;
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
            self.ending.end = End::Linger;
            return ControlFlow::Break(self.done(cx));
        }
        // A response of our own that the client does not take has its reason already.
        self.ending.reason.get_or_insert(reason);
        if is_clients(reason) || self.download.is_until_close() || self.state == State::Finish {
            self.ending.end = End::Abort;
            return ControlFlow::Break(self.done(cx));
        }
        // The framing shows that the response is truncated, so the client may read what there is of it.
        self.ending.end = End::Linger;
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
