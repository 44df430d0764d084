//! Layer 2, towards the client: a response, interim and final heads and body, streamed in constant memory as it comes.

mod body;
mod context;
mod head;
mod send;
mod told;

pub use context::{Downloaded, ResponseContext, StreamEnd};
pub use told::Copied;

use super::client::Client;
use super::context::Scratch;
use super::failure::Failure;
use super::socket::Then;
use super::splice::Pipe;
use super::transport::Stream;
use crate::base::time::Moment;
use crate::http1::body::Body;
use crate::http1::encoding::Encoder;
use crate::http1::event_stream::Events;
use crate::http1::framing::Framing;
use told::Told;

/// A response on its way.
#[derive(Debug)]
pub struct Download {
    /// What has come of it in this attempt.
    pub incoming: Incoming,
    /// Interim responses since the request moved last: their bytes, and when the first of them was whole.
    interim_bytes: usize,
    interim_since: Moment,
    /// The final head is out, or kept for a client that takes it later.
    begun: bool,
    to_client: Framing,
    server_keeps: bool,
    client_keeps: bool,
    /// The server switched to WebSocket.
    websocket: bool,
    /// What the server said to us, if anything.
    told: Option<Box<Told>>,
    /// What the client was to get, of which `sent` bytes are out.
    out: Vec<u8>,
    sent: usize,
    /// Bytes of a long body that the client has not taken yet.
    pipe: Option<Pipe>,
    /// Bytes that were sent to the client, heads included.
    bytes: u64,
    /// Those of them, sent or to be sent, that are heads.
    head_bytes: u64,
}

/// What has come of a response in one attempt.
#[derive(Debug)]
pub struct Incoming {
    /// A head, as far as it has come.
    head: Vec<u8>,
    /// When its first byte came.
    head_since: Option<Moment>,
    /// The head that is here as a whole is the client's, though its status is one to be tried elsewhere.
    is_final_try: bool,
    status: u16,
    /// The server responds as HTTP/1.0.
    http10: bool,
    /// The body as it comes from the server; none before the final head.
    body: Option<Body>,
    /// For a body that is encoded on its way.
    encoder: Option<Box<Encoder>>,
    /// For an event stream.
    events: Option<Events>,
    /// When bytes moved last, from the server or to the client.
    pub moved_at: Moment,
}

impl Incoming {
    /// Nothing has come yet.
    pub fn none(now: Moment) -> Self {
        Incoming {
            head: Vec::new(),
            head_since: None,
            is_final_try: false,
            status: 0,
            http10: false,
            body: None,
            encoder: None,
            events: None,
            moved_at: now,
        }
    }
}

impl Download {
    /// Nothing has come yet. `out` is an empty buffer.
    pub fn new(out: Vec<u8>, now: Moment) -> Self {
        Download {
            incoming: Incoming::none(now),
            interim_bytes: 0,
            interim_since: Moment::NEVER,
            begun: false,
            to_client: Framing::None,
            server_keeps: false,
            client_keeps: false,
            websocket: false,
            told: None,
            out,
            sent: 0,
            pipe: None,
            bytes: 0,
            head_bytes: 0,
        }
    }

    /// A new attempt: nothing of this server's response has come.
    pub fn begin_attempt(&mut self, now: Moment) {
        self.incoming = Incoming::none(now);
    }

    /// Changes places with another attempt, in which no final head has come either.
    pub fn swap_attempt(&mut self, other: &mut Incoming) {
        std::mem::swap(&mut self.incoming, other);
    }

    /// After [`Downloaded::Retriable`]: no other server is tried, and the response is the client's.
    pub fn accept(&mut self) {
        self.incoming.is_final_try = true;
    }

    /// Bytes went to the client, or are to go.
    pub fn has_sent(&self) -> bool {
        self.bytes > 0 || self.has_unsent()
    }

    /// Something of a server's response is for the client, be it an interim one.
    fn has_passed_on(&self) -> bool {
        self.head_bytes > 0
    }

    /// Something of a response has come, or interim ones went to the client.
    pub fn has_incoming(&self) -> bool {
        self.begun || self.incoming.head_since.is_some() || self.has_passed_on()
    }

    /// The final response has begun: its head is on its way to the client.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Its status; 0 before it has begun.
    pub fn status(&self) -> u16 {
        self.incoming.status
    }

    /// The server responds as HTTP/1.0.
    pub fn is_http10(&self) -> bool {
        self.incoming.http10
    }

    /// Since when a head is coming that is not complete.
    pub fn head_since(&self) -> Option<Moment> {
        self.incoming.head_since
    }

    /// The server has sent all of it.
    pub fn is_received(&self) -> bool {
        self.incoming.body.as_ref().is_some_and(Body::is_done)
    }

    /// No byte of a body has come, and none is announced.
    pub fn is_empty(&self) -> bool {
        self.incoming.body.as_ref().is_none_or(Body::is_empty)
    }

    /// The server has sent all of it, and the client has taken all of it.
    pub fn is_done(&self) -> bool {
        self.is_received() && !self.has_unsent()
    }

    /// Something was received that the client has not taken yet.
    pub fn has_unsent(&self) -> bool {
        self.sent < self.out.len() || self.pipe.is_some()
    }

    /// Bytes that were sent to the client, heads included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The client's connection stays, as its head says.
    pub fn client_keeps(&self) -> bool {
        self.client_keeps
    }

    /// The server's connection may carry another request when both bodies are done.
    pub fn server_keeps(&self) -> bool {
        self.server_keeps
    }

    /// The server's connection carries no other request, whatever the response says.
    pub fn give_server_up(&mut self) {
        self.server_keeps = false;
    }

    /// Only the close tells the client where the body ends.
    pub fn is_until_close(&self) -> bool {
        self.to_client == Framing::UntilClose
    }

    /// The request moved: further interim responses may follow.
    pub fn request_moved(&mut self) {
        (self.interim_bytes, self.interim_since) = (0, Moment::NEVER);
    }

    /// Since when interim responses come although the request does not move; [`Moment::NEVER`] while none has come.
    pub fn interim_since(&self) -> Moment {
        self.interim_since
    }

    /// Takes a response of our own, in place of a server's. The connection to the client stays if `keeps`.
    pub fn replace(&mut self, status: u16, keeps: bool, write: impl FnOnce(&mut Vec<u8>)) {
        self.pipe = None;
        let start = self.out.len();
        write(&mut self.out);
        let end = memchr::memmem::find(&self.out[start..], b"\r\n\r\n");
        self.head_bytes += end.map_or(0, |end| end as u64 + 4);
        (self.incoming.status, self.client_keeps, self.server_keeps) = (status, keeps, false);
        (self.to_client, self.incoming.body, self.begun) =
            (Framing::None, Some(Body::new(Framing::None)), true);
    }

    /// A response of our own does not go out after all.
    pub fn forget(&mut self) {
        self.incoming.status = 0;
    }

    /// Bytes to the client that were no heads, so far.
    pub fn body_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.head_bytes)
    }

    /// Gives its buffer back; what is in it stays unsent.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// After [`Downloaded::Upgraded`]: what the client has not taken of the head, and what the server sent behind it, with
    /// the position of the latter.
    pub fn take_rest(&mut self) -> (Vec<u8>, usize) {
        let mut rest = self.out.split_off(self.sent);
        let from = rest.len();
        rest.append(&mut self.incoming.head);
        (rest, from)
    }

    /// After [`Downloaded::Upgraded`]: the other protocol is WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.websocket
    }

    /// Its body is an event stream, which may end wherever an event does.
    pub fn is_event_stream(&self) -> bool {
        self.incoming.events.is_some()
    }

    /// Moves what can be moved: what is here to the client, then what the server has sent.
    pub fn advance(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        scratch: &mut Scratch,
        context: &ResponseContext<'_>,
        now: Moment,
    ) -> Result<Downloaded, Failure> {
        // A step that failed may have left bytes of another exchange there (invariant 12).
        scratch.reply.clear();
        let mut moved = self.flush(client, self.then(context), &mut scratch.pipes)?;
        if !self.has_unsent() && !self.is_received() {
            let step = match &self.incoming.body {
                None => self.receive_head(client, server, scratch, context, now)?,
                Some(_) if self.may_end(context) => {
                    self.pass_on(client, scratch, context, 0..0)?;
                    Downloaded::Moved(1)
                }
                Some(body) if self.splices(body, client, server) && scratch.pipes.has_one() => {
                    Downloaded::Moved(self.splice(client, server, &mut scratch.pipes)?)
                }
                Some(_) => Downloaded::Moved(self.receive_body(client, server, scratch, context)?),
            };
            match step {
                Downloaded::Moved(count) => moved += count,
                Downloaded::Upgraded | Downloaded::Authorized | Downloaded::Error | Downloaded::Retriable => {
                    self.incoming.moved_at = now;
                    return Ok(step);
                }
            }
        }
        if moved > 0 {
            self.incoming.moved_at = now;
        }
        Ok(Downloaded::Moved(moved))
    }

    /// What follows the last bytes of the response.
    fn then(&self, context: &ResponseContext<'_>) -> Then {
        let is_end = self.is_received() && !self.client_keeps && context.request_done;
        if is_end { Then::End } else { Then::Open }
    }
}

#[cfg(test)]
mod tests {
    use super::super::poller::{Ready, Side, Token};
    use super::super::simulation::Wire;
    use super::super::socket::Socket;
    use super::super::transport::Transport;
    use super::super::upload::Upload;
    use super::*;
    use crate::base::limits::Descriptors;
    use crate::http1::framing::Method;
    use crate::http1::head::{Limits, Version};
    use crate::http1::reason::Reason;
    use std::io::{IoSlice, Read, Write};
    use std::net::{TcpListener, TcpStream};

    const CONTEXT: ResponseContext<'_> = ResponseContext {
        method: Method::Other,
        version: Version::Http11,
        upgrade: None,
        request_done: true,
        copies: None,
        passes_errors_over: false,
        retries_on: None,
        pages: None,
        may_keep: true,
        pseudonym: "p",
        edits: None,
        served_by: None,
        date: "d",
        request_id: None,
        lines: b"",
        session: b"",
        learns: None,
        load_metric: None,
        compression: None,
        has_weak_tag: false,
        stream_end: None,
        limits: &Limits { head: 4096, headers: 10, uri: 100, trace: false },
        reused: false,
    };

    /// A response on its way: the balancer's ends, the far ends of client and server.
    struct Relayed {
        download: Download,
        client: Client,
        server: Stream,
        far_client: Wire,
        far_server: Wire,
    }

    impl Relayed {
        fn new() -> Self {
            let ((near_client, far_client), (near_server, far_server)) = (Wire::pair(1000), Wire::pair(1000));
            let stream = |side, wire| Stream::new(Transport::Simulated(wire), Token::new(side, 1, 1));
            Relayed {
                download: Download::new(Vec::new(), Moment::START),
                client: Client { stream: stream(Side::Client, near_client), input: Vec::new() },
                server: stream(Side::Server, near_server),
                far_client,
                far_server,
            }
        }

        /// The server sends this, and one step is made with the worker's buffers.
        fn step(&mut self, bytes: &str, scratch: &mut Scratch) -> Result<Downloaded, Failure> {
            self.step_to(bytes, scratch, None)
        }

        /// The same, where an event stream is to end.
        fn step_to(
            &mut self,
            bytes: &str,
            scratch: &mut Scratch,
            stream_end: Option<StreamEnd>,
        ) -> Result<Downloaded, Failure> {
            if !bytes.is_empty() {
                self.far_server.send(&[IoSlice::new(bytes.as_bytes())]).unwrap();
            }
            self.far_server.shared().lock().deliver(1, bytes.len());
            self.server.notify(Ready { readable: true, ..Default::default() });
            let context = ResponseContext { stream_end, ..CONTEXT };
            self.download.advance(&mut self.client, &mut self.server, scratch, &context, Moment::START)
        }

        /// What has reached the client.
        fn received(&mut self) -> String {
            self.far_client.shared().lock().deliver(0, 1000);
            let mut bytes = vec![0; 1000];
            let count = self.far_client.recv(&mut bytes).unwrap_or(0);
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        }
    }

    #[test]
    fn an_event_stream_ends_behind_an_event_or_behind_what_has_come() {
        const HEAD: &str =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let check = |end, pieces: &[&str], expected: &str| {
            let (mut relayed, mut scratch) = (Relayed::new(), Scratch::new(8192, Descriptors::ALL));
            relayed.step(&format!("{HEAD}3\r\na\n\n\r\n2\r\nb:\r\n"), &mut scratch).unwrap();
            relayed.received();
            pieces.iter().for_each(|piece| _ = relayed.step_to(piece, &mut scratch, Some(end)).unwrap());
            assert_eq!(relayed.received(), expected, "{end:?} {pieces:?}");
            assert_eq!(relayed.download.is_done(), expected.ends_with("0\r\n\r\n"));
            assert!(!relayed.download.server_keeps() || !relayed.download.is_done());
        };
        check(StreamEnd::Now, &[""], "0\r\n\r\n");
        check(StreamEnd::AfterEvent, &[""], "");
        check(StreamEnd::AfterEvent, &["1\r\n1\r\n"], "1\r\n1\r\n");
        check(StreamEnd::AfterEvent, &["5\r\n1\n\nc:\r\n"], "3\r\n1\n\n\r\n0\r\n\r\n");
        check(StreamEnd::AfterEvent, &["2\r\n1\n\r\n", "2\r\n\nc\r\n"], "2\r\n1\n\r\n1\r\n\n\r\n0\r\n\r\n");
    }

    #[test]
    fn what_a_client_that_left_did_not_take_goes_to_no_other() {
        let (mut gone, mut other, mut scratch) =
            (Relayed::new(), Relayed::new(), Scratch::new(8192, Descriptors::ALL));
        for relayed in [&mut gone, &mut other] {
            relayed.step("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n01234", &mut scratch).unwrap();
        }
        other.received();
        // The client leaves, and no event has told of it when the next piece is sent.
        let Relayed { far_client, .. } = &mut gone;
        far_client.reset_on_close();
        drop(std::mem::replace(far_client, Wire::pair(0).0));
        let failure = gone.step("SECRET", &mut scratch).unwrap_err();
        assert_eq!(failure.reason, Reason::ClientGone);
        other.step("56789", &mut scratch).unwrap();
        assert_eq!(other.received(), "56789");
    }

    /// A connection: the balancer's end, and the far one.
    fn connection(side: Side) -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = Socket::connect(&listener.local_addr().unwrap()).unwrap();
        (Stream::new(Transport::Plain(near), Token::new(side, 1, 1)), listener.accept().unwrap().0)
    }

    #[test]
    fn without_descriptors_for_a_pipe_long_bodies_are_copied() {
        let (stream, mut far_client) = connection(Side::Client);
        let (mut server, mut far_server) = connection(Side::Server);
        let (mut client, mut scratch) =
            (Client { stream, input: Vec::new() }, Scratch::new(8192, Descriptors::NONE));
        let now = Moment::START;
        let mut download = Download::new(Vec::new(), now);
        let body = Body::new(Framing::Length(1 << 20));
        let mut upload = Upload::new(b"POST / HTTP/1.1\r\n\r\n".to_vec(), body, false, None, now);
        let ready = Ready { readable: true, ..Ready::default() };
        far_server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n").unwrap();
        for _ in 0..2 {
            far_server.write_all(b"down").unwrap();
            far_client.write_all(b"up").unwrap();
            client.stream.notify(ready);
            server.notify(ready);
            upload.advance(&mut client, &mut server, &mut scratch, false, now).unwrap();
            download.advance(&mut client, &mut server, &mut scratch, &CONTEXT, now).unwrap();
        }
        for (far, end) in [(&mut far_client, "downdown"), (&mut far_server, "upup")] {
            far.set_nonblocking(true).unwrap();
            let mut got = [0; 8192];
            let count = far.read(&mut got).unwrap();
            assert!(got[..count].ends_with(end.as_bytes()), "{:?}", String::from_utf8_lossy(&got[..count]));
        }
    }
}
