//! The pool grows and shrinks.

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

/// A rejected client that does not close is waited for, so that it can read why. That is no request in flight, and needs no worker.
#[test]
fn clients_that_are_only_waited_for_are_no_requests_in_flight() {
    let origin = Origin::responds("ok");
    let settings = with(patient(1, 20, 100), json!({"admin": {"socket": ADMIN}}));
    let balancer = Evenkeel::before(&[&origin], settings);
    // They are waited for for 5 s: again where the machine stood still for as long.
    until("none is in flight while all of them are waited for", || {
        let mut all = clients(&balancer, 40);
        let sends = |client: &mut Client| client.send("GET / HTTP/1.1\r\n\r\n").response().status;
        all.iter_mut().for_each(|client| assert_eq!(sends(client), 400));
        let begun = Instant::now();
        until("none is in flight", || balancer.metric("evenkeel_requests_in_flight") < 1.0);
        begun.elapsed() < Duration::from_secs(4)
    });
}

/// Each connection would preempt a worker, a client or a server otherwise (sched(7); `SCHED_BATCH` is 3).
#[test]
fn the_accept_thread_alone_is_scheduled_as_batch() {
    let balancer = Evenkeel::start(json!({}));
    let policy_of = |task: &std::path::Path| {
        let stat = std::fs::read_to_string(task.join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        Some((name.to_owned(), rest.split_whitespace().nth(38)?.to_owned()))
    };
    let scheduled = || -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", balancer.pid())).unwrap();
        let policies = tasks.flatten().filter_map(|task| policy_of(&task.path()));
        policies.filter(|(_, policy)| policy == "3").map(|(name, _)| name).collect()
    };
    until("it has said so", || !scheduled().is_empty());
    assert_eq!(Client::to(&balancer).get("/").status, 503);
    assert_eq!(scheduled(), ["accept"]);
}
