//! The rows: each runs one operation of a request's life many times.

use super::routes::find;
use super::servers::{choose, pick};
use evenkeel::base::ids::RequestId;
use evenkeel::base::time::Moment;
use evenkeel::http1::body::Body;
use evenkeel::http1::forward::{self, Hop, ResponseHop, Rewritten};
use evenkeel::http1::framing::{Framing, Method};
use evenkeel::http1::head::{self, Limits, Parsed, RequestHead, ResponseHead, Slots, Version};
use evenkeel::policy::admit::{self, Codel};
use evenkeel::policy::pick::Algorithm;
use evenkeel::policy::pool::{Bounds, Memory, Seen};
use evenkeel::policy::retry::{self, Attempt, Budget, Phase};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

/// One operation whose instructions are counted.
#[derive(Debug)]
pub struct Row {
    /// The name in the table and in the file of ceilings.
    pub name: &'static str,
    /// Runs it this many times.
    pub work: fn(u64),
}

const fn row(name: &'static str, work: fn(u64)) -> Row {
    Row { name, work }
}

/// All rows, in the order of the table.
pub const ALL: &[Row] = &[
    row("parse a small GET", |times| parse_request(SMALL, times)),
    row("parse a browser's GET", |times| parse_request(BROWSER, times)),
    row("parse a response's head", parse_response),
    row("forward a small GET", |times| forward_request(SMALL, times)),
    row("forward a browser's GET", |times| forward_request(BROWSER, times)),
    row("forward a response's head", forward_response),
    row("decode 16 chunks of 64 bytes", decode_chunks),
    row("pick round_robin of 3", |times| pick(Algorithm::RoundRobin, 3, times)),
    row("pick round_robin of 300", |times| pick(Algorithm::RoundRobin, 300, times)),
    row("pick least_connections of 3", |times| pick(Algorithm::LeastConnections, 3, times)),
    row("pick least_connections of 300", |times| pick(Algorithm::LeastConnections, 300, times)),
    row("pick random_two of 3", |times| pick(Algorithm::RandomTwo, 3, times)),
    row("pick random_two of 300", |times| pick(Algorithm::RandomTwo, 300, times)),
    row("pick ip_hash of 3", |times| pick(Algorithm::IpHash, 3, times)),
    row("pick ip_hash of 300", |times| pick(Algorithm::IpHash, 300, times)),
    row("pick dynamic of 3", |times| pick(Algorithm::Dynamic, 3, times)),
    row("pick dynamic of 300", |times| pick(Algorithm::Dynamic, 300, times)),
    row("choose, round_robin of 3", |times| choose(Algorithm::RoundRobin, 3, times)),
    row("choose, round_robin of 300", |times| choose(Algorithm::RoundRobin, 300, times)),
    row("choose, dynamic of 3", |times| choose(Algorithm::Dynamic, 3, times)),
    row("choose, dynamic of 300", |times| choose(Algorithm::Dynamic, 300, times)),
    row("route of 10", |times| find(10, times)),
    row("route of 100", |times| find(100, times)),
    row("route of 1000", |times| find(1000, times)),
    row("route of 10000", |times| find(10_000, times)),
    row("retry: a reset", |times| retry_after(Phase::Response, times)),
    row("retry: a dead connection", |times| retry_after(Phase::Reuse, times)),
    row("admit: a short wait", |times| judge(1, times)),
    row("admit: a long wait", |times| judge(50, times)),
    row("workers", workers),
];

const SMALL: &str = "GET /small HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n";

/// A request as sent by a current browser, with the cookies of a site that has a session and a consent.
const BROWSER: &str = concat!(
    "GET /articles/2026/an-article-with-a-name?page=2&sort=newest HTTP/1.1\r\n",
    "Host: www.example.com\r\n",
    "Connection: keep-alive\r\n",
    "sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\"\r\n",
    "sec-ch-ua-mobile: ?0\r\n",
    "sec-ch-ua-platform: \"Linux\"\r\n",
    "Upgrade-Insecure-Requests: 1\r\n",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) ",
    "Chrome/140.0.0.0 Safari/537.36\r\n",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n",
    "Sec-Fetch-Site: same-origin\r\n",
    "Sec-Fetch-Mode: navigate\r\n",
    "Sec-Fetch-User: ?1\r\n",
    "Sec-Fetch-Dest: document\r\n",
    "Referer: https://www.example.com/articles/2026/\r\n",
    "Accept-Encoding: gzip, deflate, br, zstd\r\n",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n",
    "Cookie: session=0123456789abcdef0123456789abcdef; consent=all; theme=light; visits=17\r\n",
    "If-None-Match: W/\"5d8c72a5edda8\"\r\n",
    "\r\n",
);

const RESPONSE: &str = concat!(
    "HTTP/1.1 200 OK\r\n",
    "Server: nginx\r\n",
    "Date: Tue, 24 Nov 2026 10:00:00 GMT\r\n",
    "Content-Type: text/html; charset=utf-8\r\n",
    "Content-Length: 4321\r\n",
    "Connection: keep-alive\r\n",
    "Vary: Accept-Encoding\r\n",
    "ETag: \"5d8c72a5edda8\"\r\n",
    "Cache-Control: private, max-age=60\r\n",
    "\r\n",
);

/// Copies are on the heap of the row's thread, with the same layout in every run.
fn parse_request(text: &str, times: u64) {
    let (bytes, limits, mut slots) = (text.as_bytes().to_vec(), Limits::default(), Slots::new());
    for _ in 0..times {
        black_box(request(black_box(&bytes), &limits, &mut slots).len);
    }
}

fn parse_response(times: u64) {
    let (bytes, limits, mut slots) = (RESPONSE.as_bytes().to_vec(), Limits::default(), Slots::new());
    for _ in 0..times {
        black_box(response_head(black_box(&bytes), &limits, &mut slots).len);
    }
}

fn forward_request(text: &str, times: u64) {
    let (bytes, limits, mut slots) = (text.as_bytes().to_vec(), Limits::default(), Slots::new());
    let head = request(&bytes, &limits, &mut slots);
    let mut out = Vec::with_capacity(8192);
    for number in 0..times {
        let hop = Hop {
            peer: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 17))),
            peer_trusted: false,
            proto: "http",
            client_certificate: None,
            pseudonym: "evenkeel-0123456789",
            request_id: Some(RequestId::new(1, number)),
            trace_parent: None,
            forwarded: false,
            authority: "10.0.0.11:8080",
            rewritten: Rewritten::default(),
            edits: None,
        };
        out.clear();
        assert!(forward::request(black_box(&head), black_box(&hop), &mut out).is_ok());
        black_box(&out);
    }
}

fn forward_response(times: u64) {
    let (bytes, limits, mut slots) = (RESPONSE.as_bytes().to_vec(), Limits::default(), Slots::new());
    let head = response_head(&bytes, &limits, &mut slots);
    let mut out = Vec::with_capacity(8192);
    for _ in 0..times {
        let hop = ResponseHop {
            client: Version::Http11,
            framing: head.framing,
            keep_alive: true,
            pseudonym: "evenkeel-0123456789",
            hides_load_metrics: false,
            served_by: None,
            request_id: None,
            coding: None,
            weakens_tag: false,
            page: None,
            varies: false,
            date: "Tue, 24 Nov 2026 10:00:00 GMT",
            lines: b"",
            session: b"",
            edits: None,
        };
        out.clear();
        forward::response(black_box(&head), black_box(&hop), &mut out);
        black_box(&out);
    }
}

/// Decoding moves the payload to the front, so each iteration begins with a fresh copy, which is counted as well.
fn decode_chunks(times: u64) {
    let chunk = format!("40\r\n{}\r\n", "x".repeat(64));
    let coded = format!("{}0\r\n\r\n", chunk.repeat(16)).into_bytes();
    let mut bytes = coded.clone();
    for _ in 0..times {
        bytes.copy_from_slice(&coded);
        let mut body = Body::new(black_box(Framing::Chunked));
        let decoded = body.compact(black_box(&mut bytes));
        assert!(decoded == Ok((coded.len(), 16 * 64)) && body.is_done());
    }
}

/// Including the budget: a request is counted, and its failure evaluated.
fn retry_after(phase: Phase, times: u64) {
    let (rules, budget, now) = (retry::Rules::default(), Budget::new(), Moment::from_millis(1));
    let attempt = Attempt {
        phase,
        idempotent: true,
        body_buffered: true,
        sent: true,
        connects_failed: 0,
        reuses_failed: u32::from(phase == Phase::Reuse),
        others_failed: u32::from(phase == Phase::Response),
        timed_out: false,
    };
    for _ in 0..times {
        budget.earn(black_box(now));
        black_box(retry::may(black_box(&rules), black_box(&attempt), &budget, now));
    }
}

/// One request per millisecond, each after the same wait.
fn judge(waited_ms: u64, times: u64) {
    let (mut codel, rules) = (Codel::default(), admit::Rules::default());
    for number in 0..times {
        let ready = Moment::from_millis(1000 + number);
        let now = Moment::from_millis(1000 + number + waited_ms);
        let stands = codel.take(rules.target, rules.interval, black_box(ready), black_box(now));
        black_box(black_box(&rules).admit(now.since(ready), stands));
    }
}

/// The supervisor's decision at each observation.
fn workers(times: u64) {
    let mut memory = Memory::new(2);
    for number in 0..times {
        let seen = Seen { workers: 2, in_flight: 64, moves: number * 500, ..Seen::default() };
        black_box(memory.order(black_box(&seen), Bounds::default(), Moment::from_millis(10 * number)));
    }
}

fn request<'s, 'b>(bytes: &'b [u8], limits: &Limits, slots: &'s mut Slots) -> RequestHead<'s, 'b> {
    match head::request(bytes, limits, slots) {
        Ok(Parsed::Complete(head)) => head,
        other => panic!("the request is complete and valid: {other:?}"),
    }
}

fn response_head<'s, 'b>(bytes: &'b [u8], limits: &Limits, slots: &'s mut Slots) -> ResponseHead<'s, 'b> {
    match head::response(bytes, Method::Other, limits, slots) {
        Ok(Parsed::Complete(head)) => head,
        other => panic!("the response is complete and valid: {other:?}"),
    }
}
