//! What a step of a response depends on, and how it ends.

use crate::http1::encoding::{Coding, Compression};
use crate::http1::forward::{Edits, ResponseHop};
use crate::http1::framing::{Framing, Method};
use crate::http1::head::{Limits, Version};
use crate::http1::page::Form;
use crate::http1::upgrade::Offer;
use crate::policy::orca::Metric;
use crate::policy::statuses::Statuses;
use crate::state::config::guards::{ErrorPages, ForwardAuth};
use crate::state::session::Sessions;

/// What the response to a request depends on.
#[derive(Clone, Copy)]
pub struct ResponseContext<'a> {
    /// The request's method, as far as framing cares.
    pub method: Method,
    /// The client's version.
    pub version: Version,
    /// The protocols that the client offers to switch to, if any.
    pub upgrade: Option<&'a Offer>,
    /// The request was received and sent as a whole.
    pub request_done: bool,
    /// The server is asked whether a request may pass. With 2xx it may, and the headers that are named here are copied.
    /// Every other response is the client's.
    pub copies: Option<&'a ForwardAuth>,
    /// The client's connection may stay, if the response allows it.
    pub may_keep: bool,
    /// Our name in `Via`.
    pub pseudonym: &'a str,
    /// What its route changes in the headers.
    pub edits: Option<&'a dyn Edits>,
    /// `X-Served-By`.
    pub served_by: Option<&'a str>,
    /// For a response without one.
    pub date: &'a str,
    /// `X-Request-Id`, in the place of the server's.
    pub request_id: Option<&'a [u8]>,
    /// Further header lines, each with its line end.
    pub lines: &'a [u8],
    /// The `Set-Cookie` line of the client's session.
    pub session: &'a [u8],
    /// The cookie of the servers that is learned, and what makes keys of its values.
    pub learns: Option<(&'a str, &'a Sessions)>,
    /// What of the server's load metrics counts, and whether it is read now; where that is `None`, the header is as any other.
    pub load_metric: Option<(&'a Metric, bool)>,
    /// Which responses are compressed, and the coding that this client takes.
    pub compression: Option<(&'a Compression, Option<Coding>)>,
    /// The client asks by a weak tag.
    pub has_weak_tag: bool,
    /// Another attempt waits for a response, too: one with a status of 500 or more is not passed on.
    pub passes_errors_over: bool,
    /// Statuses with which a response is passed on only if no other server can be tried.
    pub retries_on: Option<&'a Statuses>,
    /// The pages that take the place of servers' bodies, the form that the client wants, and the request's id.
    pub pages: Option<(&'a ErrorPages, Form, &'a [u8])>,
    /// An event stream is to end.
    pub stream_end: Option<StreamEnd>,
    /// Bounds for heads.
    pub limits: &'a Limits,
    /// The connection carried a response before: a line break may be left of that (RFC 9112 section 2.2 is about
    /// requests; servers do it, too).
    pub reused: bool,
}

impl<'a> ResponseContext<'a> {
    /// What the head for the client says besides what the server's does; of a response that is not compressed and has no page
    /// in its place.
    pub(super) fn hop(&self, framing: Framing, keep_alive: bool) -> ResponseHop<'a> {
        ResponseHop {
            client: self.version,
            framing,
            keep_alive,
            pseudonym: self.pseudonym,
            served_by: self.served_by,
            hides_load_metrics: self.load_metric.is_some(),
            date: self.date,
            request_id: self.request_id,
            coding: None,
            page: None,
            weakens_tag: false,
            varies: false,
            lines: self.lines,
            session: self.session,
            edits: self.edits,
        }
    }
}

/// Where an event stream that is to end does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Behind a whole event.
    AfterEvent,
    /// Behind what has come.
    Now,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downloaded {
    /// So many bytes moved; with 0 it waits for the server or the client.
    Moved(usize),
    /// The server switched protocols, and its 101 is out: what else it sent is here.
    Upgraded,
    /// The server lets the request pass: the headers to be copied are in [`Download::take_copied`](super::Download::take_copied).
    Authorized,
    /// An error, which another attempt may do better than.
    Error,
    /// An error, for which another server may be tried: see [`Download::accept`](super::Download::accept).
    Retriable,
}
