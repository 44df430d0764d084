//! What a case is made of.

use super::rule::Rule;
use crate::support::origin::Visit;

/// What a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// The request line, line ends, versions.
    Lines,
    /// The target and Host.
    Target,
    /// Field lines of requests.
    Fields,
    /// Where a request ends: Content-Length and Transfer-Encoding.
    Framing,
    /// Names and values that only some readers take for framing.
    Obfuscated,
    /// Bodies of requests that are well.
    Bodies,
    /// The chunked coding of requests.
    Chunked,
    /// Trailer fields, both ways.
    Trailers,
    /// Hop-by-hop fields, Via, Forwarded, Max-Forwards.
    Hops,
    /// Expect and interim responses.
    Expect,
    /// Final responses before the request is whole.
    Early,
    /// Responses that are well.
    Responses,
    /// Responses that are not.
    Broken,
    /// HEAD, 204, 304.
    Bodiless,
    /// Upgrade and tunnels.
    Upgrade,
    /// Persistence, pipelining, closing.
    Connections,
    /// What is sent again, and what is not.
    Retries,
    /// HTTP/1.0 on either side.
    Http10,
    /// Sizes and counts.
    Limits,
    /// Peers that stand still.
    Timeouts,
}

impl Area {
    /// As in the table.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// How binding it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// An RFC says MUST or MUST NOT, or its grammar leaves no choice.
    Must,
    /// No RFC has a word for it, or leaves a choice, and one choice lets requests or responses be smuggled, split
    /// or lost.
    Safe,
    /// An RFC says SHOULD or ought to.
    Should,
    /// Neither: what users of a proxy count on.
    May,
}

impl Level {
    /// All, the most binding first.
    pub const ALL: [Level; 4] = [Level::Must, Level::Safe, Level::Should, Level::May];

    /// As in the table.
    pub fn name(self) -> &'static str {
        match self {
            Level::Must => "must",
            Level::Safe => "safe",
            Level::Should => "should",
            Level::May => "may",
        }
    }
}

/// How the proxy is set up, beyond being put before the servers of the case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Setup {
    /// Nothing else; its waits are long.
    #[default]
    Plain,
    /// It waits for a second for whatever it waits for.
    Hasty,
}

/// What the client does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes at once. A proxy that has closed may not take them.
    Send(Vec<u8>),
    /// Sends them one by one.
    Bytewise(Vec<u8>),
    /// Reads a final response to this method, and the interim ones before it.
    Response(&'static str),
    /// Reads an interim response.
    Interim,
    /// Waits until the servers have the heads of so many requests.
    AtServer(usize),
    /// Reads so many bytes, whatever they are.
    Bytes(usize),
    /// Says that it will send no more.
    Finish,
    /// Closes with a reset.
    Reset,
    /// Lets the proxy notice what a server did: nothing announces that.
    Pause,
}

/// What a server does with a connection.
#[derive(Clone)]
pub enum Script {
    /// Responds to every request with these bytes.
    Says(Vec<u8>),
    /// Responds to every request with these bytes, each sent for itself.
    SaysBytewise(Vec<u8>),
    /// Responds to one request and closes.
    SaysAndCloses(Vec<u8>),
    /// Responds to one request and resets.
    SaysAndResets(Vec<u8>),
    /// Responds to the first requests with these, one after the other over all connections, then each with 200.
    InTurn(Vec<Vec<u8>>),
    /// Responds to the head of a request at once, then reads on to the end.
    AtHead(Vec<u8>),
    /// Sends the first at the head, reads the body, sends the second.
    AroundBody(Vec<u8>, Vec<u8>),
    /// Says 200 with the body that it got.
    Echoes,
    /// No program listens.
    Rejects,
    /// Anything else.
    Does(fn(&mut Visit)),
}

/// A case.
pub struct Case {
    /// Its name, unique.
    pub id: String,
    /// What it is about.
    pub area: Area,
    /// How binding it is.
    pub level: Level,
    /// Where that stands.
    pub rfc: &'static str,
    /// What the client does.
    pub steps: Vec<Step>,
    /// What the servers do; one of them unless said otherwise.
    pub servers: Vec<Script>,
    /// How the proxy is set up.
    pub setup: Setup,
    /// All rules of one of these must hold.
    pub ways: Vec<Vec<Rule>>,
}

impl Case {
    /// A case of which nothing must hold yet: one server, that says 200.
    pub fn new(area: Area, id: impl Into<String>, level: Level, rfc: &'static str) -> Self {
        let servers = vec![Script::Says(OK.to_vec())];
        let (steps, ways) = (Vec::new(), Vec::new());
        Case { id: id.into(), area, level, rfc, steps, servers, setup: Setup::Plain, ways }
    }

    /// Where else it stands.
    pub fn rfc(mut self, section: &'static str) -> Self {
        self.rfc = section;
        self
    }

    /// The client sends these bytes.
    pub fn sends(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Send(bytes.as_ref().to_vec()))
    }

    /// The client does this next.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The client reads a response next, to a request of this method.
    pub fn response(self, method: &'static str) -> Self {
        self.step(Step::Response(method))
    }

    /// The server does this.
    pub fn server(mut self, script: Script) -> Self {
        self.servers = vec![script];
        self
    }

    /// The server responds to every request with these bytes.
    pub fn says(self, bytes: impl AsRef<[u8]>) -> Self {
        self.server(Script::Says(bytes.as_ref().to_vec()))
    }

    /// These servers, in this order.
    pub fn servers(mut self, scripts: Vec<Script>) -> Self {
        self.servers = scripts;
        self
    }

    /// The proxy is set up so.
    pub fn setup(mut self, setup: Setup) -> Self {
        self.setup = setup;
        self
    }

    /// One way in which all may be well.
    pub fn holds(mut self, rules: impl Into<Vec<Rule>>) -> Self {
        self.ways.push(rules.into());
        self
    }
}

/// The response of a server that has nothing to say.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// `GET / ` with a Host and these fields.
pub fn get(fields: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: h\r\n", fields.as_ref(), b"\r\n"].concat()
}

/// `POST / ` with a Host, these fields, and this behind the head.
pub fn post(fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: h\r\n", fields.as_ref(), b"\r\n", body.as_ref()].concat()
}

/// A request that must not be served where it stands behind one whose end is in doubt.
pub const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// `bytes` and [`SMUGGLED`].
pub fn and_smuggled(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [bytes.as_ref(), SMUGGLED].concat()
}
