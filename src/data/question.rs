//! Layer 2: the request that asks a pool whether another request may pass (`forward_auth`).

use super::context::Context;
use super::meta::Incoming;
use super::route::{MatchedRoute, To, prepare};
use crate::base::ids::PoolId;
use crate::http1::fields::Fields;
use crate::http1::forward::{Change, Edits, Rewritten};
use crate::http1::head::RequestHead;
use crate::http1::names::is_same_dashed;
use crate::http1::reason::Reason;

/// A request whether another one may pass.
#[derive(Debug)]
pub struct Question {
    /// The whole of it.
    pub head: Vec<u8>,
    /// Where it goes.
    pub pool: PoolId,
}

/// The head that asks a pool whether a request may pass, and that pool; where its guards want that.
pub fn question(
    incoming: &Incoming<'_>,
    matched: Option<&MatchedRoute>,
    cx: &mut Context,
) -> Result<Option<Question>, Reason> {
    let Incoming { head, view, .. } = *incoming;
    let route = matched.map(|matched| matched.index);
    let Some(auth) = view.live.guard(route).forward_auth() else { return Ok(None) };
    let mut out = cx.buffers.take();
    let edits = QuestionEdits { head, origin: matched.map_or(&[], |matched| &matched.origin) };
    let to = To { pool: auth.pool, rewritten: Rewritten::default(), edits: Some(&edits) };
    let asking = head.as_question(auth.path.as_bytes());
    prepare(&Incoming { head: &asking, ..*incoming }, &to, cx, &mut out)?;
    Ok(Some(Question { head: out, pool: auth.pool }))
}

/// What changes in the headers for the pool that is asked: it is to judge the request itself, not whether a cache is fresh.
struct QuestionEdits<'a, 's, 'b> {
    head: &'a RequestHead<'s, 'b>,
    /// What the route says of where the request came from.
    origin: &'a [u8],
}

/// Headers that the question has of its own, or not at all.
const DROPPED: [&str; 8] = [
    "x-forwarded-method",
    "x-forwarded-uri",
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
];

fn is_dropped(name: &[u8]) -> bool {
    DROPPED.iter().any(|dropped| is_same_dashed(name, dropped.as_bytes()))
}

impl<'a> QuestionEdits<'a, '_, '_> {
    /// The lines of the route, by name.
    fn of_route(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let lines = self.origin.split_inclusive(|byte| *byte == b'\n');
        let named = lines.map(|line| (line.split(|byte| *byte == b':').next().unwrap_or(line), line));
        named.filter(|(name, _)| !is_dropped(name))
    }
}

impl Edits for QuestionEdits<'_, '_, '_> {
    fn change(&self, name: &[u8]) -> Change {
        if is_dropped(name) || self.sets(name) { Change::Drop } else { Change::Keep }
    }

    fn sets(&self, name: &[u8]) -> bool {
        self.of_route().any(|(known, _)| is_same_dashed(known, name))
    }

    fn append_replaced(&self, _name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(value);
    }

    fn append(&self, _fields: &Fields<'_, '_>, out: &mut Vec<u8>) {
        let head = self.head;
        let slash: &[u8] = if head.slash_first { b"/" } else { b"" };
        let parts =
            [b"X-Forwarded-Method: ", head.method, b"\r\nX-Forwarded-Uri: ", slash, head.target, b"\r\n"];
        parts.iter().for_each(|part| out.extend_from_slice(part));
        self.of_route().for_each(|(_, line)| out.extend_from_slice(line));
    }
}
