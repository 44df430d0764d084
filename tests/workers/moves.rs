//! Waiting costs no worker.

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
