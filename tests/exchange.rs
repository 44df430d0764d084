//! The exchange end to end: what a server gets to see of a request, what a client gets to see of a response, and
//! what becomes of both when one side does not keep the rules.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; tests read the clock for their deadlines"
)]

mod support;

#[path = "exchange/on_status.rs"]
mod on_status;

use serde_json::{Value, json};
use std::time::Duration;
use support::balancer::{ADMIN, list, one_worker, with};
use support::faults::{Early, ok};
use support::message::Framing;
use support::{Broken, Client, Evenkeel, Gate, Origin, Response, Seen, becomes, chunked, noise, until};

/// Sends these bytes through a balancer to a server that says 200; what the server saw, and the response.
#[track_caller]
fn forwarded(config: Value, sent: &[u8]) -> (Seen, Response) {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], config);
    let response = Client::to(&balancer).send(sent).response();
    (origin.only_request(), response)
}

/// What a client gets for these bytes of a server, sent in response to `GET /`.
#[track_caller]
fn answered(bytes: impl Into<Vec<u8>>) -> Response {
    let origin = Origin::says(bytes);
    let balancer = Evenkeel::before(&[&origin], json!({}));
    Client::to(&balancer).get("/")
}

/// A request that is rejected: its status and reason, what is pipelined behind it is never served, and the
/// client reads the response and an end without a reset.
#[track_caller]
fn rejected(config: Value, sent: &[u8], status: u16, reason: &str) -> Response {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);
    client.send([sent, b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"].concat());
    let response = client.response();
    let told = String::from_utf8_lossy(&sent[..sent.len().min(60)]).into_owned();
    assert_eq!(
        (response.status, response.reason().as_str()),
        (status, reason),
        "{told:?}: {}",
        response.text()
    );
    assert_eq!(response.fields.all("Connection"), ["close"], "{told:?}");
    client.sees_the_end();
    let bytes = String::from_utf8_lossy(&origin.all_bytes()).into_owned();
    assert!(!bytes.contains("smuggled"), "{told:?}: the server saw {bytes:?}");
    response
}

mod fields {
    use super::*;

    #[test]
    fn fields_go_on_with_their_order_case_duplicates_and_odd_bytes() {
        let sent = b"GET /a?b=%20&c HTTP/1.1\r\nHost: ExAmple:81\r\nx-ODD: \xe9\xff\r\nB: 2\r\na: 1\r\nB:  3 \r\nCookie: c=d\r\nEmpty:\r\n\r\n";
        let (seen, response) = forwarded(json!({}), sent);
        assert_eq!(response.status, 200);
        assert_eq!(seen.line, "GET /a?b=%20&c HTTP/1.1");
        let theirs: Vec<_> = seen.fields.0.iter().take(7).cloned().collect();
        let expected: [(&[u8], &[u8]); 7] = [
            (b"Host", b"ExAmple:81"),
            (b"x-ODD", b"\xe9\xff"),
            (b"B", b"2"),
            (b"a", b"1"),
            (b"B", b"3"),
            (b"Cookie", b"c=d"),
            (b"Empty", b""),
        ];
        assert_eq!(theirs, expected.map(|(name, value)| (name.to_vec(), value.to_vec())));
    }

    #[test]
    fn fields_of_a_response_go_on_as_they_came() {
        let response = answered(
            &b"HTTP/1.1 299 S\xf6 la\r\nSet-Cookie: a=1\r\nx-Z: \xfe\r\nSET-cookie: b=2\r\nContent-Length: 1\r\nDate: then\r\n\r\nx"[..],
        );
        assert!(response.line.starts_with("HTTP/1.1 299 S"), "{}", response.line);
        assert_eq!(response.fields.all("Set-Cookie"), ["a=1", "b=2"]);
        assert_eq!(response.fields.0[0], (b"Set-Cookie".to_vec(), b"a=1".to_vec()));
        assert_eq!(response.fields.0[1], (b"x-Z".to_vec(), b"\xfe".to_vec()));
        assert_eq!(response.fields.0[2].0, b"SET-cookie");
        assert_eq!(response.fields.one("Date"), "then");
        assert!(response.fields.one("Via").starts_with("1.1 evenkeel-"));
        assert_eq!(response.fields.one("X-Served-By"), "a");
    }

    #[test]
    fn hop_by_hop_fields_stay_behind_in_both_directions() {
        let sent = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\nUpgrade: foo\r\nX-Public: 2\r\n\r\n";
        let (seen, _) = forwarded(json!({}), sent);
        for name in ["Connection", "X-Private", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade"] {
            assert!(!seen.fields.has(name), "{name} went on:{}", seen.fields);
        }
        assert_eq!(seen.fields.one("X-Public"), "2");
        let response = answered(
            "HTTP/1.1 200 OK\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: 5\r\nContent-Length: 0\r\nX-Public: 2\r\n\r\n",
        );
        for name in ["Connection", "X-Private", "Keep-Alive"] {
            assert!(!response.fields.has(name), "{name} went on:{}", response.fields);
        }
        assert_eq!(response.fields.one("X-Public"), "2");
    }

    #[test]
    fn the_server_learns_where_a_request_came_from() {
        let (seen, _) = forwarded(json!({}), b"GET / HTTP/1.1\r\nHost: shop:1\r\nVia: 1.0 other\r\n\r\n");
        assert_eq!(seen.fields.one("X-Forwarded-For"), "127.0.0.1");
        assert_eq!(seen.fields.one("X-Forwarded-Proto"), "http");
        assert_eq!(seen.fields.one("X-Forwarded-Host"), "shop:1");
        assert_eq!(seen.fields.one("X-Request-Id").len(), 32);
        let via = seen.fields.all("Via");
        assert_eq!(via[0], "1.0 other");
        assert!(via[1].starts_with("1.1 evenkeel-"), "{via:?}");
    }

    #[test]
    fn what_an_untrusted_client_says_of_its_way_is_replaced_and_a_trusted_one_is_believed() {
        let sent = b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: mine-1\r\n\r\n";
        let (seen, _) = forwarded(json!({}), sent);
        assert_eq!(seen.fields.one("X-Forwarded-For"), "127.0.0.1");
        assert_eq!(seen.fields.one("X-Forwarded-Proto"), "http");
        assert_eq!(seen.fields.one("X-Forwarded-Host"), "h");
        assert!(!seen.fields.has("Forwarded"));
        assert_eq!(seen.fields.one("X-Request-Id").len(), 32);
        assert!(!seen.fields.has("X-Real-IP"));
        let (seen, _) = forwarded(json!({"load_balancer": {"trusted_proxies": ["127.0.0.0/8"]}}), sent);
        assert_eq!(
            (seen.fields.one("X-Request-Id"), seen.fields.one("X-Real-IP")),
            ("mine-1".into(), "6.6.6.6".into())
        );
        assert_eq!(seen.fields.one("X-Forwarded-For"), "6.6.6.6, 127.0.0.1");
        assert_eq!(seen.fields.one("X-Forwarded-Proto"), "https");
    }

    #[test]
    fn two_requests_never_have_the_same_id() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        (0..20).for_each(|_| drop(client.get("/")));
        let mut ids: Vec<_> = origin.requests().iter().map(|seen| seen.fields.one("X-Request-Id")).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 20);
    }

    #[test]
    fn the_absolute_form_becomes_the_origin_form_and_its_authority_the_host() {
        for (target, host, path) in [
            ("http://shop.example:8080/a?b", "shop.example:8080", "/a?b"),
            ("http://shop.example", "shop.example", "/"),
            ("http://shop.example?q", "shop.example", "/?q"),
        ] {
            let sent = format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n");
            let (seen, _) = forwarded(json!({}), sent.as_bytes());
            assert_eq!((seen.target(), seen.fields.one("Host").as_str()), (path, host), "{target}");
        }
        let (seen, _) = forwarded(json!({}), b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(seen.line, "OPTIONS * HTTP/1.1");
    }

    #[test]
    fn a_target_of_https_goes_on_when_a_trusted_proxy_asks_for_it() {
        let sent = b"GET https://shop/a HTTP/1.1\r\nHost: shop\r\n\r\n";
        let trusts = json!({"load_balancer": {"trusted_proxies": ["127.0.0.1/32"]}});
        let (seen, response) = forwarded(trusts, sent);
        assert_eq!((response.status, seen.line.as_str()), (200, "GET /a HTTP/1.1"));
    }

    #[test]
    fn a_rejected_head_request_gets_a_head_alone() {
        let balancer = Evenkeel::start(json!({}));
        let mut client = Client::to(&balancer);
        let response = client.send("HEAD / HTTP/1.1\r\nHost : h\r\n\r\n").try_response_to("HEAD").unwrap();
        assert_eq!(response.status, 400);
        client.sees_the_end();
    }

    #[test]
    fn any_method_goes_on() {
        for method in ["GET", "PURGE", "M-SEARCH", "get", "!x"] {
            let (seen, _) =
                forwarded(json!({}), format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            assert_eq!(seen.method(), method);
        }
    }

    #[test]
    fn a_request_that_comes_round_again_is_a_loop() {
        let config = json!({"load_balancer": {"via": "keel-1"}});
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], config);
        let mut client = Client::to(&balancer);
        let response = client.send("GET / HTTP/1.1\r\nHost: h\r\nVia: 1.1 a, 1.1 keel-1\r\n\r\n").response();
        assert_eq!((response.status, response.reason().as_str()), (508, "loop_detected"));
        assert_eq!(origin.count(), 0);
        assert_eq!(client.get("/").status, 200, "the connection goes on");
    }
}

mod connections {
    use super::*;

    #[test]
    fn both_sides_keep_their_connection() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let mut client = Client::to(&balancer);
        for _ in 0..10 {
            let response = client.get("/");
            assert_eq!((response.status, response.text().as_str()), (200, "ok"));
            assert!(!response.fields.has("Connection"), "{}", response.fields);
        }
        assert_eq!((origin.count(), origin.connections()), (10, 1));
    }

    #[test]
    fn another_client_uses_the_same_server_connection() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        for _ in 0..5 {
            assert_eq!(Client::to(&balancer).get("/").status, 200);
        }
        assert_eq!((origin.count(), origin.connections()), (5, 1));
    }

    #[test]
    fn a_client_that_asks_for_it_is_closed() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        let response = client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").response();
        assert_eq!(
            (response.text().as_str(), response.fields.all("Connection")),
            ("ok", vec!["close".to_owned()])
        );
        client.sees_the_end();
    }

    /// A segment less to send, to receive and to acknowledge.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_end_of_a_connection_comes_with_the_last_bytes() {
        let short = Origin::responds("ok");
        let long = Origin::replies(|visit| visit.response(noise(10_000)));
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
        let pieces = Origin::says([head, &chunked(&[b"one", b"two"])].concat());
        let serverless = Evenkeel::start(json!({}));
        let [short, long, pieces] = [&short, &long, &pieces].map(|to| Evenkeel::before(&[to], json!({})));
        for (balancer, fields) in [
            (&short, "Connection: close"),
            (&long, "Connection: close"),
            (&pieces, "Connection: close"),
            (&short, "Max-Forwards: 0\r\nConnection: close"),
            (&short, "Content-Length: one"),
            (&serverless, "Connection: close"),
        ] {
            let mut client = Client::to(balancer);
            client.send(format!("OPTIONS / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n"));
            assert!(client.sees_the_end_at_once(), "{fields}");
            assert!(client.rest().1.is_ok());
        }
    }

    #[test]
    fn a_server_that_asks_for_it_gets_a_new_connection_each_time() {
        let origin =
            Origin::says_and_closes("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        for _ in 0..5 {
            assert_eq!(client.get("/").text(), "ok");
        }
        assert_eq!((origin.count(), origin.connections()), (5, 5));
    }

    fn numbered(count: usize) -> Vec<u8> {
        let request = |at| match at % 3 {
            0 => format!("GET /{at} HTTP/1.1\r\nHost: h\r\n\r\n"),
            1 => format!("POST /{at} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"),
            _ => format!(
                "POST /{at} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            ),
        };
        (0..count).flat_map(|at| request(at).into_bytes()).collect()
    }

    fn repeats_the_target() -> Origin {
        Origin::start(|visit| {
            while let Some(seen) = visit.request() {
                visit.send(ok(&format!("{} {}", seen.target(), seen.body.len())));
            }
        })
    }

    #[track_caller]
    fn expect_numbered(client: &mut Client, count: usize) {
        for at in 0..count {
            let length = if at % 3 == 0 { 0 } else { 3 };
            assert_eq!(client.response().text(), format!("/{at} {length}"));
        }
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let origin = repeats_the_target();
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        expect_numbered(client.send(numbered(300)), 300);
        assert!(client.is_quiet());
    }

    #[test]
    fn pipelined_requests_may_be_split_at_every_byte() {
        let origin = repeats_the_target();
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let all = numbered(3);
        let mut client = Client::to(&balancer);
        for at in 1..all.len() {
            client.send(&all[..at]);
            client.send(&all[at..]);
            expect_numbered(&mut client, 3);
        }
        all.iter().for_each(|byte| _ = client.send([*byte]));
        expect_numbered(&mut client, 3);
    }

    #[test]
    fn a_client_that_pipelines_many_shares_the_worker_and_gets_all_its_responses() {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "ok");
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let mut greedy = Client::to(&balancer);
        greedy.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100));
        origin.until("the first request came", |seen| !seen.requests.is_empty());
        // These come while the first of the hundred is with the server.
        let mut others: Vec<_> = (0..10).map(|_| Client::to(&balancer)).collect();
        others.iter_mut().for_each(|other| _ = other.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        gate.open();
        for other in &mut others {
            assert_eq!(other.response().status, 200);
        }
        for at in 0..100 {
            let response = greedy.try_response();
            assert!(response.is_ok(), "response {at}: {response:?}");
        }
    }

    #[test]
    fn a_client_may_close_its_side_once_it_has_asked() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n").finish_writing();
        assert_eq!([client.response().status, client.response().status], [200, 200]);
        client.sees_the_end();
    }

    #[test]
    fn a_client_that_closes_its_side_with_its_last_request_sees_the_end() {
        let origin = Origin::echoes();
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let (mut held, mut client) = (Client::to(&balancer), Client::to(&balancer));
        assert_eq!([client.get("/").status, held.get("/").status], [200, 200]);
        // An upload that stands still, at the only worker.
        held.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n");
        origin.until("the upload is there", |seen| seen.heads == 3);
        // Request and end come while another exchange of the same worker waits.
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").finish_writing();
        held.send("x");
        assert_eq!([held.response().status, client.response().status], [200, 200]);
        client.sees_the_end();
    }

    #[test]
    fn an_idle_client_is_closed_without_a_word() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"keep_alive": "200ms"}}));
        let mut client = Client::to(&balancer);
        assert_eq!(client.get("/").status, 200);
        client.sees_the_end();
    }

    #[test]
    fn a_client_of_http_1_0_is_closed_unless_it_asks_to_be_kept() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        let response = client.send("GET / HTTP/1.0\r\n\r\n").response();
        assert_eq!(response.text(), "ok");
        client.sees_the_end();
        let mut client = Client::to(&balancer);
        for _ in 0..3 {
            let response = client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").response();
            assert_eq!(response.text(), "ok");
            assert_eq!(response.fields.one("Connection"), "keep-alive");
        }
        let seen = &origin.requests()[0];
        assert_eq!(seen.line, "GET / HTTP/1.1");
        assert_eq!(
            seen.fields.one("Host"),
            origin.address().to_string(),
            "a request without a Host gets one"
        );
        assert!(seen.fields.one("Via").starts_with("1.0 "));
    }
}

mod bodies {
    use super::*;

    #[track_caller]
    fn check_head_only(response: &str, method: &str, status: u16, length: Option<&str>) {
        assert_eq!(
            head_only(response, method, status, length),
            1,
            "the server connection is used again: {response:?}"
        );
    }

    /// Two exchanges; how many connections the server saw.
    #[track_caller]
    fn head_only(response: &str, method: &str, status: u16, length: Option<&str>) -> usize {
        let origin = Origin::says(response);
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let mut client = Client::to(&balancer);
        for _ in 0..2 {
            client.send(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n"));
            let seen = client.try_response_to(method).unwrap();
            assert_eq!((seen.status, seen.body.len()), (status, 0), "{response:?}");
            assert_eq!(seen.fields.all("Content-Length"), Vec::from_iter(length), "{response:?}");
            assert!(client.is_quiet(), "{response:?}");
        }
        origin.connections()
    }

    #[test]
    fn a_server_that_promises_a_body_with_204_gets_its_connection_closed() {
        assert_eq!(head_only("HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n", "GET", 204, None), 2);
    }

    #[test]
    fn responses_without_a_body_have_none() {
        check_head_only("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "HEAD", 200, Some("1000"));
        check_head_only("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", 200, None);
        check_head_only("HTTP/1.1 200 OK\r\n\r\n", "HEAD", 200, None);
        check_head_only("HTTP/1.1 204 None\r\n\r\n", "GET", 204, None);
        check_head_only("HTTP/1.1 304 Same\r\nContent-Length: 77\r\n\r\n", "GET", 304, Some("77"));
        check_head_only("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", 200, Some("0"));
    }

    /// Up and down again, in the framing asked for.
    #[track_caller]
    fn check_echo(body: &[u8], as_chunks: bool) {
        let origin = Origin::echoes();
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let mut client = Client::to(&balancer);
        let request = if as_chunks {
            let pieces: Vec<&[u8]> = body.chunks(70_000.min(body.len().max(1) / 3 + 1)).collect();
            [&b"PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n"[..], &chunked(&pieces)]
                .concat()
        } else {
            [format!("PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body]
                .concat()
        };
        for _ in 0..2 {
            client.send(&request);
            let response = client.response();
            assert!(response.status == 200 && response.body == body, "{} bytes, {as_chunks}", body.len());
        }
        let seen = &origin.requests()[1];
        let expected = if as_chunks { Framing::Chunked } else { Framing::Length(body.len()) };
        assert_eq!((seen.framing, seen.body.as_slice() == body), (expected, true));
        assert_eq!(origin.connections(), 1);
    }

    #[test]
    fn bodies_go_up_and_come_down_unchanged() {
        for len in [0, 1, 5, 1000, 20_000, 1 << 20] {
            check_echo(&noise(len), false);
            check_echo(&noise(len), true);
        }
    }

    /// More than a worker looks at: it goes through a pipe.
    #[test]
    fn what_a_server_says_beyond_a_long_body_is_no_response() {
        let origin = Origin::start(|visit| {
            while let Some(seen) = visit.request() {
                match seen.target() {
                    "/long" => {
                        let long = "x".repeat(340_000);
                        visit.send(ok(&long) + &ok("unasked"));
                    }
                    _ => visit.response("of the second"),
                }
            }
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        for _ in 0..100 {
            let mut client = Client::to(&balancer);
            client.send("GET /long HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(client.response().body.len(), 340_000);
            assert_eq!(client.response().text(), "of the second");
        }
    }

    #[test]
    fn a_response_in_chunks_stays_in_chunks_with_its_trailers() {
        let origin = Origin::chunked_with_trailers(&["hello, ", "w", "orld"]);
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let mut client = Client::to(&balancer);
        for _ in 0..2 {
            let response = client.get("/");
            assert_eq!((response.text().as_str(), response.framing), ("hello, world", Framing::Chunked));
            assert_eq!(response.trailers.one("X-Sum"), "42");
        }
        assert_eq!(origin.connections(), 1);
    }

    #[test]
    fn trailers_of_a_request_go_on_but_for_those_that_frame_or_route() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let sent = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 7\r\nContent-Length: 5\r\nHost: evil\r\nTransfer-Encoding: x\r\nAuthorization: x\r\n\r\n";
        assert_eq!(Client::to(&balancer).send(sent).response().status, 200);
        let seen = origin.only_request();
        assert_eq!((seen.body.as_slice(), seen.trailers.all("X-Sum")), (&b"abc"[..], vec!["7".to_owned()]));
        assert_eq!(seen.trailers.0.len(), 1, "{}", seen.trailers);
    }

    #[test]
    fn a_response_until_close_comes_in_chunks_to_1_1_and_until_close_to_1_0() {
        let origin = Origin::until_close("all of it");
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        for _ in 0..2 {
            let response = client.get("/");
            assert_eq!((response.text().as_str(), response.framing), ("all of it", Framing::Chunked));
        }
        let mut old = Client::to(&balancer);
        let response = old.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").response();
        assert_eq!((response.text().as_str(), response.framing), ("all of it", Framing::Close));
        assert_eq!(response.fields.all("Connection"), ["close"]);
    }

    #[test]
    fn a_response_in_chunks_goes_to_1_0_until_close() {
        let origin = Origin::chunked_with_trailers(&["hello, ", "world"]);
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let response = Client::to(&balancer).send("GET / HTTP/1.0\r\n\r\n").response();
        assert_eq!((response.text().as_str(), response.framing), ("hello, world", Framing::Close));
    }

    #[test]
    fn a_response_may_come_byte_by_byte() {
        let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        response.extend(chunked(&[b"abc", b"defgh"]));
        for bytes in [response, ok("abcdefgh").into_bytes()] {
            let origin = Origin::one_byte_at_a_time(bytes);
            let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
            let mut client = Client::to(&balancer);
            for _ in 0..2 {
                assert_eq!(client.get("/").text(), "abcdefgh");
            }
            assert_eq!(origin.connections(), 1);
        }
    }

    #[test]
    fn events_reach_the_client_one_by_one() {
        let next = [(); 3].map(|()| Gate::default());
        let gates = next.clone();
        let origin = Origin::start(move |visit| {
            visit.request();
            visit.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
            for (at, gate) in gates.iter().enumerate() {
                gate.wait();
                visit.send(format!("data: {at}\n\n"));
            }
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send("GET /events HTTP/1.1\r\nHost: h\r\n\r\n");
        // The head comes before the first event exists, and each event before the next one does.
        let (head, status) = client.head();
        assert_eq!((status, head.framing().unwrap()), (200, Framing::Chunked));
        for (at, gate) in next.iter().enumerate() {
            gate.open();
            let event = format!("9\r\ndata: {at}\n\n\r\n");
            assert_eq!(String::from_utf8(client.bytes(event.len())).unwrap(), event);
        }
        assert_eq!(client.bytes(5), b"0\r\n\r\n");
    }
}

mod expectations {
    use super::*;

    const UPLOAD: &str = "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

    #[test]
    fn the_servers_100_reaches_the_client_and_then_the_body_the_server() {
        let origin = Origin::start(|visit| {
            while let Some(head) = visit.head() {
                visit.send("HTTP/1.1 100 Continue\r\n\r\n");
                visit.body(head);
                visit.response("done");
            }
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        for _ in 0..2 {
            // The body is sent only once the 100 is there, so nothing else can have sent it.
            assert_eq!(client.send(UPLOAD).response().status, 100);
            assert_eq!(client.send("body").response().text(), "done");
        }
        let seen = &origin.requests()[0];
        assert_eq!(
            (seen.fields.one("Expect").as_str(), seen.body.as_slice()),
            ("100-continue", &b"body"[..])
        );
    }

    #[test]
    fn a_final_response_instead_of_100_reaches_the_client_and_the_body_is_not_sent() {
        let origin = Origin::responds_early();
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        let response = client.send(UPLOAD).response();
        assert_eq!((response.status, response.text().as_str()), (413, "large"));
        origin.until("its connection is over", |seen| seen.ended == 1);
        assert!(origin.all_bytes().ends_with(b"\r\n\r\n"), "no byte of a body came");
    }

    #[test]
    fn an_unknown_expectation_is_417() {
        rejected(
            json!({}),
            b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\n\r\n",
            417,
            "expectation_unknown",
        );
    }

    #[test]
    fn interim_responses_reach_a_1_1_client_and_never_one_of_1_0() {
        let origin = Origin::sends_interim(&[102, 103, 103]);
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            for status in [102, 103, 103] {
                let interim = client.response();
                assert_eq!((interim.status, interim.fields.one("X-Interim")), (status, status.to_string()));
            }
            assert_eq!(client.response().text(), "final");
        }
        let response = Client::to(&balancer).send("GET / HTTP/1.0\r\n\r\n").response();
        assert_eq!((response.status, response.text().as_str()), (200, "final"));
    }

    #[test]
    fn an_interim_response_of_an_unknown_status_reaches_the_client() {
        let origin = Origin::sends_interim(&[142, 199]);
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        for status in [142, 199] {
            let interim = client.response();
            assert_eq!((interim.status, interim.fields.one("X-Interim")), (status, status.to_string()));
        }
        assert_eq!(client.response().text(), "final");
    }

    #[test]
    fn a_hundred_interim_responses_reach_the_client() {
        static STATUSES: [u16; 100] = [103; 100];
        let origin = Origin::sends_interim(&STATUSES);
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!((0..100).all(|_| client.response().status == 103));
        assert_eq!(client.response().text(), "final");
    }

    /// 64 KiB of them without progress of the request; tests/duplex.rs has more.
    #[test]
    fn interim_responses_without_end_are_502() {
        static STATUSES: [u16; 5000] = [103; 5000];
        let origin = Origin::sends_interim(&STATUSES);
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let last = (0..5000).map(|_| client.response()).find(|response| response.status >= 200).unwrap();
        assert_eq!((last.status, last.reason().as_str()), (502, "bad_response"));
    }

    #[test]
    fn an_early_final_response_reaches_the_client_while_it_uploads() {
        let origin = Origin::responds_early();
        let balancer = Evenkeel::before(&[&origin], json!({}));
        for body in
            ["", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 1000000\r\n\r\nbegin"]
        {
            if body.is_empty() {
                continue;
            }
            let mut client = Client::to(&balancer);
            // The client never sends the rest: it waits for a response first.
            let response = client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{body}")).response();
            assert_eq!((response.status, response.text().as_str()), (413, "large"));
            assert_eq!(response.fields.all("Connection"), ["close"]);
            client.sees_the_end();
        }
    }
}

mod ends {
    use super::*;

    /// Only a reset says that the client is gone: a client that has closed its side may wait for its response.
    #[test]
    fn a_client_that_resets_stops_the_work_at_the_server() {
        for request in ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
            let origin = Origin::stalls();
            let balancer = Evenkeel::before(&[&origin], json!({ "admin": { "socket": ADMIN } }));
            let mut client = Client::to(&balancer);
            client.send(request);
            origin.until("the request came", |seen| seen.bytes.len() == 1);
            client.reset();
            // Long before the response timeout of 30 s.
            origin.until("its connection is over", |seen| seen.ended == 1);
            until("it is counted", || {
                balancer.metric("evenkeel_rejections_total{reason=\"client_gone\"}") == 1.0
            });
            balancer.metric_is("evenkeel_server_in_flight", 0.0);
        }
    }

    /// The first bytes of the response that such a client does not take say so.
    #[test]
    fn a_client_that_is_gone_stops_a_long_response() {
        let origin = Origin::start(|visit| {
            if visit.request().is_some() {
                visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                // Until the balancer takes no more.
                let piece = chunked(&[&noise(10_000)]);
                let piece = &piece[..piece.len() - 5];
                while visit.try_send(piece) {}
                visit.to_the_end();
            }
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.head().1, 200);
        drop(client);
        origin.until("its connection is over", |seen| seen.ended == 1);
    }

    #[test]
    fn a_client_that_resets_in_the_middle_of_its_upload_cuts_it_at_the_server() {
        let origin = Origin::start(|visit| {
            visit.head();
            visit.to_the_end();
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        origin.until("the head came", |seen| seen.heads == 1);
        client.reset();
        origin.until("its connection is over", |seen| seen.ended == 1);
        assert!(!origin.all_bytes().ends_with(b"0\r\n\r\n"), "a cut body never looks whole");
    }

    #[test]
    fn a_client_that_closes_in_the_middle_of_its_upload_cuts_it_at_the_server() {
        let origin = Origin::start(|visit| {
            visit.head();
            visit.to_the_end();
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let rest = ["Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 9\r\n\r\nhello"];
        for (at, rest) in rest.into_iter().enumerate() {
            let mut client = Client::to(&balancer);
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{rest}"));
            origin.until("the head came", |seen| seen.heads == at + 1);
            client.finish_writing();
            origin.until("its connection is over", |seen| seen.ended == at + 1);
            assert!(!origin.bytes(at).ends_with(b"0\r\n\r\n"), "a cut body never looks whole");
        }
    }

    /// A server that breaks off in the middle: what came before reaches the client, and no clean end.
    #[track_caller]
    fn check_cut(response: &'static str) {
        let origin = Origin::says_and_closes(response);
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let seen = Client::to(&balancer).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").try_response();
        assert!(matches!(seen, Err(Broken::Cut(_) | Broken::Reset(_))), "{response:?}: {seen:?}");
        let seen = Client::to(&balancer)
            .send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .try_response();
        assert!(matches!(seen, Err(Broken::Cut(_) | Broken::Reset(_))), "{response:?}: {seen:?}");
    }

    #[test]
    fn a_server_that_breaks_off_in_a_body_makes_an_incomplete_message() {
        check_cut("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort");
        check_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        check_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
        check_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n");
    }

    /// A server breaks off behind so much of a body, with a close or with a reset: the client gets so many bytes, or
    /// fewer behind a reset, and no end; and it is counted.
    #[track_caller]
    fn check_cut_counts(framing: &str, sent: &[u8], payload: usize, by_reset: bool) {
        let response = [format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes(), sent].concat();
        let gate = Gate::default();
        let has_begun = gate.clone();
        let origin = Origin::start(move |visit| {
            if visit.request().is_some() {
                visit.send(&response);
                if by_reset {
                    // It takes away what was not read yet, and the response must have begun.
                    has_begun.wait();
                    visit.reset_on_close();
                }
            }
        });
        let balancer = Evenkeel::before(&[&origin], json!({ "admin": { "socket": ADMIN } }));
        let counted = || balancer.metric("evenkeel_rejections_total{reason=\"response_truncated\"}");
        assert_eq!(counted(), 0.0);
        let mut client = Client::to(&balancer);
        let (head, status) = client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").head();
        gate.open();
        let told = format!("{framing}, {payload} bytes, reset: {by_reset}");
        let got = match client.body_of("GET", head, status) {
            Err(Broken::Cut(got) | Broken::Reset(got)) => got.len(),
            seen => panic!("{told}: {seen:?}"),
        };
        assert!(if by_reset { got <= payload } else { got == payload }, "{told}: {got} came");
        assert_eq!(status, 200, "{told}");
        becomes(&told, &1.0, counted);
        balancer.metric_is("evenkeel_server_in_flight", 0.0);
    }

    #[test]
    fn a_response_that_was_cut_is_counted() {
        const HALF: usize = 1 << 19;
        let half = noise(HALF);
        let chunk = [b"80000\r\n", &half[..], b"\r\n"].concat();
        for by_reset in [false, true] {
            check_cut_counts("Content-Length: 20", b"short", 5, by_reset);
            // So much is to come that the rest is spliced.
            check_cut_counts("Content-Length: 4194304", &half, HALF, by_reset);
            check_cut_counts("Transfer-Encoding: chunked", b"5\r\nhello\r\n", 5, by_reset);
            check_cut_counts("Transfer-Encoding: chunked", &chunk, HALF, by_reset);
            check_cut_counts("Transfer-Encoding: chunked", &chunk[..HALF], HALF - 7, by_reset);
        }
    }

    #[test]
    fn a_broken_chunk_is_502_while_nothing_was_sent() {
        let broken =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX5\r\nhello\r\n0\r\n\r\n";
        let origin = Origin::says_and_closes(broken);
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let response = Client::to(&balancer).get("/");
        assert_eq!((response.status, response.reason().as_str()), (502, "bad_response"));
    }

    #[test]
    fn a_cut_response_of_unknown_length_is_no_clean_end_to_1_0_either() {
        let origin =
            Origin::says_and_closes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let seen = Client::to(&balancer).send("GET / HTTP/1.0\r\n\r\n").try_response();
        assert!(matches!(seen, Err(Broken::Reset(_))), "{seen:?}");
    }

    /// A broken response: 502 while nothing was sent, and the client's connection goes on.
    #[track_caller]
    fn check_502(response: &[u8], reason: &str) {
        let told = String::from_utf8_lossy(&response[..response.len().min(80)]).into_owned();
        let origin = Origin::says_and_closes(response);
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        for _ in 0..2 {
            let seen = client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").response();
            assert_eq!((seen.status, seen.reason().as_str()), (502, reason), "{told:?}");
        }
        assert_eq!(origin.connections(), 2, "its connection is not used again: {told:?}");
    }

    #[test]
    fn a_broken_response_is_502() {
        for response in [
            "garbage\r\n\r\n",
            "HTTP/1.1 2OO OK\r\n\r\n",
            "HTTP/1.1 99 Low\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "H",
        ] {
            check_502(response.as_bytes(), "bad_response");
        }
        let response = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
        check_502(response.as_bytes(), "response_head_too_large");
        let response = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(300));
        check_502(response.as_bytes(), "response_too_many_headers");
        check_502(b"", "server_reset");
    }

    #[test]
    fn a_broken_chunk_behind_a_head_is_502_or_an_incomplete_message_and_never_a_clean_end() {
        for chunk in [
            "g\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "-5\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "\r\n",
            "fffffffffffffffff\r\n",
        ] {
            let origin =
                Origin::says(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"));
            let balancer = Evenkeel::before(&[&origin], json!({}));
            let seen = Client::to(&balancer).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").try_response();
            match &seen {
                Ok(response) => assert_eq!(response.status, 502, "{chunk:?}: {response:?}"),
                Err(broken) => {
                    assert!(
                        matches!(broken, Broken::End | Broken::Cut(_) | Broken::Reset(_)),
                        "{chunk:?}: {broken:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_server_that_stalls_is_504() {
        for origin in [Origin::stalls(), Origin::slow_head()] {
            let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"response": "200ms"}}));
            let mut client = Client::to(&balancer);
            let response = client.get("/");
            assert_eq!((response.status, response.reason().as_str()), (504, "server_timeout"));
            assert_eq!(client.get("/").status, 504, "the client's connection goes on");
            origin.until("both of its connections are over", |seen| seen.ended == 2 || seen.bytes.len() == 2);
        }
    }

    #[test]
    fn a_server_that_stalls_in_a_body_makes_an_incomplete_message() {
        let origin = Origin::start(|visit| {
            visit.request();
            visit.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort");
            visit.to_the_end();
        });
        let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"response": "200ms"}}));
        // A busy machine may have it stall before its first byte.
        until("it stalls in the body", || {
            match Client::to(&balancer).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").try_response() {
                Err(Broken::Cut(_) | Broken::Reset(_)) => true,
                Ok(response) if response.status == 504 => false,
                other => panic!("{other:?}"),
            }
        });
        origin.until("its connections are over", |seen| seen.ended == seen.bytes.len());
    }

    #[test]
    fn with_no_server_there_is_503_and_a_reason() {
        let balancer = Evenkeel::start(json!({}));
        let mut client = Client::to(&balancer);
        for _ in 0..2 {
            let response = client.get("/");
            assert_eq!((response.status, response.reason().as_str()), (503, "no_server"));
            assert!(response.fields.one("Retry-After").parse::<u32>().is_ok());
            assert!(response.text().contains("The service is not available."), "{}", response.text());
            assert!(response.fields.one("Content-Type").starts_with("text/plain"));
        }
    }

    #[test]
    fn errors_are_json_on_request_and_have_the_request_id() {
        let balancer = Evenkeel::start(json!({}));
        let mut client = Client::to(&balancer);
        let response =
            client.send("GET / HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n").response();
        assert_eq!(response.fields.one("Content-Type"), "application/json");
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!((&body["status"], &body["reason"]), (&json!(503), &json!("no_server")));
        assert_eq!(body["request_id"], json!(response.fields.one("X-Request-Id")));
        let response = client.get("/");
        assert!(response.text().contains(&response.fields.one("X-Request-Id")), "{}", response.text());
        client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.try_response_to("HEAD").unwrap();
        assert_eq!((response.status, response.body.len()), (503, 0));
        assert!(client.is_quiet());
    }
}

mod retries {
    use super::*;

    /// The first server fails; the second responds, and is a backup so that the first is always asked first.
    /// How many requests each of them got.
    #[track_caller]
    fn check(first: &Origin, request: &str, expected: Result<&str, (u16, &str)>) -> (usize, usize) {
        let second = Origin::responds("second");
        let balancer = one_and_backup(first, &second, json!({}));
        let response = Client::to(&balancer).send(request).response();
        match expected {
            Ok(text) => assert_eq!(response.text(), text, "{request:?}"),
            Err(why) => assert_eq!((response.status, response.reason().as_str()), why, "{request:?}"),
        }
        (first.count(), second.count())
    }

    fn one_and_backup(first: &Origin, second: &Origin, config: Value) -> Evenkeel {
        let mut servers = list(&[first, second]);
        servers[1]["backup"] = json!(true);
        Evenkeel::start(with(config, json!({"servers": {"list": servers}})))
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    const PUT: &str = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    const POST: &str = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";

    #[test]
    fn a_server_that_refuses_is_passed_over_for_any_method() {
        for request in [GET, PUT, POST] {
            assert_eq!(check(&Origin::refuses(), request, Ok("second")), (0, 1));
        }
    }

    #[test]
    fn a_reset_before_the_response_sends_an_idempotent_request_to_another_server() {
        for request in [GET, PUT] {
            assert_eq!(check(&Origin::resets(), request, Ok("second")), (1, 1));
            assert_eq!(check(&Origin::closes_early(Early::BeforeTheResponse), request, Ok("second")), (1, 1));
        }
    }

    #[test]
    fn a_reset_before_the_response_is_502_for_a_post_which_is_sent_once() {
        assert_eq!(check(&Origin::resets(), POST, Err((502, "server_reset"))), (1, 0));
        assert_eq!(
            check(&Origin::closes_early(Early::BeforeTheResponse), POST, Err((502, "server_reset"))),
            (1, 0)
        );
    }

    #[test]
    fn a_head_that_is_cut_short_is_as_good_as_none() {
        assert_eq!(check(&Origin::closes_early(Early::InTheHead), GET, Ok("second")), (1, 1));
        assert_eq!(check(&Origin::closes_early(Early::InTheHead), POST, Err((502, "bad_response"))), (1, 0));
    }

    #[test]
    fn a_response_that_has_begun_is_not_asked_for_again() {
        let (first, second) = (Origin::closes_early(Early::InTheBody), Origin::responds("second"));
        let balancer = one_and_backup(&first, &second, json!({}));
        let response = Client::to(&balancer).send(GET).try_response();
        assert!(matches!(response, Err(Broken::Cut(_) | Broken::Reset(_))), "{response:?}");
        assert_eq!((first.count(), second.count()), (1, 0));
    }

    #[test]
    fn a_stalled_server_does_not_cost_the_client_twice() {
        let (first, second) = (Origin::stalls(), Origin::responds("second"));
        let balancer = one_and_backup(&first, &second, json!({"timeouts": {"response": "200ms"}}));
        assert_eq!(Client::to(&balancer).get("/").status, 504);
        assert_eq!(second.count(), 0);
    }

    #[test]
    fn retries_can_be_switched_off() {
        for (first, reason) in [(Origin::refuses(), "connect_failed"), (Origin::resets(), "server_reset")] {
            let second = Origin::responds("second");
            let balancer = one_and_backup(&first, &second, json!({"retries": {"attempts": 0}}));
            assert_eq!(Client::to(&balancer).get("/").reason(), reason);
            assert_eq!(second.count(), 0);
        }
    }

    #[test]
    fn with_all_servers_refusing_it_is_503() {
        let origin = Origin::refuses();
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        for _ in 0..2 {
            let response = client.send(POST).response();
            assert_eq!((response.status, response.reason().as_str()), (503, "connect_failed"));
            assert!(response.fields.has("Retry-After"));
        }
    }

    /// A pooled connection that the server has closed meanwhile: the client does not notice.
    #[track_caller]
    fn check_reuse(request: &str, by_reset: bool) {
        let gate = Gate::default();
        let origin = Origin::closes_idle(&gate, by_reset);
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let mut client = Client::to(&balancer);
        assert_eq!(client.get("/").text(), "kept");
        gate.open();
        until("the balancer's end of the pooled connection has heard of the close", || {
            half_closed(&balancer, origin.address().port())
        });
        let response = client.send(request).response();
        assert_eq!(response.text(), "kept", "{request:?}, by a reset: {by_reset}");
        assert_eq!(origin.count(), 2, "it was sent once: {request:?}");
    }

    /// No connection between the balancer and this port is established any more.
    fn half_closed(_balancer: &Evenkeel, port: u16) -> bool {
        let established = |line: &str| {
            let mut words = line.split_whitespace().skip(2);
            let (peer, state) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            peer.ends_with(&format!(":{port:04X}")) && state == "01"
        };
        !std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(established)
    }

    #[test]
    fn a_pooled_connection_that_was_closed_costs_no_request() {
        for request in [GET, PUT, POST] {
            check_reuse(request, false);
        }
    }

    #[test]
    fn a_pooled_connection_that_was_reset_costs_no_request() {
        for request in [GET, PUT, POST] {
            check_reuse(request, true);
        }
    }

    #[test]
    fn a_pooled_connection_that_dies_under_a_request_is_made_up_for_unless_it_is_a_post() {
        // The server reads the second request on its first connection and closes without a word.
        let dies_on_the_second = || {
            Origin::start(|visit| {
                while visit.request().is_some() {
                    visit.send(ok("fine"));
                    if visit.number == 0 {
                        visit.request();
                        return;
                    }
                }
            })
        };
        for (request, status, sent) in [(GET, 200, 3), (PUT, 200, 3), (POST, 502, 2)] {
            let origin = dies_on_the_second();
            let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
            let mut client = Client::to(&balancer);
            assert_eq!(client.get("/").status, 200);
            assert_eq!(
                (client.send(request).response().status, origin.count()),
                (status, sent),
                "{request:?}"
            );
        }
    }

    #[test]
    fn a_server_connection_with_bytes_left_over_is_not_used_again() {
        let origin = Origin::claims_too_little();
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "short");
        }
        assert_eq!(origin.connections(), 3);
        let late =
            Origin::says("HTTP/1.1 204 None\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON");
        let balancer = Evenkeel::before(&[&late], json!({}));
        let mut client = Client::to(&balancer);
        assert_eq!([client.get("/").status, client.get("/").status], [204, 204]);
    }

    #[test]
    fn bytes_that_come_between_two_requests_are_no_response_to_the_second() {
        let (gate, sent) = (Gate::default(), Gate::default());
        let (script_gate, script_sent) = (gate.clone(), sent.clone());
        let origin = Origin::start(move |visit| {
            visit.request();
            visit.send(ok("first"));
            if visit.number == 0 {
                script_gate.wait();
                visit.send(ok("POISON"));
                script_sent.open();
            }
            while visit.request().is_some() {
                visit.send(ok("second"));
            }
        });
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let mut client = Client::to(&balancer);
        assert_eq!(client.get("/").text(), "first");
        gate.open();
        sent.wait();
        // It is closed at once, whether a request comes or not.
        let response = client.get("/").text();
        assert!(response != "POISON", "the client got a response that was not asked for");
    }
}

mod upgrades {
    use super::*;

    const ASK: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
    const SWITCH: &str = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

    /// Switches, says hello in the same breath, echoes until the client has closed its side, and says goodbye.
    fn echo_tunnel() -> Origin {
        Origin::start(|visit| {
            visit.request();
            visit.send(format!("{SWITCH}hello"));
            loop {
                let piece = visit.take(5);
                visit.send(&piece);
                if piece.len() < 5 {
                    break;
                }
            }
            visit.send("goodbye");
        })
    }

    #[test]
    fn an_upgrade_becomes_a_tunnel_that_keeps_early_bytes_and_half_closes() {
        let origin = echo_tunnel();
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        // Early: behind the request, before the response.
        client.send(format!("{ASK}early"));
        let response = client.response();
        assert_eq!((response.status, response.fields.one("Upgrade").as_str()), (101, "websocket"));
        assert!(response.fields.one("Connection").eq_ignore_ascii_case("upgrade"));
        assert_eq!(client.bytes(10), b"helloearly");
        for word in ["one--", "two--", "three"] {
            assert_eq!(client.send(word).bytes(5), word.as_bytes());
        }
        client.finish_writing();
        assert_eq!(client.bytes(7), b"goodbye");
        client.sees_the_end();
        let seen = origin.only_request();
        assert_eq!(seen.fields.one("Upgrade"), "websocket");
        assert!(seen.fields.one("Connection").eq_ignore_ascii_case("upgrade"));
    }

    #[test]
    fn a_tunnel_holds_no_worker() {
        let origin = Origin::start(|visit| {
            while let Some(seen) = visit.request() {
                if seen.fields.has("Upgrade") {
                    visit.send(SWITCH);
                    visit.to_the_end();
                    return;
                }
                visit.send(ok("ok"));
            }
        });
        let config = json!({"threadpool": {"max_workers": 1}, "admin": {"socket": ADMIN}});
        let balancer = Evenkeel::before(&[&origin], config);
        assert_eq!(Client::to(&balancer).get("/").status, 200);
        let threads = balancer.threads();
        let mut tunnels: Vec<_> = (0..50).map(|_| Client::to(&balancer)).collect();
        for tunnel in &mut tunnels {
            assert_eq!(tunnel.send(ASK).response().status, 101);
        }
        balancer.metric_is("evenkeel_tunnels ", 50.0);
        assert_eq!(Client::to(&balancer).get("/").status, 200);
        // The admin API has threads of its own, which come and go.
        assert!(
            balancer.workers() == 1 && balancer.threads() <= threads + 8,
            "{} threads",
            balancer.threads()
        );
        drop(tunnels);
        until("the tunnels end with their clients", || balancer.metric("evenkeel_tunnels ") == 0.0);
        balancer.metric_is("evenkeel_server_in_flight", 0.0);
    }

    #[test]
    fn much_goes_through_a_tunnel_both_ways() {
        let origin = Origin::start(|visit| {
            visit.request();
            visit.send(SWITCH);
            let all = visit.to_the_end();
            visit.send(&all);
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        assert_eq!(client.send(ASK).response().status, 101);
        let much = noise(1 << 20);
        client.send(&much).finish_writing();
        let (back, end) = client.rest();
        assert!(end.is_ok() && back == much, "{} bytes, {end:?}", back.len());
    }

    #[test]
    fn a_server_may_decline_an_upgrade() {
        let origin = Origin::responds("no");
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let mut client = Client::to(&balancer);
        assert_eq!(client.send(ASK).response().text(), "no");
        assert_eq!(client.get("/").text(), "no", "the connection goes on");
        assert_eq!(origin.connections(), 1);
    }

    #[test]
    fn tunnels_are_bounded() {
        let origin = echo_tunnel();
        let balancer = Evenkeel::before(&[&origin], json!({"limits": {"tunnels": 1}}));
        let mut first = Client::to(&balancer);
        assert_eq!(first.send(ASK).response().status, 101);
        let response = Client::to(&balancer).send(ASK).response();
        assert_eq!((response.status, response.reason().as_str()), (503, "tunnel_limit"));
        drop(first);
        until("there is room again", || Client::to(&balancer).send(ASK).response().status == 101);
    }

    #[test]
    fn a_tunnel_in_which_nothing_moves_is_ended() {
        let origin = echo_tunnel();
        let short = json!({"tunnel": "200ms"});
        for config in [
            json!({"timeouts": short}),
            json!({"servers": {"timeouts": short}}),
            json!({"servers": {"timeouts": {"tunnel": "5m"}}, "routes": [{"pool": "default", "timeouts": short}]}),
        ] {
            let balancer = Evenkeel::before(&[&origin], config);
            let mut client = Client::to(&balancer);
            assert_eq!(client.send(ASK).response().status, 101);
            assert_eq!(client.bytes(5), b"hello");
            let (rest, _) = client.rest();
            assert_eq!(rest, b"");
        }
    }
}

mod limits {
    use super::*;

    #[test]
    fn a_head_that_is_too_large_is_431() {
        let large = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        rejected(json!({}), large.as_bytes(), 431, "head_too_large");
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(100));
        rejected(json!({}), many.as_bytes(), 431, "too_many_headers");
        let small = json!({"limits": {"head": 600, "uri": 500}});
        let large = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(600));
        rejected(small, large.as_bytes(), 431, "head_too_large");
    }

    #[test]
    fn a_target_that_is_too_long_is_414() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(9000));
        rejected(json!({}), long.as_bytes(), 414, "uri_too_long");
    }

    #[test]
    fn a_body_that_is_known_to_be_too_large_is_413_before_a_byte_goes_on() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({"limits": {"body": 10}}));
        let mut client = Client::to(&balancer);
        let response = client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n").response();
        assert_eq!((response.status, response.reason().as_str()), (413, "body_too_large"));
        client.sees_the_end();
        assert_eq!(origin.connections(), 0);
        let fits = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789";
        assert_eq!(Client::to(&balancer).send(fits).response().status, 200);
        rejected(
            json!({"limits": {"body": 10}}),
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n0123456789a",
            413,
            "body_too_large",
        );
    }

    #[test]
    fn a_body_of_unknown_length_is_cut_off_where_it_becomes_too_large() {
        let origin = Origin::echoes();
        let balancer = Evenkeel::before(&[&origin], json!({"limits": {"body": 10}}));
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = Client::to(&balancer);
        client.send(format!("{head}5\r\nhello\r\n"));
        origin.until("the head came", |seen| seen.heads == 1);
        let response = client.send("6\r\nworld!\r\n").response();
        assert_eq!((response.status, response.reason().as_str()), (413, "body_too_large"));
        client.sees_the_end();
        origin.until("its connection is over", |seen| seen.ended == 1);
        assert_eq!(origin.count(), 0, "the server got no whole request");
        let fits = format!("{head}a\r\n0123456789\r\n0\r\n\r\n");
        assert_eq!(Client::to(&balancer).send(fits).response().text(), "0123456789");
    }

    #[test]
    fn a_head_that_does_not_end_is_408() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"client_head": "200ms"}}));
        // Again where the machine stood still between a connection and what was sent on it.
        let times_out = |first: &str| {
            let mut client = Client::to(&balancer);
            if !first.is_empty() {
                let served =
                    client.try_send(first).is_ok() && client.try_response().is_ok_and(|it| it.status == 200);
                if !served {
                    return false;
                }
            }
            if client.try_send("GET / HTTP/1.1\r\nHost: h\r\nX: ").is_err() {
                return false;
            }
            let Ok(response) = client.try_response() else { return false };
            assert_eq!((response.status, response.reason().as_str()), (408, "head_timeout"));
            let _ = client.rest();
            true
        };
        until("it is told so", || times_out(""));
        until("it is told so on a connection that has served before", || {
            times_out("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        });
    }

    #[test]
    fn a_head_that_grows_byte_by_byte_gets_no_more_time() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"client_head": "300ms"}}));
        until("it is told that its time is over", || {
            let mut client = Client::to(&balancer);
            let _ = client.try_send("GET / HTTP/1.1\r\nHost: h\r\nX: ");
            let response = loop {
                client.max_wait(Duration::from_millis(20));
                let _ = client.try_send("x");
                match client.try_response() {
                    Err(Broken::Late) => {}
                    other => break other,
                }
            };
            response.is_ok_and(|response| response.status == 408)
        });
    }

    #[test]
    fn a_body_that_stands_still_is_408() {
        for framing in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"] {
            let origin = Origin::echoes();
            let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"client_body": "200ms"}}));
            let mut client = Client::to(&balancer);
            let response = client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}")).response();
            assert_eq!((response.status, response.reason().as_str()), (408, "body_timeout"));
            client.sees_the_end();
            origin.until("its connection is over", |seen| seen.ended == 1);
        }
    }

    #[test]
    fn what_is_no_good_request_is_rejected_and_what_follows_it_is_not_read() {
        let check =
            |sent: &str, status, reason: &str| drop(rejected(json!({}), sent.as_bytes(), status, reason));
        check("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_request_line");
        check("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, "version_unsupported");
        check("GET / HTTP/1.1\r\n\r\n", 400, "bad_host");
        check("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400, "bad_host");
        check("GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400, "bad_header");
        check("GET / HTTP/1.1\nHost: h\n\n", 400, "bare_line_break");
        check("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", 501, "connect_rejected");
        check("TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 405, "trace_rejected");
        let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n0\r\n\r\n");
        check(&post("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400, "length_conflict");
        check(&post("Content-Length: 5\r\nContent-Length: 5"), 400, "bad_content_length");
        check(&post("Content-Length: +5"), 400, "bad_content_length");
        check(&post("Transfer-Encoding: gzip"), 400, "bad_transfer_encoding");
        check(&post("Transfer-Encoding: gzip, chunked"), 501, "transfer_coding_unknown");
        check("GET https://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 421, "misdirected");
        check(
            &post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            400,
            "bad_transfer_encoding",
        );
        check(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
            400,
            "bad_chunk",
        );
        check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http2_preface");
    }

    #[test]
    fn a_rejected_client_that_goes_on_sending_can_still_read_its_response() {
        let balancer = Evenkeel::start(json!({}));
        let mut client = Client::to(&balancer);
        client.send("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n");
        // Half a megabyte behind the rejection: a close over unread bytes would be a reset.
        client.send(vec![b'x'; 512 * 1024]);
        assert_eq!(client.response().status, 400);
        client.sees_the_end();
    }

    /// What such a client still sends is bounded by time alone, 5 s of silence and 30 s in all: tests/duplex.rs.
    #[test]
    fn a_client_that_goes_on_uploading_behind_an_early_response_can_still_read_it() {
        let origin = Origin::responds_early();
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\nbegin");
        origin.until("the response is on its way", |seen| seen.heads == 1);
        client.send(vec![b'x'; 40 << 20]);
        assert_eq!(client.response().status, 413);
        // It closes its side: the rest never comes, and the server sees that.
        client.finish_writing();
        origin.until("its connection is over", |seen| seen.ended == 1);
        client.sees_the_end();
    }

    #[test]
    fn connections_are_bounded_and_those_beyond_can_read_why() {
        let origin = Origin::stalls();
        let balancer = Evenkeel::before(&[&origin], json!({"limits": {"connections": 2}}));
        let mut busy = [Client::to(&balancer), Client::to(&balancer)];
        for client in &mut busy {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        origin.until("both are in flight", |seen| seen.bytes.len() == 2);
        let mut third = Client::to(&balancer);
        let response = third.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").response();
        assert_eq!((response.status, response.reason().as_str()), (503, "connection_limit"));
        third.sees_the_end();
    }

    #[test]
    fn where_connections_are_many_the_longest_idle_makes_room() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({"limits": {"connections": 1}}));
        let mut idle = Client::to(&balancer);
        assert_eq!(idle.get("/").status, 200);
        // A worker has it for a second before it is parked; until then the newcomer is rejected, and comes again.
        until("the newcomer is served", || Client::to(&balancer).get("/").status == 200);
        idle.sees_the_end();
    }

    #[test]
    fn connections_of_one_address_are_bounded() {
        let origin = Origin::responds("ok");
        let limits = json!({"limits": {"connections_per_address": 2}});
        let balancer = Evenkeel::before(&[&origin], limits);
        let mut kept = [Client::to(&balancer), Client::to(&balancer)];
        kept.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
        let response = Client::to(&balancer).get("/");
        assert_eq!((response.status, response.reason().as_str()), (503, "connection_limit"));
        drop(kept);
        until("there is room again", || Client::to(&balancer).get("/").status == 200);
    }
}
