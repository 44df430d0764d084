//! Layer 2: the balancer's own responses.

use super::context::Context;
use super::download::Download;
use super::meta::Meta;
use super::route::Response;
use crate::base::ids::TraceId;
use crate::http1::framing::Asked;
use crate::http1::head::RequestHead;
use crate::http1::reason::Reason;
use crate::http1::reply::{self, Fixed, LastHop, Reply};

/// Seconds after which a client may try again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Tells the client why there is no server's response.
pub fn rejection(download: &mut Download, reason: Reason, meta: &Meta, keeps: bool, cx: &mut Context) {
    cx.refresh_date();
    let digits = meta.id.digits();
    let reply = Reply {
        reason,
        request_id: match &meta.trace {
            TraceId::Client(id) => id,
            TraceId::Ours(_) => &digits,
        },
        json: meta.json,
        head_only: meta.asked == Asked::Head,
        keep_alive: keeps,
        date: &cx.date.1,
        retry_after: RETRY_AFTER_SECONDS,
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
