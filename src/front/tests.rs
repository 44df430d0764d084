//! The front over real sockets, with a service controlled by the test.

use super::*;
use crate::http1::framing::Framing;
use crate::http1::head::RequestHead;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use tiny_http::Request;

/// A test that waits longer has failed.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Responds with the path; `/judged` at the head.
struct Echo;

impl Service for Echo {
    fn judge(&self, head: &RequestHead<'_, '_>, _: usize) -> Option<Response> {
        let sized = matches!(head.framing, Framing::Length(_));
        (head.target == b"/judged").then(|| self.rejection("", 200, if sized { "sized" } else { "judged" }))
    }

    fn serve(&self, request: Request) {
        assert!(request.url() != "/panics", "as the test asked for");
        let text = format!("{} {}", request.method(), request.url());
        let _ = request.respond(tiny_http::Response::from_string(text));
    }

    fn rejection(&self, _: &str, status: u16, sentence: &str) -> Response {
        Response { status, kind: "text/plain", body: sentence.to_owned(), fields: Vec::new() }
    }
}

/// A running front, stopped when it is dropped.
struct Running {
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits {
            connections: 4,
            head: LONGEST_WAIT,
            idle: LONGEST_WAIT,
            body: LONGEST_WAIT,
            body_max: 1000,
            bodies: 2,
            keeps_bodies: true,
            in_flight: 2,
            response: LONGEST_WAIT,
            write: LONGEST_WAIT,
            helpers: 1,
        };
        change(&mut limits);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = std::env::temp_dir();
        let front = open("front", Arc::new(Echo), limits, vec![listener.into()], &folder).unwrap();
        let stopper = front.stopper();
        Running { address, stopper, thread: Some(thread::spawn(move || front.run())) }
    }

    fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop(time::now().after(LONGEST_WAIT));
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn request(line: &str, fields: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes()
}

/// All bytes until the end: the connection must have been closed without a reset.
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn check(text: &str, status: u16, ends: &str) {
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.ends_with(ends), "{text:?}");
}

#[test]
fn requests_are_judged_or_served_in_order() {
    let running = Running::with(|_| {});
    let many = [
        request("GET /a?b", ""),
        request("GET /judged", ""),
        request("HEAD /c", ""),
        request("POST /judged", "Content-Length: 0\r\n"),
        request("GET /d", "Connection: close\r\n"),
        request("GET /never", ""),
    ];
    let text = rest(running.send(&many.concat()));
    let places: Vec<_> = ["GET /a?b", "judged", "sized", "Connection: close", "GET /d"]
        .map(|part| text.find(part).unwrap())
        .into();
    assert!(places.is_sorted() && text.matches("HTTP/1.1 200").count() == 5, "{text}");
}

#[test]
fn what_cannot_be_served_is_rejected_readably() {
    let running = Running::with(|limits| limits.keeps_bodies = false);
    let large = "x".repeat(100_000);
    for (bytes, status) in [
        (b"nonsense\r\n\r\n".to_vec(), 400),
        (request("GET /", "Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
        (request("GET /", &format!("A: {}\r\n", "x".repeat(20_000))), 431),
        (request("POST /", "Content-Length: 99999999999999\r\n"), 413),
        ([request("POST /", "Content-Length: 100000\r\n"), large.clone().into_bytes()].concat(), 413),
        ([request("POST /", "Transfer-Encoding: chunked\r\n"), b"zz\r\n".to_vec()].concat(), 400),
        ([request("POST /judged", "Content-Length: 100000\r\n"), large.into_bytes()].concat(), 200),
        (request("GET /panics", "Connection: close\r\n"), 500),
    ] {
        check(&rest(running.send(&bytes)), status, "");
    }
}

#[test]
fn the_oldest_without_a_request_gives_its_place() {
    let running = Running::with(|_| {});
    let held: Vec<_> = (0..4).map(|_| running.send(b"GET /half")).collect();
    check(&rest(running.send(&request("GET /a", "Connection: close\r\n"))), 200, "GET /a");
    let mut held = held.into_iter();
    // Closed with unread bytes, or between them: either is an end.
    let gone = held.next().unwrap().read(&mut [0; 64]);
    assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
    let mut last = held.next_back().unwrap();
    last.write_all(b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    check(&rest(last), 200, "GET /half");
}

#[test]
fn requests_that_wait_for_their_turn_give_their_places_last() {
    let running = Running::with(|limits| limits.in_flight = 0);
    let _held: Vec<_> = (0..9).map(|_| running.send(&request("GET /waits", ""))).collect();
    check(&rest(running.send(&request("GET /judged", "Connection: close\r\n"))), 200, "judged");
    // The stop would wait for requests that wait.
    running.stopper.stop(time::now());
}

#[test]
fn deadlines_hold_for_every_stage() {
    const SHORT: Duration = Duration::from_millis(150);
    let running = Running::with(|limits| (limits.head, limits.body, limits.idle) = (SHORT, SHORT, SHORT));
    assert_eq!(rest(running.send(b"")), "", "nothing to respond to");
    // Again where the machine stood still between a connection and what was sent on it: that is an idle one.
    let rest_of = |bytes: &[u8]| {
        (0..100).map(|_| rest(running.send(bytes))).find(|seen| !seen.is_empty()).expect("a response")
    };
    check(&rest_of(b"GET / HTTP/1.1\r\n"), 408, "in time. Try again.");
    check(&rest_of(&request("POST /", "Content-Length: 5\r\n")), 408, "in time. Try again.");
    check(&rest_of(&request("GET /kept", "")), 200, "GET /kept");
}

#[test]
fn a_stop_finishes_what_has_begun_and_frees_the_port() {
    let mut running = Running::with(|_| {});
    let mut begun = running.send(b"GET /begun HTTP/1.1\r\n");
    let idle = running.send(b"");
    check(&rest(running.send(&request("GET /judged", "Connection: close\r\n"))), 200, "judged");
    running.stopper.stop(time::now().after(LONGEST_WAIT));
    assert_eq!(rest(idle), "");
    let _again = TcpListener::bind(running.address).unwrap();
    begun.write_all(b"Host: h\r\n\r\n").unwrap();
    check(&rest(begun), 200, "GET /begun");
    running.thread.take().unwrap().join().unwrap();
}
