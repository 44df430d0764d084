//! The guards end to end: what passes them, what does not, and what the client hears.

use crate::support::balancer::{ADMIN, list, unobtrusive, with};
use crate::support::message::Framing;
use crate::support::{Client, DEADLINE, Evenkeel, Gate, Origin, Response};
use serde_json::{Value, json};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

fn request(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n")
}

#[test]
fn a_rate_limit_is_reported_and_kept() {
    let origin = Origin::responds("ok");
    let limit = json!({"rate_limit": {"requests": 2, "per": "1h"}, "admin": {"socket": ADMIN}});
    let balancer = Evenkeel::before(&[&origin], limit);
    let mut client = Client::to(&balancer);
    for left in [1, 0] {
        let response = client.get("/");
        assert_eq!(response.status, 200);
        assert_eq!(response.fields.one("RateLimit-Policy"), "\"client\";q=2;w=3600");
        assert!(response.fields.one("RateLimit").starts_with(&format!("\"client\";r={left};t=")));
    }
    // A rejection ends neither the connection nor the limit.
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, &*response.reason()), (429, "rate_limited"));
        let seconds: u32 = response.fields.one("Retry-After").parse().unwrap();
        assert!((1700..=1800).contains(&seconds), "{seconds}");
        assert_eq!(response.fields.one("RateLimit"), format!("\"client\";r=0;t={seconds}"));
    }
    assert_eq!(origin.count(), 2);
    let rejected = "evenkeel_rejections_total{reason=\"rate_limited\"}";
    balancer.metric_is(rejected, 3.0);
    balancer.logs("rate_limited (429)");
}

#[test]
fn requests_with_two_keys_count_by_client_and_addresses_of_a_network_count_together() {
    let origin = Origin::responds("ok");
    let config = json!({
        "load_balancer": {"trusted_proxies": ["127.0.0.0/8"]},
        "routes": [
            {"path": "/key", "rate_limit": {"requests": 2, "per": "1h", "by": "header:X-Api-Key"}},
            {"path": "/address", "rate_limit": {"requests": 2, "per": "1h"}}
        ]
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);
    for (path, headers, status) in [
        ("/key", "X-Api-Key: a\r\nX-Api-Key: b\r\n", 200),
        ("/key", "X-Api-Key: a\r\n", 200),
        ("/key", "X-Api-Key: a\r\nX-Api-Key: c\r\n", 200),
        ("/key", "X-Api-Key: d\r\nX-Api-Key: a\r\n", 429),
        ("/key", "x-api-key: e\r\nX_Api_Key: a\r\n", 429),
        ("/key", "X-Api-Key: a\r\nX-Api-Key: a\r\n", 200),
        ("/key", "X-Api-Key: a\r\n", 429),
        ("/key", "X-Api-Key: b\r\n", 200),
        ("/address", "X-Forwarded-For: 2001:db8:1:2::1\r\n", 200),
        ("/address", "X-Forwarded-For: 2001:db8:1:2:ffff::9\r\n", 200),
        ("/address", "X-Forwarded-For: 2001:db8:1:2::3\r\n", 429),
        ("/address", "X-Forwarded-For: 2001:db8:1:3::1\r\n", 200),
        ("/address", "X-Forwarded-For: 192.0.2.1\r\n", 200),
        ("/address", "X-Forwarded-For: ::ffff:192.0.2.1\r\n", 200),
        ("/address", "X-Forwarded-For: 192.0.2.1\r\n", 429),
        ("/address", "X-Forwarded-For: 192.0.2.2\r\n", 200),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n"));
        assert_eq!(client.response().status, status, "{path} {headers}");
    }
}

#[test]
fn a_rate_limit_is_exact_under_256_connections() {
    let origin = Origin::responds("ok");
    // None comes back in three minutes.
    let limit = json!({"rate_limit": {"requests": 500, "per": "24h", "headers": false}});
    let balancer = Arc::new(Evenkeel::before(&[&origin], limit));
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let clients: Vec<_> = (0..256)
        .map(|_| {
            let (balancer, counts) = (Arc::clone(&balancer), Arc::clone(&counts));
            thread::spawn(move || {
                let mut client = Client::to(&balancer);
                for _ in 0..4 {
                    let response = client.get("/");
                    assert!(matches!(response.status, 200 | 429), "{}", response.line);
                    counts[usize::from(response.status == 429)].fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let counts = [counts[0].load(SeqCst), counts[1].load(SeqCst)];
    assert_eq!((counts, origin.count()), ([500, 524], 500));
}

#[test]
fn with_a_queue_requests_pass_in_turn_and_hold_no_worker() {
    let origin = Origin::responds("ok");
    let config = json!({
        "threadpool": {"max_workers": 1},
        "rate_limit": {"requests": 10, "per": "1s", "burst": 6, "nodelay": false}
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let mut clients: Vec<_> = (0..8).map(|_| Client::to(&balancer)).collect();
    // 100 ms are enough for a token: again, should it take that long to send them all.
    crate::support::until("six pass, and one finds no room", || {
        clients.iter_mut().for_each(|client| _ = client.send(request("")));
        let mut statuses: Vec<_> = clients.iter_mut().map(|client| client.response().status).collect();
        statuses.sort_unstable();
        assert!(statuses[..5] == [200; 5] && statuses.iter().all(|status| matches!(status, 200 | 429)));
        statuses[5] == 200 && statuses[7] == 429
    });
}

/// What waited for its turn is whole, however long it is and however late it is read.
#[test]
fn a_delayed_response_is_whole() {
    let body = crate::support::noise(700_000);
    let origin = with_response("", body.clone());
    let limit = json!({"rate_limit": {"requests": 20, "per": "1s", "burst": 2, "nodelay": false}});
    let balancer = Evenkeel::before(&[&origin], limit);
    let mut clients = [(); 2].map(|()| Client::to(&balancer));
    clients.iter_mut().for_each(|client| _ = client.send(request("")));
    clients.iter_mut().for_each(|client| assert!(client.response().body == body));
}

/// The page of a status takes the place of what the last server said, once all were tried.
#[test]
fn a_page_follows_when_all_servers_were_tried() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("404.txt");
    std::fs::write(&file, "Nothing here.").unwrap();
    let missing = || Origin::says("HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnone");
    let (a, b) = (missing(), missing());
    let config = json!({
        "retries": { "on_status": 404 },
        "error_pages": { "pages": [ { "status": 404, "file": file } ], "intercept": 404 },
    });
    let balancer = Evenkeel::before(&[&a, &b], config);
    let response = Client::to(&balancer).send(request("")).response();
    assert_eq!((response.status, response.text().as_str()), (404, "Nothing here."));
    assert_eq!((a.count(), b.count()), (1, 1));
}

#[test]
fn a_dry_run_lets_pass_and_counts() {
    let origin = Origin::responds("ok");
    let config = json!({
        "rate_limit": {"requests": 1, "per": "1h", "dry_run": true},
        "admin": {"socket": ADMIN}
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);
    for _ in 0..3 {
        let response = client.get("/");
        assert!(response.status == 200 && !response.fields.has("RateLimit"));
    }
    balancer.metric_is("evenkeel_rate_limit_dry_run_total", 2.0);
}

#[test]
fn a_dry_run_of_a_limit_of_requests_at_once_lets_pass_and_counts() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |visit| {
        while visit.request().is_some() {
            held.wait();
            visit.response("ok");
        }
    });
    let config = json!({
        "concurrency_limit": {"requests": 1, "dry_run": true},
        "admin": {"socket": ADMIN}
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::to(&balancer)).collect();
    clients.iter_mut().for_each(|client| _ = client.send(request("")));
    balancer.metric_is("evenkeel_concurrency_limit_dry_run_total", 2.0);
    gate.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
}

#[test]
fn requests_at_once_are_limited_by_their_key() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |visit| {
        while visit.request().is_some() {
            held.wait();
            visit.response("ok");
        }
    });
    let balancer =
        Evenkeel::before(&[&origin], json!({"concurrency_limit": {"requests": 1, "by": "header:X-Key"}}));
    let (mut first, mut second) = (Client::to(&balancer), Client::to(&balancer));
    first.send(request("X-Key: a\r\n"));
    origin.wait_for_heads(1, DEADLINE);
    let response = second.send(request("X-Key: a\r\n")).response();
    assert_eq!((response.status, &*response.reason()), (429, "concurrency_limited"));
    second.send(request("X-Key: b\r\n"));
    origin.wait_for_heads(2, DEADLINE);
    gate.open();
    assert_eq!((first.response().status, second.response().status), (200, 200));
    assert_eq!(first.send(request("X-Key: a\r\n")).response().status, 200, "it has ended");
}

#[test]
fn lists_decide_who_comes_in_by_the_address_that_a_trusted_proxy_names() {
    let origin = Origin::responds("ok");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deny.txt");
    std::fs::write(&file, "# bad ones\n203.0.113.0/24\n").unwrap();
    let config = json!({
        "load_balancer": {"trusted_proxies": ["127.0.0.1"]},
        "deny": [format!("file:{}", file.display())],
        "allow": ["127.0.0.1", "192.0.2.0/24", "203.0.113.7", "2001:db8::/32"]
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);
    for (address, status) in [
        ("192.0.2.9", 200),
        ("203.0.113.7", 403),
        ("198.51.100.1", 403),
        ("127.0.0.1", 200),
        ("2001:db8::9", 200),
        ("2001:db9::9", 403),
    ] {
        let response = client.send(request(&format!("X-Forwarded-For: {address}\r\n"))).response();
        assert_eq!(response.status, status, "{address}");
        assert_eq!(response.reason(), if status == 403 { "access_denied" } else { "" });
    }
    assert_eq!(origin.count(), 3);
}

/// A balancer with the user ann, whose password is "open".
fn with_users(origin: &Origin, over: Value) -> (Evenkeel, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    std::fs::write(&file, format!("ann:{}\n", bcrypt::hash("open", 4).unwrap())).unwrap();
    let auth = json!({"basic_auth": {"file": file.to_str().unwrap(), "realm": "The office"}});
    (Evenkeel::before(&[origin], with(auth, over)), folder)
}

const RIGHT: &str = "Authorization: Basic YW5uOm9wZW4=\r\n";
const WRONG: &str = "Authorization: Basic YW5uOnNodXQ=\r\n";

fn check_challenge(response: &Response) {
    assert_eq!((response.status, &*response.reason()), (401, "unauthorized"));
    assert_eq!(response.fields.one("WWW-Authenticate"), "Basic realm=\"The office\", charset=\"UTF-8\"");
}

#[test]
fn a_password_is_asked_for_and_verified_beside_the_workers() {
    let origin = Origin::responds("ok");
    let (balancer, _folder) = with_users(&origin, json!({"threadpool": {"max_workers": 1}}));
    let mut client = Client::to(&balancer);
    check_challenge(&client.get("/"));
    check_challenge(&client.send(request(WRONG)).response());
    check_challenge(&client.send(request(WRONG)).response());
    check_challenge(&client.send(request("Authorization: Bearer x\r\n")).response());
    assert_eq!(origin.count(), 0);
    for _ in 0..3 {
        assert_eq!(client.send(request(RIGHT)).response().status, 200);
    }
    // A body waits for the password, too.
    let post = format!("POST / HTTP/1.1\r\nHost: h\r\n{RIGHT}Content-Length: 4\r\n\r\nbody");
    assert_eq!(Client::to(&balancer).send(post).response().status, 200);
    assert_eq!(origin.requests().last().map(|seen| seen.body.clone()), Some(b"body".to_vec()));
    assert!(balancer.threads_named("verify-") > 0);
}

#[test]
fn with_any_an_address_or_a_password_opens_a_route() {
    let origin = Origin::responds("ok");
    let either = json!({
        "allow": ["192.0.2.0/24"], "satisfy": "any",
        "load_balancer": {"trusted_proxies": ["127.0.0.1"]},
        "routes": [ { "path": "/both", "satisfy": "all" } ],
    });
    let (balancer, _folder) = with_users(&origin, either);
    let mut client = Client::to(&balancer);
    let office = "X-Forwarded-For: 192.0.2.7\r\n";
    for (path, headers, status) in [
        ("/", office.to_owned(), 200),
        ("/", String::new(), 401),
        ("/", RIGHT.to_owned(), 200),
        ("/both", office.to_owned(), 401),
        ("/both", RIGHT.to_owned(), 403),
        ("/both", format!("{office}{RIGHT}"), 200),
    ] {
        let response = client.send(request(&headers).replace("GET / ", &format!("GET {path} "))).response();
        assert_eq!(response.status, status, "{path} {headers}");
        assert_eq!(response.fields.has("WWW-Authenticate"), status == 401);
    }
}

#[test]
fn with_any_an_address_needs_no_login_elsewhere_either() {
    let origin = Origin::responds("ok");
    let login = Origin::says("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    let config = json!({
        "load_balancer": {"trusted_proxies": ["127.0.0.1"]},
        "allow": ["192.0.2.0/24"], "deny": ["192.0.2.9"], "satisfy": "any",
        "forward_auth": {"pool": "login", "copy_headers": ["X-User"]},
        "routes": [ { "path": "/all", "satisfy": "all" } ],
        "pools": {"login": {"list": list(&[&login]), "health_check": {"enabled": false}}},
    });
    let balancer = Evenkeel::before(&[&origin], with(unobtrusive(), config));
    let mut client = Client::to(&balancer);
    for (path, from, status, asked) in [
        ("/", "192.0.2.7", 200, 0),
        ("/", "192.0.2.9", 401, 1),
        ("/", "198.51.100.1", 401, 2),
        ("/all", "192.0.2.7", 401, 3),
        ("/all", "198.51.100.1", 403, 3),
    ] {
        let headers = format!("X-Forwarded-For: {from}\r\nX-User: forged\r\n");
        let response = client.send(request(&headers).replace("GET / ", &format!("GET {path} "))).response();
        assert_eq!((response.status, login.count()), (status, asked), "{path} {from}");
    }
    assert!(!origin.only_request().fields.has("X-User"), "what only the login may say");
}

#[test]
fn whoever_guesses_is_slowed_down_and_whoever_is_known_is_not() {
    let origin = Origin::responds("ok");
    let (balancer, _folder) = with_users(&origin, json!({}));
    let (mut known, mut guesser) = (Client::to(&balancer), Client::to(&balancer));
    assert_eq!(known.send(request(RIGHT)).response().status, 200);
    let guess = |number: usize| {
        // "a:" and some characters, other ones each time.
        let digit = |number: usize| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number % 26]);
        let (high, low) = (digit(number / 26), digit(number));
        request(&format!("Authorization: Basic YTpi{low}{low}J{high}\r\n"))
    };
    let mut statuses = Vec::new();
    // Guesses come back with time, one by one, so that a slow guesser gets some more.
    crate::support::until("it is slowed down", || {
        statuses.push(guesser.send(guess(statuses.len())).response().status);
        statuses.last() == Some(&429)
    });
    assert!(statuses.len() > 19 && statuses[..19].iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(known.send(request(RIGHT)).response().status, 200);
}

#[test]
fn many_first_logins_at_once_hold_up_no_other_request() {
    let origin = Origin::responds("ok");
    let (balancer, _folder) = with_users(&origin, json!({"threadpool": {"max_workers": 1}}));
    let mut clients: Vec<_> = (0..15).map(|_| Client::to(&balancer)).collect();
    clients.iter_mut().for_each(|client| _ = client.send(request(RIGHT)));
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn rejections_have_the_form_that_is_asked_for_and_pages_of_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = json!({
        "deny": ["192.0.2.0/24"],
        "load_balancer": {"trusted_proxies": ["127.0.0.1"]},
        "error_pages": {
            "pages": [
                {"status": "403", "file": file("403.HTML", "<p>{status} {request_id}: {message}</p>")},
                {"status": 403, "file": file("never.txt", "never")}
            ],
            "maintenance": file("soon.txt", "Back soon.")
        }
    });
    let balancer = Evenkeel::start(config);
    let check = |headers: &str, status: u16, content_type: &str, part: &str| {
        let response = Client::to(&balancer).send(request(headers)).response();
        assert_eq!(
            (response.status, &*response.fields.one("Content-Type")),
            (status, content_type),
            "{headers}"
        );
        assert!(response.text().contains(part), "{headers}: {}", response.text());
    };
    let (html, json) = ("text/html; charset=utf-8", "application/json");
    let denied = "X-Request-Id: a<b\r\nX-Forwarded-For: 192.0.2.1\r\n";
    let page = "<p>403 a&lt;b: Access from this address is not allowed.</p>";
    check(denied, 403, html, page);
    check(&format!("{denied}Accept: text/html\r\n"), 403, html, page);
    check(&format!("{denied}Accept: application/json\r\n"), 403, json, "\"reason\":\"access_denied\"");
    check(&format!("{denied}Accept: text/html, application/json;q=0.5\r\n"), 403, html, page);
    balancer.logs("the entry 2 is never used");
    // There is no server at all.
    check("Accept: text/html\r\n", 503, "text/plain; charset=utf-8", "Back soon.");
    check("Accept: application/json\r\n", 503, json, "The service is not available.");
}

/// A server that responds with the status that the target names, with headers of all kinds and a body of this framing.
fn with_errors(framing: &'static str, body: &'static str) -> Origin {
    Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            let status = seen.target().trim_start_matches('/').to_owned();
            visit.send(format!(
                "HTTP/1.1 {status} Own\r\nContent-Type: text/x\r\nContent-Language: de\r\nETag: \"a\"\r\nSet-Cookie: s=1\r\n\
                 Set-Cookie: t=2\r\nWWW-Authenticate: Basic realm=\"app\"\r\nWWW-Authenticate: Negotiate\r\nRetry-After: 3\r\nAccept-Ranges: bytes\r\n{framing}\r\n"
            ));
            if seen.method() != "HEAD" {
                visit.send(body);
            }
        }
    })
}

#[test]
fn a_page_takes_the_place_of_what_a_server_says_of_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pages = json!([
        { "status": "500-599", "file": file("5xx.html", "<p>{status} {phrase}: {message} ({reason}, {request_id})</p>") },
        { "status": 401, "file": file("login.txt", "Log in, please.") },
    ]);
    let config = |intercept: Value| {
        json!({
            "load_balancer": { "trusted_proxies": ["127.0.0.1"] },
            "error_pages": { "pages": pages, "intercept": intercept },
            "routes": [ { "path": "/502", "error_pages": null } ],
            "compression": { "min_size": 1 },
            "retries": { "attempts": 0 },
        })
    };
    let on = json!("401,404,500-599");
    let (html, as_it_came) = ("text/html; charset=utf-8", "text/x");
    let page = "<p>500 Internal Server Error: Something went wrong. Try again; if it happens again, name the request id. (server_response, id-1)</p>";
    for (intercept, framing, body, target, headers, content_type, expected) in [
        (&on, "Content-Length: 5\r\n", "trace", "/500", "", html, page),
        (&on, "Transfer-Encoding: chunked\r\n", "5\r\ntrace\r\n0\r\n\r\n", "/500", "", html, page),
        (&on, "Content-Length: 5000000\r\n", "trace", "/500", "", html, page),
        (&on, "Connection: close\r\n", "trace", "/500", "", html, page),
        (
            &on,
            "Content-Encoding: gzip\r\nContent-Length: 5\r\n",
            "trace",
            "/500",
            "Accept-Encoding: gzip\r\n",
            html,
            page,
        ),
        (&on, "Content-Length: 5\r\n", "trace", "/401", "", "text/plain; charset=utf-8", "Log in, please."),
        (
            &on,
            "Content-Length: 5\r\n",
            "trace",
            "/503",
            "Accept: application/json\r\n",
            "application/json",
            "{\"error\":\"The service is not available. Try again shortly.\",\"status\":503,\"reason\":\"server_response\",\"request_id\":\"id-1\"}\n",
        ),
        // No page has this status; the route has none; the status is not listed; and nothing is by default.
        (&on, "Content-Length: 5\r\n", "trace", "/404", "", as_it_came, "trace"),
        (&on, "Content-Length: 5\r\n", "trace", "/502", "", as_it_came, "trace"),
        (&on, "Content-Length: 5\r\n", "trace", "/400", "", as_it_came, "trace"),
        (&on, "Content-Length: 5\r\n", "trace", "/200", "", as_it_came, "trace"),
        (&Value::Null, "Content-Length: 5\r\n", "trace", "/500", "", as_it_came, "trace"),
    ] {
        let origin = with_errors(framing, body);
        let balancer = Evenkeel::before(&[&origin], with(config(intercept.clone()), json!({})));
        let mut client = Client::to(&balancer);
        let told = format!("{intercept} {framing:?} {target} {headers:?}");
        for _ in 0..2 {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\nX-Request-Id: id-1\r\n{headers}\r\n"));
            let response = client.response();
            let fields = &response.fields;
            assert_eq!((&*fields.one("Content-Type"), &*response.text()), (content_type, expected), "{told}");
            assert!(
                response.line.ends_with(&format!("{} Own", target.trim_start_matches('/'))),
                "{}",
                response.line
            );
            assert_eq!(fields.all("Set-Cookie"), ["s=1", "t=2"], "{told}");
            assert_eq!(fields.one("Retry-After"), "3");
            assert_eq!(fields.all("WWW-Authenticate"), ["Basic realm=\"app\"", "Negotiate"], "{told}");
            for name in ["ETag", "Content-Language", "Accept-Ranges"] {
                assert_eq!(fields.has(name), content_type == as_it_came, "{told} {name}");
            }
            assert_eq!(fields.all("Vary") == ["Accept"], content_type != as_it_came, "{told}");
        }
        // HEAD is told the length of the page, and has none; an old client gets a length, too.
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: h\r\nX-Request-Id: id-1\r\n{headers}\r\n"));
        let (head, _) = client.head();
        if content_type != as_it_came {
            assert_eq!(head.fields.one("Content-Length"), expected.len().to_string(), "{told}");
        }
        client.send(format!("GET {target} HTTP/1.0\r\nHost: h\r\nX-Request-Id: id-1\r\n{headers}\r\n"));
        assert_eq!(client.response().text(), expected, "{told}");
    }
}

#[test]
fn browsers_get_a_page_that_tells_nothing_of_what_is_behind_it() {
    let unused = crate::support::unused_port();
    let servers = json!({"servers": {"list": [{"address": unused.address().to_string()}]}});
    let check = |over: Value, accept: &str, told: bool| {
        let balancer = Evenkeel::start(with(servers.clone(), over));
        let response = Client::to(&balancer).send(request(accept)).response();
        assert_eq!(response.status, 503);
        assert_eq!(response.text().contains("could not be reached"), told, "{}", response.text());
        response
    };
    let response = check(json!({}), "Accept: text/html,*/*\r\n", false);
    assert!(response.text().starts_with("<!doctype html>") && !response.text().contains("connect_failed"));
    assert_eq!(check(json!({}), "", false).reason(), "connect_failed");
    check(json!({"error_pages": {"details": true}}), "", true);
}

#[test]
fn ids_and_traces_are_told_to_servers_clients_and_the_log() {
    let origin = Origin::responds("ok");
    let config = json!({
        "load_balancer": {"request_id_header": true, "trace_context": true, "via": false},
        "log": {"access": "access.log"}
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut client = Client::to(&balancer);
    let parents = [
        format!("traceparent: {valid}\r\ntracestate: a=b\r\n"),
        "traceparent: 00-0\r\ntracestate: a=b\r\n".into(),
    ];
    for parent in &parents {
        let response = client.send(request(parent)).response();
        let seen = origin.requests().pop().unwrap();
        assert_eq!(response.fields.one("X-Request-Id"), seen.fields.one("X-Request-Id"));
        assert!(!seen.fields.has("Via") && !response.fields.has("Via"));
    }
    let seen = origin.requests();
    assert_eq!(
        (seen[0].fields.one("traceparent"), seen[0].fields.one("tracestate")),
        (valid.into(), "a=b".into())
    );
    let ours = seen[1].fields.one("traceparent");
    assert!(
        ours.len() == 55
            && ours.starts_with("00-")
            && ours.ends_with("-00")
            && !seen[1].fields.has("tracestate")
    );
    let log = balancer.folder().join("access.log");
    crate::support::until("both lines are written", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let traces: Vec<_> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        traces == [&valid[3..35], &ours[3..35]]
    });
}

/// A server that responds to any target with these header lines and this body.
fn with_response(lines: &'static str, body: Vec<u8>) -> Origin {
    Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            let length = body.len();
            visit.send(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {length}\r\n\r\n"));
            if seen.method() != "HEAD" {
                visit.send(&body);
            }
        }
    })
}

fn decoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut out),
        _ => zstd::stream::read::Decoder::new(body).unwrap().read_to_end(&mut out),
    };
    read.unwrap();
    out
}

#[test]
fn responses_are_compressed_for_those_who_accept_it() {
    let text: Vec<u8> = (0..20_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
    let lines = "Content-Type: text/plain\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n";
    let origin = with_response(lines, text.clone());
    let balancer = Evenkeel::before(&[&origin], json!({"compression": {}}));
    let mut client = Client::to(&balancer);
    for coding in ["gzip", "zstd", "gzip"] {
        let response = client.send(request(&format!("Accept-Encoding: {coding}, br\r\n"))).response();
        assert_eq!(response.fields.one("Content-Encoding"), coding);
        assert_eq!(response.fields.one("Vary"), "Accept-Encoding");
        assert_eq!(response.fields.one("ETag"), "W/\"a\"");
        assert_eq!(response.framing, Framing::Chunked);
        assert!(!response.fields.has("Accept-Ranges") && response.body.len() < text.len() / 3);
        assert_eq!(decoded(coding, &response.body), text, "{coding}");
    }
    for headers in ["", "Accept-Encoding: br\r\n", "Accept-Encoding: gzip;q=0\r\n"] {
        let response = client.send(request(headers)).response();
        assert!(response.body == text && !response.fields.has("Content-Encoding"));
        assert_eq!(
            (response.fields.one("Vary"), response.fields.one("ETag")),
            ("Accept-Encoding".into(), "\"a\"".into())
        );
    }
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
    let (head, _) = client.head();
    assert!(!head.fields.has("Content-Encoding") && head.fields.has("Content-Length"));
    let old = "GET / HTTP/1.0\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n";
    let response = Client::to(&balancer).send(old).response();
    assert!(response.body == text && !response.fields.has("Content-Encoding"));
}

/// A 304 has the headers of the response that it stands for.
#[test]
fn a_304_has_the_tag_that_its_client_has() {
    let origin = Origin::replies(|visit| {
        let more = match visit.target().as_str() {
            "/image" => "Content-Type: image/png\r\n",
            "/encoded" => "Content-Encoding: br\r\n",
            "/varied" => "Vary: Accept-Encoding\r\n",
            "/typed" => "Content-Type: text/html\r\n",
            _ => "",
        };
        visit.send(format!("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n{more}\r\n"));
    });
    let balancer = Evenkeel::before(&[&origin], json!({"compression": {}}));
    let mut client = Client::to(&balancer);
    let (weak, strong) = ("If-None-Match: W/\"a\"\r\n", "If-None-Match: \"a\"\r\n");
    let zstd = "Accept-Encoding: zstd\r\n";
    for (path, headers, tag, vary) in [
        ("/", format!("{zstd}{weak}"), "W/\"a\"", true),
        ("/typed", format!("{zstd}If-None-Match: \"b\", W/\"a\"\r\n"), "W/\"a\"", true),
        ("/varied", format!("{zstd}{weak}"), "W/\"a\"", true),
        ("/", format!("{zstd}{strong}"), "\"a\"", true),
        ("/", weak.to_owned(), "\"a\"", true),
        ("/image", format!("{zstd}{weak}"), "\"a\"", false),
        ("/encoded", format!("{zstd}{weak}"), "\"a\"", false),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.fields.one("ETag").as_str()), (304, tag), "{path} {headers}");
        let told = response.fields.all("Vary");
        assert_eq!(told, if vary { vec!["Accept-Encoding"] } else { vec![] }, "{path} {headers}");
        assert!(!response.fields.has("Content-Length"), "{path}");
    }
}

#[test]
fn what_is_compressed_already_or_too_short_or_of_another_type_stays_as_it_is() {
    let check = |lines: &'static str, length: usize| {
        let body = vec![b'x'; length];
        let origin = with_response(lines, body.clone());
        let balancer =
            Evenkeel::before(&[&origin], json!({"compression": {"types": ["text/html"], "min_size": 100}}));
        let response = Client::to(&balancer).send(request("Accept-Encoding: gzip\r\n")).response();
        assert!(response.body == body && !response.fields.has("Vary"), "{lines}");
    };
    check("Content-Type: text/html\r\n", 99);
    check("Content-Type: image/png\r\n", 1000);
    check("Content-Type: text/html\r\nContent-Encoding: br\r\n", 1000);
    check("Content-Type: text/html\r\nCache-Control: no-transform\r\n", 1000);
    check("Content-Type: text/html\r\nETag: invalid\r\n", 1000);
    check("Content-Type: text/html\r\nETag: \"one\"\r\nETag: \"two\"\r\n", 1000);
}

#[test]
fn caches_are_told_once_that_the_coding_differs() {
    let check = |lines: &'static str, expected: &[&str]| {
        let origin = with_response(lines, vec![b'x'; 2000]);
        let balancer = Evenkeel::before(&[&origin], json!({"compression": {}}));
        let response = Client::to(&balancer).send(request("Accept-Encoding: gzip\r\n")).response();
        assert_eq!(
            (response.fields.one("Content-Encoding"), &*response.fields.all("Vary")),
            ("gzip".into(), &*expected.iter().map(|vary| (*vary).to_owned()).collect::<Vec<_>>())
        );
    };
    check("Content-Type: text/plain\r\nVary: Other\r\n", &["Other", "Accept-Encoding"]);
    check("Content-Type: text/plain\r\nVary: Other,accept-encoding\r\n", &["Other,accept-encoding"]);
    check("Content-Type: text/plain\r\nVary: *\r\n", &["*"]);
    check("Content-Type: text/plain\r\nVary: \r\n", &["", "Accept-Encoding"]);
}

#[test]
fn a_compressed_stream_stays_a_stream() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |visit| {
        let Some(_) = visit.request() else { return };
        visit
            .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        visit.send(crate::support::chunked(&[b"data: 1\n\n"]).strip_suffix(b"0\r\n\r\n").unwrap());
        held.wait();
        visit.send(crate::support::chunked(&[b"data: 2\n\n"]));
    });
    let config = json!({"compression": {"types": ["text/event-stream"], "codings": ["gzip"]}});
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);
    client.send(request("Accept-Encoding: gzip\r\n"));
    let (head, _) = client.head();
    assert_eq!(head.fields.one("Content-Encoding"), "gzip");
    // The first event is here, before the server goes on.
    let mut size = Vec::new();
    while !size.ends_with(b"\r\n") {
        size.extend(client.bytes(1));
    }
    let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
    let mut first = [0; 9];
    flate2::read::GzDecoder::new(&client.bytes(size)[..]).read_exact(&mut first).unwrap();
    assert_eq!(&first, b"data: 1\n\n");
    gate.open();
    client.bytes(1);
}

#[test]
fn a_route_has_guards_of_its_own_or_those_of_the_top() {
    let origin = Origin::responds("ok");
    let config = json!({
        "rate_limit": {"requests": 2, "per": "1h"},
        "routes": [
            {"path": "/free/*", "pool": "default", "rate_limit": null},
            {"path": "/own/*", "pool": "default", "rate_limit": {"requests": 1, "per": "1h", "by": "route"}},
            {"path": "/shared/*", "pool": "default"},
            {"path": "/closed/*", "redirect": {"target": "/elsewhere"}, "deny": ["127.0.0.0/8"]}
        ]
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);
    let mut check = |path: &str, expected: &[u16]| {
        let statuses: Vec<_> = expected.iter().map(|_| client.get(path).status).collect();
        assert_eq!(statuses, expected, "{path}");
    };
    check("/shared/a", &[200]);
    check("/free/a", &[200, 200, 200]);
    check("/own/a", &[200, 429]);
    // What no route matches, and a route without a limit, count together.
    check("/other", &[200]);
    check("/shared/a", &[429]);
    check("/closed/a", &[403]);
    assert_eq!(origin.count(), 6);
}

#[test]
fn a_redirect_of_a_route_waits_for_the_password_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    std::fs::write(&file, format!("ann:{}\n", bcrypt::hash("open", 4).unwrap())).unwrap();
    let config = json!({"routes": [{
        "path": "/*",
        "redirect": {"target": "/elsewhere", "status": 302},
        "basic_auth": {"file": file.to_str().unwrap()}
    }]});
    let balancer = Evenkeel::start(config);
    let mut client = Client::to(&balancer);
    for (headers, status) in [("", 401), (WRONG, 401), (RIGHT, 302), (RIGHT, 302)] {
        let response = client.send(request(headers)).response();
        assert_eq!((response.status, response.fields.has("Location")), (status, status == 302), "{headers}");
    }
}

#[test]
fn a_pool_is_asked_whether_a_request_may_pass() {
    let origin = Origin::responds("ok");
    let auth = Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            match seen.fields.all("Cookie")[..] {
                [ref cookie] if cookie == "s=1" => {
                    visit.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
                    visit.send(
                        "HTTP/1.1 200 OK\r\nX-Auth-User: ann\r\nX-Other: 1\r\nContent-Length: 2\r\n\r\nok",
                    );
                }
                _ => {
                    let body = if seen.method() == "HEAD" { "" } else { "log in" };
                    visit.send(format!(
                        "HTTP/1.1 302 Found\r\nLocation: /login\r\nSet-Cookie: t=1\r\nContent-Length: 6\r\n\r\n{body}"
                    ));
                }
            }
        }
    });
    let config = json!({
        "forward_auth": {"pool": "auth", "path": "/verify?a=b", "copy_headers": ["X-Auth-User"]},
        "routes": [{"path": "/a", "request_headers": {"set": {"X-Forwarded-Proto": "https", "X-Env": "1", "X-Forwarded-Uri": "/y"}}}],
        "pools": {"auth": {"list": [{"address": auth.address().to_string()}], "health_check": {"enabled": false}}}
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);

    let spoofed = "X-Auth-User: root\r\nX_Auth_User: root\r\nX-Forwarded-Uri: /x\r\nIf-None-Match: \"a\"\r\n";
    let post = |cookie: &str| {
        format!("POST /a?b HTTP/1.1\r\nHost: h\r\n{spoofed}Cookie: {cookie}\r\nContent-Length: 4\r\n\r\nbody")
    };
    for _ in 0..2 {
        assert_eq!(client.send(post("s=1")).response().status, 200);
    }
    for seen in origin.requests() {
        assert_eq!((seen.line.as_str(), &seen.body[..]), ("POST /a?b HTTP/1.1", &b"body"[..]));
        assert_eq!(seen.fields.one("X-Auth-User"), "ann");
        assert!(!seen.fields.has("X_Auth_User") && !seen.fields.has("X-Other"));
    }
    let asked = auth.requests();
    assert_eq!((asked[0].line.as_str(), asked[0].body.len()), ("GET /verify?a=b HTTP/1.1", 0));
    assert_eq!(asked[0].fields.one("X-Forwarded-Method"), "POST");
    assert_eq!(asked[0].fields.one("X-Forwarded-Uri"), "/a?b");
    // Where it has to lead a browser back to. The route's other headers are for its servers.
    assert_eq!(asked[0].fields.one("X-Forwarded-Proto"), "https");
    assert!(!asked[0].fields.has("X-Env"));
    assert!(!asked[0].fields.has("If-None-Match") && !asked[0].fields.has("Content-Length"));

    let response = Client::to(&balancer).send(post("s=2")).response();
    assert_eq!((response.status, response.text().as_str()), (302, "log in"));
    assert_eq!(
        (response.fields.one("Location"), response.fields.one("Set-Cookie")),
        ("/login".into(), "t=1".into())
    );
    let mut client = Client::to(&balancer);
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.try_response_to("HEAD").unwrap().status, 302);
    assert_eq!(client.send(request("Cookie: s=1\r\n")).response().status, 200, "the connection goes on");
    assert_eq!(origin.count(), 3);
}

#[test]
fn what_renews_a_session_reaches_the_client_whoever_responds() {
    let auth = Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            let lines = "Set-Cookie: s=2; HttpOnly\r\nset-cookie: t=1\r\nX-Auth-User: ann\r\nX-Other: 1\r\n";
            let status = if seen.fields.has("Cookie") { "202 Accepted" } else { "401 Unauthorized" };
            let challenges = "WWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: Bearer\r\n";
            visit.send(format!("HTTP/1.1 {status}\r\n{lines}{challenges}Content-Length: 0\r\n\r\n"));
        }
    });
    let origin = with_response("Set-Cookie: app=1\r\n", b"ok".to_vec());
    let gone = crate::support::unused_port();
    let chat = Origin::start(|visit| {
        visit.request();
        visit.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        visit.to_the_end();
    });
    let pool = |address: String| json!({"list": [{"address": address}], "health_check": {"enabled": false}});
    let config = json!({
        "forward_auth": {"pool": "auth", "copy_headers": ["X-Auth-User"], "copy_to_response": ["Set-Cookie"]},
        "pools": {"auth": pool(auth.address().to_string()), "gone": pool(gone.address().to_string()),
            "chat": pool(chat.address().to_string())},
        "routes": [
            {"path": "/gone", "pool": "gone"},
            {"path": "/chat", "pool": "chat"},
            {"path": "/fixed", "respond": {"status": 200, "body": "ok"}},
            {"path": "/moved", "redirect": {"target": "/", "status": 302}}
        ]
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);
    let renewed = ["s=2; HttpOnly", "t=1"];
    for (path, status, own) in [
        ("/a", 200, &["app=1"][..]),
        ("/gone", 503, &[]),
        ("/fixed", 200, &[]),
        ("/moved", 302, &[]),
        ("/b", 200, &["app=1"]),
    ] {
        let response = client
            .send(format!("POST {path} HTTP/1.1\r\nHost: h\r\nCookie: s=1\r\nContent-Length: 4\r\n\r\nbody"))
            .response();
        assert_eq!(
            (response.status, response.fields.all("Set-Cookie")),
            (status, [own, &renewed].concat().into_iter().map(String::from).collect()),
            "{path}"
        );
        assert!(!response.fields.has("X-Other") && !response.fields.has("X-Auth-User"), "{path}");
    }
    let websocket = "Connection: upgrade\r\nUpgrade: websocket\r\nCookie: s=1\r\n";
    let mut switched = Client::to(&balancer);
    switched.send(format!("GET /chat HTTP/1.1\r\nHost: h\r\n{websocket}\r\n"));
    let (head, _) = switched.head();
    assert!(head.line.contains(" 101 "), "{}", head.line);
    assert_eq!(head.fields.all("Set-Cookie"), renewed);
    // What rejects a request is the response as a whole.
    let response = client.send(request("")).response();
    assert_eq!(response.fields.all("WWW-Authenticate"), ["Basic realm=\"a\"", "Bearer"]);
    assert_eq!(
        (response.status, response.fields.all("Set-Cookie")),
        (401, renewed.map(String::from).to_vec())
    );
}

#[test]
fn when_no_server_can_be_asked_nothing_passes() {
    let origin = Origin::responds("ok");
    let unused = crate::support::unused_port();
    let config = json!({
        "forward_auth": {"pool": "auth"},
        "pools": {"auth": {"list": [{"address": unused.address().to_string()}], "health_check": {"enabled": false}}}
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let response = Client::to(&balancer).get("/");
    assert_eq!((response.status, &*response.reason(), origin.count()), (503, "connect_failed", 0));
}

#[test]
fn a_question_without_a_response_has_its_own_time() {
    let origin = Origin::responds("ok");
    let auth = Origin::start(|visit| drop((visit.request(), visit.to_the_end())));
    let config = json!({
        "forward_auth": {"pool": "auth", "timeout": "100ms"},
        "pools": {"auth": {"list": [{"address": auth.address().to_string()}], "health_check": {"enabled": false}}},
        "timeouts": {"response": "1h"}
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let response = Client::to(&balancer).get("/");
    assert_eq!((response.status, &*response.reason(), origin.count()), (504, "server_timeout", 0));
}

#[test]
fn a_mirror_gets_the_request_and_not_the_question() {
    let [origin, auth, mirror] = [(); 3].map(|()| Origin::responds("ok"));
    let pool = |server: &Origin| json!({"list": [{"address": server.address().to_string()}], "health_check": {"enabled": false}});
    let config = json!({
        "forward_auth": {"pool": "auth", "path": "/verify"},
        "pools": {"auth": pool(&auth), "mirror": pool(&mirror)},
        "routes": [{"path": "/*", "pool": "default", "mirror": {"pool": "mirror"}}]
    });
    let balancer = Evenkeel::before(&[&origin], config);
    assert_eq!(Client::to(&balancer).get("/a").status, 200);
    mirror.until("the copy comes", |record| record.requests.len() == 1);
    assert_eq!((mirror.requests()[0].target(), auth.only_request().target()), ("/a", "/verify"));
}
