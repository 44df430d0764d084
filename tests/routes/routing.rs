//! Routes and pools over real sockets: where requests go, and what changes on their way.

use crate::support::balancer::{ADMIN, list, with};
use crate::support::{Client, Evenkeel, Origin, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

/// A balancer with these routes; `default`, `api` and `canary` are its pools, each with one server of that name.
struct Setup {
    balancer: Evenkeel,
    servers: BTreeMap<&'static str, Origin>,
}

fn named(name: &str, origin: &Origin) -> Value {
    json!([{ "name": name, "address": origin.address().to_string() }])
}

impl Setup {
    fn new(routes: Value) -> Self {
        Setup::over(routes, json!({}))
    }

    fn over(routes: Value, more: Value) -> Self {
        let servers = ["default", "api", "canary"].map(|name| (name, Origin::responds("ok")));
        let quiet = json!({ "health_check": { "enabled": false }, "load_report": { "enabled": false } });
        let pool = |at: usize| with(quiet.clone(), json!({ "list": named(servers[at].0, &servers[at].1) }));
        let config =
            json!({ "routes": routes, "servers": pool(0), "pools": { "api": pool(1), "canary": pool(2) } });
        let balancer = Evenkeel::start(with(config, more));
        Setup { balancer, servers: servers.into_iter().collect() }
    }

    /// Sends a request and gives the name of the server that responded, or the status of the balancer's own response.
    fn goes_to(&self, line: &str, headers: &str) -> String {
        let mut client = Client::to(&self.balancer);
        client.send(format!("{line} HTTP/1.1\r\nContent-Length: 0\r\n{headers}\r\n"));
        let response = client.response();
        match response.fields.all("X-Served-By").concat() {
            served if served.is_empty() => response.status.to_string(),
            served => served,
        }
    }

    #[track_caller]
    fn check(&self, line: &str, headers: &str, expected: &str) {
        assert_eq!(self.goes_to(line, headers), expected, "{line} {headers}");
    }

    /// The request that the only server that got one saw.
    #[track_caller]
    fn seen(&self, pool: &str) -> crate::support::message::Seen {
        self.servers[pool].only_request()
    }
}

#[test]
fn each_condition_of_a_route_counts() {
    let setup = Setup::new(json!([
        { "host": "api.test", "pool": "api" },
        { "host": "*.wild.test", "pool": "canary" },
        { "path": "/v1/*", "pool": "api" },
        { "path": "/v1/exact", "pool": "canary" },
        { "path": "~^/x/[0-9]+$", "pool": "canary" },
        { "path": "/methods", "methods": ["POST"], "pool": "api" },
        { "path": "/headers", "headers": { "X-Env": "beta" }, "pool": "api" },
        { "path": "/dashes", "headers": { "X-Debug-On": false }, "pool": "api" },
        { "path": "/query", "query": { "v": "2" }, "pool": "api" },
        { "path": "/cookies", "cookies": { "beta": true }, "pool": "api" },
        { "path": "/client", "client": ["127.0.0.0/8"], "pool": "api" },
        { "path": "/other", "client": ["10.0.0.0/8"], "pool": "api" }
    ]));
    let host = "Host: h\r\n";
    setup.check("GET /", "Host: api.test\r\n", "api");
    setup.check("GET /", "Host: API.test:80\r\n", "api");
    setup.check("GET /v1/a", "Host: a.wild.test\r\n", "canary");
    setup.check("GET http://api.test/", host, "api");
    setup.check("GET /v1", host, "api");
    setup.check("GET /v1/a?b", host, "api");
    setup.check("GET /v10", host, "default");
    setup.check("GET /v1/exact", host, "canary");
    setup.check("GET /%76%31/a/./b", host, "api");
    setup.check("GET /x/12", host, "canary");
    setup.check("GET /x/1a", host, "default");
    setup.check("POST /methods", host, "api");
    setup.check("PUT /methods", host, "default");
    setup.check("GET /headers", "Host: h\r\nx-env: beta\r\n", "api");
    setup.check("GET /headers", host, "default");
    setup.check("GET /dashes", host, "api");
    setup.check("GET /dashes", "Host: h\r\nx_debug-On: 1\r\n", "default");
    setup.check("GET /query?a=1&v=2", host, "api");
    setup.check("GET /query?v=3", host, "default");
    setup.check("GET /cookies", "Host: h\r\nCookie: a=b; beta=1\r\n", "api");
    setup.check("GET /cookies", host, "default");
    setup.check("GET /client", host, "api");
    setup.check("GET /other", host, "default");
}

#[test]
fn paths_that_can_be_read_in_several_ways_are_rejected() {
    let setup = Setup::new(json!([{ "path": "/admin/*", "pool": "api" }]));
    for path in [
        "/a%2fadmin",
        "/..%2fadmin",
        "/x/../admin/a",
        "/x/%2e%2e/admin",
        "/../admin",
        "/admin/..;/x",
        "/a%5cb",
        "/a%00",
    ] {
        setup.check(&format!("GET {path}"), "Host: h\r\n", "400");
    }
    setup.check("GET /x/../y", "Host: h\r\n", "default");
    setup.check("GET //admin/a", "Host: h\r\n", "api");
    let mut client = Client::to(&setup.balancer);
    assert!(client.get("/a%2fb").text().contains("unsafe_path"));
}

#[test]
fn without_a_route_and_a_default_server_it_is_404() {
    let api = Origin::responds("ok");
    let balancer = Evenkeel::start(json!({
        "routes": [{ "path": "/api/*", "pool": "api" }],
        "pools": { "api": { "list": list(&[&api]), "health_check": { "enabled": false } } },
    }));
    let mut client = Client::to(&balancer);
    assert_eq!(client.get("/api/a").status, 200);
    let response = client.get("/other");
    assert_eq!((response.status, response.text().contains("no_route")), (404, true));
}

#[test]
fn a_split_has_its_shares_and_keeps_clients() {
    let setup = Setup::new(json!([
        { "path": "/random", "split": { "pools": { "default": 50, "canary": 50 } } },
        { "path": "/all", "split": { "pools": { "default": 0, "canary": 1 } } },
        { "path": "/kept", "split": { "pools": { "default": 50, "canary": 50 }, "key": "cookie:user" } }
    ]));
    let canary = (0..200).filter(|_| setup.goes_to("GET /random", "Host: h\r\n") == "canary").count();
    assert!((60..140).contains(&canary), "{canary} of 200");
    setup.check("GET /all", "Host: h\r\n", "canary");
    for user in 0..20 {
        let headers = format!("Host: h\r\nCookie: user={user}\r\n");
        let first = setup.goes_to("GET /kept", &headers);
        assert!((0..5).all(|_| setup.goes_to("GET /kept", &headers) == first));
    }
}

#[test]
fn a_split_passes_over_a_pool_without_a_server_that_is_up() {
    let stable = Origin::responds("stable");
    let balancer = Evenkeel::start(json!({
        "servers": { "list": list(&[&stable]) },
        "pools": { "canary": { "list": [] } },
        "routes": [
            { "path": "/split", "split": { "pools": { "default": 1, "canary": 99 } } },
            { "path": "/canary", "split": { "pools": { "canary": 1 } } }
        ],
    }));
    let mut client = Client::to(&balancer);
    assert!((0..50).all(|_| client.get("/split").text() == "stable"));
    let response = client.get("/canary");
    assert_eq!((response.status, response.reason().as_str()), (503, "no_server"));
}

#[test]
fn routes_redirect_and_respond() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    fs::write(&page, "<h1>closed</h1>").unwrap();
    let setup = Setup::new(json!([
        { "path": "/old/*", "redirect": { "status": 301, "target": "https://new.test{uri}" } },
        { "path": "~^/user/([0-9]+)$", "redirect": { "target": "/u?id={1}" } },
        { "path": "/health", "respond": { "status": 200, "body": "fine" } },
        { "path": "/closed", "respond": { "status": 503, "file": page, "headers": { "Retry-After": "60" } } },
        { "path": "/none", "respond": { "status": 204 } }
    ]));
    let mut client = Client::to(&setup.balancer);
    let moved = client.get("/old/a?b=c");
    assert_eq!((moved.status, moved.fields.one("Location")), (301, "https://new.test/old/a?b=c".to_owned()));
    let user = client.get("/user/42");
    assert_eq!((user.status, user.fields.one("Location")), (302, "/u?id=42".to_owned()));
    assert_eq!(client.get("/health").text(), "fine");
    let closed = client.get("/closed");
    assert_eq!((closed.status, closed.text()), (503, "<h1>closed</h1>".to_owned()));
    assert_eq!(closed.fields.one("Retry-After"), "60");
    assert!(closed.fields.one("Content-Type").starts_with("text/html"));
    assert_eq!(client.get("/none").status, 204);
    // A body that is not read does not become the next request, and HEAD has no body.
    client.send("POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nGET HEAD /health HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response().text(), "fine");
    assert_eq!(client.try_response_to("HEAD").unwrap().body, b"");
    assert!(setup.servers.values().all(|server| server.count() == 0));
}

#[test]
fn targets_hosts_and_headers_are_changed_on_the_way() {
    let setup = Setup::new(json!([{
        "path": "~^/v1/(.*)$", "pool": "api",
        "rewrite": { "strip_prefix": "/v1", "host": "inside.test" },
        "request_headers": {
            "set": { "X-Real-IP": "{client_ip}", "X-Route": "{route} {pool} {1}" },
            "add": { "X-Env": "added", "X-To": "<{server}>" }, "remove": ["X-Secret*"]
        },
        "response_headers": { "set": { "X-Server": "{server}" }, "remove": ["X-Origin"] },
        "security_headers": true, "name": "v1"
    }]));
    let mut client = Client::to(&setup.balancer);
    let headers =
        "Host: out.test\r\nX_Real_IP: 6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nX-Env: own\r\nX-Secret-A: 1\r\n";
    client.send(format!("GET /v1/a/b?c=d HTTP/1.1\r\n{headers}\r\n"));
    let response = client.response();
    assert_eq!(response.fields.one("X-Server"), "api");
    assert_eq!(response.fields.one("X-Content-Type-Options"), "nosniff");
    assert!(response.fields.all("Strict-Transport-Security").is_empty(), "never over clear text");
    let seen = setup.seen("api");
    assert_eq!(seen.line, "GET /a/b?c=d HTTP/1.1");
    let all = |name: &str| seen.fields.all(name).join("|");
    assert_eq!(all("Host"), "inside.test");
    assert_eq!(all("X-Forwarded-Host"), "out.test");
    assert_eq!((all("X-Real-IP"), all("X_Real_IP")), ("127.0.0.1".to_owned(), String::new()));
    assert_eq!(all("X-Route"), "v1 api a/b");
    assert_eq!(all("X-Env"), "own|added");
    assert_eq!(all("X-To"), "<api>");
    assert_eq!(all("X-Secret-A"), "");
}

/// Each attempt, and the copy for a mirror, names the server that gets it.
#[test]
fn a_request_names_the_server_that_gets_it() {
    let closes = Origin::start(|visit| drop(visit.request()));
    let [good, mirror] = [(); 2].map(|()| Origin::responds("ok"));
    let quiet = json!({ "health_check": { "enabled": false }, "load_report": { "enabled": false } });
    let pool = |list: Vec<Value>| with(quiet.clone(), json!({ "list": list }));
    let server = |name: &str, origin: &Origin, backup: bool| json!({ "name": name, "address": origin.address().to_string(), "backup": backup });
    let balancer = Evenkeel::start(json!({
        "routes": [{ "path": "/*", "pool": "main", "mirror": { "pool": "mirror" }, "request_headers": { "set": { "X-To": "{server} of {pool}" } } }],
        "pools": {
            "main": pool(vec![server("one-that-closes", &closes, false), server("good", &good, true)]),
            "mirror": pool(vec![server("m", &mirror, false)])
        }
    }));
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    mirror.until("the copy comes", |record| record.requests.len() == 1);
    let named = [&closes, &good, &mirror].map(|origin| origin.requests()[0].fields.one("X-To"));
    assert_eq!(named, ["one-that-closes of main", "good of main", "m of main"]);
}

#[test]
fn rejections_have_the_headers_of_their_route() {
    let setup = Setup::new(json!([{
        "path": "/*", "pool": "api", "limits": { "body": 0 }, "security_headers": true,
        "response_headers": { "set": { "Access-Control-Allow-Origin": "*", "Cache-Control": "max-age=60", "X-To": "{server}" } }
    }]));
    let mut client = Client::to(&setup.balancer);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    let response = client.response();
    assert_eq!((response.status, &*response.reason()), (413, "body_too_large"));
    assert_eq!(response.fields.one("Access-Control-Allow-Origin"), "*");
    assert_eq!(response.fields.one("X-Content-Type-Options"), "nosniff");
    assert_eq!(response.fields.one("Cache-Control"), "no-store", "no cache may keep a rejection");
    assert!(!response.fields.has("X-To"), "there is no server");
    assert_eq!(Client::to(&setup.balancer).get("/").fields.one("Cache-Control"), "max-age=60");
}

/// Behind a balancer that ends TLS and says nothing of it, the operator knows more than the connection tells.
#[test]
fn what_a_route_says_of_the_origin_takes_the_place_of_what_the_balancer_says() {
    let says = json!({ "X-Forwarded-Proto": "https", "X-Forwarded-Host": "www.{host}", "X-Forwarded-For": "{client_ip}",
        "X-Forwarded-Port": "443", "Forwarded": "for={client_ip};proto=https" });
    let setup = Setup::over(
        json!([
            { "path": "/set", "pool": "api", "request_headers": { "set": says } },
            { "path": "/none", "pool": "canary", "request_headers": { "set": { "X-Forwarded-Host": "" } } }
        ]),
        json!({ "load_balancer": { "forwarded": true, "trusted_proxies": ["127.0.0.1"] } }),
    );
    let sent = "Host: h\r\nX-Forwarded-For: 10.0.0.1\r\nX_Forwarded_Proto: ftp\r\nX-Forwarded-Host: a\r\nForwarded: for=b\r\n";
    for (headers, client) in [("Host: h\r\n", "127.0.0.1"), (sent, "10.0.0.1")] {
        setup.check("GET /set", headers, "api");
        let seen = setup.servers["api"].requests().pop().unwrap();
        let all = |name: &str| seen.fields.all(name);
        assert_eq!(all("X-Forwarded-Proto"), ["https"], "{headers}");
        assert_eq!(all("X-Forwarded-Host"), ["www.h"], "{headers}");
        assert_eq!(all("X-Forwarded-For"), [client], "{headers}");
        assert_eq!(all("X-Forwarded-Port"), ["443"], "{headers}");
        assert_eq!(all("Forwarded"), [format!("for={client};proto=https")], "{headers}");
        assert!(!seen.fields.has("X_Forwarded_Proto"), "{headers}");
        setup.check("GET /none", headers, "canary");
        let seen = setup.servers["canary"].requests().pop().unwrap();
        assert!(!seen.fields.has("X-Forwarded-Host") && seen.fields.has("Forwarded"), "{headers}");
    }
}

#[test]
fn a_route_has_limits_of_its_own() {
    let silent = Origin::start(|visit| drop((visit.request(), visit.to_the_end())));
    let setup = Setup::over(
        json!([
            { "path": "/slow", "pool": "silent", "timeouts": { "response": "100ms" }, "retries": { "attempts": 0 } },
            { "path": "/small", "limits": { "body": 3 } },
            { "path": "/large", "limits": { "body": null } }
        ]),
        json!({ "pools": { "silent": { "list": named("s", &silent), "health_check": { "enabled": false } } },
                "limits": { "body": 10 } }),
    );
    // Otherwise it would come after a minute, when no test waits any more.
    setup.check("GET /slow", "Host: h\r\n", "504");
    let post = |path: &str, length: usize| {
        let mut client = Client::to(&setup.balancer);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{}",
            "x".repeat(length)
        ));
        client.response().status
    };
    assert_eq!(
        [post("/small", 3), post("/small", 4), post("/", 10), post("/", 11), post("/large", 99)],
        [200, 413, 200, 413, 200]
    );
}

#[test]
fn a_mirror_gets_copies_and_slows_nothing() {
    let setup = Setup::over(
        json!([{ "path": "/m", "pool": "api", "mirror": { "pool": "canary", "body": 100 } }]),
        json!({ "admin": { "socket": ADMIN } }),
    );
    let mut client = Client::to(&setup.balancer);
    let mut post = |path: &str, body: String| {
        client
            .send(format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        client.response().fields.one("X-Served-By")
    };
    assert_eq!(post("/m", "hello".to_owned()), "api");
    setup.servers["canary"].until("the copy comes", |record| record.requests.len() == 1);
    let (original, copy) = (setup.seen("api"), setup.seen("canary"));
    assert_eq!((copy.body, copy.line), (b"hello".to_vec(), "POST /m HTTP/1.1".to_owned()));
    assert_eq!(copy.fields.all("X-Request-Id"), original.fields.all("X-Request-Id"));
    assert_eq!(post("/m", "x".repeat(101)), "api");
    setup.balancer.metric_is("evenkeel_mirror_drops_total{reason=\"body_too_long\"}", 1.0);
    setup.balancer.logs("1 request was not mirrored in the last");
    assert_eq!(post("/m", String::new()), "api");
    setup.servers["canary"].until("the next copy comes", |record| record.requests.len() == 2);
    assert_eq!(setup.servers["canary"].requests()[1].body, b"", "the long one was not copied");
    until("copies are counted apart", || setup.balancer.metric("evenkeel_mirrored_requests_total") == 2.0);
    let chunks = |body: &[u8]| {
        let head = "POST /m HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        [head.as_bytes(), &crate::support::chunked(&[body])].concat()
    };
    let mut client = Client::to(&setup.balancer);
    assert_eq!(client.send(chunks(&[b'x'; 101])).response().status, 200);
    setup.balancer.metric_is("evenkeel_mirror_drops_total{reason=\"body_too_long\"}", 2.0);
    assert_eq!(client.send(chunks(b"short")).response().status, 200);
    setup.servers["canary"].until("a short one in chunks is copied", |record| record.requests.len() == 3);
    assert_eq!(setup.servers["canary"].requests()[2].body, b"short");
    setup.balancer.metric_is("evenkeel_requests_total", 5.0);
}

#[test]
fn a_mirror_that_hangs_holds_nothing_up() {
    let silent = Origin::start(|visit| drop((visit.request(), visit.to_the_end())));
    let setup = Setup::over(
        json!([{ "path": "/m", "pool": "api", "mirror": { "pool": "silent" } }]),
        json!({ "pools": { "silent": { "list": named("s", &silent), "health_check": { "enabled": false } } },
                // No copy is given up meanwhile.
                "timeouts": { "response": "1h" }, "admin": { "socket": ADMIN } }),
    );
    let mut client = Client::to(&setup.balancer);
    for _ in 0..400 {
        assert_eq!(client.get("/m").status, 200);
    }
    silent.until("as many copies as may be on their way", |record| record.requests.len() == 256);
    setup.balancer.metric_is("evenkeel_mirror_drops_total{reason=\"in_flight\"}", 144.0);
}

#[test]
fn routes_and_pools_are_counted() {
    let setup = Setup::over(
        json!([{ "name": "api", "path": "/api", "pool": "api", "access_log": false }, { "name": "gone", "path": "/gone", "respond": { "status": 410 } }]),
        json!({ "admin": { "socket": ADMIN }, "log": { "access": "access.log" } }),
    );
    for (path, times) in [("/api", 3), ("/gone", 2), ("/", 1)] {
        (0..times).for_each(|_| drop(setup.goes_to(&format!("GET {path}"), "Host: h\r\n")));
    }
    let is = |name: &str, count: f64| setup.balancer.metric_is(name, count);
    is("evenkeel_requests_total", 6.0);
    is("evenkeel_route_requests_total{route=\"api\",class=\"2xx\"}", 3.0);
    is("evenkeel_route_requests_total{route=\"gone\",class=\"4xx\"}", 2.0);
    is("evenkeel_server_requests_total{pool=\"api\",server=\"api\"}", 3.0);
    is("evenkeel_server_requests_total{pool=\"canary\",server=\"canary\"}", 0.0);
    is("evenkeel_pool_servers_ready{pool=\"canary\"}", 1.0);
    let log = || fs::read_to_string(setup.balancer.folder().join("access.log")).unwrap_or_default();
    until("the log has its lines", || log().lines().count() >= 3);
    assert!(!log().contains("GET /api"));
}

#[test]
fn round_robin_takes_turns_in_each_pool_whatever_the_others_do() {
    let servers: Vec<Origin> = (0..4).map(|_| Origin::responds("ok")).collect();
    let pool = |list: Value| json!({ "algorithm": "round_robin", "list": list, "health_check": { "enabled": false } });
    let balancer = Evenkeel::start(json!({
        "routes": [{ "path": "/a", "pool": "a" }, { "path": "/b", "pool": "b" }],
        "pools": { "a": pool(list(&[&servers[0], &servers[1]])), "b": pool(list(&[&servers[2], &servers[3]])) },
    }));
    let mut client = Client::to(&balancer);
    for _ in 0..20 {
        assert_eq!((client.get("/a").status, client.get("/b").status), (200, 200));
    }
    assert_eq!(servers.iter().map(Origin::count).collect::<Vec<_>>(), [10, 10, 10, 10]);
}

/// A server that decodes a slash, or leaves a parameter out, does not get a request past the route that guards the path.
#[test]
fn encoded_slashes_and_parameters_do_not_get_past_a_route() {
    let routes = json!([
        { "path": "/api/*", "pool": "api" },
        { "path": "/admin/*", "deny": ["127.0.0.0/8"] },
        { "path": "/new/*", "pool": "canary", "rewrite": { "strip_prefix": "/new" } },
    ]);
    let refuses = Setup::new(routes.clone());
    let keeps = Setup::over(routes, json!({ "load_balancer": { "encoded_slash": "keep" } }));
    let host = "Host: h\r\n";
    for (path, refused, kept) in [
        ("/api/v4/projects/group%2Fname", "400", "api"),
        ("/new/a%2fb", "400", "canary"),
        ("/a%2Fb", "400", "default"),
        ("/api/..%2fadmin/x", "400", "400"),
        ("/%2Fadmin/x", "400", "400"),
        ("/admin;x/y", "400", "400"),
        ("/admin/y;x", "403", "403"),
        ("/api/y;jsessionid=1", "api", "api"),
        ("/other;x=1/y", "default", "default"),
    ] {
        refuses.check(&format!("GET {path}"), host, refused);
        keeps.check(&format!("GET {path}"), host, kept);
    }
    // What is forwarded is as it came, unless it is rewritten.
    assert_eq!(keeps.servers["api"].requests()[0].target(), "/api/v4/projects/group%2Fname");
    assert_eq!(keeps.seen("canary").target(), "/a%2Fb");
}

/// Each attempt names its own server in Host.
#[test]
fn the_host_can_be_that_of_the_server() {
    let (busy, good) =
        (Origin::says("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), Origin::responds("ok"));
    let config = json!({
        "servers": { "algorithm": "round_robin" },
        "retries": { "on_status": 503 },
        "routes": [ { "path": "/*", "rewrite": { "host": "server" }, "request_headers": { "set": { "X-To": "{server}" } } } ],
    });
    let balancer = Evenkeel::before(&[&busy, &good], config);
    let mut client = Client::to(&balancer);
    client.send("POST /a HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 3\r\n\r\nabc");
    let first = client.response();
    assert_eq!(client.send("GET /b HTTP/1.0\r\n\r\n").response().status, 200);
    assert!(matches!(first.status, 200 | 503));
    let seen: Vec<_> = busy.requests().into_iter().map(|seen| (seen, busy.address(), "a")).collect();
    let seen: Vec<_> =
        seen.into_iter().chain(good.requests().into_iter().map(|seen| (seen, good.address(), "b"))).collect();
    assert!(seen.len() >= 2);
    for (seen, address, name) in seen {
        assert_eq!(seen.fields.all("Host"), [address.to_string()]);
        assert_eq!(seen.fields.all("X-To"), [name]);
        assert_eq!(seen.fields.has("X-Forwarded-Host"), seen.target() == "/a");
        assert_eq!(seen.body, if seen.target() == "/a" { &b"abc"[..] } else { b"" });
    }
}
