//! `retries.on_status`: which requests get another server because of the status of a response, and what the client gets.

use super::*;

const BUSY: &str = "HTTP/1.1 503 Busy\r\nX-Of: server\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy";
const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// In turn, from the first server on, with one worker so that connections are exact.
fn retried(over: Value) -> Value {
    let base = json!({
        "admin": { "socket": ADMIN },
        "log": { "access": "access.log", "access_format": "json" },
        "servers": { "algorithm": "round_robin" },
        "retries": { "on_status": "502-504,429", "budget_min": 1000 },
    });
    one_worker(with(base, over))
}

/// Sends this to servers that respond so; the response, and how many requests each got.
#[track_caller]
fn sent(config: Value, request: &str, responses: &[&str]) -> (Response, Vec<usize>) {
    let origins: Vec<Origin> = responses.iter().map(|response| Origin::says(*response)).collect();
    let balancer = Evenkeel::before(&origins.iter().collect::<Vec<_>>(), retried(config));
    let mut client = Client::to(&balancer);
    let mut response = client.send(request).response();
    while response.status < 200 {
        response = client.response();
    }
    (response, origins.iter().map(Origin::count).collect())
}

#[test]
fn another_server_gets_what_may_be_repeated_and_the_last_response_is_the_clients() {
    let busy = |status: u16| BUSY.replace("503", &status.to_string());
    let (good, put) = (ok("good"), "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    let chunked = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let more = json!({ "retries": { "attempts": 5 } });
    let interim = format!("HTTP/1.1 103 Early\r\n\r\n{BUSY}");
    let until_close = "HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\nbusy";
    for (config, request, first, others, status, tries) in [
        (json!({}), GET, &busy(503), &good, 200, 2),
        (json!({}), GET, &busy(429), &good, 200, 2),
        (json!({}), GET, &busy(501), &good, 501, 1),
        (json!({}), put, &busy(502), &good, 200, 2),
        (json!({}), chunked, &busy(504), &good, 200, 2),
        (json!({}), &put.replace("PUT", "POST"), &busy(503), &good, 503, 1),
        (json!({}), &put.replace("PUT", "PATCH"), &busy(503), &good, 503, 1),
        // The client has seen no more than a 100 of our own.
        (json!({}), &put.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"), &busy(503), &good, 200, 2),
        // Without a length, in chunks, and one behind what the client has seen.
        (json!({}), GET, &until_close.to_owned(), &good, 200, 2),
        (json!({}), GET, &interim, &good, 503, 1),
        // One more server at the most, or all three.
        (json!({}), GET, &busy(503), &busy(504), 504, 2),
        (more.clone(), GET, &busy(503), &busy(429), 429, 3),
        (json!({ "retries": { "attempts": 0 } }), GET, &busy(503), &good, 503, 1),
        (json!({ "retries": { "on_status": null } }), GET, &busy(503), &good, 503, 1),
        (json!({ "retries": { "budget_min": 0, "budget_percent": 0 } }), GET, &busy(503), &good, 503, 1),
    ] {
        let (response, counts) = sent(config.clone(), request, &[first, others, others]);
        assert_eq!((response.status, counts.iter().sum()), (status, tries), "{config} {request} {first}");
        if status == 504 || status == 429 {
            // As it came.
            assert_eq!((response.text().as_str(), response.fields.one("X-Of").as_str()), ("busy", "server"));
            assert_eq!(response.fields.one("Retry-After"), "7");
        }
    }
}

/// A body that is not buffered as a whole was sent once.
#[test]
fn what_is_not_in_the_buffer_any_more_is_not_asked_again() {
    let body = "x".repeat(100 * 1024);
    let put = format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (response, counts) = sent(json!({}), &put, &[BUSY, &ok("good")]);
    assert_eq!((response.status, counts), (503, vec![1, 0]));
}

#[test]
fn where_no_other_server_can_take_it_the_response_is_the_clients() {
    let alone = sent(json!({}), GET, &[BUSY]);
    assert_eq!((alone.0.status, alone.0.text().as_str(), alone.1), (503, "busy", vec![1]));
    // The other one has as many requests as it may.
    let gate = Gate::default();
    let (full, busy) = (Origin::waits_for(&gate, "late"), Origin::says(BUSY));
    let config =
        json!({ "servers": { "max_in_flight": 1 }, "retries": { "budget_min": 1, "budget_percent": 0 } });
    let balancer = Evenkeel::before(&[&full, &busy], retried(config));
    let mut held = Client::to(&balancer);
    held.send(GET);
    until("the first server has it", || full.count() == 1);
    let mut client = Client::to(&balancer);
    assert_eq!((client.send(GET).response().status, busy.count()), (503, 1));
    gate.open();
    assert_eq!(held.response().text(), "late");
    // What was not used of the budget pays for a later one.
    until("a turn of the busy server", || {
        let before = busy.count();
        let response = client.send(GET).response();
        assert_eq!((response.status, response.text().as_str()), (200, "late"));
        busy.count() > before
    });
}

/// A server that gets no requests is none to go to, each of the others is tried once, and a backup is one of them.
#[test]
fn each_server_is_tried_once_and_a_backup_comes_last() {
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone";
    let good = ok("good");
    for (first, second, of_second, status, counts) in [
        (missing, missing, json!({}), 404, [1, 1]),
        (missing, missing, json!({ "weight": 0 }), 404, [1, 0]),
        (missing, &*good, json!({ "weight": 0 }), 404, [1, 0]),
        (missing, missing, json!({ "backup": true }), 404, [1, 1]),
        (missing, &*good, json!({ "backup": true }), 200, [1, 1]),
    ] {
        let origins = [Origin::says(first), Origin::says(second)];
        let mut servers = list(&[&origins[0], &origins[1]]);
        servers[1] = with(servers[1].clone(), of_second.clone());
        let config =
            json!({ "servers": { "list": servers }, "retries": { "on_status": "404,500", "attempts": 9 } });
        let balancer = Evenkeel::start(retried(config));
        let response = Client::to(&balancer).get("/");
        let seen = [0, 1].map(|at: usize| origins[at].count());
        assert_eq!((response.status, seen), (status, counts), "{of_second} {second}");
    }
}

/// It is seen in the access log, the metrics and the record of decisions; the connection to the server stays, and each
/// server has its own response counted.
#[test]
fn a_retry_is_seen_and_costs_no_connection() {
    let (busy, good) = (Origin::replies(|visit| visit.send(BUSY)), Origin::responds("good"));
    let balancer = Evenkeel::before(&[&busy, &good], retried(json!({})));
    let mut client = Client::to(&balancer);
    while busy.count() < 3 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert_eq!((busy.connections(), good.connections()), (1, 1));
    balancer.metric_is("evenkeel_retries_on_status_total", 3.0);
    balancer.metric_is("evenkeel_retries_total", 3.0);
    balancer.metric_is("evenkeel_server_responses_total{pool=\"default\",server=\"a\",class=\"5xx\"}", 3.0);
    balancer.metric_is("evenkeel_responses_total{class=\"5xx\"}", 0.0);
    balancer.metric_is("evenkeel_server_in_flight{", 0.0);
    let mut lines = Vec::new();
    until("the lines are there", || {
        let text = std::fs::read_to_string(balancer.folder().join("access.log")).unwrap_or_default();
        lines = text.lines().flat_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
        lines
            .iter()
            .filter(|line| line["tries"] == 2 && line["server"] == "b" && line["status"] == 200)
            .count()
            == 3
    });
}

/// A route has its own statuses, or none.
#[test]
fn a_route_says_otherwise() {
    let (busy, good) = (Origin::replies(|visit| visit.send(BUSY)), Origin::responds("good"));
    let routes = json!([
        { "path": "/own", "retries": { "on_status": 503 } },
        { "path": "/none", "retries": { "on_status": null } },
        { "path": "/more", "retries": { "attempts": 3 } },
    ]);
    let config = json!({ "retries": { "on_status": "503" }, "routes": routes });
    let balancer = Evenkeel::before(&[&busy, &good], retried(config));
    let mut client = Client::to(&balancer);
    for (path, expected) in [("/own", 200), ("/none", 503), ("/more", 200), ("/other", 200)] {
        let before = busy.count();
        while busy.count() == before {
            let response = client.get(path);
            let is_of_good = busy.count() == before;
            assert_eq!(response.status, if is_of_good { 200 } else { expected }, "{path}");
        }
    }
}

/// A server that responds with an error before it has read the request: the rest of the upload goes to the other one.
#[test]
fn an_upload_goes_on_to_the_other_server() {
    let early = Origin::start(|visit| {
        let _ = visit.head();
        visit.send(BUSY);
        let _ = visit.to_the_end();
    });
    let good = Origin::echoes();
    let balancer = Evenkeel::before(&[&early, &good], retried(json!({})));
    let mut client = Client::to(&balancer);
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc");
    good.until("the first server was left", |record| record.heads == 1);
    let response = client.send("def").response();
    assert_eq!((response.status, response.text().contains("abcdef")), (200, true), "{}", response.text());
}
