//! The crew under load and under attack: it grows and shrinks, refuses in time, and no peer can starve, bloat or
//! end the process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use support::balancer::with;
use support::faults::ok;
use support::message::Framing;
use support::{Broken, Client, DEADLINE, Evenkeel, Gate, Origin, chunked, noise, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// So many workers, and a queue that is patient: how long requests wait is not the subject.
fn patient(min: usize, max: usize, queue: usize) -> Value {
    json!({"threadpool": {
        "min_workers": min, "max_workers": max, "queue_capacity": queue,
        "queue_timeout": "60s", "queue_target": "60s",
    }})
}

/// Time for a whole crowd, on a machine with other things to do.
fn long() -> Value {
    json!({"timeouts": {"client_head": "120s", "keep_alive": "300s"}})
}

fn clients(balancer: &Evenkeel, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::to(balancer)).collect()
}

/// Lets this process, and its children, have so many descriptors.
fn raise_descriptors(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(wanted);
    assert!(most >= wanted, "this machine allows {most} descriptors, and the test needs {wanted}");
    limit.current = limit.current.map(|current| current.max(wanted));
    setrlimit(Resource::Nofile, limit).unwrap();
}

mod growth {
    use super::*;

    #[test]
    fn the_crew_grows_under_slow_servers_up_to_max_and_shrinks_to_min() {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "late");
        let balancer = Evenkeel::before(&[&origin], patient(2, 8, 100));
        until("it begins with min", || balancer.workers() == 2);
        let mut all = clients(&balancer, 20);
        all.iter_mut().for_each(|client| _ = client.send(GET));
        // Eight requests at the server at once need eight workers.
        origin.until("eight requests are there at once", |seen| seen.requests.len() == 8);
        until("the crew has eight", || balancer.workers() == 8);
        gate.open();
        all.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "late"));
        assert_eq!(origin.count(), 20);
        until("it is back at min", || balancer.workers() == 2);
        assert_eq!(Client::to(&balancer).get("/").status, 200);
    }

    #[test]
    fn one_worker_is_enough_for_many_connections() {
        let origin = Origin::answers("ok");
        let balancer = Evenkeel::before(&[&origin], patient(1, 1, 200));
        let mut all = clients(&balancer, 100);
        for _ in 0..3 {
            all.iter_mut().for_each(|client| _ = client.send(GET));
            all.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
        }
        // While others wait it may have a few on their way at once.
        assert_eq!(balancer.workers(), 1);
        assert!((1..=4).contains(&origin.connections()), "{} connections", origin.connections());
    }
}

mod refusals {
    use super::*;

    #[test]
    fn a_full_queue_is_503_at_once_and_readable_and_those_before_are_served() {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "late");
        let balancer = Evenkeel::before(&[&origin], patient(1, 1, 2));
        let mut first = Client::to(&balancer);
        first.send(GET);
        origin.until("the only worker is held", |seen| seen.requests.len() == 1);
        let mut others = clients(&balancer, 12);
        others.iter_mut().for_each(|client| _ = client.send(GET));
        // The gate is shut: whoever is answered now was answered without a worker.
        let is_refused = |client: &&mut Client| !client.is_quiet();
        until("ten are refused", || others.iter_mut().filter(is_refused).count() == 10);
        let (refused, kept): (Vec<_>, Vec<_>) = others.into_iter().partition(|client| !client.is_quiet());
        for mut client in refused {
            let answer = client.answer();
            assert_eq!((answer.status, answer.reason().as_str()), (503, "queue_full"));
            assert!(answer.fields.one("Retry-After").parse::<u32>().is_ok());
            // It may come again on the same connection.
            let answer = client.send(GET).answer();
            assert_eq!((answer.status, answer.reason().as_str()), (503, "queue_full"));
            // But not with a body, which nobody reads.
            client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
            assert_eq!(client.answer().fields.all("Connection"), ["close"]);
            client.sees_the_end();
        }
        gate.open();
        assert_eq!(first.answer().text(), "late");
        for mut client in kept {
            assert_eq!(client.answer().text(), "late");
        }
    }

    #[test]
    fn a_refused_upload_can_read_why() {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "late");
        let balancer = Evenkeel::before(&[&origin], patient(1, 1, 1));
        let mut all = clients(&balancer, 2);
        all[0].send(GET);
        origin.until("the only worker is held", |seen| seen.requests.len() == 1);
        all[1].send(GET);
        let mut refused = Client::to(&balancer);
        // More than a socket buffer of what nobody will read.
        let _ = refused.try_send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n");
        let _ = refused.try_send(vec![b'x'; 500_000]);
        let mut early = [refused.answer().status, 503];
        early.sort();
        assert_eq!(early, [503, 503]);
        refused.sees_the_end();
        gate.open();
        all.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "late"));
    }

    #[test]
    fn a_request_that_waited_past_its_time_is_503() {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "late");
        let over = json!({"threadpool": {"queue_timeout": "200ms", "queue_target": "200ms"}});
        let balancer = Evenkeel::before(&[&origin], with(patient(1, 1, 10), over));
        let mut first = Client::to(&balancer);
        first.send(GET);
        origin.until("the only worker is held", |seen| seen.requests.len() == 1);
        let mut second = Client::to(&balancer);
        second.send(GET);
        // The time is the subject: it passes while the second one listens in vain.
        assert!(matches!(second.patience(Duration::from_millis(400)).try_answer(), Err(Broken::Late)));
        gate.open();
        assert_eq!(first.answer().text(), "late");
        let answer = second.patience(DEADLINE).answer();
        assert_eq!((answer.status, answer.reason().as_str()), (503, "queue_timeout"));
        assert!(answer.fields.has("Retry-After"));
        assert_eq!(origin.count(), 1, "the server never heard of it");
        assert_eq!(second.send(GET).answer().text(), "late", "it may come again");
    }

    #[test]
    fn a_client_that_left_while_it_waited_costs_the_server_nothing() {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "late");
        let balancer = Evenkeel::before(&[&origin], patient(1, 1, 10));
        let mut first = Client::to(&balancer);
        first.send(GET);
        origin.until("the only worker is held", |seen| seen.requests.len() == 1);
        let mut third = Client::to(&balancer);
        Client::to(&balancer).send(GET).patience(Duration::from_millis(1200)).try_answer().unwrap_err();
        third.send(GET);
        gate.open();
        assert_eq!((first.answer().text(), third.answer().text()), ("late".into(), "late".into()));
        assert_eq!(origin.count(), 2);
    }
}

mod attacks {
    use super::*;

    #[test]
    fn an_absurd_length_costs_nothing() {
        let origin = Origin::answers("ok");
        let balancer = Evenkeel::before(&[&origin], json!({"limits": {"body": "1MiB"}}));
        let before = balancer.rss_kib();
        for length in ["99999999999999", "18446744073709551615", "18446744073709551616"] {
            let sent = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\nabc");
            let status = Client::to(&balancer).send(sent).answer().status;
            assert!(matches!(status, 400 | 413), "{length}: {status}");
        }
        assert!(balancer.rss_kib() < before + 4096);
        assert_eq!(Client::to(&balancer).get("/").status, 200);
    }

    #[test]
    fn an_absurd_length_without_a_limit_is_an_upload_like_any_other() {
        let origin = Origin::start(|visit| {
            if visit.head().is_some() {
                visit.to_the_end();
            }
        });
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let before = balancer.rss_kib();
        let mut client = Client::to(&balancer);
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999\r\n\r\nabc");
        origin.until("the head came", |seen| seen.heads == 1);
        assert!(balancer.rss_kib() < before + 4096);
        drop(client);
        origin.until("its connection is over", |seen| seen.ended == 1);
    }

    /// Garbage of every kind on so many connections: each is answered with an error or closed.
    #[test]
    fn garbage_is_refused_and_nothing_panics() {
        let origin = Origin::echoes();
        let config = json!({"timeouts": {"client_head": "500ms", "client_body": "500ms"}});
        let balancer = Evenkeel::before(&[&origin], config);
        let good = b"POST /a?b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n4\r\nbody\r\n0\r\nT: u\r\n\r\n";
        let dice = noise(4096);
        let mut sent = Vec::new();
        for round in 0..120 {
            // A good request with a few bytes changed, and plain noise.
            let mut bytes = good.to_vec();
            for change in 0..=round % 4 {
                let at = usize::from(dice[round * 8 + change]) * 7 % bytes.len();
                bytes[at] = dice[round * 8 + 4 + change];
            }
            sent.push(bytes);
            sent.push(noise(round * 20)[round..].to_vec());
        }
        sent.push(b"\r\n".repeat(40_000));
        sent.push(b"A".repeat(200_000));
        sent.push(vec![0; 1000]);
        let threads = sent.chunks(sent.len() / 6).map(<[Vec<u8>]>::to_vec).map(|sent| {
            let address = balancer.address();
            thread::spawn(move || {
                for bytes in sent {
                    let mut client = Client::connect(address).unwrap();
                    // It may be refused and closed before all of it is sent.
                    let _ = client.try_send(&bytes);
                    let _ = client.stream.shutdown(std::net::Shutdown::Write);
                    let (_, end) = client.rest();
                    assert!(end != Err(Broken::Late), "{:?} was left open", String::from_utf8_lossy(&bytes));
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        let mut client = Client::to(&balancer);
        assert_eq!(client.send(good).answer().text(), "body");
    }

    #[test]
    fn slow_senders_hold_no_worker() {
        let origin = Origin::answers("ok");
        let balancer = Evenkeel::before(&[&origin], with(patient(1, 2, 300), long()));
        let mut slow = clients(&balancer, 200);
        let mut normal = Client::to(&balancer);
        for part in ["GET / HT", "TP/1.1\r\nHos", "t: h\r\nX: "] {
            slow.iter_mut().for_each(|client| _ = client.send(part));
            for _ in 0..10 {
                assert_eq!(normal.get("/").status, 200);
            }
        }
        assert_eq!(origin.count(), 30);
        slow.iter_mut().for_each(|client| _ = client.send("y\r\n\r\n"));
        slow.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
        assert!(balancer.workers() <= 2);
    }

    #[test]
    fn clients_that_connect_and_close_leave_nothing_behind() {
        let origin = Origin::answers("ok");
        let balancer = Evenkeel::before(&[&origin], json!({"servers": {"pool": {"idle": 16}}}));
        assert_eq!(Client::to(&balancer).get("/").status, 200);
        until("the first client's descriptor is closed", || balancer.descriptors() < 40);
        let before = balancer.descriptors();
        for round in 0..2000 {
            let mut client = Client::to(&balancer);
            match round % 4 {
                0 => drop(client),
                1 => client.reset(),
                2 => _ = client.try_send("GET / HT"),
                _ => _ = client.try_send(GET),
            }
        }
        until("others are served", || Client::to(&balancer).get("/").status == 200);
        until("all descriptors are closed but for pooled ones", || balancer.descriptors() < before + 20);
    }

    #[test]
    fn parked_connections_cost_little() {
        const CROWD: usize = 2000;
        raise_descriptors(2 * CROWD as u64 + 300);
        let origin = Origin::answers("ok");
        let balancer = Evenkeel::before(&[&origin], long());
        let mut first = Client::to(&balancer);
        assert_eq!(first.get("/").status, 200);
        let (before, threads) = (balancer.rss_kib(), balancer.threads());
        let mut crowd = clients(&balancer, CROWD);
        crowd.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
        let grown = balancer.rss_kib().saturating_sub(before);
        assert!(grown < 6 * 1024, "{CROWD} parked connections took {grown} KiB");
        assert!(balancer.threads() <= threads + 4, "no thread belongs to a parked connection");
        assert_eq!(first.get("/").status, 200);
        crowd.iter_mut().rev().for_each(|client| assert_eq!(client.get("/").status, 200));
        drop(crowd);
        until("all are closed", || balancer.descriptors() < 100);
    }

    #[test]
    fn with_few_descriptors_it_refuses_or_waits_and_comes_back() {
        let origin = Origin::answers("ok");
        let servers = support::balancer::list(&[&origin]);
        let balancer = Evenkeel::start_with_descriptors(64, json!({"servers": {"list": servers}}));
        let mut first = Client::to(&balancer);
        assert_eq!(first.get("/").status, 200);
        let mut crowd = clients(&balancer, 150);
        crowd.iter_mut().for_each(|client| _ = client.try_send(GET));
        let mut statuses = Vec::new();
        for client in &mut crowd {
            if let Ok(answer) = client.patience(Duration::from_millis(50)).try_answer() {
                statuses.push(answer.status);
            }
        }
        assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
        // Who was there and idle has made room, or is served on, or told that it is our fault, not a server's.
        _ = first.try_send(GET);
        if let Ok(answer) = first.try_answer() {
            let ours = ["connection_limit", "overloaded"].contains(&answer.reason().as_str());
            assert!(answer.status == 200 || ours, "{}", answer.text());
        }
        assert!(!balancer.log_lines().iter().any(|line| line.contains("ejected")));
        drop(crowd);
        until("it serves newcomers again", || {
            Client::connect(balancer.address()).is_ok_and(|mut client| {
                client.try_send(GET).is_ok() && client.try_answer().is_ok_and(|answer| answer.status == 200)
            })
        });
    }
}

mod memory {
    use super::*;

    const MUCH: usize = 64 << 20;
    const PIECE: usize = 1 << 20;

    /// Reads what it gets and answers with how much that was; a GET gets `MUCH`.
    fn bulk() -> Origin {
        Origin::start(|visit| {
            while let Some(head) = visit.head() {
                match head.framing().unwrap() {
                    Framing::None => {
                        let piece = noise(PIECE);
                        if head.line.contains("/chunked") {
                            visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                            for _ in 0..MUCH / PIECE {
                                let mut chunk = chunked(&[&piece]);
                                chunk.truncate(chunk.len() - 5);
                                visit.send(chunk);
                            }
                            visit.send("0\r\n\r\n");
                        } else {
                            visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n"));
                            (0..MUCH / PIECE).for_each(|_| visit.send(&piece));
                        }
                    }
                    _ => {
                        let seen = visit.body(head).unwrap();
                        visit.send(ok(&seen.body.len().to_string()));
                    }
                }
            }
        })
    }

    #[track_caller]
    fn check(balancer: &Evenkeel, told: &str, transfer: impl FnOnce(&mut Client)) {
        let mut client = Client::to(balancer);
        let before = balancer.peak_kib();
        transfer(&mut client);
        let grown = balancer.peak_kib() - before;
        assert!(grown < 4 * 1024, "{told}: {grown} KiB");
    }

    #[test]
    fn memory_is_flat_whatever_goes_through() {
        let origin = bulk();
        let balancer = Evenkeel::before(&[&origin], patient(2, 4, 100));
        assert_eq!(
            Client::to(&balancer)
                .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
                .answer()
                .text(),
            "1"
        );
        let piece = noise(PIECE);
        check(&balancer, "up", |client| {
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {MUCH}\r\n\r\n"));
            (0..MUCH / PIECE).for_each(|_| _ = client.send(&piece));
            assert_eq!(client.answer().text(), MUCH.to_string());
        });
        check(&balancer, "up in chunks", |client| {
            client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = chunked(&[&piece]);
            (0..MUCH / PIECE).for_each(|_| _ = client.send(&chunk[..chunk.len() - 5]));
            assert_eq!(client.send("0\r\n\r\n").answer().text(), MUCH.to_string());
        });
        for path in ["/", "/chunked"] {
            check(&balancer, path, |client| {
                client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
                let (_, status) = client.head();
                let read = count_to_the_end(client);
                assert!(status == 200 && read >= MUCH, "{read} bytes");
            });
        }
    }

    /// Everything until the end, without keeping it.
    fn count_to_the_end(client: &mut Client) -> usize {
        let mut piece = vec![0; 1 << 16];
        let mut total = client.buffered();
        loop {
            match client.stream.read(&mut piece) {
                Ok(0) => return total,
                Ok(count) => total += count,
                Err(error) => panic!("after {total} bytes: {error}"),
            }
        }
    }

    #[test]
    fn memory_is_flat_over_many_requests() {
        let origin = Origin::answers("ok");
        let balancer = Evenkeel::before(&[&origin], patient(2, 4, 100));
        let mut client = Client::to(&balancer);
        let batch = GET.repeat(100);
        let mut run = |batches| {
            for _ in 0..batches {
                client.send(&batch);
                (0..100).for_each(|_| assert_eq!(client.answer().status, 200));
            }
        };
        run(5);
        let before = balancer.rss_kib();
        run(30);
        let grown = balancer.rss_kib().saturating_sub(before);
        assert!(grown < 1024, "3000 requests took {grown} KiB");
    }

    #[test]
    fn one_that_reads_none_of_our_own_answers_holds_up_nobody() {
        let origin = Origin::answers("ok");
        let over = json!({"timeouts": {"client_body": "120s"}});
        let balancer = Evenkeel::before(&[&origin], with(patient(1, 1, 100), over));
        let mut deaf = TcpStream::connect(balancer.address()).unwrap();
        deaf.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let last_hops = "OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n".repeat(1000);
        // Until the balancer reads no more, because its own answers find no room.
        while deaf.write_all(last_hops.as_bytes()).is_ok() {}
        assert_eq!(Client::to(&balancer).get("/").text(), "ok");
    }

    #[test]
    fn slow_readers_are_given_up_and_cost_no_memory() {
        let origin = bulk();
        let config = with(patient(1, 8, 100), json!({"timeouts": {"client_body": "300ms"}}));
        let balancer = Evenkeel::before(&[&origin], config);
        let before = balancer.peak_kib();
        let mut slow = clients(&balancer, 4);
        slow.iter_mut().for_each(|client| _ = client.send(GET));
        // They read nothing: the balancer stops, and its connections to the server end.
        origin.until("all four are given up", |seen| seen.ended + seen.bytes.len() >= 4);
        until("their connections are closed", || {
            balancer.log_lines().iter().filter(|line| line.contains("client_stalled")).count() == 4
        });
        assert!(balancer.peak_kib() - before < 4 * 1024);
    }
}

mod ahead {
    use super::*;

    /// Quick servers and a standing queue: workers send several requests on their way. One that then stalls must
    /// not keep those behind it.
    #[test]
    fn a_request_that_stalls_holds_up_no_other_that_was_sent_with_it() {
        let gate = Gate::default();
        let opens = gate.clone();
        let origin = Origin::start(move |visit| {
            while let Some(request) = visit.request() {
                if request.line.contains("/stall") {
                    gate.wait();
                }
                visit.send(ok("well"));
            }
        });
        let balancer = Evenkeel::before(&[&origin], patient(2, 2, 1000));
        let mut crowd = clients(&balancer, 40);
        // Long enough for the balancer to learn that the server is quick.
        for _ in 0..100 {
            ask_all(&mut crowd);
        }
        let mut stalled = Client::to(&balancer);
        stalled.send("GET /stall HTTP/1.1\r\nHost: h\r\n\r\n");
        origin.until("it stalls", |seen| seen.bytes.iter().any(|bytes| contains(bytes, b"/stall")));
        for _ in 0..20 {
            ask_all(&mut crowd);
        }
        assert!(stalled.is_quiet());
        opens.open();
        assert_eq!(stalled.answer().text(), "well");
    }

    fn ask_all(crowd: &mut [Client]) {
        for client in crowd.iter_mut() {
            client.send(GET);
        }
        for client in crowd.iter_mut() {
            assert_eq!(client.answer().status, 200);
        }
    }

    fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
        bytes.windows(wanted.len()).any(|window| window == wanted)
    }
}

mod away {
    use super::*;

    /// More requests at once than workers wait for.
    const CROWD: usize = 150;

    /// A crowd whose requests are all with a server that does not answer.
    fn crowd(config: Value, origin: &Origin) -> (Evenkeel, Vec<Client>) {
        let balancer = Evenkeel::before(&[origin], with(patient(1, 300, 300), config));
        let mut all = clients(&balancer, CROWD);
        all.iter_mut().for_each(|client| _ = client.send(GET));
        origin.until("all requests are there at once", |seen| seen.requests.len() == CROWD);
        (balancer, all)
    }

    #[test]
    fn with_many_in_hand_no_worker_waits_and_every_client_gets_its_own_answer() {
        let gate = Gate::default();
        let origin = {
            let gate = gate.clone();
            Origin::start(move |visit| {
                while let Some(seen) = visit.request() {
                    gate.wait();
                    visit.answer([seen.line.as_bytes(), b" ", &seen.body].concat());
                }
            })
        };
        let balancer = Evenkeel::before(&[&origin], patient(1, 300, 300));
        let mut all = clients(&balancer, CROWD);
        let post = |number: usize| {
            let body = format!("{number}");
            format!("POST /{number} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        for (number, client) in all.iter_mut().enumerate() {
            client.send(post(number));
        }
        origin.until("all requests are there at once", |seen| seen.requests.len() == CROWD);
        // Those that came while there were few are waited for.
        assert!(balancer.workers() < CROWD, "{} workers", balancer.workers());
        gate.open();
        // Twice: links that were watched serve again, to whoever comes.
        for _ in 0..2 {
            for (number, client) in all.iter_mut().enumerate() {
                assert_eq!(client.answer().text(), format!("POST /{number} HTTP/1.1 {number}"));
            }
            for (number, client) in all.iter_mut().enumerate() {
                client.send(post(number));
            }
        }
        all.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
        until("the crew goes home", || balancer.workers() == 1);
    }

    #[test]
    fn a_client_that_leaves_stops_the_work_and_a_server_that_stalls_is_504() {
        let origin = Origin::start(|visit| {
            let _ = visit.request();
            drop(visit.to_the_end());
        });
        let (_balancer, mut all) = crowd(json!({ "timeouts": { "response": "2s" } }), &origin);
        let stay = all.split_off(CROWD / 2);
        drop(all);
        for mut client in stay {
            let answer = client.answer();
            assert_eq!((answer.status, answer.reason().as_str()), (504, "server_timeout"));
        }
        origin.until("every connection was cut", |seen| seen.ended == CROWD);
    }

    #[test]
    fn no_more_than_max_workers_are_with_the_servers_at_once() {
        const MOST: usize = 80;
        let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let (gate, seen) = (Gate::default(), Arc::clone(&most));
        let opens = gate.clone();
        let origin = Origin::replies(move |visit| {
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.wait();
            now.fetch_sub(1, Ordering::SeqCst);
            visit.send(ok("late"));
        });
        let balancer = Evenkeel::before(&[&origin], patient(1, MOST, 300));
        let mut all = clients(&balancer, 200);
        all.iter_mut().for_each(|client| _ = client.send(GET));
        origin.until("all that may be are there", |seen| seen.requests.len() >= MOST);
        // Time for one too many; whether there was one is judged at the end.
        assert!(all[199].patience(Duration::from_millis(200)).try_answer().is_err());
        opens.open();
        all[199].patience(DEADLINE);
        all.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "late"));
        // A worker that is hired and a request that goes away may pass each other: a few, never twice as many.
        let most = most.load(Ordering::SeqCst);
        assert!((MOST..MOST + 10).contains(&most), "{most}");
    }
}
