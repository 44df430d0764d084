//! Both directions of an exchange at once, and the end of a connection: an upload that goes on under interim and early
//! responses, responses that reach a client whatever it still sends, half-closed clients, tunnels, and small slips of servers.

use crate::support::balancer::{ADMIN, one_worker};
use crate::support::faults::ok;
use crate::support::message::Framing;
use crate::support::origin::Visit;
use crate::support::{Client, Evenkeel, Gate, Origin, Shared, chunked, noise, until};
use rustix::net::sockopt;
use rustix::process::Signal;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")
}

/// Sends from a thread of its own, for a client that does not read meanwhile or reads at the same time. The counter says
/// how many bytes went out so far; the thread ends early when the other side resets.
fn sends_beside(client: &Client, bytes: Vec<u8>) -> (JoinHandle<usize>, Arc<AtomicUsize>) {
    let (mut stream, sent) = (client.stream.try_clone().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&sent);
    let thread = thread::spawn(move || {
        for piece in bytes.chunks(16 * 1024) {
            if stream.write_all(piece).is_err() {
                break;
            }
            counted.fetch_add(piece.len(), Ordering::SeqCst);
        }
        counted.load(Ordering::SeqCst)
    });
    (thread, sent)
}

/// Nothing goes out any more: all buffers on the way are full.
fn until_stuck(sent: &AtomicUsize) {
    let (mut before, mut looks) = (usize::MAX, 0);
    until("the upload is stuck", || {
        let now = sent.load(Ordering::SeqCst);
        looks = if now == before { looks + 1 } else { 0 };
        before = now;
        looks > 20 && now > 0
    });
}

mod uploads {
    use super::*;

    const MUCH: usize = 8 << 20;

    /// The server reads nothing, sends an interim response, and reads on later.
    #[track_caller]
    fn check_interim(fields: &str, body: &[u8], interim: &'static str, status: u16) {
        let (speak, read) = (Gate::default(), Gate::default());
        let (speaks, reads) = (speak.clone(), read.clone());
        let origin = Origin::start(move |visit| {
            while let Some(head) = visit.head() {
                speaks.wait();
                visit.send(interim);
                reads.wait();
                let seen = visit.body(head).unwrap();
                visit.send(ok(&seen.body.len().to_string()));
            }
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send(post(fields));
        let (thread, sent) = sends_beside(&client, body.to_vec());
        until_stuck(&sent);
        speak.open();
        assert_eq!(client.response().status, status, "it comes while the server takes nothing");
        read.open();
        assert_eq!(client.response().text(), MUCH.to_string());
        assert_eq!(thread.join().unwrap(), body.len());
    }

    #[test]
    fn an_upload_goes_on_when_an_interim_response_comes_while_the_server_reads_nothing() {
        let (go_on, hints) = ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n");
        let (plain, length) = (noise(MUCH), format!("Content-Length: {MUCH}"));
        let pieces = chunked(&plain.chunks(50_000).collect::<Vec<_>>());
        // A client may send without waiting for 100.
        check_interim(&format!("Expect: 100-continue\r\n{length}"), &plain, go_on, 100);
        check_interim(&length, &plain, hints, 103);
        check_interim("Transfer-Encoding: chunked", &pieces, hints, 103);
    }

    #[test]
    fn an_interim_response_for_each_step_of_an_upload_reaches_the_client_however_many() {
        // 70 of 2 KiB are more than may come without progress of the request, and more than any fixed number of them.
        const STEPS: usize = 70;
        let long = "x".repeat(2048);
        let origin = Origin::start(move |visit| {
            let Some(_) = visit.head() else { return };
            for step in 1..=STEPS {
                visit.take(1000);
                visit.send(format!(
                    "HTTP/1.1 104 Upload\r\nUpload-Offset: {}\r\nX: {long}\r\n\r\n",
                    step * 1000
                ));
            }
            visit.send(ok("whole"));
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send(post(&format!("Content-Length: {}", STEPS * 1000)));
        for step in 1..=STEPS {
            let interim = client.send([b'x'; 1000]).response();
            assert_eq!(
                (interim.status, interim.fields.one("Upload-Offset")),
                (104, (step * 1000).to_string())
            );
        }
        assert_eq!(client.response().text(), "whole");
    }

    /// Begins its response once it has the head of the request, and sends back what it reads as it comes.
    fn echo(visit: &mut Visit) {
        while let Some(head) = visit.head() {
            let Ok(Framing::Length(mut left)) = head.framing() else { return };
            visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while left > 0 {
                let piece = visit.take(left.min(if left > 10_000 { 10_000 } else { 5 }));
                if piece.is_empty() {
                    return;
                }
                left -= piece.len();
                visit.send([format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat());
            }
            visit.send("0\r\n\r\n");
        }
    }

    #[test]
    fn the_request_goes_on_after_the_head_of_the_response() {
        let origin = Origin::start(echo);
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        for body in [&b"hello"[..], b"helloworld", &noise(5000)] {
            let mut client = Client::to(&balancer);
            client.send(post(&format!("Content-Length: {}", body.len())));
            // The head of the response is there before a byte of the body was sent.
            let (head, status) = client.head();
            assert_eq!(status, 200);
            body.chunks(5).for_each(|piece| _ = client.send(piece));
            assert!(client.body_of("POST", head, status).unwrap().body == body, "{} bytes", body.len());
        }
        assert_eq!(origin.connections(), 1);
    }

    #[test]
    fn much_goes_both_ways_at_once() {
        let origin = Origin::start(echo);
        let balancer = Evenkeel::before(&[&origin], json!({}));
        for _ in 0..2 {
            let mut client = Client::to(&balancer);
            let body = noise(MUCH);
            client.send(post(&format!("Content-Length: {MUCH}")));
            let (thread, _) = sends_beside(&client, body.clone());
            let response = client.response();
            assert!(response.body == body, "{} bytes came back", response.body.len());
            assert_eq!(thread.join().unwrap(), MUCH);
        }
    }

    #[test]
    fn a_chunked_request_goes_on_after_the_head_of_the_response() {
        let origin = Origin::start(|visit| {
            while let Some(head) = visit.head() {
                visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n");
                let Some(seen) = visit.body(head) else { return };
                visit.send(chunked(&[&seen.body]));
            }
        });
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        for _ in 0..2 {
            let mut client = Client::to(&balancer);
            client.send(post("Transfer-Encoding: chunked"));
            let (head, status) = client.head();
            client.send("3\r\nabc\r\n").send("4\r\ndefg\r\n0\r\n\r\n");
            assert_eq!(client.body_of("POST", head, status).unwrap().text(), "begunabcdefg");
        }
        assert_eq!(origin.connections(), 1);
    }
}

mod early_responses {
    use super::*;

    const MUCH: usize = 10_000_000;
    const EARLY: &str = "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno";

    /// A client that sends its whole request before it reads gets this.
    #[track_caller]
    fn check(told: &str, balancer: &Evenkeel, sent: &[u8], status: u16) {
        let mut client = Client::to(balancer);
        assert!(client.try_send(sent).is_ok(), "{told}: the balancer reads all that the client sends");
        let response = client.response();
        assert_eq!(response.status, status, "{told}: {}", response.text());
    }

    fn uploads() -> [(&'static str, Vec<u8>); 2] {
        let with_length = [post(&format!("Content-Length: {MUCH}")).into_bytes(), vec![b'x'; MUCH]].concat();
        let piece = vec![b'x'; 100_000];
        let pieces = chunked(&vec![&piece[..]; MUCH / piece.len()]);
        let in_chunks = [post("Transfer-Encoding: chunked").into_bytes(), pieces].concat();
        [("with a length", with_length), ("in chunks", in_chunks)]
    }

    #[test]
    fn a_servers_early_response_reaches_a_client_that_sends_all_before_it_reads() {
        let reads_on = Origin::start(|visit| {
            if visit.head().is_some() {
                visit.send(EARLY);
                visit.to_the_end();
            }
        });
        let reads_nothing = Origin::start(|visit| {
            if visit.head().is_some() {
                visit.send(EARLY);
                // It closes over what it has not read: a reset, behind its response.
            }
        });
        let gate = Gate::default();
        let stays = gate.clone();
        let stays_silent = Origin::start(move |visit| {
            if visit.head().is_some() {
                visit.send(EARLY);
                stays.wait();
            }
        });
        for (how, origin) in
            [("reads on", &reads_on), ("closes", &reads_nothing), ("takes no more", &stays_silent)]
        {
            let balancer = Evenkeel::before(&[origin], json!({}));
            for (framing, sent) in uploads() {
                check(&format!("a server that {how}, {framing}"), &balancer, &sent, 401);
            }
        }
        gate.open();
    }

    #[test]
    fn our_own_413_reaches_a_client_that_sends_all_before_it_reads() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({"limits": {"body": "1MiB"}}));
        for (framing, sent) in uploads() {
            check(framing, &balancer, &sent, 413);
        }
    }

    #[test]
    fn a_rejected_client_may_send_without_a_bound_and_can_still_read_why() {
        let balancer = Evenkeel::start(json!({}));
        let mut client = Client::to(&balancer);
        client.send("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n");
        let piece = vec![b'x'; 1 << 20];
        let all_taken = (0..64).all(|_| client.try_send(&piece).is_ok());
        assert!(all_taken, "a lingering close is bounded by time, not by bytes");
        assert_eq!(client.response().status, 400);
        client.sees_the_end();
    }

    /// 5 s of silence; where connections are short 1 s in all, whatever the client sends.
    #[test]
    fn a_lingering_close_is_bounded_by_silence_and_where_connections_are_short_by_time() {
        const REJECTED: &str = "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n";
        let balancer = Evenkeel::start(one_worker(json!({})));
        let since = Instant::now();
        let mut silent = Client::to(&balancer);
        assert_eq!(silent.send(REJECTED).response().status, 400);
        silent.sees_the_end();
        let open = balancer.descriptors();

        let origin = Origin::stalls();
        let few = Evenkeel::before(&[&origin], one_worker(json!({"limits": {"connections": 1}})));
        let mut busy = Client::to(&few);
        busy.send(GET);
        origin.until("it is in flight", |seen| seen.bytes.len() == 1);
        let rejected_at = Instant::now();
        let mut beyond = Client::to(&few);
        assert_eq!(beyond.response().reason(), "connection_limit");
        beyond.sees_the_end();
        // A byte now and then does not prolong it.
        until("the one beyond the limit is closed", || beyond.try_send("x").is_err());
        let took = rejected_at.elapsed();
        // A client that goes on sending has 30 s elsewhere, and a silent one would have no end: there is room for a busy machine.
        assert!((Duration::from_millis(800)..Duration::from_secs(20)).contains(&took), "{took:?}");

        until("the silent one is closed", || balancer.descriptors() < open);
        let took = since.elapsed();
        assert!((Duration::from_secs(4)..Duration::from_secs(29)).contains(&took), "{took:?}");
    }
}

mod last_responses {
    use super::*;

    const SIZE: usize = 300_000;

    /// A large response once the gate is open.
    fn large(gate: &Gate) -> Origin {
        let (gate, body) = (gate.clone(), "y".repeat(SIZE));
        Origin::replies(move |visit| {
            gate.wait();
            visit.response(&body);
        })
    }

    /// Its receive buffer holds only a part of the response.
    fn slow_reader(balancer: &Evenkeel) -> Client {
        let client = Client::to(balancer);
        sockopt::set_socket_recv_buffer_size(&client.stream, 16 * 1024).unwrap();
        client
    }

    #[test]
    fn the_last_response_is_whole_whatever_the_client_sends_behind_its_request() {
        let close = "Connection: close";
        let crlf = (format!("{}hello", post(&format!("{close}\r\nContent-Length: 5"))), "\r\n".to_owned());
        let second = (format!("GET / HTTP/1.1\r\nHost: h\r\n{close}\r\n\r\n"), GET.to_owned());
        let much = (second.0.clone(), "x".repeat(100_000));
        let old = ("GET / HTTP/1.0\r\n\r\n".to_owned(), "\r\n\r\n".to_owned());
        for (first, more) in [crlf, second, much, old] {
            for goes_on_sending in [false, true] {
                let gate = Gate::default();
                let origin = large(&gate);
                let balancer = Evenkeel::before(&[&origin], json!({}));
                let mut all: Vec<_> = (0..4).map(|_| slow_reader(&balancer)).collect();
                all.iter_mut().for_each(|client| _ = client.send(&first));
                origin.until("all are there", |seen| seen.requests.len() == 4);
                all.iter_mut().for_each(|client| _ = client.send(&more));
                gate.open();
                for client in &mut all {
                    let (head, status) = client.head();
                    if goes_on_sending {
                        let _ = client.try_send(&more);
                    }
                    let response = client.body_of("GET", head, status);
                    let told = format!("{first:?} and then {more:.20?}, on and on: {goes_on_sending}");
                    assert_eq!(response.map(|response| response.body.len()), Ok(SIZE), "{told}");
                    client.sees_the_end();
                }
            }
        }
    }

    #[test]
    fn the_last_response_before_a_stop_is_whole_when_another_request_was_sent_behind() {
        let gate = Gate::default();
        let origin = large(&gate);
        let mut balancer = Evenkeel::before(&[&origin], json!({}));
        let mut all: Vec<_> = (0..6).map(|_| slow_reader(&balancer)).collect();
        all.iter_mut().for_each(|client| _ = client.send(GET));
        origin.until("all are there", |seen| seen.requests.len() == 6);
        balancer.signal(Signal::TERM);
        until("new connections are refused", || Client::connect(balancer.address()).is_err());
        all.iter_mut().for_each(|client| _ = client.send(GET));
        gate.open();
        for client in &mut all {
            let response = client.response();
            assert_eq!((response.body.len(), response.fields.one("Connection").as_str()), (SIZE, "close"));
        }
        drop(all);
        assert_eq!(balancer.wait().code(), Some(0));
    }
}

mod half_closed {
    use super::*;

    /// The parts of a response, each once its gate is open.
    fn in_parts(parts: Vec<String>) -> (Origin, Shared<usize>) {
        let open = Shared::<usize>::default();
        let gates = open.clone();
        let origin = Origin::replies(move |visit| {
            for (at, part) in parts.iter().enumerate() {
                gates.wait_for(crate::support::DEADLINE, |open| (*open > at).then_some(()));
                visit.send(part);
            }
        });
        (origin, open)
    }

    #[track_caller]
    fn check(parts: [&str; 3], request: &str, body: &str) {
        let (origin, open) = in_parts(parts.map(str::to_owned).to_vec());
        let balancer = Evenkeel::before(&[&origin], json!({"admin": {"socket": ADMIN}}));
        let mut client = Client::to(&balancer);
        client.send(request).finish_writing();
        origin.until("the request is there", |seen| seen.requests.len() == 1);
        // What the balancer says of itself, it says behind the end that it has seen.
        balancer.metric_is("evenkeel_server_in_flight", 1.0);
        open.change(|open| *open = 1);
        let (head, status) = client.head();
        open.change(|open| *open = 2);
        // A part that is complete in itself is on its way before the last one is sent.
        assert_eq!(
            Client::to(&balancer)
                .send("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n")
                .response()
                .status,
            400
        );
        open.change(|open| *open = 3);
        assert_eq!(client.body_of("GET", head, status).unwrap().text(), body, "{request:?}");
        client.sees_the_end();
    }

    #[test]
    fn a_client_that_has_closed_its_side_gets_its_response_to_the_end() {
        let length = ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab", "cd", "ef"];
        let pieces =
            ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "6\r\nabcdef\r\n", "0\r\n\r\n"];
        check(length, GET, "abcdef");
        check(pieces, GET, "abcdef");
        check(length, &format!("{}hello", post("Content-Length: 5")), "abcdef");
        check(pieces, &format!("{}5\r\nhello\r\n0\r\n\r\n", post("Transfer-Encoding: chunked")), "abcdef");
        check(length, "GET / HTTP/1.0\r\n\r\n", "abcdef");
    }

    #[test]
    fn a_client_may_close_its_side_in_the_middle_of_a_response() {
        let (origin, open) =
            in_parts(vec!["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab".into(), "cd".into(), "ef".into()]);
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send(GET);
        open.change(|open| *open = 1);
        let (head, status) = client.head();
        client.finish_writing();
        open.change(|open| *open = 3);
        assert_eq!(client.body_of("GET", head, status).unwrap().text(), "abcdef");
        client.sees_the_end();
    }

    /// No byte says whether the client still listens: the exchange goes on, and what cannot be delivered harms nothing.
    #[test]
    fn a_client_that_closes_before_its_response_harms_nothing() {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "late");
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({"admin": {"socket": ADMIN}})));
        for _ in 0..5 {
            Client::to(&balancer).send(GET);
        }
        origin.until("all are there", |seen| seen.requests.len() == 5);
        gate.open();
        until("nothing is in flight", || balancer.metric("evenkeel_server_in_flight") == 0.0);
        assert_eq!(Client::to(&balancer).get("/").text(), "late");
    }
}

mod upgrades {
    use super::*;

    const ASK: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    const SWITCH: &str = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

    fn with_body(framing: &str) -> String {
        post(&format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{framing}"))
    }

    #[test]
    fn a_101_that_comes_before_the_request_is_whole_is_502() {
        for (framing, half) in
            [("Transfer-Encoding: chunked", "14\r\n0123456789"), ("Content-Length: 20", "0123456789")]
        {
            let origin = Origin::start(|visit| {
                if visit.head().is_some() {
                    visit.send(SWITCH);
                    visit.to_the_end();
                }
            });
            let balancer = Evenkeel::before(&[&origin], json!({}));
            let mut client = Client::to(&balancer);
            let response = client.send(format!("{}{half}", with_body(framing))).response();
            assert_eq!((response.status, response.reason().as_str()), (502, "bad_response"), "{framing}");
            let _ = client.try_send("abcdefghij\r\n0\r\n\r\nRAW");
            origin.until("its connection is over", |seen| seen.ended == 1);
            let seen = String::from_utf8_lossy(&origin.all_bytes()).into_owned();
            // In full: a part of it, such as abc, is in one request id of some hundreds.
            assert!(!seen.contains("abcdefghij") && !seen.contains("RAW"), "{framing}: {seen:?}");
        }
    }

    #[test]
    fn bytes_behind_the_body_of_an_upgrade_request_are_the_tunnels_first() {
        let pieces = ("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n");
        for (framing, body) in [pieces, ("Content-Length: 2", "{}")] {
            for split in [false, true] {
                let inside = Shared::<Vec<u8>>::default();
                let tunnel = inside.clone();
                let origin = Origin::start(move |visit| {
                    if visit.request().is_some() {
                        visit.send(SWITCH);
                        let all = visit.to_the_end();
                        tunnel.change(|inside| *inside = all);
                    }
                });
                let balancer = Evenkeel::before(&[&origin], json!({}));
                let mut client = Client::to(&balancer);
                client.send(with_body(framing));
                if split {
                    origin.until("the head is there alone", |seen| seen.heads == 1);
                }
                client.send(format!("{body}FIRST "));
                assert_eq!(client.response().status, 101, "{framing}");
                client.send("SECOND").finish_writing();
                let all = |inside: &Vec<u8>| (!inside.is_empty()).then(|| inside.clone());
                let seen = inside.wait_for(crate::support::DEADLINE, all).unwrap_or_default();
                assert_eq!(String::from_utf8_lossy(&seen), "FIRST SECOND", "{framing}, split: {split}");
            }
        }
    }

    /// A server that has had enough sends its last frame and closes over what it has not read, which is a reset.
    #[test]
    fn the_last_frame_of_a_server_reaches_a_client_that_goes_on_sending() {
        const BYE: &[u8] = b"\x88\x05\x03\xf0bye";
        for piece in [64 * 1024, 1024] {
            for round in 0..6 {
                let origin = Origin::start(|visit| {
                    if visit.head().is_some() {
                        visit.send(SWITCH);
                        visit.take(50_000);
                        visit.send(BYE);
                    }
                });
                let balancer = Evenkeel::before(&[&origin], json!({}));
                let mut client = Client::to(&balancer);
                assert_eq!(client.send(ASK).response().status, 101);
                let mut stream = client.stream.try_clone().unwrap();
                let floods = thread::spawn(move || while stream.write_all(&vec![b'x'; piece]).is_ok() {});
                let got = client.try_bytes(BYE.len());
                assert_eq!(got, Ok(BYE.to_vec()), "round {round} with pieces of {piece}");
                drop(client.stream.shutdown(std::net::Shutdown::Both));
                floods.join().unwrap();
            }
        }
    }
}

mod server_connections {
    use super::*;

    #[test]
    fn one_failure_leaves_the_other_idle_connections_in_the_pool() {
        let gate = Shared::<usize>::default();
        let arrived = gate.clone();
        // Eight GETs are with the server at once before one is answered, so each has a connection of its own.
        let origin = Origin::start(move |visit| {
            while let Some(seen) = visit.request() {
                if seen.method() == "POST" {
                    return;
                }
                let number = arrived.change(|count| {
                    *count += 1;
                    *count
                });
                let all = number.next_multiple_of(8);
                arrived.wait_for(crate::support::DEADLINE, |count| (*count >= all).then_some(()));
                visit.send(ok("ok"));
            }
        });
        let no_ejection = json!({"servers": {"ejection": {"max_percent": 0}}});
        let balancer = Evenkeel::before(&[&origin], one_worker(no_ejection));
        let mut all: Vec<_> = (0..8).map(|_| Client::to(&balancer)).collect();
        let mut eight = || {
            all.iter_mut().for_each(|client| _ = client.send(GET));
            all.iter_mut().for_each(|client| assert_eq!(client.response().text(), "ok"));
        };
        eight();
        eight();
        assert_eq!(origin.connections(), 8);
        for round in 1..=5 {
            let response = Client::to(&balancer).send(post("Content-Length: 0")).response();
            assert_eq!(response.status, 502);
            eight();
            assert_eq!(origin.connections(), 8 + round, "only the failed one is replaced");
        }
    }

    #[test]
    fn a_connection_is_idle_from_the_end_of_its_response() {
        let gate = Shared::<usize>::default();
        let parts = gate.clone();
        let origin = Origin::start(move |visit| {
            while let Some(seen) = visit.request() {
                if seen.target() == "/long" {
                    visit.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlo");
                    parts.wait_for(crate::support::DEADLINE, |parts| (*parts > 0).then_some(()));
                    parts.change(|parts| *parts -= 1);
                    visit.send("ng");
                } else {
                    visit.send(ok("ok"));
                }
            }
        });
        let balancer =
            Evenkeel::before(&[&origin], one_worker(json!({"servers": {"pool": {"idle_time": "1s"}}})));
        let (mut long, mut short) = (Client::to(&balancer), Client::to(&balancer));
        let mut round = || {
            let before = origin.connections();
            long.send("GET /long HTTP/1.1\r\nHost: h\r\n\r\n");
            let (head, status) = long.head();
            let since = Instant::now();
            until("the body has taken longer than a connection may be idle", || {
                assert_eq!(short.get("/").text(), "ok");
                since.elapsed() > Duration::from_millis(1300)
            });
            gate.change(|parts| *parts += 1);
            assert_eq!(long.body_of("GET", head, status).unwrap().text(), "long");
            (0..3).for_each(|_| assert_eq!(short.get("/").text(), "ok"));
            origin.connections() == before
        };
        round();
        // Where the machine stands still for a second, both are idle for too long indeed.
        until("no connection is closed as idle", round);
    }

    /// A server that closes an idle connection, or says something on it, is noticed at once: no request is needed.
    #[test]
    fn an_idle_connection_is_closed_as_soon_as_the_server_ends_it_or_says_something_unasked() {
        for unasked in ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", "\r\n", ""] {
            let gate = Gate::default();
            let speaks = gate.clone();
            let origin = Origin::start(move |visit| {
                visit.request();
                visit.send(ok("first"));
                if visit.number == 0 {
                    speaks.wait();
                    match unasked {
                        "" => visit.finish_writing(),
                        bytes => visit.send(bytes),
                    }
                    visit.to_the_end();
                    return;
                }
                while visit.request().is_some() {
                    visit.send(ok("other"));
                }
            });
            let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
            let mut client = Client::to(&balancer);
            assert_eq!(client.get("/").text(), "first");
            gate.open();
            origin.until("the balancer has closed it", |seen| seen.ended == 1);
            assert_eq!(client.send(post("Content-Length: 0")).response().text(), "first");
            assert_eq!(origin.connections(), 2, "{unasked:?}");
        }
    }

    /// The line break of a server that writes one behind each body comes in front of its next response.
    #[test]
    fn a_line_break_between_two_responses_is_skipped() {
        let origin = Origin::start(|visit| {
            visit.request();
            visit.send(ok("first"));
            while visit.request().is_some() {
                // It comes when the next request is out, so the connection was not closed because of it.
                visit.send("\r\n");
                visit.send(ok("next"));
            }
        });
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let mut client = Client::to(&balancer);
        assert_eq!(client.get("/").text(), "first");
        for request in [GET.to_owned(), post("Content-Length: 0"), GET.to_owned()] {
            assert_eq!(client.send(request).response().text(), "next");
        }
        assert_eq!(origin.connections(), 1);
    }

    #[test]
    fn no_request_fails_at_a_server_that_writes_a_line_break_behind_each_response() {
        let origin = Origin::replies(|visit| {
            visit.send(ok("ok"));
            visit.send("\r\n");
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        for _ in 0..200 {
            assert_eq!(client.get("/").text(), "ok");
        }
    }

    #[test]
    fn padded_chunk_sizes_are_taken_from_servers_and_not_from_clients() {
        for body in
            ["5   \r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0  \r\n\r\n", "5 ;x=y\r\nhello\r\n0 \r\n\r\n"]
        {
            let origin = Origin::says(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
            let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
            let mut client = Client::to(&balancer);
            for _ in 0..2 {
                let response = client.get("/");
                assert_eq!(
                    (response.text().as_str(), response.framing),
                    ("hello", Framing::Chunked),
                    "{body:?}"
                );
            }
            assert_eq!(origin.connections(), 1, "{body:?}");
        }
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({}));
        for body in ["5   \r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0  \r\n\r\n"] {
            let sent = format!("{}{body}", post("Transfer-Encoding: chunked"));
            let response = Client::to(&balancer).send(sent).response();
            assert_eq!((response.status, response.reason().as_str()), (400, "bad_chunk"), "{body:?}");
        }
        assert_eq!(origin.count(), 0);
    }

    #[test]
    fn responses_without_a_body_pass_whatever_their_lengths_claim() {
        for lengths in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: x",
            "Transfer-Encoding: chunked, chunked",
        ] {
            for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)] {
                let origin = Origin::says(format!("HTTP/1.1 {status} X\r\nX-A: b\r\n{lengths}\r\n\r\n"));
                let balancer = Evenkeel::before(&[&origin], json!({}));
                let mut client = Client::to(&balancer);
                for _ in 0..2 {
                    let sent = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
                    let response = client.send(sent).try_response_to(method);
                    let told = format!("{method} {status} {lengths:?}");
                    let response = response.unwrap_or_else(|broken| panic!("{told}: {broken:?}"));
                    assert_eq!(
                        (response.status, response.fields.one("X-A").as_str()),
                        (status, "b"),
                        "{told}"
                    );
                    assert!(client.is_quiet(), "{told}");
                }
            }
        }
    }

    #[test]
    fn a_response_head_of_many_kilobytes_passes_and_one_without_end_is_502() {
        let long = "y".repeat(40_000);
        for (size, expected) in [(1, 200), (20_000, 200), (40_000, 200), (400_000, 502)] {
            let value = long.repeat(size / long.len() + 1)[..size].to_owned();
            let origin = Origin::says(format!("HTTP/1.1 200 OK\r\nX: {value}\r\nContent-Length: 0\r\n\r\n"));
            let balancer = Evenkeel::before(&[&origin], json!({}));
            let mut client = Client::to(&balancer);
            for _ in 0..2 {
                let response = client.get("/");
                assert_eq!(response.status, expected, "{size} bytes: {}", response.text());
                assert!(expected != 200 || response.fields.one("X") == value);
            }
        }
    }
}

mod http10_servers {
    use super::*;

    /// Knows no chunks: says what body it has understood, as HTTP/1.0; of `/new` as HTTP/1.1.
    fn old() -> Origin {
        Origin::start(|visit| {
            let Some(seen) = visit.request() else { return };
            let version = if seen.target() == "/new" { "1.1" } else { "1.0" };
            let told = format!("{:?} {}", seen.framing, seen.body.len());
            visit.send(
                ok(&told)
                    .replace("HTTP/1.1", &format!("HTTP/{version}"))
                    .replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
            );
        })
    }

    fn in_chunks(len: usize) -> Vec<u8> {
        let body = noise(len);
        let pieces: Vec<_> = body.chunks(1000).collect();
        [post("Transfer-Encoding: chunked").into_bytes(), chunked(&pieces)].concat()
    }

    #[test]
    fn a_chunked_request_to_a_server_of_http_1_0_has_a_length_or_is_411() {
        let origin = old();
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        assert_eq!(client.get("/").text(), "None 0");
        for len in [5, 1, 0, 1000, 50_000] {
            let response = client.send(in_chunks(len)).response();
            assert_eq!(response.text(), format!("Length({len}) {len}"));
        }
        // Byte by byte, too, and the next request of the client behind it.
        let sent = [in_chunks(12), GET.into()].concat();
        sent.iter().for_each(|byte| _ = client.send([*byte]));
        assert_eq!([client.response().text(), client.response().text()], ["Length(12) 12", "None 0"]);
        let before = origin.count();
        let mut long = Client::to(&balancer);
        // All of it before it reads.
        let response = long.send(in_chunks(1_000_000)).response();
        assert_eq!((response.status, response.reason().as_str()), (411, "length_required"));
        long.sees_the_end();
        assert_eq!(origin.count(), before, "the server never heard of it");
        // Once it has responded as HTTP/1.1, it gets chunks again.
        assert_eq!(client.get("/new").text(), "None 0");
        assert_eq!(client.send(in_chunks(5)).response().text(), "Chunked 5");
    }

    #[test]
    fn a_client_that_waits_for_100_gets_on_with_its_chunks_for_a_server_of_http_1_0() {
        let origin = old();
        let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"client_body": "20s"}}));
        let mut client = Client::to(&balancer);
        assert_eq!(client.get("/").text(), "None 0");
        let head = post("Expect: 100-continue\r\nTransfer-Encoding: chunked");
        let first = client.send(head).response();
        // Our own 100, or a rejection at once: the server cannot say it (RFC 9110 section 10.1.1).
        assert!(matches!(first.status, 100 | 417 | 411), "{}: {}", first.status, first.text());
        if first.status == 100 {
            let response = client.send(chunked(&[b"hello"])).response();
            assert_eq!(response.text(), "Length(5) 5");
        }
    }
}

mod interim {
    use super::*;

    /// Many pass; a stream of them without progress of the request is bounded by bytes.
    #[test]
    fn interim_responses_without_progress_are_bounded_by_bytes() {
        let hint = format!("HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n", "x".repeat(500));
        for (count, expected) in [(100, 200), (1000, 502)] {
            let hint = hint.clone();
            let origin = Origin::start(move |visit| {
                while visit.request().is_some() {
                    (0..count).for_each(|_| visit.send(&hint));
                    visit.send(ok("final"));
                }
            });
            let balancer = Evenkeel::before(&[&origin], json!({}));
            let mut client = Client::to(&balancer);
            client.send(GET);
            let mut passed = 0;
            let last = loop {
                let response = client.response();
                if response.status >= 200 {
                    break response;
                }
                passed += 1;
            };
            assert_eq!(last.status, expected, "{}", last.text());
            assert!(if expected == 200 { passed == count } else { passed >= 100 }, "{passed} passed");
        }
    }
}
