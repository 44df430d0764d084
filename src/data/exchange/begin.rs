//! How an exchange begins: from the head of a request to its first state.

use super::attempt::Attempt;
use super::choose::Choice;
use super::guard::{AfterGuards, Guards};
use super::mirror::Mirror;
use super::respond::Accepts;
use super::retry::Tries;
use super::tunnel::AskedTunnel;
use super::{End, Ending, Exchange, State};
use crate::base::ids::{ConnectionKey, PoolId};
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::download::Download;
use crate::data::meta::{Incoming, Meta, Sender};
use crate::data::question;
use crate::data::route::{self, Routed};
use crate::data::upload::Upload;
use crate::http1::body::Body;
use crate::http1::framing::Framing;
use crate::http1::head::RequestHead;
use crate::http1::malformed;
use crate::http1::reason::Reason;
use crate::policy::pick::Algorithm;
use crate::state::table::View;

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
        let incoming = Incoming { head, meta: &meta, sender: &sender, view: &view };
        let routed = route::route(&incoming, cx, &mut out);
        let chunked = head.framing == Framing::Chunked;
        let limit = routed.as_ref().ok().and_then(Routed::route).and_then(|route| route.body_limit);
        let limit = limit.unwrap_or(view.live.config.limits.body);
        let mut body = head.body();
        if chunked && routed.as_ref().is_ok_and(|routed| routed.has_own_headers(&view.live)) {
            body.drop_trailers();
        }
        let upload = Upload::new(out, body, chunked, limit, cx.now);
        let mut exchange = Exchange::new(meta, upload, sender.owner, view, cx);
        exchange.count_begun(cx);
        let taken = routed.and_then(|mut routed| {
            exchange.upload.will_name_server(routed.take_name_slots());
            let response = exchange.follow(routed, cx);
            exchange.upload.take_early(early).map(|used| (used, response))
        });
        exchange.set_deadline(head.deadline_ms);
        exchange.mirror.pool = exchange.mirror_of(head, cx);
        let (used, state) = match taken {
            Ok((used, response)) => (used, exchange.first_state(head, &sender, response, cx)),
            Err(reason) => (early.len(), exchange.reject(reason, cx)),
        };
        exchange.state = state;
        (exchange, used)
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
        exchange.count_begun(cx);
        exchange.state = exchange.reject(reason, cx);
        exchange.ending.end = End::Linger;
        exchange
    }

    /// One that has not begun. `upload`: the request as it is to go to a server.
    pub(super) fn new(
        meta: Meta,
        upload: Upload,
        owner: ConnectionKey,
        view: View,
        cx: &mut Context,
    ) -> Box<Self> {
        Box::new(Exchange {
            state: State::Choose,
            meta,
            view,
            matched: None,
            pool: PoolId::default(),
            in_pool: false,
            expires: Moment::NEVER,
            owner,
            upload,
            download: Download::new(cx.buffers.take(), cx.now),
            guards: Guards::default(),
            choice: Choice::default(),
            tries: Tries::default(),
            attempt: Attempt::none(cx.now),
            other_attempt: None,
            tunnel: None,
            accepts: Accepts::default(),
            mirror: Mirror::default(),
            ends_at: Moment::NEVER,
            ending: Ending::default(),
        })
    }

    /// Takes what its route says; a response of the route's own comes back.
    fn follow(&mut self, routed: Routed, cx: &Context) -> Option<route::Response> {
        let response = match routed {
            Routed::Forward(pool, matched) => {
                (self.pool, self.matched) = (pool, matched);
                None
            }
            Routed::Respond(matched, response) => {
                self.matched = matched;
                Some(response)
            }
        };
        if let Some(matched) = &self.matched {
            matched.route.traffic.begins(cx.number());
        }
        response
    }

    /// Its route responds, its guards let it pass or do not, or it goes to a server.
    fn first_state(
        &mut self,
        head: &RequestHead<'_, '_>,
        sender: &Sender<'_>,
        response: Option<route::Response>,
        cx: &mut Context,
    ) -> State {
        // A listener's redirect to https: whatever guards ask for, a password above all, belongs there.
        let is_redirect = self.matched.is_none() && head.max_forwards != Some(0);
        if let Some(response) = response.as_ref().filter(|_| is_redirect) {
            return self.respond_as_route(response, cx);
        }
        let waits = match self.pass_guards(head, cx) {
            Ok(waits) => waits,
            Err(rejected) => return self.reject_as(rejected, cx),
        };
        if head.max_forwards == Some(0) {
            return self.respond_as_last_hop(head, cx);
        }
        match self.prepare(head, sender, response, cx) {
            Err(reason) => self.reject(reason, cx),
            Ok(()) if waits => State::Guard,
            Ok(()) => self.leave_guards(cx),
        }
    }

    /// Takes from its head what is needed once the guards have let it pass.
    fn prepare(
        &mut self,
        head: &RequestHead<'_, '_>,
        sender: &Sender<'_>,
        response: Option<route::Response>,
        cx: &mut Context,
    ) -> Result<(), Reason> {
        if response.is_none() {
            self.prepare_choice(head, sender, cx);
            if self.meta.upgrade {
                let asked = AskedTunnel::of(head, &cx.shared, self.view.live.config.limits.tunnels);
                self.tunnel = Some(asked.ok_or(Reason::TunnelLimit)?);
            }
        }
        let incoming = Incoming { head, meta: &self.meta, sender, view: &self.view };
        let needs_no_login = self.guards.guarded.as_ref().is_some_and(|guarded| guarded.is_known);
        let question = match needs_no_login {
            true => None,
            false => question::question(&incoming, self.matched.as_deref(), cx)?,
        };
        if response.is_some() || question.is_some() {
            self.guards.after = Some(Box::new(AfterGuards { question, response }));
        }
        Ok(())
    }

    /// What its server is chosen by.
    fn prepare_choice(&mut self, head: &RequestHead<'_, '_>, sender: &Sender<'_>, cx: &mut Context) {
        self.view.live.pool(self.pool).budget.earn(cx.now);
        self.choice.recorded = self.is_recorded(head, cx);
        self.begin_session(head, sender, cx.now);
        let servers = self.view.live.config.pool(self.pool);
        if servers.algorithm.hashes() || servers.shadow.is_some_and(Algorithm::hashes) {
            self.choice.hash_key = route::hash_key(head, &self.meta, servers, cx.random.number());
        }
    }

    fn count_begun(&self, cx: &Context) {
        if let Some(listener) = self.view.live.known_listener(self.meta.listener) {
            listener.traffic.begins(cx.number());
        }
    }
}
