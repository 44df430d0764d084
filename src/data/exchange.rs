//! Layer 3: an exchange, one request and its response, as a value. [`Exchange::advance`] moves it as far as it goes without
//! blocking; what it waits for then is in the value, not on a stack. All transitions are in this file:
//!
//! ```text
//!   begin ──▶ Choose ──▶ Connect ──▶ Relay ──▶ Finish ──▶ done: the client's connection stays, closes, or is a tunnel
//!     │        ▲ │ ▲        │          │ │        ▲
//!     │        │ ▼ └────────┴──────────┘ └────────┤  (tried again, where that is safe; a tunnel needs no Finish)
//!     │       Queue ──────────────────────────────┤  (a response of our own)
//!     └───────────────────────────────────────────┘
//! ```
//!
//! In `Relay` both directions move: the request goes on while a response comes, and the other way round. A request that the
//! guards let pass later waits in `Guard`, between `begin` and `Choose`.

mod counted;
mod deadline;
mod decision;
mod drain;
mod elsewhere;
mod hedge;
mod held;
mod info;
mod judge;
mod load;
mod mirror;
mod on_down;
mod on_status;
mod queue;
mod session;

pub use info::Waiting;

use session::{Session, learned_cookie};

use super::buffers::TURN_BYTES;
use super::client::{Client, Failure};
use super::connecting::{Connecting, secured};
use super::context::Context;
use super::download::{Asking, Download, Downloaded, Scratch};
use super::finish;
use super::guard::{Gate, Opens};
use super::meta::{Meta, Sender};
use super::phases::Phases;
use super::question::{self, Question};
use super::respond;
use super::route::{self, Routed, Way};
use super::server_pool::ServerConnection;
use super::shared::MirrorPermit;
use super::socket::Then;
use super::tunnel::{Tunnel, TunnelPermit};
use super::upload::Upload;
use super::upstream::{self, Asked, Chosen, Tried};
use crate::base::ids::PoolId;
use crate::base::limits;
use crate::base::time::Moment;
use crate::http1::body::Body;
use crate::http1::encoding::{self, Coding};
use crate::http1::forward::Edits;
use crate::http1::framing::Framing;
use crate::http1::head::RequestHead;
use crate::http1::malformed;
use crate::http1::reason::Reason;
use crate::policy::pick::Algorithm;
use crate::policy::retry::{self, Phase, Retry};
use crate::state::access::RequestText;
use crate::state::choose::Note;
use crate::state::decisions::Recorded;
use crate::state::guard::Rejected;
use crate::state::queue::QueueToken;
use crate::state::server::{Lease, Server};
use crate::state::stats::Counter;
use crate::state::table::View;
use hedge::Rival;
use held::Held;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// A Unix socket whose backlog is full tells no event when it is not: connecting is tried again after this.
const CONNECT_AGAIN: Duration = Duration::from_millis(10);

/// A request that waits for a server looks again after this, should no call have reached it.
const QUEUE_LOOK: Duration = Duration::from_millis(100);

/// Events that were taken in so short a time ago tell all that a look at a pooled connection would: what they miss came so
/// late that it could as well have come behind the look, while the request was on its way to the server.
pub const EVENTS_FRESH: Duration = Duration::from_micros(100);

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
    /// Its server knows no chunks: the body is collected.
    Collect,
    /// It needs a connection to its server.
    Connect,
    /// Request and response are on their way.
    Relay,
    /// What is left goes to the client.
    Finish,
}

/// One request and its response.
#[derive(Debug)]
pub struct Exchange {
    /// What is kept of the request.
    pub meta: Meta,
    /// The configuration under which it began, to the end, and the servers of that moment.
    view: View,
    /// The pool that serves it.
    pool: PoolId,
    /// When its response is worthless: as its client or its route says.
    expires: Moment,
    /// The pool that gets a copy of it, once it was sent.
    copy_to: Option<PoolId>,
    /// The copy, for its worker to take in.
    copy: Option<Box<Exchange>>,
    /// It is the copy of another one: no client waits for its response, and only its server counts it.
    copied: Option<MirrorPermit>,
    /// Its route, if one matched.
    way: Option<Box<Way>>,
    state: State,
    upload: Upload,
    download: Download,
    /// Whether the response is good is not known yet.
    is_unjudged: bool,
    lease: Option<Lease>,
    /// The server that it was sent to last.
    server: Option<Arc<Server>>,
    /// The connection to it, in the worker's pool.
    connection: Option<usize>,
    tries: Tries,
    /// The other one of two attempts at once.
    rival: Option<Box<Rival>>,
    /// A second attempt was begun, or could not be.
    is_hedge_spent: bool,
    /// Its choices are recorded, for this reason.
    recorded: Option<Recorded>,
    queue_token: Option<QueueToken>,
    /// What a hash algorithm goes by.
    hash_key: u64,
    /// Which server its client belongs to, where its pool keeps sessions.
    session: Option<Box<Session>>,
    /// The coding that its client takes, where responses are compressed.
    coding: Option<Coding>,
    /// It asks by a weak tag, where responses are compressed.
    has_weak_tag: bool,
    /// What is to be done once the guards let it pass.
    next: Option<Box<Next>>,
    /// While a pool is asked whether it may pass: the request itself, and its pool.
    held: Option<Box<Held>>,
    /// What the guards have to do with it.
    gate: Option<Box<Gate>>,
    /// For a request that may become a tunnel.
    tunnel: Option<TunnelPermit>,
    /// The connection of the client in its worker: key and turn.
    owner: (usize, u32),
    /// When this attempt began to connect.
    attempt_at: Moment,
    /// A new connection in the making.
    connecting: Option<Box<Connecting>>,
    /// When the server had all of the request.
    asked_at: Option<Moment>,
    /// While draining: when its event stream is to end.
    ends_at: Option<Moment>,
    phases: Phases,
    /// It was given to its pool, which counts it.
    in_pool: bool,
    /// It was counted.
    counted: bool,
    /// Why it did not end well.
    reason: Option<Reason>,
    end: End,
}

/// How the client's connection goes on after `Finish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    AsTold,
    Linger,
    Abort,
}

/// What is to be done once the guards let a request pass.
#[derive(Debug)]
struct Next {
    /// A pool is asked first.
    question: Option<Question>,
    /// Its route responds.
    response: Option<route::Response>,
}

/// What was tried so far.
#[derive(Debug, Default)]
struct Tries {
    servers: Tried,
    /// Attempts that failed: to connect, on a pooled connection, otherwise.
    failed: (u32, u32, u32),
    last: Option<Failure>,
    /// The next attempt goes to the server of the last, on a new connection.
    same_server: bool,
    /// The status of the last response after which another server is tried.
    after_status: Option<u16>,
}

/// How a step within an advance ended.
enum Flow {
    Again,
    Wait(Moment),
    Yield,
    Done,
    Tunnel(Box<Tunnel>),
}

impl Exchange {
    /// An exchange for this head. `early` is what came behind it; the length of what of that is its body comes back, too.
    pub fn begin(
        head: &RequestHead<'_, '_>,
        early: &mut [u8],
        sender: Sender<'_>,
        cx: &mut Context,
    ) -> (Box<Self>, usize) {
        let mut out = cx.buffers.take();
        let peer = sender.peer.map(|peer| peer.ip().to_canonical());
        let view = cx.view().clone();
        let meta = Meta::of(head, peer, sender, &view.live, cx);
        let routed = route::route(head, &meta, &sender, &view, cx, &mut out);
        let chunked = head.framing == Framing::Chunked;
        let limit = routed.as_ref().ok().and_then(Routed::route).and_then(|route| route.body_limit);
        let limit = limit.unwrap_or(view.live.config.limits.body);
        let upload = Upload::new(out, head.body(), chunked, limit, cx.now);
        let mut exchange = Exchange::new(meta, upload, sender.owner, view, cx);
        exchange.begins(cx);
        let taken = routed.and_then(|mut routed| {
            exchange.upload.will_name_server(routed.take_rooms());
            let response = exchange.follow(routed, cx);
            exchange.upload.take_early(early).map(|used| (used, response))
        });
        exchange.set_deadline(head.deadline_ms);
        exchange.copy_to = exchange.mirror_of(head, cx);
        match taken {
            // A listener's redirect to https: whatever guards ask for, a password above all, belongs there.
            Ok((used, Some(response))) if exchange.way.is_none() && head.max_forwards != Some(0) => {
                exchange.respond_as_route(&response, cx);
                (exchange, used)
            }
            Ok((used, _)) if !exchange.pass_guards(head, cx) => (exchange, used),
            Ok((used, _)) if head.max_forwards == Some(0) => {
                exchange.respond_as_last_hop(head, cx);
                (exchange, used)
            }
            Ok((used, response)) => {
                exchange.begin_way(head, &sender, response, cx);
                (exchange, used)
            }
            Err(reason) => {
                exchange.reject(reason, cx);
                (exchange, early.len())
            }
        }
    }

    /// Prepares what comes once the guards let it pass, and goes on if they have.
    fn begin_way(
        &mut self,
        head: &RequestHead<'_, '_>,
        sender: &Sender,
        response: Option<route::Response>,
        cx: &mut Context,
    ) {
        if response.is_none() {
            self.view.live.pool(self.pool).budget.earn(cx.now);
            self.recorded = self.is_recorded(head, cx);
            self.begin_session(head, sender, cx.now);
            let servers = self.view.live.config.pool(self.pool);
            if servers.algorithm.hashes() || servers.shadow.is_some_and(Algorithm::hashes) {
                self.hash_key = route::hash_key(head, &self.meta, servers, cx.random.number());
            }
            if self.meta.upgrade {
                self.tunnel = TunnelPermit::take(&cx.shared, self.view.live.config.limits.tunnels);
                if self.tunnel.is_none() {
                    return self.reject(Reason::TunnelLimit, cx);
                }
            }
        }
        let question = match question::question(head, &self.meta, sender, self.way.as_deref(), &self.view, cx)
        {
            Ok(question) => question,
            Err(reason) => return self.reject(reason, cx),
        };
        if response.is_some() || question.is_some() {
            self.next = Some(Box::new(Next { question, response }));
        }
        if self.state != State::Guard {
            self.go_on(cx);
        }
    }

    /// The guards let it pass: a pool is asked whether it may, it has a response of its route, or it goes to a server.
    fn go_on(&mut self, cx: &mut Context) {
        // The time that it waited is none of the client's.
        (self.state, self.upload.moved_at) = (State::Choose, cx.now);
        let Some(mut next) = self.next.take() else { return self.enter_pool(cx) };
        if let Some(Question { head, pool }) = next.question.take() {
            let body = Body::new(Framing::None);
            let upload = Upload::new(head, body, false, None, cx.now);
            let upload = std::mem::replace(&mut self.upload, upload);
            let pool = std::mem::replace(&mut self.pool, pool);
            let until = self.question_time().map_or(Moment::NEVER, |time| cx.now.after(time));
            self.held = Some(Box::new(Held { upload, pool, until }));
            self.next = Some(next);
        } else if let Some(mut response) = next.response {
            if let Some(gate) = &self.gate {
                response.headers.extend_from_slice(&gate.lines);
            }
            self.respond_as_route(&response, cx);
        } else {
            self.enter_pool(cx);
        }
    }

    /// It goes to a server of its pool.
    fn enter_pool(&mut self, cx: &Context) {
        self.in_pool = true;
        self.view.live.pool(self.pool).traffic.begins(cx.number());
    }

    /// Counts that it has begun.
    fn begins(&self, cx: &Context) {
        if let Some(listener) = self.view.live.known_listener(self.meta.listener) {
            listener.traffic.begins(cx.number());
        }
    }

    /// Goes the way of its route; a response of the route's own comes back.
    fn follow(&mut self, routed: Routed, cx: &Context) -> Option<route::Response> {
        let response = match routed {
            Routed::Forward(pool, way) => {
                (self.pool, self.way) = (pool, way);
                None
            }
            Routed::Respond(way, response) => {
                self.way = way;
                Some(response)
            }
        };
        if let Some(way) = &self.way {
            way.route.traffic.begins(cx.number());
        }
        response
    }

    /// An exchange that tells the sender of bytes that are no request what is wrong with them.
    pub fn of_rejection(reason: Reason, bytes: &[u8], sender: Sender<'_>, cx: &mut Context) -> Box<Self> {
        let meta = Meta::of_rejected(reason, bytes, sender, cx);
        let limits = cx.live().config.limits.head;
        let line = || malformed::line(bytes, reason, &limits);
        cx.shared.stats.malformed.note(reason, sender.peer, meta.text.line(), line);
        let body = Body::new(Framing::None);
        let upload = Upload::new(cx.buffers.take(), body, false, None, cx.now);
        let mut exchange = Exchange::new(meta, upload, sender.owner, cx.view().clone(), cx);
        exchange.begins(cx);
        exchange.reject(reason, cx);
        exchange.end = End::Linger;
        exchange
    }

    fn new(meta: Meta, upload: Upload, owner: (usize, u32), view: View, cx: &mut Context) -> Box<Self> {
        Box::new(Exchange {
            meta,
            view,
            pool: PoolId::default(),
            expires: Moment::NEVER,
            copy_to: None,
            copy: None,
            copied: None,
            way: None,
            state: State::Choose,
            upload,
            download: Download::new(cx.buffers.take(), cx.now),
            is_unjudged: false,
            lease: None,
            server: None,
            connection: None,
            tries: Tries::default(),
            rival: None,
            is_hedge_spent: false,
            recorded: None,
            queue_token: None,
            hash_key: 0,
            session: None,
            coding: None,
            has_weak_tag: false,
            next: None,
            held: None,
            gate: None,
            tunnel: None,
            owner,
            attempt_at: cx.now,
            connecting: None,
            asked_at: None,
            ends_at: None,
            phases: Phases::default(),
            in_pool: false,
            counted: false,
            reason: None,
            end: End::AsTold,
        })
    }

    /// False: it is rejected.
    fn pass_guards(&mut self, head: &RequestHead<'_, '_>, cx: &mut Context) -> bool {
        let name = self.way.as_ref().map_or("", |way| &way.route.name);
        let guard = self.view.live.guard(self.way.as_ref().map(|way| way.index));
        self.coding = guard.compression().and_then(|rules| rules.coding_for(&head.fields));
        self.has_weak_tag = self.coding.is_some() && encoding::has_weak_tag(&head.fields);
        match Gate::enter(guard, head, &self.meta, name, self.owner, cx) {
            Ok(None) => {}
            Ok(Some(mut gate)) => {
                if !matches!(gate.look(cx.now), Opens::Now) {
                    self.state = State::Guard;
                }
                self.gate = Some(gate);
            }
            Err(rejected) => self.reject_as(rejected, cx),
        }
        self.state != State::Finish
    }

    /// Moves it as far as it goes now.
    pub fn advance(&mut self, client: &mut Client, cx: &mut Context) -> Step {
        // Until when the other one of two attempts waits.
        let mut waited = None;
        loop {
            let flow = match self.state {
                _ if client.stream.is_reset() => Err(Failure::last(Reason::ClientGone)),
                State::Guard => self.wait_at_gate(cx),
                State::Choose => self.choose(cx),
                State::Queue => self.wait_in_queue(cx),
                State::Collect => self.collect(client, cx),
                State::Connect => self.connect(cx),
                State::Relay => self.relay(client, cx),
                State::Finish => self.flush(client, cx),
            };
            match flow {
                Ok(Flow::Again) => {}
                Ok(Flow::Wait(until)) => {
                    if let Some(until) = self.beside(until, &mut waited, cx) {
                        return Step::Suspend(until);
                    }
                }
                Ok(Flow::Yield) => return Step::Yield,
                Ok(Flow::Done) => return Step::Done(self.done(cx)),
                Ok(Flow::Tunnel(tunnel)) => {
                    self.count(cx);
                    return Step::Done(Disposition::Tunnel(tunnel));
                }
                Err(failure) => {
                    if let Some(disposition) = self.fail(failure, cx) {
                        return Step::Done(disposition);
                    }
                }
            }
        }
    }

    fn wait_at_gate(&mut self, cx: &mut Context) -> Result<Flow, Failure> {
        match self.gate.as_mut().map_or(Opens::Now, |gate| gate.look(cx.now)) {
            Opens::Now => self.go_on(cx),
            Opens::Later(_) if cx.now >= self.expires => {
                return Err(Failure::last(Reason::DeadlineExceeded));
            }
            Opens::Later(until) => return Ok(Flow::Wait(until.min(self.expires))),
            Opens::Never(rejected) => self.reject_as(rejected, cx),
        }
        Ok(Flow::Again)
    }

    fn choose(&mut self, cx: &mut Context) -> Result<Flow, Failure> {
        if cx.now >= self.expires {
            return Err(Failure::last(self.too_late()));
        }
        let is_behind = self.is_behind(cx)?;
        let (key, session) = (self.key_for_choice(), self.session_tag());
        let asked = Asked { key, session, is_long_lived: self.meta.upgrade, behind: self.behind() };
        let algorithm = || upstream::pool(cx.view(), &self.view, self.pool).algorithm;
        let mut note = self.recorded.map(|_| Note::of(algorithm()));
        let chosen = match is_behind {
            true => Chosen::Full,
            false => upstream::choose(cx, &self.view, self.pool, asked, &self.tries.servers, note.as_mut()),
        };
        if !is_behind {
            self.note_choice(matches!(chosen, Chosen::Later));
        }
        // What waits chooses again and again; that it waits is told once.
        if let Some(note) =
            note.filter(|_| !matches!(chosen, Chosen::Full | Chosen::Later) || self.queue_token.is_none())
        {
            self.keep_decision(note, &chosen, cx);
        }
        match chosen {
            Chosen::Server(lease) => {
                let took_us = lease.server().latency_us(cx.now);
                self.lease = Some(lease);
                self.is_served(took_us.unwrap_or(0.0), cx)?;
                self.begin_attempt(cx);
                Ok(Flow::Again)
            }
            Chosen::Full | Chosen::Later if self.queue_token.is_none() => self.enter_queue(cx),
            Chosen::Full | Chosen::Later => {
                self.state = State::Queue;
                Ok(Flow::Wait(self.queue_deadline(cx).0.min(cx.now.after(QUEUE_LOOK))))
            }
            Chosen::None => {
                Err(self.tries.last.unwrap_or_else(|| Failure::last(upstream::why_none(cx, self.pool))))
            }
        }
    }

    /// It goes to the server of its lease.
    fn begin_attempt(&mut self, cx: &Context) {
        self.server = self.lease.as_ref().map(|lease| Arc::clone(lease.server()));
        self.assign_session();
        let collects = self.upload.is_chunked()
            && self.upload.is_buffered()
            && self.server.as_ref().is_some_and(|server| server.is_http10());
        self.state = if collects { State::Collect } else { State::Connect };
        self.attempt_at = cx.now;
        self.phases.begin_attempt(cx.now);
    }

    /// The body, without sending it. The server is asked when it is whole.
    fn collect(&mut self, client: &mut Client, cx: &mut Context) -> Result<Flow, Failure> {
        if self.meta.expects_continue && self.upload.passed() == 0 && self.download.bytes() == 0 {
            // The server is not asked before the body is here, so the client would wait for nothing.
            self.download.send_interim(client, b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.download.flush(client, Then::Open, &mut cx.pipes)?;
        while self.upload.is_chunked() {
            if self.upload.collect(client, &mut cx.body, cx.now)? == 0 && self.upload.is_chunked() {
                if cx.now >= self.expires {
                    return Err(Failure::last(Reason::DeadlineExceeded));
                }
                let deadline = self.upload.moved_at.after(self.times().client_body);
                let is_late = cx.now >= deadline;
                return if is_late {
                    Err(Failure::last(Reason::BodyTimeout))
                } else {
                    Ok(Flow::Wait(deadline.min(self.expires)))
                };
            }
        }
        (self.state, self.attempt_at) = (State::Connect, cx.now);
        Ok(Flow::Again)
    }

    /// A connection to the server: the idle one that was used last, or a new one.
    fn connect(&mut self, cx: &mut Context) -> Result<Flow, Failure> {
        let Some(server) = &self.server else { return Err(Failure::last(Reason::Internal)) };
        if self.expires != Moment::NEVER {
            if cx.now >= self.expires {
                return Err(Failure::last(Reason::DeadlineExceeded));
            }
            self.upload.tell_time_left(self.expires.since(cx.now));
        }
        self.upload.name_server(&server.name, || server.authority());
        // What may not be sent twice is not sent on a connection that may have ended meanwhile.
        let trusts_events = self.meta.idempotent && cx.now.since(cx.polled_at) < EVENTS_FRESH;
        let idle = match self.tries.same_server || self.connecting.is_some() {
            true => None,
            false => {
                let idle_time = cx.live().config.pool(server.pool).pool.idle_time;
                cx.servers.take(server.id, self.owner.0, idle_time, cx.now, trusts_events)
            }
        };
        let connection = match idle {
            Some(connection) => Some(connection),
            None => self.connect_new(&Arc::clone(server), cx)?,
        };
        let Some(connection) = connection else {
            let again = cx.now.after(CONNECT_AGAIN);
            return Ok(Flow::Wait(self.connect_deadline().min(self.expires).min(again)));
        };
        cx.shard().count(if idle.is_some() { Counter::Reuses } else { Counter::Connects });
        self.connection = Some(connection);
        self.upload.begin_attempt(cx.now);
        self.download.begin_attempt(cx.now);
        (self.state, self.asked_at) = (State::Relay, None);
        Ok(Flow::Again)
    }

    /// A new connection to the next of the server's addresses that can be tried. `None`: it has to be tried again.
    fn connect_new(&mut self, server: &Arc<Server>, cx: &mut Context) -> Result<Option<usize>, Failure> {
        let (now, connect_time) = (cx.now, self.times().connect);
        let connecting = self.connecting.get_or_insert_with(|| Box::new(Connecting::new(server, now)));
        while let Some(target) = connecting.next(server) {
            let connected = match cx.network.connect(target) {
                Err(error) if limits::is_out_of_descriptors(&error) && cx.servers.idle() > 0 => {
                    // Idle connections have the descriptors that this one needs.
                    cx.servers.clear();
                    cx.network.connect(target)
                }
                connected => connected,
            };
            match connected {
                Ok(transport) => {
                    let transport = secured(transport, server, cx)?;
                    return Ok(Some(cx.servers.insert(transport, server, self.owner.0)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connecting.again();
                    let late = now >= self.attempt_at.after(connect_time);
                    return if late { Err(Failure::CONNECT) } else { Ok(None) };
                }
                Err(error) => {
                    log::debug!("{}: {} cannot be reached: {error}", cx.shared.name, server.name);
                    // Our own shortage: no server is at fault, and none would do better.
                    if limits::is_out_of_descriptors(&error) {
                        return Err(Failure::last(Reason::Overloaded));
                    }
                    connecting.failed(server);
                }
            }
        }
        Err(Failure::CONNECT)
    }

    /// The address that was tried does not take the connection: the next one is tried, if there is one.
    fn try_next_address(&mut self, cx: &mut Context) -> Result<Flow, Failure> {
        let (Some(connecting), Some(server)) = (&mut self.connecting, &self.server) else {
            return Err(Failure::CONNECT);
        };
        connecting.failed(server);
        connecting.since = cx.now;
        if !connecting.has_more() {
            return Err(Failure::CONNECT);
        }
        self.connection.take().into_iter().for_each(|connection| cx.servers.close(connection));
        self.state = State::Connect;
        Ok(Flow::Again)
    }

    /// Both directions, as far as they go.
    fn relay(&mut self, client: &mut Client, cx: &mut Context) -> Result<Flow, Failure> {
        let mut left = TURN_BYTES;
        loop {
            let relayed = self.relay_once(client, cx)?;
            self.make_copy(cx);
            match relayed {
                Relayed::Authorized => {
                    self.go_on_authorized(cx);
                    return Ok(Flow::Again);
                }
                Relayed::Upgraded => return self.open_tunnel(client, cx),
                Relayed::NotConnected => return self.try_next_address(cx),
                Relayed::PassedOver => return Ok(Flow::Again),
                Relayed::Whole => {
                    self.state = State::Finish;
                    return Ok(Flow::Again);
                }
                Relayed::Bytes(0) | Relayed::Waits => break,
                Relayed::Bytes(moved) if moved >= left => return Ok(Flow::Yield),
                Relayed::Bytes(moved) => left -= moved,
            }
        }
        let (deadline, reason) = self.deadline();
        if cx.now < deadline {
            if self.leave_down(cx) {
                return Ok(Flow::Again);
            }
            let look = self.down_look(cx.now).min(self.next_stream_end(cx.now));
            return Ok(Flow::Wait(deadline.min(look)));
        }
        if self.download.is_done() {
            // What is missing is the rest of the request, and it is not needed any more.
            self.upload.give_up();
            return Ok(Flow::Again);
        }
        match reason {
            Reason::ConnectFailed => self.try_next_address(cx),
            reason => Err(Failure::last(reason)),
        }
    }

    fn relay_once(&mut self, client: &mut Client, cx: &mut Context) -> Result<Relayed, Failure> {
        let Some(key) = self.connection else { return self.relay_rest(client, cx) };
        let begun = self.download.has_begun();
        let sent = match self.send_request(key, client, cx)? {
            ControlFlow::Continue(sent) => sent,
            ControlFlow::Break(relayed) => return Ok(relayed),
        };
        let received = match self.receive_response(key, client, cx)? {
            Downloaded::Moved(received) => received,
            Downloaded::Upgraded => return Ok(Relayed::Upgraded),
            Downloaded::Authorized => return Ok(Relayed::Authorized),
            Downloaded::Error => {
                self.pass_error_over(key, cx);
                return Ok(Relayed::PassedOver);
            }
            Downloaded::Retriable => {
                if self.try_elsewhere(key, cx) {
                    return Ok(Relayed::PassedOver);
                }
                self.download.accept();
                return Ok(Relayed::Bytes(1));
            }
        };
        if self.download.has_begun() && !begun {
            self.settle(cx);
            self.note_response(key, cx);
        }
        if self.is_unjudged {
            self.judge_body(cx);
        }
        if self.download.is_received() {
            self.after_response(cx);
        }
        if self.download.is_done() && self.connection.is_none() {
            return Ok(Relayed::Whole);
        }
        let has_nothing = |connection: &mut ServerConnection| !connection.stream.may_read();
        let is_server_silent =
            self.connection.and_then(|key| cx.servers.get_mut(key)).is_some_and(has_nothing);
        let waits = is_server_silent && self.upload.is_done() && !self.download.has_unsent();
        Ok(if waits { Relayed::Waits } else { Relayed::Bytes(sent + received) })
    }

    /// What there is of the request goes to the server: so many bytes, or how the step ends while there is no connection.
    fn send_request(
        &mut self,
        key: usize,
        client: &mut Client,
        cx: &mut Context,
    ) -> Result<ControlFlow<Relayed, usize>, Failure> {
        let Context { shared, servers, body, pipes, now, .. } = cx;
        let Some(connection) = servers.get_mut(key) else { return Err(Failure::RESET) };
        let begun = self.download.has_begun();
        let sent = self.upload.advance(client, &mut connection.stream, body, pipes, begun, *now)?;
        if !self.upload.has_begun() {
            return match (self.upload.is_broken(), connection.reused) {
                (true, true) => Err(Failure::UNSENT),
                (true, false) if connection.stream.tls_trouble().is_some() => {
                    connection.log_tls_trouble(shared, *now);
                    Err(Failure::TLS)
                }
                (true, false) => Ok(ControlFlow::Break(Relayed::NotConnected)),
                (false, _) => Ok(ControlFlow::Break(Relayed::Bytes(0))),
            };
        }
        if let Some(connecting) = self.connecting.take() {
            connection.generation = connecting.succeeded(&connection.server);
            self.phases.connected = Some(now.since(self.attempt_at));
        }
        if sent > 0 {
            self.download.request_moved();
        }
        if self.upload.is_done() && self.asked_at.is_none() {
            self.asked_at = Some(*now);
        }
        Ok(ControlFlow::Continue(sent))
    }

    /// What there is of the response goes to the client.
    fn receive_response(
        &mut self,
        key: usize,
        client: &mut Client,
        cx: &mut Context,
    ) -> Result<Downloaded, Failure> {
        cx.refresh_date();
        let asks = self.held.is_some();
        let is_end_known = !asks || self.is_request_received();
        let may_keep = self.meta.keep_alive && is_end_known && cx.keeps_connections(self.meta.listener);
        let stream_end = self.stream_end(cx);
        let retries_on = self.retries_on();
        let Context { shared, servers, body, reply, slots, pipes, now, .. } = cx;
        let Some(connection) = servers.get_mut(key) else { return Err(Failure::RESET) };
        let mut digits = [0; 32];
        let live = &self.view.live;
        let (listen, server) = (&live.config.listen, connection.server.name.as_str());
        let guard = live.guard(self.way.as_ref().map(|way| way.index));
        let pages = guard.error_pages().filter(|pages| pages.intercept.is_some() && !asks);
        let is_id_told = listen.request_id_header || pages.is_some();
        let id = if is_id_told { self.meta.trace.bytes(&mut digits) } else { b"" };
        let way = self.way.as_deref().filter(|way| way.edits_responses() && !asks);
        let edits = way.map(|way| way.response_edits(server));
        let asking = Asking {
            asked: self.meta.asked,
            version: self.meta.version,
            upgrade: self.meta.upgrade && !asks,
            request_done: self.upload.is_done(),
            copies: guard.forward_auth().filter(|_| asks),
            may_keep,
            pseudonym: &live.pseudonym,
            edits: edits.as_ref().map(|edits| edits as &dyn Edits),
            served_by: listen.served_by_header.then_some(server),
            date: cx.date.1.as_str(),
            request_id: listen.request_id_header.then_some(id),
            pages: pages.map(|pages| (pages, self.meta.form, id)),
            lines: self.gate.as_ref().map_or(b"", |gate| &gate.lines),
            session: self.session.as_ref().filter(|_| !asks).map_or(b"", |session| &session.line),
            learns: learned_cookie(live, self.pool).filter(|_| self.session.is_some() && !asks),
            load_metric: load::metric(live, self.pool, &connection.server, *now).filter(|_| !asks),
            compression: guard.compression().filter(|_| !asks).map(|compression| (compression, self.coding)),
            has_weak_tag: self.has_weak_tag,
            passes_errors_over: self.rival.is_some(),
            retries_on: retries_on.as_ref(),
            stream_end,
            limits: &live.config.limits.head.of_responses(),
            reused: connection.reused,
        };
        let mut scratch = Scratch { body, reply, slots, pipes };
        let downloaded = self.download.advance(client, &mut connection.stream, &mut scratch, &asking, *now);
        downloaded.map_err(|failure| match failure {
            // A pooled connection that died before a byte of the response: the race of reuse, not the server's fault.
            Failure::RESET if connection.reused => Failure { phase: Phase::Reuse, ..failure },
            // With TLS 1.3 a server rejects our certificate only after our side of the handshake.
            Failure::RESET if connection.stream.tls_trouble().is_some() => {
                connection.log_tls_trouble(shared, *now);
                Failure { reason: Reason::TlsFailed, ..failure }
            }
            failure => failure,
        })
    }

    /// The server is done with; what is left of its response goes to the client.
    fn relay_rest(&mut self, client: &mut Client, cx: &mut Context) -> Result<Relayed, Failure> {
        let moved = self.download.flush(client, self.then(), &mut cx.pipes)?;
        if moved > 0 {
            self.download.moved_at = cx.now;
        }
        Ok(if self.download.is_done() { Relayed::Whole } else { Relayed::Bytes(moved) })
    }

    /// The response is here as a whole. The server is let go of when it has all of the request, or takes no more.
    fn after_response(&mut self, cx: &mut Context) {
        let waits_for_go = self.meta.expects_continue && self.upload.passed() == 0 && self.held.is_none();
        if !self.upload.is_done() && !self.upload.is_broken() && !waits_for_go {
            return;
        }
        self.let_go_of_server(self.upload.is_done(), cx);
    }

    /// The server has responded: its connection is kept for another request if it may be, and the next in the queue is called.
    fn let_go_of_server(&mut self, may_keep: bool, cx: &mut Context) {
        if let Some(connection) = self.connection.take() {
            match may_keep && self.download.server_keeps() {
                true => cx.servers.put(connection, &cx.poller, &cx.table.view().live.config, cx.now),
                false => cx.servers.close(connection),
            }
        }
        self.phases.served_at = Some(cx.now);
        self.is_unjudged = false;
        if let Some(lease) = self.lease.take() {
            finish::record_success(&lease, cx);
            drop(lease);
            self.view.live.pool(self.pool).queue.call_next();
        }
    }

    fn open_tunnel(&mut self, client: &mut Client, cx: &mut Context) -> Result<Flow, Failure> {
        let (Some(connection), Some(lease), Some(permit)) =
            (self.connection.take(), self.lease.take(), self.tunnel.take())
        else {
            return Err(Failure::last(Reason::Internal));
        };
        finish::record_success(&lease, cx);
        lease.becomes_tunnel();
        self.note_session(cx.now);
        let early = std::mem::take(&mut client.input);
        let (rest, from) = self.download.take_rest();
        let counted = self.gate.take().and_then(|gate| gate.into_permit());
        let traffic = finish::counted(
            self.meta.listener,
            self.way.as_deref(),
            self.in_pool.then_some(self.pool),
            &self.view.live,
        );
        let live = &self.view.live;
        let tunnel = Tunnel::open(connection, lease, permit, counted, (early, rest), live, cx);
        let mut tunnel = tunnel
            .counted_by(traffic.into_iter().flatten().map(Arc::clone))
            .idle_for(self.way.as_ref().and_then(|way| way.route.timeouts.tunnel));
        if self.download.is_websocket() {
            tunnel.follow_frames(from);
        }
        Ok(Flow::Tunnel(Box::new(tunnel)))
    }

    /// What is left goes to the client.
    fn flush(&mut self, client: &mut Client, cx: &mut Context) -> Result<Flow, Failure> {
        let moved = self.download.flush(client, self.then(), &mut cx.pipes)?;
        if moved > 0 {
            self.download.moved_at = cx.now;
        }
        if !self.download.has_unsent() {
            return Ok(Flow::Done);
        }
        let deadline = self.download.moved_at.after(self.times().client_body);
        if cx.now >= deadline { Err(Failure::last(Reason::ClientStalled)) } else { Ok(Flow::Wait(deadline)) }
    }

    fn then(&self) -> Then {
        if self.download.client_keeps() || !self.is_request_received() { Then::Open } else { Then::End }
    }

    /// An attempt failed: tried again where that is safe, reported to the client, or the end of the connection.
    fn fail(&mut self, failure: Failure, cx: &mut Context) -> Option<Disposition> {
        if finish::is_servers(failure.reason) && self.leave_to_rival(&failure, cx) {
            return None;
        }
        self.cancel_rival(cx);
        if let Some(connection) = self.connection.take() {
            cx.servers.close(connection);
        }
        self.connecting = None;
        self.leave_queue(cx);
        let is_clients = matches!(failure.reason, Reason::ClientGone | Reason::ClientStalled);
        let is_over = is_clients || self.download.has_begun();
        // Past its deadline no attempt is begun.
        let verdict = if is_over || cx.now >= self.expires { Retry::No } else { self.verdict(&failure, cx) };
        if let Some(lease) = &self.lease {
            if is_clients || matches!(failure.reason, Reason::ServerTimeout | Reason::DeadlineExceeded) {
                lease.gave_up(cx.now);
            }
            if failure.reason == Reason::DeadlineExceeded {
                self.note_expired(lease, cx);
            }
            // A pooled connection may die under a request without a fault of the server's; not so twice.
            if verdict != Retry::SameServer {
                finish::record_failure(lease, failure.reason, cx);
            }
        }
        self.tries.same_server = verdict == Retry::SameServer;
        if verdict == Retry::SameServer {
            cx.shard().count(Counter::Retries);
            (self.state, self.attempt_at) = (State::Connect, cx.now);
            self.phases.begin_attempt(cx.now);
            return None;
        }
        if let Some(lease) = self.lease.take() {
            self.tries.servers.add(lease.server().id);
            drop(lease);
            self.view.live.pool(self.pool).queue.call_next();
        }
        if verdict == Retry::OtherServer {
            cx.shard().count(Counter::Retries);
            (self.tries.last, self.tries.after_status) = (Some(failure), None);
            self.state = State::Choose;
            return None;
        }
        match is_over {
            false => {
                self.reject(failure.reason, cx);
                None
            }
            true => self.break_off(failure.reason, cx),
        }
    }

    /// The response has begun, or the client is gone: there is nothing more to say.
    fn break_off(&mut self, reason: Reason, cx: &mut Context) -> Option<Disposition> {
        let is_clients = matches!(reason, Reason::ClientGone | Reason::ClientStalled);
        if self.download.is_done() {
            // Only the rest of the request is missing: nothing is left to do but to let the client read.
            self.end = End::Linger;
            return Some(self.done(cx));
        }
        // A response of our own that the client does not take has its reason already.
        self.reason.get_or_insert(reason);
        if is_clients || self.download.is_until_close() || self.state == State::Finish {
            self.end = End::Abort;
            return Some(self.done(cx));
        }
        // The framing shows that the response is truncated, so the client may read what there is of it.
        (self.state, self.end) = (State::Finish, End::Linger);
        None
    }

    /// Whether a failed attempt may be made again, and where.
    fn verdict(&mut self, failure: &Failure, cx: &Context) -> Retry {
        let failed = &mut self.tries.failed;
        match failure.phase {
            Phase::Connect => failed.0 += 1,
            Phase::Reuse => failed.1 += 1,
            Phase::Response => failed.2 += 1,
            Phase::Late => return Retry::No,
        }
        let timed_out = failure.reason == Reason::ServerTimeout;
        self.may_try_again(failure.phase, failure.sent, timed_out, cx)
    }

    /// Those of its route, or of the configuration.
    fn retry_rules(&self) -> &retry::Rules {
        let own = self.way.as_ref().and_then(|way| way.route.retries.as_ref());
        own.unwrap_or(&self.view.live.config.retries)
    }

    /// A response of our own takes the place of a server's.
    fn reject(&mut self, reason: Reason, cx: &mut Context) {
        self.reject_as(Rejected::of(reason), cx);
    }

    fn reject_as(&mut self, mut rejected: Rejected, cx: &mut Context) {
        let reason = rejected.reason;
        if let Some(gate) = &self.gate {
            rejected.lines.extend_from_slice(&gate.lines);
        }
        if let Some(way) = &self.way {
            let server = self.server.as_ref().map_or("", |server| server.name.as_str());
            way.append_to_rejection(server, &mut rejected.lines);
        }
        let keeps = self.meta.keep_alive
            && self.is_request_received()
            && !reason.closes()
            && cx.keeps_connections(self.meta.listener);
        self.reason = Some(reason);
        let of = (self.pool, self.way.as_ref().map(|way| way.index));
        respond::rejection(&mut self.download, &rejected, &self.meta, keeps, of, &self.view, cx);
        self.state = State::Finish;
        self.download.moved_at = cx.now;
    }

    /// Responds as its route says.
    fn respond_as_route(&mut self, response: &route::Response, cx: &mut Context) {
        let keeps =
            self.meta.keep_alive && self.upload.is_received() && cx.keeps_connections(self.meta.listener);
        respond::fixed(&mut self.download, response, &self.meta, keeps, cx);
        self.state = State::Finish;
        self.download.moved_at = cx.now;
    }

    /// Responds to OPTIONS and TRACE that go no further than here (RFC 9110 section 7.6.2).
    fn respond_as_last_hop(&mut self, head: &RequestHead<'_, '_>, cx: &mut Context) {
        let keeps =
            self.meta.keep_alive && self.upload.is_received() && cx.keeps_connections(self.meta.listener);
        respond::last_hop(&mut self.download, head, keeps, cx);
        self.state = State::Finish;
    }

    /// Counted and logged; the buffers go back.
    fn done(&mut self, cx: &mut Context) -> Disposition {
        debug_assert!(self.connection.is_none() && self.queue_token.is_none() && self.rival.is_none());
        self.count(cx);
        match self.end {
            End::Abort => Disposition::Abort,
            End::Linger => Disposition::Linger,
            End::AsTold if self.download.client_keeps() => Disposition::Keep,
            // A client that did not ask for the close may have its next request on the way, and that would be a reset.
            End::AsTold if self.is_request_received() && !self.meta.keep_alive => Disposition::Close,
            End::AsTold => Disposition::Linger,
        }
    }

    fn count(&mut self, cx: &Context) {
        self.counted = true;
        self.count_at_server(cx);
        match &self.copied {
            Some(_) => cx.shard().count(Counter::Mirrored),
            None => {
                let text = std::mem::take(&mut self.meta.text);
                finish::count(self.outcome(text), cx);
            }
        }
    }

    fn outcome(&self, text: RequestText) -> finish::Outcome<'_> {
        finish::Outcome {
            meta: &self.meta,
            status: self.download.status(),
            received: self.upload.passed(),
            sent: self.download.bytes(),
            server: self.server.as_ref(),
            reason: self.reason,
            way: self.way.as_deref(),
            pool: self.in_pool.then_some(self.pool),
            phases: &self.phases,
            body_bytes: self.download.body_bytes(),
            expires: self.expires(),
            text,
            live: &self.view.live,
        }
    }

    /// Gives its buffers back; after [`Step::Done`].
    pub fn recycle(mut self: Box<Self>, cx: &mut Context) {
        cx.buffers.give(self.upload.take_buffer());
        if let Some(mut held) = self.held.take() {
            cx.buffers.give(held.upload.take_buffer());
        }
        cx.buffers.give(self.download.take_buffer());
    }

    /// Its connection ends in another way than by a step: nothing of it stays in the worker.
    pub fn abandon(mut self: Box<Self>, reason: Reason, cx: &mut Context) {
        let _ = self.fail(Failure::last(reason), cx);
        if !self.counted {
            // What it was to tell its client does not go out any more.
            if self.download.bytes() == 0 {
                self.download.forget();
            }
            self.count(cx);
        }
    }

    /// The connection to its server, in its worker's pool.
    pub fn connection(&self) -> Option<usize> {
        self.connection
    }

    /// Has come to another worker, where its client's connection has this key and turn and its server's that key.
    pub fn attach(&mut self, owner: (usize, u32), connection: Option<usize>) {
        (self.owner, self.connection) = (owner, connection);
    }

    /// The connection of the second one of two attempts at once.
    pub fn rival_connection(&self) -> Option<usize> {
        self.rival.as_ref().and_then(|rival| rival.connection)
    }

    /// Whether it stays with its worker: another thread is to call it there, to a server with room or with its password
    /// verified, or it has two connections to servers.
    pub fn is_bound(&self) -> bool {
        self.queue_token.is_some()
            || self.rival.is_some()
            || self.gate.as_ref().is_some_and(|gate| gate.is_called())
    }
}

/// What came of moving both directions once.
enum Relayed {
    Bytes(usize),
    /// Only the server can bring it on, and has said nothing new: another look would find nothing.
    Waits,
    Whole,
    Upgraded,
    /// The pool that was asked lets the request pass.
    Authorized,
    /// The address cannot be reached.
    NotConnected,
    /// The server responded with an error, and another attempt goes on or begins.
    PassedOver,
}
