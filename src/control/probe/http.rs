//! One HTTP/1.1 request through ureq, over a connection of its own.

use super::connection::{self, Channel, Stream};
use super::{SHORTEST, Silence, Target, host_of, over_ureq, words};
use crate::base::limits;
use crate::base::time::{self, Moment};
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;
use ureq::{Agent, Error};

/// The most that is read of a response in which nothing is looked for. A load report is a few numbers.
pub const BODY_MAX: usize = 16 * 1024;
/// Buffers of a probe's connection; the head of a response must fit in one.
const BUFFER: usize = 16 * 1024;
/// The header with which a server says that it has load reports.
const LOAD_REPORT_HEADER: &str = "x-load-report";
/// What a probe says that it is, unless the configuration says otherwise.
pub(super) const USER_AGENT: &str = concat!("evenkeel/", env!("CARGO_PKG_VERSION"), " (health check)");

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET` …
    pub method: &'a str,
    /// From `/` on.
    pub path: &'a str,
    /// The Host header; the server's address when absent.
    pub host: Option<&'a str>,
    /// Further headers.
    pub headers: &'a [(String, String)],
    /// What is sent behind the headers.
    pub body: Option<&'a str>,
    /// The most that is read of the response's body.
    pub read_max: usize,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The beginning of the body: what came in time, at most [`Request::read_max`].
    pub body: Vec<u8>,
    /// It says that the server has load reports.
    pub has_reports: bool,
}

/// Sends the request and waits for the response, all within this time. Also returns the address that was connected to.
pub fn ask(
    target: &Target,
    request: &Request<'_>,
    timeout: Duration,
) -> (Result<Response, Silence>, Option<SocketAddr>) {
    let deadline = time::now().after(timeout);
    match connection::open(target, deadline) {
        Ok((stream, address)) => (ask_over(stream, address, target, request, deadline, timeout), address),
        Err(error) => (Err(Silence::of_io(&error, timeout)), None),
    }
}

fn ask_over(
    stream: Stream,
    address: Option<SocketAddr>,
    target: &Target,
    request: &Request<'_>,
    deadline: Moment,
    timeout: Duration,
) -> Result<Response, Silence> {
    let address = address.unwrap_or(over_ureq::NO_ADDRESS);
    let session = target.tls.as_ref().map(|tls| tls.session(&target.address)).transpose()?;
    let agent = agent(Channel::new(stream, session), address, deadline.since(time::now()).max(SHORTEST));
    let of_ureq = |error: Error| {
        let is_ours = matches!(&error, Error::Io(error) if limits::is_exhausted(error));
        Silence { words: say(&error, timeout), is_ours }
    };
    let builder = head(request, target, address);
    let unsent = |error| Silence::from(format!("the request cannot be sent: {error}"));
    let received = match request.body {
        None => agent.run(builder.body(()).map_err(unsent)?),
        Some(body) => agent.run(builder.body(body).map_err(unsent)?),
    };
    let received = received.map_err(of_ureq)?;
    let status = received.status().as_u16();
    let has_reports = received.headers().contains_key(LOAD_REPORT_HEADER);
    let mut body = Vec::new();
    let reader = received.into_body().into_reader();
    // A truncated or late body does not matter for whether the server is alive: the status has been received.
    let _ = reader.take(request.read_max as u64).read_to_end(&mut body);
    Ok(Response { status, body, has_reports })
}

fn head(request: &Request<'_>, target: &Target, address: SocketAddr) -> ureq::http::request::Builder {
    let host = request.host.map_or_else(|| host_of(&target.address), str::to_owned);
    let builder = ureq::http::Request::builder()
        .method(request.method)
        .uri(format!("http://{address}{}", request.path))
        .header("Host", host)
        .header("Connection", "close");
    request.headers.iter().fold(builder, |builder, (name, value)| builder.header(name, value))
}

fn agent(stream: Channel, address: SocketAddr, timeout: Duration) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .max_idle_connections(0)
        .timeout_global(Some(timeout))
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .max_response_header_size(BUFFER)
        .user_agent(USER_AGENT)
        .build();
    over_ureq::agent(config, stream, address)
}

/// A short text for display.
fn say(error: &Error, timeout: Duration) -> String {
    match error {
        Error::Io(error) => words(error, timeout),
        Error::Timeout(_) => format!("no response in {}", humantime::format_duration(timeout)),
        other => format!("{other}"),
    }
}
