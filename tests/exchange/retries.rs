//! Which requests are sent again, and where.

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
        assert_eq!((client.send(request).response().status, origin.count()), (status, sent), "{request:?}");
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
    let late = Origin::says("HTTP/1.1 204 None\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON");
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

/// A restart of the only server costs its clients a wait and no error, whatever the method.
#[test]
fn a_request_waits_for_a_server_that_restarts() {
    let mut origin = Origin::responds("ok");
    let retries = json!({"wait_for_server": "10m"});
    let routes = json!([
        {"path": "/at-once", "retries": {"wait_for_server": null}},
        {"path": "/short", "retries": {"wait_for_server": "300ms"}},
        {"path": "/limited", "timeouts": {"request": "300ms"}},
    ]);
    let config = json!({"retries": retries, "routes": routes, "admin": {"socket": ADMIN}});
    let balancer = Evenkeel::before(&[&origin], config);
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    origin.stop();
    let mut clients = [Client::to(&balancer), Client::to(&balancer)];
    clients[0].send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    clients[1].send("POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    balancer.metric_is("evenkeel_server_waits_total", 2.0);
    for (path, status) in [("/at-once", 503), ("/short", 503), ("/limited", 504)] {
        let response = Client::to(&balancer).get(path);
        assert_eq!(response.status, status, "{path}: {response:?}");
    }
    balancer.metric_is("evenkeel_server_waits_total", 4.0);
    origin.start_again();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    let bodies: Vec<_> = origin.requests().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies.iter().filter(|body| *body == b"abc").count(), 1, "{bodies:?}");
}
