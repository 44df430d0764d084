//! The worker pool and the queue in front of the servers: the pool grows and shrinks, waiting costs no worker, what
//! waits has a bound, an order and a deadline, and no peer can starve, bloat or end the process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; deadlines and the speed of rejections are measured"
)]

mod support;

use rustix::process::{Resource, Signal, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::balancer::{ADMIN, list, with};
use support::faults::ok;
use support::message::Framing;
use support::origin::Visit;
use support::{Broken, Client, DEADLINE, Evenkeel, Gate, Origin, Shared, chunked, noise, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// So many workers.
fn patient(min: usize, max: usize, queue: usize) -> Value {
    json!({"threadpool": {"min_workers": min, "max_workers": max, "queue_capacity": queue}})
}

/// Time for very many clients, on a machine with other things to do.
fn long() -> Value {
    json!({"timeouts": {"client_head": "300s"}})
}

fn clients(balancer: &Evenkeel, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::to(balancer)).collect()
}

fn get(path: impl std::fmt::Display) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// Lets this process, and its children, have so many descriptors.
fn raise_descriptors(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(wanted);
    assert!(most >= wanted, "this machine allows {most} descriptors, and the test needs {wanted}");
    limit.current = limit.current.map(|current| current.max(wanted));
    setrlimit(Resource::Nofile, limit).unwrap();
}

mod pool {
    use super::*;

    #[test]
    fn slow_servers_make_the_pool_grow_to_max_and_it_is_back_at_min_soon() {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "late");
        let balancer = Evenkeel::before(&[&origin], patient(2, 20, 100));
        until("it begins with min", || balancer.workers() == 2);
        let mut all = clients(&balancer, 60);
        all.iter_mut().for_each(|client| _ = client.send(GET));
        origin.until("all requests are there at once", |seen| seen.requests.len() == 60);
        until("the pool has max", || balancer.workers() == 20);
        gate.open();
        all.iter_mut().for_each(|client| assert_eq!(client.response().text(), "late"));
        // Half of what was not needed is stopped each half second: 18, in five steps.
        until("it is back at min", || balancer.workers() == 2);
        assert_eq!(Client::to(&balancer).get("/").status, 200);
    }

    /// The seed's demonstration: sixty clients, and servers that take a third of a second.
    #[test]
    fn sixty_requests_on_servers_of_300_ms_have_many_workers() {
        let slow = || {
            Origin::replies(|visit| {
                thread::park_timeout(Duration::from_millis(300));
                visit.send(ok("ok"));
            })
        };
        let (one, two) = (slow(), slow());
        let balancer = Evenkeel::before(&[&one, &two], patient(1, 50, 100));
        let mut all = clients(&balancer, 60);
        let mut most = 0;
        // On a machine that is busy with other things the pool takes its time.
        until("twenty workers are there", || {
            all.iter_mut().for_each(|client| _ = client.send(GET));
            for client in &mut all {
                assert_eq!(client.response().text(), "ok");
                most = most.max(balancer.workers());
            }
            most >= 20
        });
        assert!(most <= 50, "{most} workers at the most");
        until("it is back at min", || balancer.workers() == 1);
    }

    #[test]
    fn max_workers_bounds_threads_and_never_requests() {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "late");
        // Fewer may wait for a worker than come.
        let balancer = Evenkeel::before(&[&origin], patient(1, 2, 4));
        let mut all = clients(&balancer, 150);
        all.iter_mut().for_each(|client| _ = client.send(GET));
        origin.until("all requests are there at once", |seen| seen.requests.len() == 150);
        assert!(balancer.workers() <= 2, "{} workers", balancer.workers());
        assert!(all.iter().all(Client::is_quiet), "none is rejected");
        gate.open();
        all.iter_mut().for_each(|client| assert_eq!(client.response().text(), "late"));
    }

    #[test]
    fn one_worker_gives_every_client_its_own_response() {
        let gate = Gate::default();
        let waits = gate.clone();
        let origin = Origin::start(move |visit| {
            while let Some(seen) = visit.request() {
                waits.wait();
                visit.response([seen.line.as_bytes(), b" ", &seen.body].concat());
            }
        });
        let balancer = Evenkeel::before(&[&origin], patient(1, 1, 300));
        let mut all = clients(&balancer, 150);
        let post = |number: usize| {
            let body = format!("{number}");
            format!("POST /{number} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        for round in 0..3 {
            for (number, client) in all.iter_mut().enumerate() {
                client.send(post(number));
            }
            if round == 0 {
                origin.until("all requests are there at once", |seen| seen.requests.len() == 150);
                gate.open();
            }
            for (number, client) in all.iter_mut().enumerate() {
                assert_eq!(client.response().text(), format!("POST /{number} HTTP/1.1 {number}"));
            }
        }
        assert_eq!(balancer.workers(), 1);
        // A response that has come whole gives its connection back for the next request.
        assert!(origin.connections() <= 150 + 20, "{} connections", origin.connections());
    }

    /// What needs no processor is not rejected: the seed's file, and more clients than workers and queue.
    #[test]
    fn four_hundred_clients_of_a_slow_server_are_all_served_with_the_seeds_configuration() {
        raise_descriptors(2200);
        let origin = Origin::replies(|visit| {
            thread::park_timeout(Duration::from_millis(500));
            visit.send(ok("ok"));
        });
        let seed = json!({
            "servers": {"queue_capacity": 1000},
            "threadpool": {"min_workers": 1, "max_workers": 50, "queue_capacity": 100},
            "admin": {"socket": ADMIN},
        });
        let balancer = Evenkeel::before(&[&origin], seed);
        let mut all = clients(&balancer, 400);
        for _ in 0..2 {
            all.iter_mut().for_each(|client| _ = client.send(GET));
            all.iter_mut().for_each(|client| assert_eq!(client.response().text(), "ok"));
        }
        assert!(balancer.workers() <= 50);
        let rejected = balancer.metric_lines("evenkeel_rejections_total");
        assert!(rejected.iter().all(|line| line.ends_with(" 0")), "{rejected:?}");
    }

    #[test]
    fn event_streams_leave_ordinary_requests_as_they_are() {
        const STREAMS: usize = if cfg!(debug_assertions) { 300 } else { 1000 };
        raise_descriptors(4 * STREAMS as u64 + 300);
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let origin = Origin::start(move |visit| {
            while let Some(seen) = visit.request() {
                if seen.target() != "/events" {
                    visit.send(ok("ordinary"));
                    continue;
                }
                visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                while !is_over.load(Ordering::Relaxed) {
                    visit.send("7\r\ndata\n\n\n\r\n");
                    thread::park_timeout(Duration::from_millis(500));
                }
                visit.send("0\r\n\r\n");
            }
        });
        // As many workers as the seed has, and a queue that would be full soon.
        let balancer = Evenkeel::before(&[&origin], json!({"threadpool": {"queue_capacity": 100}}));
        let mut streams = clients(&balancer, STREAMS);
        streams.iter_mut().for_each(|client| _ = client.send(get("/events")));
        let mut ordinary = clients(&balancer, 4);
        let mut quickest = Duration::MAX;
        let mut ask = |ordinary: &mut Vec<Client>| {
            for client in ordinary {
                let since = Instant::now();
                assert_eq!(client.get("/").text(), "ordinary");
                quickest = quickest.min(since.elapsed());
            }
        };
        // While they open, and when all of them run.
        ask(&mut ordinary);
        let heads: Vec<_> = streams.iter_mut().map(Client::head).collect();
        assert!(heads.iter().all(|(_, status)| *status == 200));
        (0..20).for_each(|_| ask(&mut ordinary));
        // A busy machine delays some of them, streams in the way would delay all.
        assert!(quickest < Duration::from_secs(2), "{quickest:?}");
        assert!(balancer.workers() <= 50);
        over.store(true, Ordering::Relaxed);
        for (client, (head, status)) in streams.iter_mut().zip(heads) {
            let body = client.body_of("GET", head, status).unwrap();
            assert!(body.text().starts_with("data\n\n\n"), "{}", body.text());
        }
    }

    #[test]
    fn slow_uploads_and_trickled_heads_leave_ordinary_requests_as_they_are() {
        const CLIENTS: usize = 150;
        raise_descriptors(4 * CLIENTS as u64 + 300);
        let gate = Gate::default();
        let opens = gate.clone();
        let origin = Origin::start(move |visit| {
            while let Some(head) = visit.head() {
                if head.line.contains("/trickle") {
                    visit.send("HTTP/1.1 200 OK\r\nX-Begun: ");
                    gate.wait();
                    visit.send("y\r\nContent-Length: 7\r\n\r\ntrickle");
                } else if let Some(seen) = visit.body(head) {
                    visit.send(ok(&seen.body.len().to_string()));
                }
            }
        });
        let balancer = Evenkeel::before(&[&origin], patient(1, 2, 10));
        let mut uploads = clients(&balancer, CLIENTS);
        let mut trickles = clients(&balancer, CLIENTS);
        let head = "POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n";
        uploads.iter_mut().for_each(|client| _ = client.send(head));
        trickles.iter_mut().for_each(|client| _ = client.send(get("/trickle")));
        origin.until("all of them are there", |seen| seen.heads == 2 * CLIENTS);
        let mut ordinary = Client::to(&balancer);
        let mut quickest = Duration::MAX;
        for _ in 0..10 {
            uploads.iter_mut().for_each(|client| _ = client.send("1234567890"));
            let since = Instant::now();
            assert_eq!(ordinary.get("/").text(), "0");
            quickest = quickest.min(since.elapsed());
        }
        assert!(quickest < Duration::from_secs(2), "{quickest:?}");
        uploads.iter_mut().for_each(|client| assert_eq!(client.response().text(), "100"));
        opens.open();
        trickles.iter_mut().for_each(|client| assert_eq!(client.response().text(), "trickle"));
        assert!(balancer.workers() <= 2);
    }

    #[test]
    fn a_client_that_resets_stops_the_work_and_a_server_that_stalls_is_504() {
        const CLIENTS: usize = 100;
        let origin = Origin::start(|visit| {
            let _ = visit.request();
            drop(visit.to_the_end());
        });
        let config = with(patient(1, 8, 300), json!({ "timeouts": { "response": "3s" } }));
        let balancer = Evenkeel::before(&[&origin], config);
        let mut all = clients(&balancer, CLIENTS);
        all.iter_mut().for_each(|client| _ = client.send(GET));
        origin.until("all requests are there at once", |seen| seen.requests.len() == CLIENTS);
        let stay = all.split_off(CLIENTS / 2);
        all.into_iter().for_each(Client::reset);
        for mut client in stay {
            let response = client.response();
            assert_eq!((response.status, response.reason().as_str()), (504, "server_timeout"));
        }
        origin.until("every connection was cut", |seen| seen.ended == CLIENTS);
    }
}

mod queue {
    use super::*;

    /// Responses each request once its target is released; what is with it now, and the most there ever was.
    #[derive(Clone, Default)]
    struct Held {
        released: Shared<Vec<String>>,
        now: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    impl Held {
        fn origin(&self) -> Origin {
            let held = self.clone();
            Origin::replies(move |visit: &mut Visit| {
                let count = held.now.fetch_add(1, Ordering::SeqCst) + 1;
                held.most.fetch_max(count, Ordering::SeqCst);
                let target = visit.target();
                let is_out = |released: &Vec<String>| released.contains(&target).then_some(());
                held.released.wait_for(DEADLINE, is_out);
                held.now.fetch_sub(1, Ordering::SeqCst);
                visit.send(ok(&target));
            })
        }

        fn release(&self, target: &str) {
            self.released.change(|released| released.push(target.to_owned()));
        }
    }

    /// One request at each server at once, and this over it.
    fn limited(over: Value) -> Value {
        let base =
            with(patient(1, 4, 100), json!({"servers": {"max_in_flight": 1}, "admin": {"socket": ADMIN}}));
        with(base, over)
    }

    fn until_waiting(balancer: &Evenkeel, count: usize) {
        until(&format!("{count} requests wait for a server"), || {
            balancer.metric("evenkeel_requests_waiting") == count as f64
        });
    }

    /// Sends a request that waits, behind `before` others.
    fn waits(balancer: &Evenkeel, path: &str, before: usize) -> Client {
        let mut client = Client::to(balancer);
        client.send(get(path));
        until_waiting(balancer, before + 1);
        client
    }

    fn targets(origin: &Origin) -> Vec<String> {
        origin.requests().iter().map(|seen| seen.target().to_owned()).collect()
    }

    #[test]
    fn max_in_flight_is_never_exceeded_and_every_request_is_served() {
        let counts: [(AtomicUsize, AtomicUsize); 3] = Default::default();
        let counts = Arc::new(counts);
        let origin = |at: usize| {
            let counts = Arc::clone(&counts);
            Origin::replies(move |visit| {
                let (now, most) = &counts[at];
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::park_timeout(Duration::from_millis(3));
                now.fetch_sub(1, Ordering::SeqCst);
                // Long enough to come in several pieces, now and then cut by the server's close.
                visit.response("x".repeat(30_000));
            })
        };
        let origins = [origin(0), origin(1), origin(2)];
        let mut servers = list(&[&origins[0], &origins[1], &origins[2]]);
        servers[1]["max_in_flight"] = json!(1);
        servers[2]["max_in_flight"] = json!(5);
        let over = json!({"servers": {"max_in_flight": 3, "list": servers}});
        let balancer = Evenkeel::start(limited(over));
        let mut all = clients(&balancer, 60);
        for round in 0..8 {
            for (at, client) in all.iter_mut().enumerate() {
                match (at + round) % 2 {
                    0 => client.send(GET),
                    _ => client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"),
                };
            }
            all.iter_mut().for_each(|client| assert_eq!(client.response().body.len(), 30_000));
        }
        let most = [0, 1, 2].map(|at| counts[at].1.load(Ordering::SeqCst));
        assert_eq!(most, [3, 1, 5], "the most at once at each server");
        until_waiting(&balancer, 0);
        balancer.metric_is("evenkeel_server_in_flight", 0.0);
    }

    #[test]
    fn what_waits_is_served_in_its_order() {
        let held = Held::default();
        let origin = held.origin();
        let balancer = Evenkeel::before(&[&origin], limited(json!({})));
        let mut first = Client::to(&balancer);
        first.send(get("/0"));
        origin.until("the first is there", |seen| seen.requests.len() == 1);
        let mut others: Vec<_> =
            (1..=12).map(|at| (format!("/{at}"), waits(&balancer, &format!("/{at}"), at - 1))).collect();
        // All may go as soon as they are there.
        others.iter().for_each(|(path, _)| held.release(path));
        held.release("/0");
        assert_eq!(first.response().text(), "/0");
        others.iter_mut().for_each(|(path, client)| assert_eq!(client.response().text(), *path));
        let expected: Vec<_> = (0..=12).map(|at| format!("/{at}")).collect();
        assert_eq!(targets(&origin), expected);
    }

    #[test]
    fn a_full_queue_is_503_at_once_and_readable_and_those_before_are_served() {
        let held = Held::default();
        let origin = held.origin();
        let balancer = Evenkeel::before(&[&origin], limited(json!({"servers": {"queue_capacity": 2}})));
        let mut first = Client::to(&balancer);
        first.send(get("/0"));
        origin.until("the server has all that it may", |seen| seen.requests.len() == 1);
        let kept = [("/1", waits(&balancer, "/1", 0)), ("/2", waits(&balancer, "/2", 1))];
        let mut took = Vec::new();
        for _ in 0..11 {
            let mut client = Client::to(&balancer);
            let since = Instant::now();
            let response = client.get("/rejected");
            took.push(since.elapsed());
            assert_eq!((response.status, response.reason().as_str()), (503, "queue_full"));
            assert!(response.fields.one("Retry-After").parse::<u32>().is_ok());
            // It may come again on the same connection, also with a body that is here.
            let response =
                client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").response();
            assert_eq!((response.status, response.reason().as_str()), (503, "queue_full"));
            // But not with one of which the rest is to come.
            client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\nabc");
            assert_eq!(client.response().fields.all("Connection"), ["close"]);
            client.sees_the_end();
        }
        // This machine has other things to do; a wait for anything would delay all of them.
        assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "{took:?}");
        ["/0", "/1", "/2"].into_iter().for_each(|path| held.release(path));
        assert_eq!(first.response().text(), "/0");
        for (path, mut client) in kept {
            assert_eq!(client.response().text(), path);
        }
        assert_eq!(targets(&origin), ["/0", "/1", "/2"], "the server heard of no other");
    }

    #[test]
    fn a_client_that_sends_its_whole_body_first_can_read_that_the_queue_is_full() {
        let held = Held::default();
        let origin = held.origin();
        let balancer = Evenkeel::before(&[&origin], limited(json!({"servers": {"queue_capacity": 1}})));
        let mut first = Client::to(&balancer);
        first.send(get("/0"));
        origin.until("the server has all that it may", |seen| seen.requests.len() == 1);
        let mut second = waits(&balancer, "/1", 0);
        let mut rejected = Client::to(&balancer);
        rejected.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n");
        // More than any socket buffer holds, and all of it before it reads.
        rejected.send(vec![b'x'; 5_000_000]);
        let response = rejected.response();
        assert_eq!((response.status, response.reason().as_str()), (503, "queue_full"));
        rejected.sees_the_end();
        ["/0", "/1"].into_iter().for_each(|path| held.release(path));
        assert_eq!([first.response().text(), second.response().text()], ["/0", "/1"]);
    }

    /// No server is promised to what waits: the first with room takes the head of the queue.
    #[test]
    fn the_first_server_with_room_takes_the_head_of_the_queue() {
        let held = Held::default();
        let (one, two) = (held.origin(), held.origin());
        let balancer = Evenkeel::before(&[&one, &two], limited(json!({})));
        let mut busy = clients(&balancer, 2);
        busy[0].send(get("/a"));
        busy[1].send(get("/b"));
        let there = |path: &str| [&one, &two].map(|origin| targets(origin).iter().any(|other| other == path));
        until("both servers are full", || there("/a") != [false; 2] && there("/b") != [false; 2]);
        let (at_a, at_b) = (there("/a"), there("/b"));
        assert_ne!(at_a, at_b, "one at each server");
        let mut waiting = [waits(&balancer, "/c", 0), waits(&balancer, "/d", 1)];
        held.release("/b");
        until("the head of the queue is where /b was", || there("/c") == at_b);
        until_waiting(&balancer, 1);
        held.release("/a");
        until("the next one is where /a was", || there("/d") == at_a);
        ["/c", "/d"].into_iter().for_each(|path| held.release(path));
        assert_eq!([busy[0].response().text(), busy[1].response().text()], ["/a", "/b"]);
        assert_eq!([waiting[0].response().text(), waiting[1].response().text()], ["/c", "/d"]);
    }

    #[test]
    fn the_deadline_of_the_queue_is_kept_while_no_server_has_room() {
        let held = Held::default();
        let origin = held.origin();
        let times =
            json!({"threadpool": {"queue_timeout": "600ms", "queue_target": "600ms", "max_workers": 1}});
        let balancer = Evenkeel::before(&[&origin], limited(times));
        let mut first = Client::to(&balancer);
        first.send(get("/0"));
        origin.until("the server has all that it may", |seen| seen.requests.len() == 1);
        let mut waiting = clients(&balancer, 5);
        let since: Vec<_> = waiting
            .iter_mut()
            .map(|client| {
                let since = Instant::now();
                client.send(get("/late"));
                since
            })
            .collect();
        for (client, since) in waiting.iter_mut().zip(since) {
            let response = client.response();
            let took = since.elapsed();
            assert_eq!((response.status, response.reason().as_str()), (503, "queue_timeout"));
            assert!(response.fields.has("Retry-After"));
            // Without the deadline they would wait for as long as the test does.
            assert!(took.as_millis() >= 590, "{took:?}");
        }
        held.release("/0");
        held.release("/again");
        assert_eq!(first.response().text(), "/0");
        assert_eq!(waiting[0].send(get("/again")).response().text(), "/again", "it may come again");
        assert_eq!(targets(&origin), ["/0", "/again"], "the server never heard of those");
    }

    #[test]
    fn a_client_that_resets_while_it_waits_gives_its_place_up() {
        let held = Held::default();
        let origin = held.origin();
        let balancer = Evenkeel::before(&[&origin], limited(json!({"servers": {"queue_capacity": 2}})));
        let mut first = Client::to(&balancer);
        first.send(get("/0"));
        origin.until("the server has all that it may", |seen| seen.requests.len() == 1);
        let gone = waits(&balancer, "/gone", 0);
        let mut second = waits(&balancer, "/1", 1);
        gone.reset();
        until_waiting(&balancer, 1);
        let mut third = waits(&balancer, "/2", 1);
        ["/0", "/1", "/2"].into_iter().for_each(|path| held.release(path));
        let texts = [&mut first, &mut second, &mut third].map(|client| client.response().text());
        assert_eq!(texts, ["/0", "/1", "/2"]);
        assert_eq!(targets(&origin), ["/0", "/1", "/2"], "the server never heard of the one that left");
    }

    #[test]
    fn a_standing_queue_is_503_overloaded_soon_and_the_rest_is_served() {
        let origin = Origin::replies(|visit| {
            thread::park_timeout(Duration::from_millis(20));
            visit.send(ok("ok"));
        });
        let balancer = Evenkeel::before(&[&origin], limited(json!({"threadpool": {"queue_target": "5ms"}})));
        // Two seconds' work at once, at a server of which the balancer knows how quick it is.
        let mut all = clients(&balancer, 101);
        assert_eq!(all[0].get("/").text(), "ok");
        // Where the machine stands still all have waited for too long behind that, and few are served.
        until("some are served and many rejected", || {
            all.iter_mut().for_each(|client| _ = client.send(GET));
            let (mut served, mut rejected) = (0, 0);
            for client in &mut all {
                let response = client.response();
                match (response.status, response.reason().as_str()) {
                    (200, _) => served += 1,
                    (503, "overloaded") => rejected += 1,
                    other => panic!("{other:?}"),
                }
            }
            served >= 4 && rejected >= 20
        });
        until_waiting(&balancer, 0);
        assert_eq!(all[0].get("/").text(), "ok");
    }

    #[test]
    fn what_waits_when_the_balancer_stops_is_served() {
        let held = Held::default();
        let origin = held.origin();
        let mut balancer = Evenkeel::before(&[&origin], limited(json!({})));
        let mut first = Client::to(&balancer);
        first.send(get("/0"));
        origin.until("the server has all that it may", |seen| seen.requests.len() == 1);
        let mut others: Vec<_> =
            (1..=5).map(|at| (format!("/{at}"), waits(&balancer, &format!("/{at}"), at - 1))).collect();
        balancer.signal(Signal::TERM);
        until("new connections are refused", || Client::connect(balancer.address()).is_err());
        (0..=5).for_each(|at| held.release(&format!("/{at}")));
        assert_eq!(first.response().text(), "/0");
        others.iter_mut().for_each(|(path, client)| assert_eq!(client.response().text(), *path));
        assert_eq!(balancer.wait().code(), Some(0));
    }

    /// A tunnel is in flight for as long as it is open.
    #[test]
    fn the_end_of_a_tunnel_makes_room() {
        let origin = Origin::start(|visit| {
            while let Some(seen) = visit.request() {
                if seen.fields.has("Upgrade") {
                    visit.send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                    visit.to_the_end();
                    return;
                }
                visit.send(ok("ok"));
            }
        });
        let balancer = Evenkeel::before(&[&origin], limited(json!({})));
        for by_reset in [false, true] {
            let mut tunnel = Client::to(&balancer);
            tunnel.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
            assert_eq!(tunnel.response().status, 101);
            let mut others = [waits(&balancer, "/", 0), waits(&balancer, "/", 1)];
            assert!(others.iter().all(Client::is_quiet));
            if by_reset {
                tunnel.reset()
            } else {
                drop(tunnel)
            }
            others.iter_mut().for_each(|client| assert_eq!(client.response().text(), "ok"));
        }
    }

    /// A server that fails gives its room to the next one in the queue, too.
    #[test]
    fn room_that_a_failure_makes_is_taken() {
        let gate = Gate::default();
        let opens = gate.clone();
        let origin = Origin::start(move |visit| {
            while let Some(seen) = visit.request() {
                if seen.target() == "/fails" {
                    return gate.wait();
                }
                visit.send(ok("ok"));
            }
        });
        let no_ejection = json!({"servers": {"ejection": {"max_percent": 0}}});
        let balancer = Evenkeel::before(&[&origin], limited(no_ejection));
        let mut fails = Client::to(&balancer);
        fails.send("POST /fails HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        origin.until("the server has all that it may", |seen| seen.requests.len() == 1);
        let mut others: Vec<_> = (0..3).map(|at| waits(&balancer, "/ok", at)).collect();
        opens.open();
        assert_eq!(fails.response().status, 502);
        others.iter_mut().for_each(|client| assert_eq!(client.response().text(), "ok"));
    }
}

mod moves {
    use super::*;

    const ASK: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

    /// Held requests, tunnels that echo, downloads in steps, and uploads.
    fn origin(gate: &Gate, step: &Shared<usize>) -> Origin {
        let (gate, step) = (gate.clone(), step.clone());
        Origin::start(move |visit| {
            while let Some(head) = visit.head() {
                if head.line.contains("/ws") {
                    visit.send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                    loop {
                        let piece = visit.take(4);
                        if piece.len() < 4 {
                            return visit.send("over");
                        }
                        visit.send(piece);
                    }
                }
                if head.line.contains("/steps") {
                    visit.send("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n");
                    for at in 0..10 {
                        step.wait_for(DEADLINE, |step| (*step > at).then_some(()));
                        visit.send(format!("{at:04}"));
                    }
                    continue;
                }
                let is_held = head.line.contains("/held");
                let Some(seen) = visit.body(head) else { return };
                if is_held {
                    gate.wait();
                }
                visit.send(ok(&String::from_utf8_lossy(&seen.body)));
            }
        })
    }

    /// Workers that are not needed any more stop, and what they have goes on elsewhere.
    #[test]
    fn workers_that_stop_pass_their_exchanges_and_tunnels_on_and_no_byte_is_lost() {
        const EACH: usize = 8;
        let (gate, step) = (Gate::default(), Shared::<usize>::default());
        let origin = origin(&gate, &step);
        let balancer = Evenkeel::before(&[&origin], patient(1, 40, 300));
        let mut held = clients(&balancer, 40);
        held.iter_mut().for_each(|client| _ = client.send(get("/held")));
        until("the pool has max", || balancer.workers() == 40);
        let mut tunnels = clients(&balancer, EACH);
        tunnels.iter_mut().for_each(|client| assert_eq!(client.send(ASK).response().status, 101));
        let mut steps = clients(&balancer, EACH);
        steps.iter_mut().for_each(|client| _ = client.send(get("/steps")));
        let heads: Vec<_> = steps.iter_mut().map(Client::head).collect();
        let mut uploads = clients(&balancer, EACH);
        let head = "POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\n";
        uploads.iter_mut().for_each(|client| _ = client.send(head));
        origin.until("all of them are there", |seen| seen.heads == 40 + 3 * EACH);
        gate.open();
        held.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
        for at in 0..10 {
            // The tenth moves come when the pool is small again.
            until("the pool has shrunk further", || balancer.workers() <= 2 * EACH + 24 - 2 * at);
            let piece = format!("{at:04}");
            for tunnel in &mut tunnels {
                assert_eq!(tunnel.send(&piece).bytes(4), piece.as_bytes());
            }
            uploads.iter_mut().for_each(|client| _ = client.send(&piece));
            step.change(|step| *step += 1);
        }
        let whole: String = (0..10).map(|at| format!("{at:04}")).collect();
        uploads.iter_mut().for_each(|client| assert_eq!(client.response().text(), whole));
        for (client, (head, status)) in steps.iter_mut().zip(heads) {
            assert_eq!(client.body_of("GET", head, status).unwrap().text(), whole);
        }
        until("it is back at min, though tunnels are open", || balancer.workers() == 1);
        for tunnel in &mut tunnels {
            assert_eq!(tunnel.send("last").bytes(4), b"last");
            tunnel.finish_writing();
            assert_eq!(tunnel.rest(), (b"over".to_vec(), Ok(())));
        }
        assert_eq!(Client::to(&balancer).get("/").status, 200);
    }

    /// A connection that waited for a second is parked in the accept thread.
    fn until_parked(since: Instant) {
        until("it is parked", || since.elapsed() > Duration::from_millis(1300));
    }

    #[test]
    fn parked_connections_are_served_again_and_again() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], patient(1, 4, 100));
        let mut fresh = Client::to(&balancer);
        let mut used = Client::to(&balancer);
        let mut half = Client::to(&balancer);
        assert_eq!(used.get("/").text(), "ok");
        half.send("GET / HTTP/1.1\r\nHo");
        for _ in 0..3 {
            until_parked(Instant::now());
            assert_eq!([fresh.get("/").text(), used.get("/").text()], ["ok", "ok"]);
            assert_eq!(half.send("st: h\r\n\r\nGET / HTTP/1.1\r\nHo").response().text(), "ok");
        }
        until_parked(Instant::now());
        // Ends are noticed there, too.
        fresh.finish_writing();
        fresh.sees_the_end();
        half.finish_writing();
        half.sees_the_end();
        let before = balancer.descriptors();
        used.reset();
        until("the descriptor of the reset one is closed", || balancer.descriptors() < before);
    }

    #[test]
    fn deadlines_hold_where_a_connection_is_parked() {
        let origin = Origin::responds("ok");
        let times = json!({"timeouts": {"client_head": "2s", "keep_alive": "2500ms"}});
        let balancer = Evenkeel::before(&[&origin], with(patient(1, 4, 100), times));
        // Sent before its time is over: again where the machine stood still for that long.
        let began = |sent: &str| loop {
            let since = Instant::now();
            let mut client = Client::to(&balancer);
            if client.try_send(sent).is_ok() && since.elapsed() < Duration::from_secs(1) {
                return (client, since);
            }
        };
        let (mut silent, _) = began("");
        let (mut half, half_since) = began("GET / HTTP/1.1\r\nHo");
        let (mut used, used_since) = began(GET);
        assert_eq!(used.response().text(), "ok");
        // Where it is parked no worker waits for it, and without a deadline it would be open for minutes.
        silent.sees_the_end();
        let response = half.response();
        assert_eq!((response.status, response.reason().as_str()), (408, "head_timeout"));
        assert!(half_since.elapsed() >= Duration::from_millis(1900), "{:?}", half_since.elapsed());
        half.sees_the_end();
        used.sees_the_end();
        assert!(used_since.elapsed() >= Duration::from_millis(2400), "{:?}", used_since.elapsed());
    }

    #[test]
    fn a_stop_closes_parked_connections_and_tells_those_whose_head_has_begun() {
        let origin = Origin::responds("ok");
        let config = with(patient(1, 4, 100), json!({"timeouts": {"drain": "5s"}}));
        let mut balancer = Evenkeel::before(&[&origin], config);
        let (mut idle, mut half, mut late) =
            (Client::to(&balancer), Client::to(&balancer), Client::to(&balancer));
        assert_eq!(idle.get("/").text(), "ok");
        half.send("GET / HTTP/1.1\r\nHo");
        late.send("GET / HTTP/1.1\r\nHo");
        until_parked(Instant::now());
        balancer.signal(Signal::TERM);
        idle.sees_the_end();
        assert_eq!(half.send("st: h\r\n\r\n").response().text(), "ok", "it is still served");
        let response = late.response();
        assert_eq!((response.status, response.reason().as_str()), (503, "draining"));
        assert_eq!(balancer.wait().code(), Some(0));
    }
}

mod attacks {
    use super::*;

    #[test]
    fn an_absurd_length_costs_nothing() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], json!({"limits": {"body": "1MiB"}}));
        let before = balancer.rss_kib();
        for length in ["99999999999999", "18446744073709551615", "18446744073709551616"] {
            let sent = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\nabc");
            let status = Client::to(&balancer).send(sent).response().status;
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
    fn garbage_is_rejected_and_nothing_panics() {
        let origin = Origin::echoes();
        let config = json!({"timeouts": {"client_head": "500ms", "client_body": "500ms"}});
        let balancer = Evenkeel::before(&[&origin], config);
        let good = b"POST /a?b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n4\r\nbody\r\n0\r\nT: u\r\n\r\n";
        let random = noise(4096);
        let mut sent = Vec::new();
        for round in 0..120 {
            // A good request with a few bytes changed, and plain noise.
            let mut bytes = good.to_vec();
            for change in 0..=round % 4 {
                let at = usize::from(random[round * 8 + change]) * 7 % bytes.len();
                bytes[at] = random[round * 8 + 4 + change];
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
                    // It may be rejected and closed before all of it is sent.
                    let _ = client.try_send(&bytes);
                    let _ = client.stream.shutdown(std::net::Shutdown::Write);
                    let (_, end) = client.rest();
                    assert!(end != Err(Broken::Late), "{:?} was left open", String::from_utf8_lossy(&bytes));
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        // It has half a second for its head, however busy the machine is.
        until("good requests are served", || {
            let mut client = Client::to(&balancer);
            client.try_send(good).is_ok()
                && client.try_response().is_ok_and(|response| response.text() == "body")
        });
    }

    #[test]
    fn slow_senders_hold_no_worker() {
        let origin = Origin::responds("ok");
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
        slow.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
        assert!(balancer.workers() <= 2);
    }

    #[test]
    fn clients_that_connect_and_close_leave_nothing_behind() {
        let origin = Origin::responds("ok");
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
        const COUNT: usize = 2000;
        raise_descriptors(2 * COUNT as u64 + 300);
        let origin = Origin::responds("ok");
        // The pool has two workers however busy the machine is.
        let balancer = Evenkeel::before(&[&origin], with(patient(2, 2, 100), long()));
        let mut first = Client::to(&balancer);
        assert_eq!(first.get("/").status, 200);
        until("both workers are there", || balancer.workers() == 2);
        let (before, threads) = (balancer.rss_kib(), balancer.threads());
        let mut many = clients(&balancer, COUNT);
        many.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
        let grown = balancer.rss_kib().saturating_sub(before);
        assert!(grown < 6 * 1024, "{COUNT} parked connections took {grown} KiB");
        assert!(balancer.threads() <= threads + 4, "no thread belongs to a parked connection");
        assert_eq!(first.get("/").status, 200);
        many.iter_mut().rev().for_each(|client| assert_eq!(client.get("/").status, 200));
        drop(many);
        until("all are closed", || balancer.descriptors() < 100);
    }

    #[test]
    fn with_few_descriptors_it_rejects_or_waits_and_comes_back() {
        let origin = Origin::responds("ok");
        let servers = list(&[&origin]);
        let balancer = Evenkeel::start_with_descriptors(64, json!({"servers": {"list": servers}}));
        let mut first = Client::to(&balancer);
        assert_eq!(first.get("/").status, 200);
        let mut many = clients(&balancer, 150);
        many.iter_mut().for_each(|client| _ = client.try_send(GET));
        let mut statuses = Vec::new();
        for client in &mut many {
            if let Ok(response) = client.max_wait(Duration::from_millis(50)).try_response() {
                statuses.push(response.status);
            }
        }
        assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
        // The first has made room, or is served on, or rejected with a reason that is ours, not a server's.
        _ = first.try_send(GET);
        if let Ok(response) = first.try_response() {
            let ours = ["connection_limit", "overloaded"].contains(&response.reason().as_str());
            assert!(response.status == 200 || ours, "{}", response.text());
        }
        let lines = balancer.log_lines();
        assert!(!lines.iter().any(|line| line.split(' ').any(|word| word == "ejected")), "{lines:?}");
        // No worker can be started, and the log is not filled with that.
        let told = lines.iter().filter(|line| line.contains("cannot start")).count();
        assert!(told < 10, "{told} warnings");
        drop(many);
        until("it serves newcomers again", || {
            Client::connect(balancer.address()).is_ok_and(|mut client| {
                client.try_send(GET).is_ok()
                    && client.try_response().is_ok_and(|response| response.status == 200)
            })
        });
    }
}

mod memory {
    use super::*;

    const MUCH: usize = 64 << 20;
    const PIECE: usize = 1 << 20;

    /// Reads what it gets and responds with how much that was; a GET gets `MUCH`.
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
        let grown = balancer.peak_kib().saturating_sub(before);
        assert!(grown < 4 * 1024, "{told}: {grown} KiB");
    }

    #[test]
    fn memory_is_flat_whatever_goes_through() {
        let origin = bulk();
        let balancer = Evenkeel::before(&[&origin], patient(2, 4, 100));
        assert_eq!(
            Client::to(&balancer)
                .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
                .response()
                .text(),
            "1"
        );
        let piece = noise(PIECE);
        check(&balancer, "up", |client| {
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {MUCH}\r\n\r\n"));
            (0..MUCH / PIECE).for_each(|_| _ = client.send(&piece));
            assert_eq!(client.response().text(), MUCH.to_string());
        });
        check(&balancer, "up in chunks", |client| {
            client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = chunked(&[&piece]);
            (0..MUCH / PIECE).for_each(|_| _ = client.send(&chunk[..chunk.len() - 5]));
            assert_eq!(client.send("0\r\n\r\n").response().text(), MUCH.to_string());
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
                // The process was stopped and goes on.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("after {total} bytes: {error}"),
            }
        }
    }

    #[test]
    fn memory_is_flat_over_many_requests() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], patient(2, 4, 100));
        let mut client = Client::to(&balancer);
        let batch = GET.repeat(100);
        let mut run = |batches| {
            for _ in 0..batches {
                client.send(&batch);
                (0..100).for_each(|_| assert_eq!(client.response().status, 200));
            }
        };
        run(5);
        let before = balancer.rss_kib();
        run(30);
        let grown = balancer.rss_kib().saturating_sub(before);
        assert!(grown < 1024, "3000 requests took {grown} KiB");
    }

    #[test]
    fn a_client_that_reads_none_of_our_own_responses_delays_no_other() {
        let origin = Origin::responds("ok");
        let over = json!({"timeouts": {"client_body": "120s"}});
        let balancer = Evenkeel::before(&[&origin], with(patient(1, 1, 100), over));
        let mut deaf = TcpStream::connect(balancer.address()).unwrap();
        deaf.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let last_hops = "OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n".repeat(1000);
        // Until the balancer reads no more, because its own responses find no room.
        while deaf.write_all(last_hops.as_bytes()).is_ok() {}
        assert_eq!(Client::to(&balancer).get("/").text(), "ok");
    }

    #[test]
    fn slow_readers_are_given_up_and_cost_no_memory() {
        let origin = bulk();
        let over = json!({"timeouts": {"client_body": "300ms"}, "admin": {"socket": ADMIN}});
        let config = with(patient(1, 8, 100), over);
        let balancer = Evenkeel::before(&[&origin], config);
        let before = balancer.peak_kib();
        let mut slow = clients(&balancer, 4);
        slow.iter_mut().for_each(|client| _ = client.send(GET));
        // They read nothing: the balancer stops, and its connections to the server end.
        origin.until("all four are there", |seen| seen.heads == 4);
        until("all four are given up", || {
            balancer.metric("evenkeel_rejections_total{reason=\"client_stalled\"}") == 4.0
        });
        origin.until("their connections to the server are closed", |seen| seen.over == 4);
        until("each has its log line", || {
            // There may be a line about all of them, too.
            balancer.log_lines().iter().filter(|line| line.contains("client_stalled")).count() >= 4
        });
        assert!(balancer.peak_kib().saturating_sub(before) < 4 * 1024);
    }
}

mod isolation {
    use super::*;

    /// A worker has many exchanges at once. One that stalls must not delay the others.
    #[test]
    fn a_request_that_stalls_delays_no_other_of_its_worker() {
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
        let balancer = Evenkeel::before(&[&origin], patient(1, 1, 1000));
        let mut many = clients(&balancer, 40);
        ask_all(&mut many);
        let mut stalled = Client::to(&balancer);
        stalled.send("GET /stall HTTP/1.1\r\nHost: h\r\n\r\n");
        origin.until("it stalls", |seen| seen.bytes.iter().any(|bytes| contains(bytes, b"/stall")));
        for _ in 0..20 {
            ask_all(&mut many);
        }
        assert!(stalled.is_quiet());
        opens.open();
        assert_eq!(stalled.response().text(), "well");
    }

    fn ask_all(many: &mut [Client]) {
        for client in many.iter_mut() {
            client.send(GET);
        }
        for client in many.iter_mut() {
            assert_eq!(client.response().status, 200);
        }
    }

    fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
        bytes.windows(wanted.len()).any(|window| window == wanted)
    }
}
