//! The heads of a response as they come from the server: which of them are the client's, and what is to be done about the
//! others.

use super::{Download, Downloaded, ResponseContext};
use crate::base::time::Moment;
use crate::data::client::Client;
use crate::data::context::Scratch;
use crate::data::failure::Failure;
use crate::data::socket::Then;
use crate::data::transport::{Moved, Stream};
use crate::http1::body::Body;
use crate::http1::encoding::{self, Coding, Encoder};
use crate::http1::event_stream::{self, Events};
use crate::http1::forward::{self, ResponseHop};
use crate::http1::framing::{Framing, Method};
use crate::http1::head::{self, Parsed, ResponseHead, Version};
use crate::http1::names::Name;
use crate::http1::reason::Reason;
use crate::http1::reply;
use std::ops::Range;

/// What a look at the server's bytes found.
enum Found {
    Part,
    /// So many bytes that mean nothing.
    Nothing(usize),
    /// An interim response of this length; the head for the client is in `reply`, which may be empty.
    Interim(usize),
    /// The final head, of this length; that for the client is in `reply`.
    Final(usize),
    /// The same, of a response of which a page takes the place of the body: it is in `reply` behind the head, so long.
    Page {
        len: usize,
        page: usize,
    },
    /// The final head, of this length, of a response that lets the request pass.
    Authorized(usize),
    /// An error that is not passed on.
    Error,
    /// The head, of this length, of an error that is not passed on if another server can be tried.
    Retriable(usize),
}

impl Download {
    /// More of a head; interim responses are passed on. The bytes that moved are those received.
    pub(super) fn receive_head(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        scratch: &mut Scratch,
        context: &ResponseContext<'_>,
        now: Moment,
    ) -> Result<Downloaded, Failure> {
        let before = self.incoming.head.len();
        let Some(count) = self.receive(server, scratch)? else { return Ok(Downloaded::Moved(0)) };
        self.incoming.head_since.get_or_insert(now);
        let (mut start, end) = (0, before + count);
        while start < end {
            match self.classify(scratch, start..end, context)? {
                Found::Part => {
                    if end - start == scratch.body.len() {
                        return Err(Failure::last(Reason::ResponseHeadTooLarge));
                    }
                    self.incoming.head.extend_from_slice(&scratch.body[start..end]);
                    break;
                }
                Found::Nothing(len) => start += len,
                Found::Interim(len) => {
                    start += len;
                    self.interim_since = self.interim_since.min(now);
                    self.pass_interim_on(len, client, scratch, context)?;
                }
                Found::Final(len) if self.incoming.status == 101 => {
                    self.incoming.head.extend_from_slice(&scratch.body[start + len..end]);
                    self.send_reply(client, &mut scratch.reply, Then::Open)?;
                    return Ok(Downloaded::Upgraded);
                }
                Found::Final(len) => {
                    self.incoming.head_since = None;
                    self.head_bytes += scratch.reply.len() as u64;
                    self.begin_body(client, server, scratch, context, start + len..end)?;
                    break;
                }
                Found::Page { len, page } => {
                    self.drop_body(&scratch.body[start + len..end], context);
                    (self.incoming.head_since, self.incoming.body) = (None, Some(Body::new(Framing::None)));
                    self.head_bytes += (scratch.reply.len() - page) as u64;
                    self.pass_on(client, scratch, context, 0..0)?;
                    break;
                }
                Found::Authorized(len) => {
                    self.end_question(&mut scratch.body[start + len..end]);
                    return Ok(Downloaded::Authorized);
                }
                Found::Error => return Ok(Downloaded::Error),
                Found::Retriable(len) => {
                    self.drop_body(&scratch.body[start + len..end], context);
                    self.incoming.head.extend_from_slice(&scratch.body[start..end]);
                    return Ok(Downloaded::Retriable);
                }
            }
        }
        Ok(Downloaded::Moved(count))
    }

    /// What is here of a head is in `scratch.body` now, with what has come behind it: so many bytes; `None`: nothing has.
    fn receive(&mut self, server: &mut Stream, scratch: &mut Scratch) -> Result<Option<usize>, Failure> {
        let here = self.incoming.head.len();
        scratch.body[..here].copy_from_slice(&self.incoming.head);
        let count = match self.incoming.is_final_try {
            true => 0,
            false => match server.recv(&mut scratch.body[here..]) {
                Ok(Moved::Bytes(count)) => count,
                Ok(Moved::Blocked) => return Ok(None),
                Ok(Moved::End) | Err(_) if here == 0 => return Err(Failure::RESET),
                Ok(Moved::End) | Err(_) => return Err(Failure::CUT),
            },
        };
        self.incoming.head.clear();
        Ok(Some(count))
    }

    /// An interim response of this length; what the client gets of it is in `reply`. While the request does not move, all of them
    /// together may be as long as a head.
    fn pass_interim_on(
        &mut self,
        len: usize,
        client: &mut Client,
        scratch: &mut Scratch,
        context: &ResponseContext<'_>,
    ) -> Result<(), Failure> {
        self.incoming.head_since = None;
        self.interim_bytes += len;
        // Some for each phase of the request, and no stream of them (golang/go#65035 has what a bound by number did to resumable
        // uploads).
        if self.interim_bytes > context.limits.head {
            return Err(Failure::last(Reason::BadResponse));
        }
        self.head_bytes += scratch.reply.len() as u64;
        self.send_reply(client, &mut scratch.reply, Then::Open)
    }

    /// The request may pass. What comes later of the response's body, or behind it, is not waited for.
    fn end_question(&mut self, rest: &mut [u8]) {
        let consumed = self.incoming.body.as_mut().and_then(|body| Some(body.compact(rest).ok()?.0));
        let is_done = self.incoming.body.as_ref().is_some_and(Body::is_done);
        self.server_keeps &= is_done && consumed == Some(rest.len());
    }

    /// The body of this response goes to no client. Its connection may be kept if all of it is here.
    fn drop_body(&mut self, here: &[u8], context: &ResponseContext<'_>) {
        let mut here = here.to_vec();
        let consumed = self.incoming.body.take().and_then(|mut body| {
            let consumed = body.compact(&mut here).ok()?.0;
            body.is_done().then_some(consumed)
        });
        self.server_keeps &= consumed == Some(here.len()) && context.request_done;
    }

    /// What these bytes begin with, if they are a head, and what the client gets of it in `reply`.
    fn classify(
        &mut self,
        scratch: &mut Scratch,
        span: Range<usize>,
        context: &ResponseContext<'_>,
    ) -> Result<Found, Failure> {
        let bytes = &scratch.body[span];
        if context.reused && bytes.starts_with(b"\r\n") {
            return Ok(Found::Nothing(2));
        }
        let parsed = head::response(bytes, context.method, context.limits, &mut scratch.slots);
        let head = match parsed.map_err(Failure::last)? {
            Parsed::Partial => return Ok(Found::Part),
            Parsed::Complete(head) => head,
        };
        scratch.reply.clear();
        // Another protocol begins behind the request, and only one that was asked for (RFC 9110 sections 7.8, 15.2.2).
        let is_asked_for = || context.upgrade.is_some_and(|offer| offer.has_all(&head.fields));
        if head.status == 101 && !(context.request_done && is_asked_for()) {
            return Err(Failure::last(Reason::BadResponse));
        }
        if head.status < 200 && head.status != 101 {
            // An HTTP/1.0 client knows no interim responses (RFC 9110 section 15.2).
            if context.version == Version::Http11 && context.copies.is_none() {
                let hop = context.hop(framing_for(context.version, &head), false);
                forward::response(&head, &hop, &mut scratch.reply);
            }
            return Ok(Found::Interim(head.len));
        }
        (self.incoming.status, self.incoming.http10) = (head.status, head.version == Version::Http10);
        let is_retriable = context.retries_on.is_some_and(|statuses| statuses.has(head.status));
        if context.passes_errors_over && (head.status >= 500 || is_retriable) {
            return Ok(Found::Error);
        }
        (self.incoming.body, self.server_keeps) = (Some(head.body()), head.keep_alive);
        if is_retriable && !self.incoming.is_final_try && !self.has_passed_on() {
            return Ok(Found::Retriable(head.len));
        }
        if let Some(auth) = context.copies.filter(|_| (200..300).contains(&head.status)) {
            self.copy(&head, auth);
            return Ok(Found::Authorized(head.len));
        }
        Ok(self.begin_final(&head, context, &mut scratch.reply))
    }

    /// The response is the client's: writes its head.
    fn begin_final(
        &mut self,
        head: &ResponseHead<'_, '_>,
        context: &ResponseContext<'_>,
        reply: &mut Vec<u8>,
    ) -> Found {
        let mut page = Vec::new();
        let page_type = context
            .pages
            .and_then(|(pages, form, id)| Some((pages.instead_of(head.status)?, form, id)))
            .map(|(instead, form, id)| reply::instead(head.status, form, instead, id, &mut page));
        let compressed = self.compress(head, context, page_type.is_some());
        self.to_client = match page_type {
            Some(_) => Framing::Length(page.len() as u64),
            None if self.incoming.encoder.is_some() => Framing::Chunked,
            None => framing_for(context.version, head),
        };
        self.client_keeps = context.may_keep && context.request_done && self.to_client != Framing::UntilClose;
        let hop = ResponseHop {
            page: page_type,
            coding: compressed.coding,
            weakens_tag: compressed.weakens_tag,
            varies: compressed.varies,
            ..context.hop(self.to_client, self.client_keeps)
        };
        forward::response(head, &hop, reply);
        self.note_told(head, context);
        if page_type.is_some() {
            self.incoming.events = None;
            let written = if context.method == Method::Head { &[] } else { &page[..] };
            reply.extend_from_slice(written);
            return Found::Page { len: head.len, page: written.len() };
        }
        let is_endless = matches!(head.framing, Framing::Chunked | Framing::UntilClose);
        let is_stream = is_endless && event_stream::is_event_stream(&head.fields);
        self.incoming.events = is_stream.then(Events::default);
        self.websocket = head.status == 101
            && head.fields.values(Name::Upgrade).any(|value| value.eq_ignore_ascii_case(b"websocket"));
        Found::Final(head.len)
    }

    /// Whether its body is encoded on its way, and what its head says of that. Not that of a page, which is ours.
    fn compress(
        &mut self,
        head: &ResponseHead<'_, '_>,
        context: &ResponseContext<'_>,
        is_page: bool,
    ) -> Compressed {
        self.incoming.encoder = None;
        let Some((compression, taken)) = context.compression else { return Compressed::default() };
        let suits = head.status >= 200 && !is_page && compression.suits(head, context.method);
        let renews = compression.renews(head);
        let coding = taken.filter(|_| encoding::may_encode(suits, context.method, context.version));
        // Without memory for it the body is sent as it is.
        self.incoming.encoder = coding.and_then(|coding| Encoder::new(coding).ok().map(Box::new));
        Compressed {
            coding: coding.filter(|_| self.incoming.encoder.is_some()),
            weakens_tag: renews && context.has_weak_tag && taken.is_some(),
            varies: (suits || renews) && !encoding::is_varied(&head.fields),
        }
    }
}

/// What compression changes in a head.
#[derive(Default)]
struct Compressed {
    /// The body is sent in it.
    coding: Option<Coding>,
    /// It says that what was sent in a coding is still good.
    weakens_tag: bool,
    /// Caches are told that the coding depends on what the client accepts.
    varies: bool,
}

/// A length that the server declared is passed on; a body that ends by chunks or by closing becomes chunks, or a close
/// for HTTP/1.0.
fn framing_for(client: Version, head: &ResponseHead<'_, '_>) -> Framing {
    match (head.framing, client) {
        (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
        (known, _) => known,
    }
}
