//! The queue in front of the servers: bound, order, deadline.

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
    let base = with(patient(1, 4, 100), json!({"servers": {"max_in_flight": 1}, "admin": {"socket": ADMIN}}));
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
        let response = client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").response();
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
    let times = json!({"threadpool": {"queue_timeout": "600ms", "queue_target": "600ms", "max_workers": 1}});
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
    let balancer = Evenkeel::before(
        &[&origin],
        limited(json!({"threadpool": {"queue_target": "5ms", "queue_timeout": "3s"}})),
    );
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

/// A limit that is measured bounds what the server works on, and before an upload is whole that is nothing: else slow uploads keep all
/// others out, here and in an overload, until their clients leave.
/// The server says 503 to each of two requests at once, and so it gets one: of `/hold`, which lasts until the gate is open, and `/busy`.
fn gets_one_at_once(balancer: &Evenkeel, origin: &Origin, gate: &Gate) {
    let [mut held, mut busy] = [(); 2].map(|()| Client::to(balancer));
    assert_eq!(busy.get("/").status, 200);
    held.send(get("/hold"));
    origin.until("it is held", |seen| seen.heads == 2);
    // The next one would wait.
    (0..11).for_each(|_| assert_eq!(busy.get("/busy").status, 503));
    gate.open();
    assert_eq!(held.response().status, 200);
    assert_eq!(balancer.metric("evenkeel_server_max_in_flight"), 1.0);
}

fn respond(visit: &mut Visit, seen: &Seen, gate: &Gate, response: String) {
    match seen.target() {
        "/busy" => visit.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        "/hold" => {
            gate.wait();
            visit.send(response);
        }
        _ => visit.send(response),
    }
}

#[test]
fn uploads_that_wait_for_their_clients_take_no_room_of_a_limit_that_was_found() {
    // The last client waits for the go of the server, which it gets.
    let starts = ["Content-Length: 10\r\n\r\n", "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"];
    for (start, goes) in starts.into_iter().zip([false, true]) {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::start(move |visit| {
            while let Some(head) = visit.head() {
                if head.fields.has("Expect") {
                    visit.send("HTTP/1.1 100 Continue\r\n\r\n");
                }
                let Some(seen) = visit.body(head) else { return };
                respond(visit, &seen, &held, ok(std::str::from_utf8(&seen.body).unwrap()));
            }
        });
        let config = json!({"admin": {"socket": ADMIN}});
        let balancer = Evenkeel::before(&[&origin], with(patient(1, 4, 300), config));
        gets_one_at_once(&balancer, &origin, &gate);
        let before = origin.count();
        let mut uploads = clients(&balancer, 3);
        for upload in &mut uploads {
            upload.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{start}"));
            if goes {
                assert_eq!(upload.response().status, 100);
            }
        }
        origin.until("all uploads have begun", |seen| seen.heads == before + 3);
        assert_eq!(Client::to(&balancer).get("/").status, 200);
        uploads
            .iter_mut()
            .for_each(|upload| assert_eq!(upload.send("helloworld").response().text(), "helloworld"));
        balancer.metric_is("evenkeel_server_in_flight", 0.0);
    }
}

/// The same where the balancer collects the body, for a server that knows no chunks.
#[test]
fn bodies_that_are_collected_take_no_room_of_a_limit_that_was_found() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |visit| {
        if let Some(seen) = visit.request() {
            let told = ok(&seen.body.len().to_string());
            respond(visit, &seen, &held, told.replace("HTTP/1.1", "HTTP/1.0"));
        }
    });
    let config = json!({"admin": {"socket": ADMIN}});
    let balancer = Evenkeel::before(&[&origin], with(patient(1, 4, 300), config));
    gets_one_at_once(&balancer, &origin, &gate);
    let mut uploads = clients(&balancer, 3);
    let start = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe";
    uploads.iter_mut().for_each(|upload| _ = upload.send(start));
    balancer.metric_is("evenkeel_server_in_flight", 3.0);
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    uploads.iter_mut().for_each(|upload| assert_eq!(upload.send("llo\r\n0\r\n\r\n").response().text(), "5"));
}
