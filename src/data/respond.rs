//! Layer 2: the balancer's own responses.

use super::context::Context;
use super::download::Download;
use super::meta::Meta;
use super::route::Response;
use super::upstream;
use crate::base::ids::PoolId;
use crate::http1::challenge;
use crate::http1::framing::Asked;
use crate::http1::head::RequestHead;
use crate::http1::reason::Reason;
use crate::http1::reply::{self, Fixed, LastHop, Reply};
use crate::state::guard::Rejected;
use crate::state::table::View;

/// Tells the client why there is no server's response, as the configuration of `view` has it. `of`: the pool that would have
/// served it, and its route.
pub fn rejection(
    download: &mut Download,
    rejected: &Rejected,
    meta: &Meta,
    keeps: bool,
    (pool, route): (PoolId, Option<usize>),
    view: &View,
    cx: &mut Context,
) {
    cx.refresh_date();
    let reason = rejected.reason;
    let mut digits = [0; 32];
    let pages = view.live.guard(route).error_pages();
    let is_empty = reason == Reason::NoServer && upstream::pool(cx.view(), view, pool).count == 0;
    let reply = Reply {
        reason,
        request_id: meta.trace.bytes(&mut digits),
        form: meta.form,
        page: pages.and_then(|pages| pages.page(reason, is_empty)),
        details: pages.is_some_and(|pages| pages.details),
        head_only: meta.asked == Asked::Head,
        keep_alive: keeps,
        date: &cx.date.1,
        retry_after: u32::try_from(challenge::seconds(rejected.retry_after)).unwrap_or(u32::MAX),
        lines: &rejected.lines,
    };
    download.replace(reason.status(), keeps, |out| reply::write(&reply, out));
}

/// Responds as a route says.
pub fn fixed(download: &mut Download, response: &Response, meta: &Meta, keeps: bool, cx: &mut Context) {
    cx.refresh_date();
    let reply = Fixed {
        status: response.status,
        headers: &response.headers,
        body: &response.body,
        head_only: meta.asked == Asked::Head,
        keep_alive: keeps,
        date: &cx.date.1,
    };
    download.replace(response.status, keeps, |out| reply::fixed(&reply, out));
}

/// Responds in place of a server where Max-Forwards has run out (RFC 9110 section 7.6.2).
pub fn last_hop(download: &mut Download, head: &RequestHead<'_, '_>, keeps: bool, cx: &mut Context) {
    cx.refresh_date();
    let how = LastHop { keep_alive: keeps, date: &cx.date.1 };
    download.replace(200, keeps, |out| reply::last_hop(head, &how, out));
}
