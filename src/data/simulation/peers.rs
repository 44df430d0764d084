//! The two ends of the simulated network: clients that know what they asked for, and servers that say what they got. They
//! read heads with httparse and bodies on their own, so that framing is judged by a second reader.

use super::Wire;
use crate::base::random::Random;
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};

/// The most that a peer receives at once.
const ROOM: usize = 5000;

/// How far a peer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// Bytes moved, or something else changed.
    On,
    /// Nothing can be done until the other side does something.
    Nowhere,
    /// It is done with.
    Over,
}

/// A message that was read, or is being read.
#[derive(Debug, Default)]
pub(super) struct Message {
    buffer: Vec<u8>,
    head: Option<Head>,
    body: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Head {
    /// Method and target, or the status.
    line: String,
    id: String,
    length: Option<usize>,
    chunked: bool,
    /// Only a close ends the body.
    until_close: bool,
    close: bool,
}

/// What a look at a message found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// More is to come.
    Part,
    /// It is whole: its first line, its id, its body, and whether the connection closes behind it.
    Whole { line: String, id: String, body: Vec<u8>, close: bool },
    /// It is not HTTP.
    Broken(String),
}

impl Message {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.head.is_none()
    }

    /// The id of the request whose head is here.
    pub(super) fn id(&mut self) -> Option<String> {
        let _ = self.read_head(None);
        self.head.as_ref().map(|head| head.id.clone())
    }

    /// Reads on. `bodiless` and `ended` are about responses: to HEAD, and when the peer has closed.
    pub(super) fn read(&mut self, response: Option<bool>, ended: bool) -> Read {
        if let Err(fault) = self.read_head(response) {
            return Read::Broken(fault);
        }
        let Some(head) = &self.head else {
            return if ended { Read::Broken("cut in the head".into()) } else { Read::Part };
        };
        let until_close = head.until_close;
        let done = match (head.chunked, head.length) {
            (true, _) => match self.read_chunks() {
                Ok(done) => done,
                Err(fault) => return Read::Broken(fault),
            },
            (false, Some(length)) => {
                let count = self.buffer.len().min(length - self.body.len());
                self.body.extend(self.buffer.drain(..count));
                self.body.len() == length
            }
            (false, None) => {
                self.body.append(&mut self.buffer);
                !until_close || ended
            }
        };
        match self.head.take_if(|_| done) {
            Some(head) => {
                let body = std::mem::take(&mut self.body);
                Read::Whole { line: head.line, id: head.id, body, close: head.close }
            }
            None if ended => Read::Broken("cut in the body".into()),
            None => Read::Part,
        }
    }

    fn read_head(&mut self, response: Option<bool>) -> Result<(), String> {
        if self.head.is_some() {
            return Ok(());
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let (line, headers, len) = match response {
            None => {
                let mut request = httparse::Request::new(&mut fields);
                let status = request.parse(&self.buffer).map_err(|error| format!("request: {error}"))?;
                let httparse::Status::Complete(len) = status else { return Ok(()) };
                let line = format!("{} {}", request.method.unwrap(), request.path.unwrap());
                (line, request.headers, len)
            }
            Some(_) => {
                let mut response = httparse::Response::new(&mut fields);
                let status = response.parse(&self.buffer).map_err(|error| format!("response: {error}"))?;
                let httparse::Status::Complete(len) = status else { return Ok(()) };
                (response.code.unwrap().to_string(), response.headers, len)
            }
        };
        let value = |name: &str| {
            let found = headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| String::from_utf8_lossy(field.value).into_owned())
        };
        let chunked = value("transfer-encoding").is_some();
        let length = value("content-length").map(|text| text.parse::<usize>().unwrap());
        let bodiless = response == Some(true) || line.starts_with('1') || line == "204" || line == "304";
        let close = value("connection").is_some_and(|value| value.contains("close"));
        let until_close = response.is_some() && !chunked && length.is_none() && !bodiless;
        let head = Head {
            id: value("x-id").unwrap_or_default(),
            length: if bodiless { Some(0) } else { length },
            chunked: chunked && !bodiless,
            until_close,
            close,
            line,
        };
        self.buffer.drain(..len);
        self.head = Some(head);
        Ok(())
    }

    fn read_chunks(&mut self) -> Result<bool, String> {
        loop {
            let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") else { return Ok(false) };
            let text = std::str::from_utf8(&self.buffer[..end]).map_err(|_| "chunk size")?;
            let size = usize::from_str_radix(text, 16).map_err(|_| format!("chunk size {text:?}"))?;
            if self.buffer.len() < end + 2 + size + 2 {
                return Ok(false);
            }
            if &self.buffer[end + 2 + size..end + 4 + size] != b"\r\n" {
                return Err("no line end behind a chunk".into());
            }
            self.body.extend_from_slice(&self.buffer[end + 2..end + 2 + size]);
            self.buffer.drain(..end + 4 + size);
            if size == 0 {
                return Ok(true);
            }
        }
    }
}

/// A hash of a body, in text.
pub(super) fn digest(body: &[u8]) -> String {
    format!("{:016x}", crate::state::server::stable_hash(body))
}

/// Small ones mostly: what is long takes many steps.
fn sizes(random: &mut Random, sizes: [usize; 5]) -> usize {
    let at = if random.below(12) == 0 { 4 } else { random.below(4) };
    sizes[at]
}

fn chunked(body: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(1 + random.below(rest.len()));
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        rest = more;
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// What went over a wire in one go: as much as there is room for, in pieces of any size.
fn send_some(wire: &mut Wire, bytes: &mut VecDeque<u8>, random: &mut Random) -> io::Result<Went> {
    let piece = 1 + random.below(bytes.len().clamp(1, 4000));
    let (some, _) = bytes.as_slices();
    let count = match wire.send(&[IoSlice::new(&some[..piece.min(some.len())])]) {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Went::Nowhere),
        Err(error) => return Err(error),
    };
    bytes.drain(..count);
    Ok(Went::On)
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) method: &'static str,
    digest: String,
}

/// A client: its requests, one behind the other or pipelined, and what it makes of the responses.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) wire: Option<Wire>,
    unsent: VecDeque<u8>,
    /// Requests that were not begun, the next one first.
    todo: VecDeque<(Asked, Vec<u8>)>,
    /// Requests that are out, in order.
    pub(super) open: VecDeque<Asked>,
    pipelines: bool,
    message: Message,
    buffer: Box<[u8]>,
    /// It breaks off when so many bytes were sent.
    breaks_after: Option<usize>,
    sent: usize,
    resets: bool,
    ended: bool,
    /// Ids and statuses of what was answered.
    pub(super) responses: Vec<(Asked, u16)>,
    /// It has met something that must not be.
    pub(super) fault: Option<String>,
    pub(super) left: bool,
}

impl Client {
    pub(super) fn new(wire: Wire, name: usize, requests: usize, faulty: bool, random: &mut Random) -> Self {
        let todo = (0..requests).map(|number| request(&format!("{name}-{number}"), random)).collect();
        let breaks = faulty && random.below(4) == 0;
        Client {
            wire: Some(wire),
            unsent: VecDeque::new(),
            todo,
            open: VecDeque::new(),
            pipelines: random.below(3) == 0,
            message: Message::default(),
            buffer: vec![0; ROOM].into(),
            breaks_after: breaks.then(|| random.below(3000)),
            sent: 0,
            resets: random.below(2) == 0,
            ended: false,
            responses: Vec::new(),
            fault: None,
            left: false,
        }
    }

    pub(super) fn go_on(&mut self, random: &mut Random) -> Went {
        let Some(mut wire) = self.wire.take() else { return Went::Over };
        let went = match self.converse(&mut wire, random) {
            Ok(went) => went,
            Err(_) => {
                self.left = true;
                Went::Over
            }
        };
        if went != Went::Over {
            self.wire = Some(wire);
        }
        went
    }

    fn converse(&mut self, wire: &mut Wire, random: &mut Random) -> io::Result<Went> {
        let mut went = Went::Nowhere;
        if self.unsent.is_empty() && (self.open.is_empty() || self.pipelines) && !self.ended {
            if let Some((asked, bytes)) = self.todo.pop_front() {
                self.open.push_back(asked);
                self.unsent.extend(bytes);
                went = Went::On;
            }
        }
        if !self.unsent.is_empty() && random.below(4) > 0 {
            let before = self.unsent.len();
            // A server, or the balancer, may have closed: what came before that can still be read.
            if let Ok(Went::On) = send_some(wire, &mut self.unsent, random) {
                went = Went::On;
            }
            self.sent += before - self.unsent.len();
            if self.breaks_after.is_some_and(|after| self.sent > after) {
                self.left = true;
                if self.resets {
                    wire.reset_on_close();
                }
                return Ok(Went::Over);
            }
        }
        let room = 1 + random.below(ROOM);
        match wire.recv(&mut self.buffer[..room]) {
            Ok(0) => {
                self.ended = true;
                return Ok(self.ends());
            }
            Ok(count) => {
                self.message.push(&self.buffer[..count]);
                went = Went::On;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.ended = true;
                self.left = true;
                return Ok(Went::Over);
            }
        }
        while let Some(asked) = self.open.front().cloned() {
            match self.message.read(Some(asked.method == "HEAD"), false) {
                Read::Part => break,
                Read::Broken(fault) => {
                    self.fault = Some(fault);
                    return Ok(Went::Over);
                }
                Read::Whole { line, .. } if line.starts_with('1') => {}
                Read::Whole { line, body, close, .. } => {
                    self.record_response(asked, &line, &body);
                    self.open.pop_front();
                    if close {
                        return Ok(Went::Over);
                    }
                }
            }
        }
        if self.open.is_empty() && !self.message.is_empty() {
            self.fault = Some("bytes that belong to no request".into());
            return Ok(Went::Over);
        }
        if self.open.is_empty() && self.todo.is_empty() && self.unsent.is_empty() {
            return Ok(Went::Over);
        }
        Ok(went)
    }

    /// The balancer has closed.
    fn ends(&mut self) -> Went {
        if let Some(asked) = self.open.front().cloned() {
            if let Read::Whole { line, body, .. } = self.message.read(Some(asked.method == "HEAD"), true) {
                self.record_response(asked, &line, &body);
                self.open.pop_front();
            }
        }
        self.left = true;
        Went::Over
    }

    fn record_response(&mut self, asked: Asked, line: &str, body: &[u8]) {
        let status: u16 = line.parse().unwrap();
        let text = String::from_utf8_lossy(body);
        let id = text.split(' ').next().unwrap_or_default();
        // What a server sends unasked, and is on its way when the next request is, cannot be told from a response.
        if id == "EVIL" {
            return self.responses.push((asked, status));
        }
        // The balancer itself responds with neither.
        let is_servers = matches!(status, 200 | 507);
        if is_servers && asked.method != "HEAD" && id != asked.id {
            self.fault = Some(format!("{} was answered with {id:?}", asked.id));
        }
        if self.fault.is_some() {
            return;
        }
        let told = text.split(' ').nth(1).unwrap_or("-");
        if is_servers && asked.method != "HEAD" && told != "-" && told != asked.digest {
            self.fault =
                Some(format!("the server got another body of {}: {told}, {} bytes", asked.id, body.len()));
        }
        self.responses.push((asked, status));
    }
}

fn request(id: &str, random: &mut Random) -> (Asked, Vec<u8>) {
    let method = ["GET", "GET", "HEAD", "POST", "POST", "PUT"][random.below(6)];
    let length = match method {
        "GET" | "HEAD" => 0,
        _ => sizes(random, [0, 1, 50, 3000, 90_000]),
    };
    let body: Vec<u8> = (0..length).map(|at| (at * 7 + id.len()) as u8).collect();
    let mut bytes = format!("{method} /{id} HTTP/1.1\r\nHost: h\r\nX-Id: {id}\r\n").into_bytes();
    match length {
        0 if method == "GET" || method == "HEAD" => bytes.extend_from_slice(b"\r\n"),
        _ if random.below(2) == 0 => {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            bytes.extend(chunked(&body, random));
        }
        _ => {
            bytes.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
            bytes.extend_from_slice(&body);
        }
    }
    (Asked { id: id.to_owned(), method, digest: digest(&body) }, bytes)
}

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Responds when it has all of it.
    Proper,
    /// Begins its response at the head, and reads on.
    Early,
    /// Cuts its response after so many bytes: by an end, or by a reset.
    Cut(usize, bool),
    /// Closes without a word.
    Closes(bool),
    /// Responds with an error when it has all of it.
    Refuses,
    /// Never responds.
    Silent,
    /// Says something that is not HTTP.
    Garbage,
    /// Sends more than its response.
    Unasked,
}

/// One connection of a server.
#[derive(Debug)]
pub(super) struct ServerConn {
    wire: Option<Wire>,
    message: Message,
    buffer: Box<[u8]>,
    out: VecDeque<u8>,
    plan: Option<Plan>,
    plan_of_response: Option<Plan>,
    responded: bool,
    closes_after: bool,
    faulty: bool,
    /// It responds with errors, too.
    refuses: bool,
    cut: Option<(usize, bool)>,
}

impl ServerConn {
    pub(super) fn new(wire: Wire, faulty: bool, refuses: bool) -> Self {
        ServerConn {
            refuses,
            wire: Some(wire),
            message: Message::default(),
            buffer: vec![0; ROOM].into(),
            out: VecDeque::new(),
            plan: None,
            plan_of_response: None,
            responded: false,
            closes_after: false,
            faulty,
            cut: None,
        }
    }

    /// `seen` counts the heads of each request.
    pub(super) fn go_on(
        &mut self,
        seen: &mut HashMap<String, u32>,
        random: &mut Random,
    ) -> Result<Went, String> {
        let Some(mut wire) = self.wire.take() else { return Ok(Went::Over) };
        let went = self.serve(&mut wire, seen, random)?;
        if went != Went::Over {
            self.wire = Some(wire);
        }
        Ok(went)
    }

    fn serve(
        &mut self,
        wire: &mut Wire,
        seen: &mut HashMap<String, u32>,
        random: &mut Random,
    ) -> Result<Went, String> {
        let mut went = Went::Nowhere;
        if !self.out.is_empty() && random.below(4) > 0 {
            let before = self.out.len();
            match send_some(wire, &mut self.out, random) {
                Ok(Went::On) => went = Went::On,
                Ok(_) => {}
                Err(_) => return Ok(Went::Over),
            }
            if let Some((left, reset)) = &mut self.cut {
                *left = left.saturating_sub(before - self.out.len());
                if *left == 0 {
                    if *reset {
                        wire.reset_on_close();
                    }
                    return Ok(Went::Over);
                }
            }
        }
        if self.out.is_empty() && self.responded && self.plan.is_none() {
            self.responded = false;
            if self.closes_after {
                return Ok(Went::Over);
            }
            went = Went::On;
        }
        let room = 1 + random.below(ROOM);
        match wire.recv(&mut self.buffer[..room]) {
            Ok(0) => return Ok(Went::Over),
            Ok(count) => {
                self.message.push(&self.buffer[..count]);
                went = Went::On;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Ok(Went::Over),
        }
        if self.plan.is_none() && !self.responded {
            let Some(id) = self.message.id() else { return Ok(went) };
            *seen.entry(id.clone()).or_default() += 1;
            let plan = self.choose(random);
            self.plan = Some(plan);
            went = Went::On;
            match plan {
                Plan::Early => {
                    // With the body to come it cannot say what it was.
                    self.respond(&id, "-", random);
                }
                Plan::Closes(reset) => {
                    if reset {
                        wire.reset_on_close();
                    }
                    return Ok(Went::Over);
                }
                Plan::Garbage => {
                    self.out.extend(b"HELLO\r\n\r\n");
                    self.closes_after = true;
                }
                _ => {}
            }
        }
        let Some(plan) = self.plan else { return Ok(went) };
        match self.message.read(None, false) {
            Read::Part => {}
            Read::Broken(fault) => return Err(fault),
            Read::Whole { id, body, .. } => {
                went = Went::On;
                self.plan = None;
                self.plan_of_response = Some(plan);
                match plan {
                    Plan::Early => self.responded = true,
                    Plan::Garbage => self.responded = true,
                    Plan::Silent => self.plan = Some(Plan::Silent),
                    Plan::Cut(after, reset) => {
                        self.respond(&id, &digest(&body), random);
                        self.cut = Some((after.min(self.out.len() - 1).max(1), reset));
                    }
                    _ => self.respond(&id, &digest(&body), random),
                }
                if plan == Plan::Unasked {
                    self.out.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL");
                    // Or its next response would be the response to the request after the next, and so on.
                    self.closes_after = true;
                }
            }
        }
        Ok(went)
    }

    fn choose(&mut self, random: &mut Random) -> Plan {
        if self.refuses && random.below(3) == 0 {
            return Plan::Refuses;
        }
        if !self.faulty || random.below(3) > 0 {
            return if random.below(5) == 0 { Plan::Early } else { Plan::Proper };
        }
        let reset = random.below(2) == 0;
        match random.below(6) {
            0 => Plan::Cut(random.below(400), reset),
            1 => Plan::Closes(reset),
            2 => Plan::Silent,
            3 => Plan::Garbage,
            4 => Plan::Unasked,
            _ => Plan::Proper,
        }
    }

    fn respond(&mut self, id: &str, digest: &str, random: &mut Random) {
        self.responded = true;
        let padding = sizes(random, [0, 0, 10, 5000, 70_000]);
        let body = format!("{id} {digest} {}", "p".repeat(padding)).into_bytes();
        let refuses = match self.plan {
            Some(Plan::Early) => self.refuses && random.below(3) == 0,
            _ => self.plan_of_response == Some(Plan::Refuses),
        };
        // What has come to a client cannot be taken back, so that an error behind it is the client's.
        for _ in 0..if refuses { 0 } else { random.below(3) } {
            self.out.extend(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        }
        self.out.extend(if refuses { &b"HTTP/1.1 507 Full\r\n"[..] } else { b"HTTP/1.1 200 OK\r\n" });
        // A server does not know here whether it was asked with HEAD: it tells a length then.
        // Where only a close tells the end, a cut response looks whole.
        let is_cut = matches!(self.plan_of_response, Some(Plan::Cut(..)));
        let framings = match () {
            () if self.message_is_head(id) => 1,
            () if is_cut => 2,
            () => 3,
        };
        match random.below(framings) {
            0 => {
                self.out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                if !self.message_is_head(id) {
                    self.out.extend(body);
                }
            }
            1 => {
                self.out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                self.out.extend(chunked(&body, random));
            }
            _ => {
                self.out.extend(b"Connection: close\r\n\r\n");
                self.out.extend(body);
                self.closes_after = true;
            }
        }
    }

    fn message_is_head(&self, id: &str) -> bool {
        HEADS.with(|heads| heads.borrow().contains(id))
    }
}

thread_local! {
    /// Ids of requests with HEAD, as the world has them.
    pub(super) static HEADS: std::cell::RefCell<std::collections::HashSet<String>> = std::cell::RefCell::default();
}
