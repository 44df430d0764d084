//! What must hold of what was observed.

use super::observe::{AtClient, AtServers, End};
use crate::support::message::{Framing, Response};

/// One thing that must hold.
#[derive(Clone, Debug)]
pub enum Rule {
    // At the client.
    /// The first final response has one of these statuses.
    Status(&'static [u16]),
    /// The final response of this place, from 0, has one of these statuses.
    StatusOf(usize, &'static [u16]),
    /// So many final responses came, whole.
    Responses(usize),
    /// No more than so many final responses came.
    ResponsesAtMost(usize),
    /// One of these statuses, or a close without a response; then the connection is closed.
    Rejects(&'static [u16]),
    /// The client sees that the response is not whole: it is cut, or a 502 takes its place.
    Incomplete,
    /// The proxy closes, in order, and says nothing before that.
    Closes,
    /// The proxy closes, in order or not.
    Ends,
    /// The next request on this connection is answered.
    Stays,
    /// The last response has this field with this value, case aside.
    Has(&'static str, &'static str),
    /// The last response has this field.
    HasAny(&'static str),
    /// The last response has these fields of one name, in this order.
    HasAll(&'static str, &'static [&'static str]),
    /// The last response does not have this field.
    Lacks(&'static str),
    /// The last response's first line.
    ResponseLine(&'static str),
    /// The last response is in the version that the proxy speaks, whatever the server's was.
    OwnVersion,
    /// The last response's payload.
    Body(Vec<u8>),
    /// The last response's body comes in chunks.
    InChunks,
    /// The last response's body does not.
    NotInChunks,
    /// The last response has this trailer field.
    HasTrailer(&'static str),
    /// The last response does not have this trailer field.
    LacksTrailer(&'static str),
    /// These interim responses came, in this order.
    Interims(&'static [u16]),
    /// What was read as bytes.
    Read(Vec<u8>),
    // At the servers, once the proxy has gone.
    /// So many whole requests came.
    Seen(usize),
    /// No more than so many whole requests came.
    SeenAtMost(usize),
    /// The first request's line.
    Line(&'static str),
    /// The first request has this field with this value.
    SeenHas(&'static str, &'static str),
    /// The first request has this field.
    SeenHasAny(&'static str),
    /// The first request has these values of this name, in this order, in one line or in several.
    SeenList(&'static str, &'static [&'static str]),
    /// The first request has these lines of this name, in this order.
    SeenLines(&'static str, &'static [&'static str]),
    /// The first request has this field with these words, however many spaces are between them.
    SeenWords(&'static str, &'static str),
    /// The first request does not have this field.
    SeenLacks(&'static str),
    /// The first request's payload.
    SeenBody(Vec<u8>),
    /// The first request has this trailer field.
    SeenTrailer(&'static str),
    /// The first request does not have this trailer field.
    SeenLacksTrailer(&'static str),
    /// These bytes are nowhere in what came, case aside.
    Unseen(&'static str),
    /// No request for this target was served.
    Unserved(&'static str),
    /// All requests came on so many connections.
    SeenConnections(usize),
    /// So many connections were begun.
    Connections(usize),
    /// No request came whole, and one was begun and cut.
    SeenCut,
    /// Anything else of the client's side.
    Client(fn(&mut AtClient) -> Result<(), String>),
    /// Anything else of the servers' side.
    Servers(fn(&AtServers) -> Result<(), String>),
}

use Rule::*;

impl Rule {
    /// Whether it holds; rules of the servers' side hold as long as nothing is known of them.
    pub fn at_client(&self, seen: &mut AtClient) -> Result<(), String> {
        match self {
            Status(statuses) => status(seen, 0, statuses),
            StatusOf(at, statuses) => status(seen, *at, statuses),
            Responses(count) => same("final responses", &seen.responses.len(), count),
            ResponsesAtMost(count) => ensure(seen.responses.len() <= *count, || {
                format!("{} final responses came", seen.responses.len())
            }),
            Rejects(statuses) => rejects(seen, statuses),
            Incomplete => incomplete(seen),
            Closes => closes(seen),
            Ends => ends(seen),
            Stays => seen.stays(),
            Interims(statuses) => {
                let came: Vec<_> = seen.interims.iter().map(|interim| interim.status).collect();
                same("interim responses", &&came[..], statuses)
            }
            Read(bytes) => ensure(seen.read == *bytes, || format!("the client read {:?}", show(&seen.read))),
            Client(check) => check(seen),
            _ => match seen.responses.last() {
                Some(last) => self.of_response(last),
                None if self.is_of_response() => Err("there is no response".into()),
                None => Ok(()),
            },
        }
    }

    fn is_of_response(&self) -> bool {
        matches!(self, Has(..) | HasAny(_) | HasAll(..) | ResponseLine(_) | OwnVersion | Body(_) | InChunks)
            || matches!(self, HasTrailer(_))
    }

    fn of_response(&self, last: &Response) -> Result<(), String> {
        let fields = &last.fields;
        match self {
            Has(name, value) => {
                let all = fields.all(name);
                let has = all.iter().any(|other| other.eq_ignore_ascii_case(value));
                ensure(has, || format!("the response has {name}: {all:?}, not {value}"))
            }
            HasAny(name) => ensure(fields.has(name), || format!("the response has no {name}")),
            HasAll(name, values) => same(name, &fields.all(name), &owned(values)),
            Lacks(name) => ensure(!fields.has(name), || format!("the response has {name}: {fields}")),
            ResponseLine(line) => same("the status line", &last.line.as_str(), line),
            OwnVersion => ensure(last.line.starts_with("HTTP/1.1 "), || last.line.clone()),
            Body(bytes) => ensure(last.body == *bytes, || {
                format!("the body is {:?}, not {:?}", show(&last.body), show(bytes))
            }),
            InChunks => same("the framing", &last.framing, &Framing::Chunked),
            NotInChunks => ensure(last.framing != Framing::Chunked, || "the response is in chunks".into()),
            HasTrailer(name) => ensure(last.trailers.has(name), || format!("no trailer {name}")),
            LacksTrailer(name) => ensure(!last.trailers.has(name), || format!("the trailer {name} came")),
            _ => Ok(()),
        }
    }

    /// Whether it holds; rules of the client's side do.
    pub fn at_servers(&self, seen: &AtServers) -> Result<(), String> {
        let count = seen.requests.len();
        match self {
            Rejects(_) => ensure(count == 0, || format!("{count} requests reached a server whole")),
            Seen(expected) => same("whole requests at the servers", &count, expected),
            SeenAtMost(most) => ensure(count <= *most, || format!("{count} requests reached a server")),
            SeenConnections(expected) => same("connections with requests", &seen.used(), expected),
            Connections(expected) => same("connections to servers", &seen.raw.len(), expected),
            SeenCut => ensure(count == 0 && seen.cut > 0, || {
                format!("{count} requests came whole, {} were cut", seen.cut)
            }),
            Unseen(what) => {
                let all = seen.raw.concat().to_ascii_lowercase();
                let found = all.windows(what.len()).any(|part| part.eq_ignore_ascii_case(what.as_bytes()));
                ensure(!found, || format!("a server received {what:?}"))
            }
            Unserved(target) => {
                let served = seen.requests.iter().any(|request| request.target().ends_with(target));
                ensure(!served, || format!("{target} was served"))
            }
            Servers(check) => check(seen),
            _ if self.is_of_request() && count == 0 => Err("no whole request reached a server".into()),
            _ if self.is_of_request() => self.of_request(seen),
            _ => Ok(()),
        }
    }

    fn is_of_request(&self) -> bool {
        matches!(self, Line(_) | SeenHas(..) | SeenHasAny(_) | SeenList(..) | SeenLacks(_) | SeenBody(_))
            || matches!(self, SeenTrailer(_) | SeenLacksTrailer(_) | SeenLines(..) | SeenWords(..))
    }

    fn of_request(&self, seen: &AtServers) -> Result<(), String> {
        let first = &seen.requests[0];
        let fields = &first.fields;
        match self {
            Line(line) => same("the request line", &first.line.as_str(), line),
            SeenHas(name, value) => {
                let all = fields.all(name);
                ensure(all.iter().any(|other| other == value), || {
                    format!("the server saw {name}: {all:?}, not {value:?}")
                })
            }
            SeenHasAny(name) => ensure(fields.has(name), || format!("the server saw no {name}")),
            SeenList(name, values) => same(name, &elements(&fields.all(name)), &owned(values)),
            SeenLines(name, values) => same(name, &fields.all(name), &owned(values)),
            SeenWords(name, words) => {
                let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
                let came = fields.all(name).join(" ");
                same(name, &came.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), &words)
            }
            SeenLacks(name) => {
                ensure(!fields.has(name), || format!("the server saw {name}: {:?}", fields.all(name)))
            }
            SeenBody(bytes) => ensure(first.body == *bytes, || {
                format!("the server's body is {:?}, not {:?}", show(&first.body), show(bytes))
            }),
            SeenTrailer(name) => {
                ensure(first.trailers.has(name), || format!("no trailer {name} at the server"))
            }
            SeenLacksTrailer(name) => {
                ensure(!first.trailers.has(name), || format!("the trailer {name} reached the server"))
            }
            _ => Ok(()),
        }
    }
}

fn status(seen: &AtClient, at: usize, statuses: &[u16]) -> Result<(), String> {
    match seen.responses.get(at) {
        Some(response) if statuses.contains(&response.status) => Ok(()),
        Some(response) => Err(format!("response {at} has status {}, not {statuses:?}", response.status)),
        None => Err(format!("response {at} is missing: {}", seen.how_it_broke())),
    }
}

fn rejects(seen: &mut AtClient, statuses: &[u16]) -> Result<(), String> {
    match seen.responses.len() {
        0 => {}
        1 => status(seen, 0, statuses)?,
        count => return Err(format!("{count} responses came")),
    }
    ends(seen)
}

/// A body until the close that ends in order cannot show that it is cut.
fn incomplete(seen: &mut AtClient) -> Result<(), String> {
    match (&seen.broken, seen.responses.first()) {
        (Some(_), None) => Ok(()),
        (_, Some(response)) if (500..600).contains(&response.status) => Ok(()),
        (_, Some(response)) => {
            Err(format!("status {} with a whole body of {} bytes", response.status, response.body.len()))
        }
        (None, None) => Err("nothing was read".into()),
    }
}

fn closes(seen: &mut AtClient) -> Result<(), String> {
    match seen.end() {
        End::InOrder => Ok(()),
        end => Err(format!("the connection was to be closed: {end:?}")),
    }
}

fn ends(seen: &mut AtClient) -> Result<(), String> {
    match seen.end() {
        End::InOrder | End::Reset => Ok(()),
        end => Err(format!("the connection was to be closed: {end:?}")),
    }
}

fn elements(lines: &[String]) -> Vec<String> {
    lines.iter().flat_map(|line| line.split(',')).map(|part| part.trim().to_owned()).collect()
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    ensure(found == expected, || format!("{what}: {found:?}, not {expected:?}"))
}

/// `Err` with what is wrong, unless it holds.
pub fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(wrong()) }
}

/// Bytes for a person: the first few hundred.
pub fn show(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(600)];
    let more = if bytes.len() > start.len() { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    format!("{}{more}", start.escape_ascii())
}
