//! A pool at one moment.

use super::super::choose::Shadow;
use super::super::hashing::Hashing;
use super::super::server::Server;
use super::super::session::ByTag;
use super::super::slow_start::SlowStart;
use super::FailOpen;
use super::tiers::Tiers;
use crate::policy::pick::{self, Algorithm, Slot};
use std::sync::Arc;

/// A pool at one moment: what of it gets traffic, and how one is chosen.
#[derive(Debug)]
pub struct Pool {
    /// All of its servers, whether they get traffic or not.
    pub count: usize,
    /// Those that get traffic: the first tier that is not empty. A [`Slot`] is an index into it.
    pub ready: Vec<Arc<Server>>,
    /// The tiers behind it, for a retry that has tried all of `ready`.
    pub reserve: Vec<Arc<Server>>,
    /// Those that get none.
    pub out: Vec<Arc<Server>>,
    /// Too few are left, so that `ready` has servers whose probes fail, or that are ejected.
    pub fail_open: Option<FailOpen>,
    /// The smooth weighted order of `ready`.
    pub schedule: Vec<Slot>,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The servers of `ready` that came up a short while ago.
    pub slow_start: Option<SlowStart>,
    /// With a hash algorithm: which server has which keys.
    pub hashing: Option<Hashing>,
    /// A second one that runs beside it.
    pub shadow: Option<Shadow>,
    /// Servers that keep their sessions, also those that get no new requests; empty where the pool has no sessions.
    pub sessions: ByTag,
}

impl Pool {
    pub(super) fn of(tiers: Tiers, algorithm: Algorithm, shadow: Option<Shadow>) -> Self {
        let Tiers { servers, out, fail_open, sessions } = tiers;
        let count = out.len() + servers.iter().map(Vec::len).sum::<usize>();
        let mut tiers = servers.into_iter().filter(|tier| !tier.is_empty());
        let ready = tiers.next().unwrap_or_default();
        let reserve = tiers.flatten().collect();
        let weighted: Vec<_> =
            ready.iter().enumerate().map(|(at, server)| (Slot(at as u32), server.weight_now())).collect();
        Pool {
            count,
            ready,
            reserve,
            out,
            fail_open,
            schedule: pick::schedule(&weighted),
            algorithm,
            hashing: None,
            slow_start: None,
            shadow,
            sessions,
        }
    }
}
