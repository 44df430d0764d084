//! Layer 2: the guards in front of an exchange: a request that passes them at once, later, or not at all.

use super::context::Context;
use super::meta::Meta;
use super::verify::Pending;
use crate::base::ids::ConnectionKey;
use crate::base::time::Moment;
use crate::http1::head::RequestHead;
use crate::http1::reason::Reason;
use crate::policy::concurrency::Permit;
use crate::state::guard::{Guard, Login, Passed, Rejected, Visit};
use crate::state::stats::Counter;
use std::sync::Arc;

/// What the guards have to do with a request, for as long as its exchange lives.
#[derive(Debug, Default)]
pub struct Guarded {
    /// Header lines for the response, each with its line end.
    pub lines: Vec<u8>,
    /// It comes from an address that needs no login.
    pub is_known: bool,
    /// When it may go on.
    passes_at: Moment,
    login: Option<Verification>,
    /// Counts it among the requests at once.
    permit: Option<Permit>,
}

/// Credentials that are being verified.
#[derive(Debug)]
struct Verification {
    pending: Arc<Pending>,
    login: Arc<Login>,
    until: Moment,
}

/// Whether a request may go on.
#[derive(Debug)]
pub enum Pass {
    /// It may.
    Now,
    /// It waits, until then at the most.
    Later(Moment),
    /// It may not.
    Never(Rejected),
}

impl Guarded {
    /// Judges a request by the guards of its route. `None`: none of them has anything to do with it any more.
    pub fn enter(
        guard: &Guard,
        head: &RequestHead<'_, '_>,
        meta: &Meta,
        route: &str,
        owner: ConnectionKey,
        cx: &Context,
    ) -> Result<Option<Box<Guarded>>, Rejected> {
        if guard.is_open() {
            return Ok(None);
        }
        let visit = Visit {
            client: meta.client,
            fields: head.fields,
            certificate: meta.certificate(),
            peer_trusted: meta.peer_trusted,
            route,
            now: cx.now,
        };
        let passed = guard.judge(&visit)?;
        let Passed { lines, wait, permit, unverified, is_known, is_over_rate, is_over_concurrency } = passed;
        if is_over_rate {
            cx.shard().count(Counter::DryRunRejections);
        }
        if is_over_concurrency {
            cx.shard().count(Counter::DryRunConcurrency);
        }
        let login = match unverified {
            None => None,
            Some(unverified) => {
                let login = Arc::clone(&unverified.login);
                let until = cx.now.after(cx.live().config.threadpool.admit.deadline);
                let pending = cx.shared.verifier.begin(unverified, &cx.mailbox, owner, until);
                let pending = pending.ok_or_else(|| Rejected::of(Reason::AuthBusy))?;
                Some(Verification { pending, login, until })
            }
        };
        Ok(Some(Box::new(Guarded { lines, is_known, passes_at: cx.now.after(wait), login, permit })))
    }

    /// Whether the request may go on now.
    pub fn look(&mut self, now: Moment) -> Pass {
        if let Some(Verification { pending, login, until }) = &self.login {
            match pending.result() {
                Some(true) => self.login = None,
                Some(false) => return Pass::Never(login.challenge()),
                None if now >= *until => return Pass::Never(Rejected::of(Reason::AuthBusy)),
                None => return Pass::Later(*until),
            }
        }
        if now < self.passes_at { Pass::Later(self.passes_at) } else { Pass::Now }
    }

    /// What counts it among the requests at once, for as long as it is a tunnel.
    pub fn into_permit(self) -> Option<Permit> {
        self.permit
    }

    /// Whether a thread that verifies its password will call it, where it is now.
    pub fn is_called(&self) -> bool {
        self.login.is_some()
    }
}
