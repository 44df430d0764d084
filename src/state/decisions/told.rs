//! Decisions as the admin API tells them, and as `evenkeel explain` reads them: one description for both ends. What an older
//! balancer does not tell is empty.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A word of a closed set: known here, owned where it was read.
pub type Word = Cow<'static, str>;

/// The response of `GET /api/v1/decisions`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Decisions {
    /// For the next `?since=`.
    pub next: u64,
    /// The oldest first.
    pub decisions: Vec<Decision>,
}

/// One choice of a server for one attempt of a request.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// Which one since the start.
    pub number: u64,
    /// RFC 3339, in UTC.
    pub at: String,
    /// The same in milliseconds since 1970.
    pub at_ms: u64,
    /// As in the access log.
    pub request_id: String,
    /// Method and target as they go to the server; null once they are no longer kept.
    pub request: Option<String>,
    /// The name of the pool.
    pub pool: String,
    /// The name of the route, if one matched.
    pub route: Option<String>,
    /// That of the pool.
    pub algorithm: Word,
    /// 1 for the first server that a request goes to.
    pub attempt: u32,
    /// The status of the response because of which there is another attempt; null where there was none.
    pub after_status: Option<u16>,
    /// How long it waited for a server with room; null when it did not.
    pub waited_ms: Option<f64>,
    /// Recorded because somebody asked; else it is a sample.
    pub asked: bool,
    /// `sent`, `queued` or `no_server`.
    pub outcome: Word,
    /// Null unless it was sent.
    pub server: Option<String>,
    /// `only_one`, `trial`, `least`, `turn`, `random`, `less_of_two`, `hash`, `session`, `slow_start`.
    pub why: Option<Word>,
    /// Candidates that were as good as the chosen one, that one among them.
    pub among: usize,
    /// All servers that come first were tried: it is a backup, or one whose first probe is not finished.
    pub last_resort: bool,
    /// The servers that could get the request.
    pub candidates: Vec<Candidate>,
    /// Further ones, that are not listed.
    pub candidates_more: usize,
    /// The servers that could not.
    pub excluded: Vec<Excluded>,
    /// Further ones, that are not listed.
    pub excluded_more: usize,
    /// Servers that take requests and were not drawn for the sample of a large table.
    pub not_sampled: usize,
    /// A server with room that it did not take, because a full one will be done sooner; null where there is none.
    pub passed_over: Option<PassedOver>,
    /// Null where the pool has one tier only.
    pub tier: Option<String>,
    /// Null without a second algorithm.
    pub shadow: Option<Shadow>,
}

/// What the second algorithm of a pool would have chosen.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Shadow {
    /// Its name.
    pub algorithm: Word,
    /// The server.
    pub server: String,
}

/// A server with room for a request that waits for another one.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PassedOver {
    /// Its name.
    pub server: String,
    /// What the request would take there.
    pub takes_ms: f64,
    /// By when a full server is expected to be done.
    pub sooner_ms: f64,
}

/// A server that could get the request.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Candidate {
    /// Its name.
    pub server: String,
    /// What `dynamic` ranks by; null for other algorithms, for weights that differ, and for a server that is avoided.
    pub cost_ms: Option<f64>,
    /// Its weight.
    pub weight: u16,
    /// Requests that it has.
    pub in_flight: u32,
    /// Those of them that are tunnels.
    pub tunnels: u32,
    /// The usual latency; null while it is unknown.
    pub latency_ms: Option<f64>,
    /// The requests in flight that were usual then.
    pub usual_in_flight: Option<f64>,
    /// The share of good responses, relative to the best of the candidates.
    pub good_share: f64,
    /// How long requests have been without any response.
    pub silence_ms: f64,
    /// By what its load report raises the expected latency.
    pub report_factor: f64,
    /// It fails or hangs, and others do not: it gets trials only.
    pub avoided: bool,
}

/// A server that could not get the request.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Excluded {
    /// Its name.
    pub server: String,
    /// `tried`, `full`, `down`, `ejected`, `drain`, `maint`, `weight_zero`, `backup`, `other_tier`, `starting`, `slow_start`, `changed`.
    pub why: Word,
    /// The reason as in the log.
    pub detail: Option<String>,
    /// How long an ejection still lasts.
    pub for_s: Option<f64>,
    /// Where it is full: the requests that it has.
    pub in_flight: Option<u32>,
}
