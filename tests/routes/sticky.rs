//! Clients that stay with their servers: by a cookie of the balancer, and by one of the servers that is learned.

use crate::support::balancer::{ADMIN, with};
use crate::support::{Client, Evenkeel, Gate, Origin, Response, until};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

/// Three servers a, b and c, and what is said of their pool.
fn start(origins: &[Origin], servers: Value) -> Evenkeel {
    let all: Vec<&Origin> = origins.iter().collect();
    let servers = with(json!({"algorithm": "round_robin"}), servers);
    Evenkeel::before(&all, json!({"servers": servers, "admin": {"socket": ADMIN}}))
}

fn cookie(more: Value) -> Value {
    json!({"sticky": with(json!({"cookie": "srv", "secret": "0123456789abcdef"}), more)})
}

fn three() -> [Origin; 3] {
    [0, 1, 2].map(|_| Origin::responds("ok"))
}

/// A client with a cookie jar, as browsers have one.
struct Browser {
    client: Client,
    cookies: Vec<(String, String)>,
}

impl Browser {
    fn new(balancer: &Evenkeel) -> Self {
        Browser { client: Client::to(balancer), cookies: Vec::new() }
    }

    fn send(&mut self, method: &str, target: &str, more: &str) -> Response {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = match cookies.is_empty() {
            true => String::new(),
            false => format!("Cookie: {}\r\n", cookies.join("; ")),
        };
        let response = self
            .client
            .send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{cookies}{more}\r\n"))
            .response();
        for line in response.fields.all("Set-Cookie") {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        response
    }

    /// The server that responds, and whether a cookie came.
    fn get(&mut self) -> (String, bool) {
        let response = self.send("GET", "/", "");
        assert_eq!(response.status, 200, "{}", response.text());
        (response.fields.one("X-Served-By"), response.fields.has("Set-Cookie"))
    }

    /// The same for the server alone, of so many requests that are all served by one.
    fn home(&mut self, requests: usize) -> String {
        let all: HashSet<String> = (0..requests).map(|_| self.get().0).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap()
    }
}

/// A browser whose server is this one.
fn at_home(balancer: &Evenkeel, server: &str) -> Browser {
    for _ in 0..50 {
        let mut browser = Browser::new(balancer);
        if browser.get().0 == server {
            return browser;
        }
    }
    panic!("no new session goes to {server}");
}

/// Changes a server through the admin API.
fn patch(balancer: &Evenkeel, server: &str, change: Value) {
    let (mut stream, body) =
        (UnixStream::connect(balancer.folder().join(ADMIN)).unwrap(), change.to_string());
    let head = format!("PATCH /api/v1/servers/{server} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(format!("{head}{rest}").as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[test]
fn a_client_with_a_cookie_stays_and_the_others_spread() {
    let origins = three();
    let balancer = start(&origins, cookie(json!({})));
    let mut browsers: Vec<Browser> = (0..6).map(|_| Browser::new(&balancer)).collect();
    let first: Vec<_> = browsers.iter_mut().map(Browser::get).collect();
    assert!(first.iter().all(|(_, is_set)| *is_set));
    let used: HashSet<_> = first.iter().map(|(server, _)| server.clone()).collect();
    assert_eq!(used.len(), 3, "new sessions go by turn");
    for (browser, (server, _)) in browsers.iter_mut().zip(&first) {
        for _ in 0..4 {
            assert_eq!(
                browser.get(),
                (server.clone(), false),
                "a client that has its cookie is not told again"
            );
        }
        assert_eq!(browser.cookies[0].1.len(), 22);
    }
    let seen = origins.iter().flat_map(Origin::requests);
    assert!(seen.into_iter().all(|request| !request.fields.has("Cookie")), "it is the balancer's own");
    balancer.metric_is("evenkeel_pool_session_requests_total{pool=\"default\",session=\"kept\"}", 24.0);
    balancer.metric_is("evenkeel_pool_session_requests_total{pool=\"default\",session=\"new\"}", 6.0);
}

/// What the servers get of the client's cookies, with a route that changes the header and without.
#[test]
fn servers_get_the_other_cookies() {
    let replace = json!({"replace": [{"header": "Cookie", "match": "a=1", "with": "a=2"}]});
    for (routes, expected) in [
        (json!([]), "a=1; b"),
        (json!([{"path": "/*"}]), "a=1; b"),
        (json!([{"path": "/*", "request_headers": replace}]), "a=2; b"),
    ] {
        let origin = Origin::responds("ok");
        let config = with(json!({"servers": cookie(json!({}))}), json!({"routes": routes}));
        let balancer = Evenkeel::before(&[&origin], config);
        let request = "GET / HTTP/1.1\r\nHost: h\r\nCookie: a=1; srv=x; b\r\ncookie: srv=y\r\n\r\n";
        assert_eq!(Client::to(&balancer).send(request).response().status, 200);
        assert_eq!(origin.only_request().fields.all("Cookie"), [expected], "{routes}");
    }
}

#[test]
fn a_cookie_means_the_same_after_a_restart_and_with_another_balancer() {
    let origins = three();
    let balancers = [(); 2].map(|()| start(&origins, cookie(json!({}))));
    let stranger = start(&origins, cookie(json!({"secret": "another secret of 1"})));
    for server in ["a", "b", "c"] {
        let mut browser = at_home(&balancers[0], server);
        browser.client = Client::to(&balancers[1]);
        assert_eq!(browser.get(), (server.to_owned(), false));
        browser.client = Client::to(&stranger);
        assert!(browser.get().1, "with another secret it is a forged one");
    }
}

#[test]
fn a_forged_or_stale_cookie_is_ignored_and_replaced() {
    let origins = three();
    let balancer = start(&origins, cookie(json!({})));
    let value = at_home(&balancer, "b").cookies.remove(0).1;
    let other = if value.starts_with('A') { "B" } else { "A" };
    let forged =
        [format!("{other}{}", &value[1..]), "b".into(), String::new(), "x".repeat(3000), format!("{value}A")];
    for forged in forged {
        let mut browser = Browser::new(&balancer);
        browser.cookies.push(("srv".into(), forged.clone()));
        assert!(browser.get().1, "{forged}");
        browser.home(3);
    }
}

#[test]
fn a_draining_server_keeps_its_sessions_and_gets_no_new_ones() {
    let origins = three();
    let balancer = start(&origins, cookie(json!({})));
    for change in [json!({"state": "drain"}), json!({"state": "ready", "weight": 0})] {
        let mut browser = at_home(&balancer, "b");
        patch(&balancer, "b", change.clone());
        assert_eq!(browser.home(5), "b", "{change}");
        let new: HashSet<_> = (0..6).map(|_| Browser::new(&balancer).get().0).collect();
        assert_eq!(new, HashSet::from(["a".to_owned(), "c".to_owned()]), "{change}");
        patch(&balancer, "b", json!({"state": "maint"}));
        let (server, is_set) = browser.get();
        assert!(server != "b" && is_set, "{change}: in maintenance it keeps none");
        assert_eq!(browser.home(3), server, "{change}: it stays at the new one");
        patch(&balancer, "b", json!({"state": "ready", "weight": 1}));
        assert_eq!(browser.home(3), server, "{change}: and does not go back");
    }
}

#[test]
fn a_drain_that_is_over_moves_the_sessions() {
    let origins = three();
    let balancer = start(&origins, cookie(json!({"drain": "0s"})));
    let mut browser = at_home(&balancer, "b");
    patch(&balancer, "b", json!({"state": "drain"}));
    let (server, is_set) = browser.get();
    assert!(server != "b" && is_set);
}

#[test]
fn a_session_whose_server_is_gone_moves_once() {
    let mut origins = three();
    let balancer = start(&origins, cookie(json!({})));
    let mut browser = at_home(&balancer, "b");
    origins[1].stop();
    let (server, is_set) = browser.get();
    assert!(server != "b" && is_set);
    origins[1].start_again();
    assert_eq!(browser.home(4), server, "no request of it goes back, though the old one is there again");
}

#[test]
fn a_session_whose_server_is_full_moves() {
    // A cookie depends on the secret and the names alone.
    let value = {
        let origins = three();
        at_home(&start(&origins, cookie(json!({}))), "b").cookies.remove(0).1
    };
    let gate = Gate::default();
    let origins = [Origin::responds("ok"), Origin::waits_for(&gate, "late"), Origin::responds("ok")];
    let balancer = start(&origins, with(cookie(json!({})), json!({"max_in_flight": 1})));
    let mut browsers = [(); 2].map(|()| Browser::new(&balancer));
    for browser in &mut browsers {
        browser.cookies.push(("srv".into(), value.clone()));
    }
    browsers[0].client.send(format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: srv={value}\r\n\r\n"));
    until("b has it", || origins[1].count() == 1);
    let (server, is_set) = browsers[1].get();
    assert!(server != "b" && is_set);
    gate.open();
    assert_eq!(browsers[0].client.response().text(), "late");
    assert_eq!(browsers[1].home(3), server);
}

#[test]
fn a_reload_changes_the_cookie_and_takes_sessions_from_a_server_that_it_takes_out() {
    let origins = three();
    let balancer = start(&origins, cookie(json!({})));
    let mut browser = at_home(&balancer, "b");
    let path = balancer.folder().join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["servers"]["list"].as_array_mut().unwrap().remove(1);
    config["servers"]["sticky"]["max_age"] = json!("1h");
    std::fs::write(&path, config.to_string()).unwrap();
    balancer.signal(rustix::process::Signal::HUP);
    until("b is out", || browser.get().0 != "b");
    let response = browser.send("GET", "/", "");
    assert!(response.fields.one("Set-Cookie").contains("; Max-Age=3600"));
}

#[test]
fn the_cookie_of_the_servers_is_learned() {
    // Each server begins a session where the client has none of its own.
    let known: Arc<Mutex<HashSet<String>>> = Arc::default();
    let origin = |name: &'static str| {
        let known = Arc::clone(&known);
        Origin::start(move |visit| {
            while let Some(seen) = visit.request() {
                let sent = seen.fields.all("Cookie").concat();
                let is_own =
                    known.lock().unwrap().iter().any(|id| id.starts_with(name) && sent.ends_with(&**id));
                let set = match is_own {
                    true => String::new(),
                    false => {
                        let mut known = known.lock().unwrap();
                        let id = format!("{name}{}", known.len());
                        known.insert(id.clone());
                        format!("Set-Cookie: theme=dark\r\nSet-Cookie: SID={id}; Path=/\r\n")
                    }
                };
                visit.send(format!("HTTP/1.1 200 OK\r\n{set}Content-Length: 0\r\n\r\n"));
            }
        })
    };
    let origins = ["x", "y", "z"].map(origin);
    let balancer = start(&origins, json!({"sticky": {"learn": "SID"}}));
    let mut browsers: Vec<Browser> = (0..6).map(|_| Browser::new(&balancer)).collect();
    let homes: Vec<_> = browsers.iter_mut().map(Browser::get).collect();
    assert!(homes.iter().all(|(_, is_set)| *is_set));
    for (browser, (server, _)) in browsers.iter_mut().zip(&homes) {
        for _ in 0..3 {
            assert_eq!(browser.get(), (server.clone(), false));
        }
    }
    balancer.metric_is("evenkeel_pool_learned_sessions", 6.0);
}

/// A server of Socket.IO in miniature: it knows the sessions that it began, and no others.
fn socket_io(name: &'static str) -> Origin {
    let known: Arc<Mutex<HashSet<String>>> = Arc::default();
    Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            let target = seen.target().to_owned();
            let sid = target.split("sid=").nth(1).map(str::to_owned);
            let is_known = sid.as_ref().is_some_and(|sid| known.lock().unwrap().contains(sid));
            match sid {
                None if !target.contains("transport=websocket") => {
                    let sid = format!("{name}-{}", visit.number);
                    known.lock().unwrap().insert(sid.clone());
                    visit.send(crate::support::faults::ok(&sid));
                }
                Some(_) if !is_known => {
                    visit.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 18\r\n\r\nSession ID unknown");
                }
                _ if target.contains("transport=websocket") => {
                    visit.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                    visit.send(name);
                    visit.to_the_end();
                    return;
                }
                _ => visit.send(crate::support::faults::ok("polled")),
            }
        }
    })
}

#[test]
fn socket_io_with_polling_and_its_upgrade_stay_with_one_of_three_servers() {
    let origins = ["x", "y", "z"].map(socket_io);
    let balancer = start(&origins, cookie(json!({})));
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for _ in 0..6 {
        let mut browser = Browser::new(&balancer);
        let sid = browser.send("GET", "/socket.io/?EIO=4&transport=polling", "").text();
        // Browsers use several connections.
        for _ in 0..4 {
            browser.client = Client::to(&balancer);
            let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
            assert_eq!(browser.send("GET", &target, "").text(), "polled");
            assert_eq!(browser.send("POST", &target, "Content-Length: 0\r\n").status, 200);
        }
        browser.client = Client::to(&balancer);
        let response =
            browser.send("GET", &format!("/socket.io/?EIO=4&transport=websocket&sid={sid}"), upgrade);
        assert_eq!(response.status, 101);
        assert_eq!(browser.client.bytes(1), sid.as_bytes()[..1]);
    }
}

#[test]
fn the_101_of_a_web_socket_sets_the_cookie() {
    let origins = ["x", "y", "z"].map(socket_io);
    let balancer = start(&origins, cookie(json!({})));
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for _ in 0..3 {
        let mut browser = Browser::new(&balancer);
        let first = browser.send("GET", "/?transport=websocket", upgrade);
        assert!(first.status == 101 && first.fields.one("Set-Cookie").starts_with("srv="));
        let name = browser.client.bytes(1);
        browser.client = Client::to(&balancer);
        let again = browser.send("GET", "/?transport=websocket", upgrade);
        assert!(again.status == 101 && !again.fields.has("Set-Cookie"));
        assert_eq!(browser.client.bytes(1), name);
    }
}
