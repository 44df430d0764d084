//! The configurations of the guides, which were carried over from real ones of other programs: requests, and what the servers
//! see of them or the clients get. The servers' addresses, ports and files are replaced; all else is as it stands there.

use crate::support::message::Seen;
use crate::support::tls::{Authority, Kind, TlsClient, TlsOrigin, port_of};
use crate::support::{Client, Evenkeel, Origin};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The user ann, with the password "open".
const ANN: &str = "Authorization: Basic YW5uOm9wZW4=\r\n";

/// A configuration of a guide that runs, with its servers by the addresses that they have there.
struct Carried {
    balancer: Evenkeel,
    servers: BTreeMap<String, Origin>,
    authority: Authority,
    _secure: Vec<TlsOrigin>,
}

/// What came back: the status and the head.
struct Answer {
    status: u16,
    head: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Carried {
    /// The configuration under a heading of a guide.
    fn over(guide: &str, heading: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides").join(guide);
        let text = fs::read_to_string(path).unwrap();
        let section = text.split(&format!("\n## {heading}\n")).nth(1).expect("the guide has the heading");
        let block = section.split("```json\n").nth(1).unwrap().split("\n```").next().unwrap();
        let mut config: Value = serde_json::from_str(block).unwrap();
        let authority = Authority::new("guides");
        let (mut servers, mut secure) = (BTreeMap::new(), Vec::new());
        let pools = config.get_mut("pools").and_then(Value::as_object_mut).into_iter().flatten();
        let mut pools: Vec<Value> = pools.map(|(_, pool)| pool.take()).collect();
        pools.push(config["servers"].take());
        for pool in &mut pools {
            replace_servers(pool, &mut servers, &mut secure, &authority);
        }
        config["servers"] = pools.pop().unwrap();
        let names = config.get_mut("pools").and_then(Value::as_object_mut).into_iter().flatten();
        names.zip(pools).for_each(|((_, place), pool)| *place = pool);
        replace_places(&mut config, &authority);
        Carried { balancer: Evenkeel::start(config), servers, authority, _secure: secure }
    }

    /// Sends a request to a listener (`http`, `https` or `default`).
    fn ask(&self, listener: &str, line: &str, host: &str, headers: &str) -> Answer {
        let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        let head = match listener {
            "https" | "federation" => {
                let port = port_of(&self.balancer, listener);
                let mut client = TlsClient::connect(port, self.authority.client(), "example.com").unwrap();
                String::from_utf8_lossy(&client.send(request).response()).into_owned()
            }
            _ => {
                let address = match listener {
                    "default" => self.balancer.address(),
                    _ => port_of(&self.balancer, listener),
                };
                let mut client = Client::connect(address).unwrap();
                let response = client.send(request).response();
                format!("{}{}", response.line, response.fields).replace("\n  ", "\r\n")
            }
        };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head }
    }

    /// What a server sees of a request: the last that it got.
    #[track_caller]
    fn sees(&self, server: &str, listener: &str, line: &str, host: &str, headers: &str) -> Seen {
        let before = self.servers[server].count();
        let answer = self.ask(listener, line, host, headers);
        let requests = self.servers[server].requests();
        assert_eq!(requests.len(), before + 1, "{line} did not get to {server}: {}", answer.head);
        requests.into_iter().next_back().unwrap()
    }

    /// Requests to a listener, each with the server that sees it and the target that it sees.
    #[track_caller]
    fn check(&self, listener: &str, rows: &[(&str, &str, &str, &str, &str)]) {
        for (host, line, headers, server, target) in rows {
            let seen = self.sees(server, listener, line, host, headers);
            assert_eq!(seen.target(), *target, "{line} {headers}");
            assert_eq!(seen.fields.one("Host"), *host, "{line} {headers}");
            assert_eq!(seen.fields.one("X-Forwarded-Host"), *host, "{line} {headers}");
            assert_eq!(seen.fields.one("X-Forwarded-For"), "127.0.0.1");
            let scheme = if matches!(listener, "https" | "federation") { "https" } else { "http" };
            assert_eq!(seen.fields.one("X-Forwarded-Proto"), scheme);
        }
    }

    /// Requests that the balancer answers itself: the status, and the value of `Location` or none.
    #[track_caller]
    fn answers(&self, listener: &str, rows: &[(&str, &str, &str, u16, Option<&str>)]) {
        for (host, line, headers, status, location) in rows {
            let answer = self.ask(listener, line, host, headers);
            let found = (answer.status, answer.field("Location"));
            assert_eq!(found, (*status, *location), "{line} {headers} {}", answer.head);
        }
    }
}

/// A server that responds with the status in `X-Status` and with the header lines in `X-Reply`, without a body.
fn echo() -> Origin {
    Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            let status = seen.fields.all("X-Status").pop().unwrap_or("200".to_owned());
            let lines: String = seen.fields.all("X-Reply").iter().map(|line| format!("{line}\r\n")).collect();
            visit.send(format!("HTTP/1.1 {status} Said\r\n{lines}Content-Length: 0\r\n\r\n"));
        }
    })
}

/// Puts servers of this test in the place of those of a pool, and takes its probes away.
fn replace_servers(
    pool: &mut Value,
    servers: &mut BTreeMap<String, Origin>,
    secure: &mut Vec<TlsOrigin>,
    authority: &Authority,
) {
    if pool.is_null() {
        *pool = json!({});
    }
    let is_secure = pool.get("tls").is_some();
    for server in pool.get_mut("list").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = server["address"].as_str().unwrap().to_owned();
        let address = if is_secure {
            let files = authority.issue("server", &["localhost"]);
            secure.push(TlsOrigin::start(&files, None, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
            secure.last().unwrap().address
        } else {
            servers.entry(name).or_insert_with(echo).address()
        };
        server["address"] = json!(address.to_string());
    }
    pool["health_check"]["enabled"] = json!(false);
    pool["load_report"] = json!({ "enabled": false });
}

/// Ports of the kernel's choice, and files of this test.
fn replace_places(config: &mut Value, authority: &Authority) {
    config["load_balancer"]["load_balancer_port"] = json!(0);
    let listeners = config["load_balancer"].get_mut("listeners").and_then(Value::as_array_mut);
    for listener in listeners.into_iter().flatten() {
        listener["port"] = json!(0);
        if let Some(certificates) = listener["tls"].get_mut("certificates") {
            let files = authority.issue_as("site", &["example.com"], Kind::Ecdsa, |_| {});
            *certificates = json!([files.json()]);
        }
    }
    let users = authority.path("users.htpasswd");
    fs::write(&users, format!("ann:{}\n", bcrypt::hash("open", 4).unwrap())).unwrap();
    for route in config["routes"].as_array_mut().into_iter().flatten() {
        if let Some(auth) = route.get_mut("basic_auth") {
            auth["file"] = json!(users);
        }
    }
}

#[test]
fn nginx_with_applications_under_paths() {
    let carried = Carried::over("from-nginx.md", "Applications under paths, and one without");
    for listener in ["http", "https"] {
        carried.check(
            listener,
            &[
                ("example.com", "GET /nextcloud/a?b=c", "", "127.0.0.1:81", "/a?b=c"),
                ("example.com", "GET /nextcloud/", "", "127.0.0.1:81", "/"),
                ("www.example.com", "GET /jenkins/job/a%20b/", "", "127.0.0.1:8080", "/jenkins/job/a%20b/"),
                ("example.com:8443", "GET /web?x", "X-Real-IP: 6.6.6.6\r\n", "127.0.0.1:8069", "/web?x"),
                ("example.com", "GET /nextcloudy", "", "127.0.0.1:8069", "/nextcloudy"),
                ("example.com", "GET /WEB/Static/a.css", "", "127.0.0.1:8070", "/WEB/Static/a.css"),
            ],
        );
        let seen =
            carried.sees("127.0.0.1:8069", listener, "GET /", "example.com", "X-Forwarded-Port: 1\r\n");
        let port = port_of(&carried.balancer, listener).port().to_string();
        assert_eq!(
            (seen.fields.one("X-Real-IP"), seen.fields.one("X-Forwarded-Port")),
            ("127.0.0.1".into(), port)
        );
    }
    carried.answers(
        "http",
        &[
            ("example.com", "GET /nextcloud?a=b", "", 301, Some("/nextcloud/?a=b")),
            ("example.com", "GET /jenkins", "", 301, Some("/jenkins/")),
            ("example.com", "GET /jenkins?a=b", "", 301, Some("/jenkins/?a=b")),
            (
                "example.com",
                "GET /jenkins/",
                "X-Status: 302\r\nX-Reply: Location: http://127.0.0.1:8080/jenkins/login?from=%2F\r\n",
                302,
                Some("https://example.com/jenkins/login?from=%2F"),
            ),
            (
                "example.com",
                "GET /jenkins/",
                "X-Status: 302\r\nX-Reply: Location: https://other.example/\r\n",
                302,
                Some("https://other.example/"),
            ),
        ],
    );
}

#[test]
fn nginx_before_a_docker_registry() {
    let carried = Carried::over("from-nginx.md", "A Docker registry");
    let challenge = "/.well-known/acme-challenge/token";
    let get = format!("GET {challenge}");
    carried.check("http", &[("registry.example.com", &get, "", "127.0.0.1:8888", challenge)]);
    carried.answers(
        "http",
        &[
            ("registry.example.com", "GET /v2/?a", "", 301, Some("https://registry.example.com/v2/?a")),
            (
                "registry.example.com",
                "GET /.well-known/acme-challenge/../../v2/",
                "",
                301,
                Some("https://registry.example.com/.well-known/acme-challenge/../../v2/"),
            ),
            ("registry.example.com", "PUT /v2/", "", 308, Some("https://registry.example.com/v2/")),
        ],
    );
    let registry = "127.0.0.1:5000";
    carried.check(
        "https",
        &[
            ("registry.example.com:5000", "GET /v2/", "User-Agent: docker/27.1\r\n", registry, "/v2/"),
            ("registry.example.com", "HEAD /v2/a/manifests/b", "", registry, "/v2/a/manifests/b"),
        ],
    );
    let upload = format!("{ANN}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n");
    let seen =
        carried.sees(registry, "https", "PATCH /v2/a/blobs/uploads/1", "registry.example.com", &upload);
    assert_eq!((seen.method(), &seen.body[..]), ("PATCH", &b"abc"[..]));
    carried.answers(
        "https",
        &[
            ("registry.example.com", "GET /v2/", "User-Agent: docker/1.4.1\r\n", 404, None),
            ("registry.example.com", "GET /", "", 404, None),
            ("registry.example.com", &get, "", 404, None),
        ],
    );
    let answer =
        carried.ask("https", "PUT /v2/a/manifests/b", "registry.example.com", "Content-Length: 0\r\n");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.field("WWW-Authenticate"), Some("Basic realm=\"registry\", charset=\"UTF-8\""));
    assert_eq!(answer.field("Docker-Distribution-Api-Version"), Some("registry/2.0"));
}

#[test]
fn nginx_with_an_api_for_other_origins() {
    let carried = Carried::over("from-nginx.md", "An API for scripts of other origins");
    let host = "api.example.com";
    carried.check(
        "default",
        &[
            (host, "GET /a?b", "", "127.0.0.1:3000", "/a?b"),
            (host, "GET /ws/chat", "", "127.0.0.1:3001", "/chat"),
            (host, "GET /users/12/avatar?s=2", "", "127.0.0.1:3002", "/avatars/12.png?s=2"),
            (host, "GET /users/x/avatar", "", "127.0.0.1:3000", "/users/x/avatar"),
            (host, "POST /login", "Content-Length: 0\r\n", "127.0.0.1:3000", "/login"),
            // As nginx admits with `burst=2`.
            (host, "POST /login", "Content-Length: 0\r\n", "127.0.0.1:3000", "/login"),
            (host, "POST /login", "Content-Length: 0\r\n", "127.0.0.1:3000", "/login"),
        ],
    );
    carried.answers(
        "default",
        &[
            (host, "POST /login", "Content-Length: 0\r\n", 429, None),
            (host, "OPTIONS /a", "Origin: https://evil.example\r\n", 204, None),
            (host, "GET /ws", "", 301, Some("/ws/")),
            (host, "GET /internal/a", "", 403, None),
            ("other.example.com", "GET /", "", 404, None),
        ],
    );
    let origin = "Origin: https://admin.example.com\r\n";
    let answer = carried.ask("default", "OPTIONS /a", host, origin);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("https://admin.example.com"));
    assert_eq!(answer.field("Access-Control-Max-Age"), Some("1728000"));
    let reply = "X-Reply: X-Powered-By: PHP\r\nX-Reply: Access-Control-Allow-Origin: *\r\n";
    let answer = carried.ask("default", "GET /a", host, &format!("{origin}{reply}"));
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("https://admin.example.com"));
    assert_eq!(answer.head.matches("Access-Control-Allow-Origin").count(), 1);
    assert!(answer.field("X-Powered-By").is_none());
    let answer = carried.ask("default", "GET /a", host, "Origin: https://admin.example.com.evil.example\r\n");
    assert!(answer.field("Access-Control-Allow-Origin").is_none());
}

#[test]
fn haproxy_with_hosts_acme_and_a_redirect() {
    let carried = Carried::over("from-haproxy.md", "Hosts, ACME and a redirect to HTTPS");
    let challenge = "/.well-known/acme-challenge/a";
    let get = format!("GET {challenge}");
    carried.check("http", &[("help.example.com", &get, "", "127.0.0.1:8800", challenge)]);
    carried.answers(
        "http",
        &[
            ("help.example.com", "GET /a", "", 301, Some("https://help.example.com/a")),
            ("old.example.com", "GET /a?b", "", 301, Some("https://old.example.com/a?b")),
        ],
    );
    carried.check(
        "https",
        &[("help.example.com", "GET /front/ticket.php?id=1", "", "127.0.0.1:8884", "/front/ticket.php?id=1")],
    );
    carried.answers(
        "https",
        &[
            ("old.example.com", "GET /a?b", "", 301, Some("https://www.example.com/a?b")),
            ("www.example.com", "GET /admin/users", "", 403, None),
            ("www.example.com", "GET /administrator", "", 403, None),
            ("help.example.com", "GET /admin", "", 403, None),
        ],
    );
    let reply = "X-Reply: Set-Cookie: s=1; Path=/\r\nX-Reply: Server: app\r\n";
    let answer = carried.ask("https", "GET /api/v1?x", "www.example.com", reply);
    assert_eq!((answer.field("Set-Cookie"), answer.field("Server")), (Some("s=1; Path=/; Secure"), None));
    let both = ["127.0.0.1:8101", "127.0.0.1:8102"].map(|server| carried.servers[server].requests());
    let seen = both.concat();
    let port = port_of(&carried.balancer, "https").port().to_string();
    assert_eq!((seen.len(), seen[0].target()), (1, "/v1?x"));
    assert_eq!(seen[0].fields.one("X-Forwarded-Port"), port);
    let answer = carried.ask("https", "GET /", "www.example.com", "");
    assert!(
        answer.status == 200 && answer.field("Set-Cookie").is_some_and(|cookie| cookie.starts_with("SRV="))
    );
}

#[test]
fn traefik_with_a_login_before_an_api() {
    let carried = Carried::over("from-traefik.md", "A site and its API behind a login");
    let (frontend, backend, auth) = ("127.0.0.1:3000", "127.0.0.1:8000", "127.0.0.1:9000");
    carried.check(
        "default",
        &[
            ("example.com", "GET /", "", frontend, "/"),
            ("www.example.com", "GET /apis", "", frontend, "/apis"),
            ("example.com", "GET /api/users?a", "", backend, "/users?a"),
            ("example.com", "GET /api", "", backend, "/"),
            ("example.com", "GET /api/public/a", "", backend, "/public/a"),
        ],
    );
    assert_eq!(carried.servers[auth].count(), 2, "what is public needs no login");
    let claims = "X-Forwarded-User: root\r\nX-Reply: X-Forwarded-User: ann\r\nX-Reply: X-Other: 1\r\n";
    let seen = carried.sees(
        backend,
        "default",
        "POST /api/a",
        "example.com",
        &format!("{claims}Content-Length: 0\r\n"),
    );
    assert_eq!(
        (seen.fields.one("X-Forwarded-User"), seen.fields.one("X-Forwarded-Prefix")),
        ("ann".into(), "/api".into())
    );
    assert!(!seen.fields.has("X-Other") && !seen.fields.has("X-Forwarded-Roles"));
    let asked = carried.servers[auth].requests().pop().unwrap();
    assert_eq!(
        (asked.line.as_str(), asked.fields.one("X-Forwarded-Uri")),
        ("GET /authorize HTTP/1.1", "/api/a".into())
    );
    let login =
        "X-Status: 302\r\nX-Reply: Location: https://login.example.com/\r\nX-Reply: Set-Cookie: s=1\r\n";
    let before = carried.servers[backend].count();
    carried.answers(
        "default",
        &[
            ("example.com", "GET /api/a", login, 302, Some("https://login.example.com/")),
            ("example.com", "GET /api/a", "X-Status: 401\r\n", 401, None),
            ("example.com", "POST /api/public/a", "Content-Length: 2001\r\n", 413, None),
            ("other.example.com", "GET /", "", 404, None),
        ],
    );
    assert_eq!(carried.servers[backend].count(), before);
    let answer = carried.ask("default", "GET /", "example.com", "");
    assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));
    assert!(answer.field("Strict-Transport-Security").is_none(), "never in clear text");
}

#[test]
fn caddy_with_several_applications_under_one_host() {
    let carried = Carried::over("from-caddy.md", "Several applications under one host");
    let (site, host) = ("127.0.0.1:8082", "example.com");
    carried.check(
        "default",
        &[
            (host, "GET /grafana/d/1?x", "", "127.0.0.1:3000", "/grafana/d/1?x"),
            (host, "GET /status/", "", "127.0.0.1:8081", "/"),
            (host, "GET /status/a", "", "127.0.0.1:8081", "/a"),
            (host, "GET /___/admin/users?p=1", "", "127.0.0.1:8090", "/_/users?p=1"),
            (host, "GET /api/health", "", "127.0.0.1:8090", "/health"),
            (host, "GET /metrics/a", ANN, "127.0.0.1:9090", "/metrics/a"),
            (host, "GET /x", "Cookie: a=b; beta=1\r\n", "127.0.0.1:8083", "/x"),
            (host, "GET /x", "Cookie: beta=0\r\n", site, "/x"),
            (host, "GET /", "", site, "/"),
            ("home.example.com", "GET /api/x", "", "127.0.0.1:8123", "/api/x"),
        ],
    );
    let seen = carried.sees("127.0.0.1:3000", "default", "GET /grafana/", host, "X-Real-IP: 6.6.6.6\r\n");
    assert_eq!(
        (seen.fields.one("X-Real-IP"), seen.fields.one("X-Forwarded-Prefix")),
        ("127.0.0.1".into(), "/grafana".into())
    );
    let to_login = "X-Status: 303\r\nX-Reply: Location: /login?next=/\r\n";
    carried.answers(
        "default",
        &[
            (host, "GET /status", "", 301, Some("/status/")),
            (host, "GET /api/a", to_login, 303, Some("/api/login?next=/")),
            (host, "GET /caddy-health", "", 200, None),
            (host, "GET /metrics/a", "", 401, None),
        ],
    );
}

#[test]
fn an_ingress_with_a_canary() {
    let carried = Carried::over("kubernetes.md", "An Ingress of ingress-nginx");
    let (shop, canary, host) = ("shop:80", "shop-canary:80", "shop.example.com");
    carried.check(
        "default",
        &[
            (host, "GET /something/new?a", "X-Canary: always\r\n", canary, "/new?a"),
            (host, "GET /something", "X-Canary: always\r\nCookie: canary=never\r\n", canary, "/"),
            (host, "GET /something/new", "X-Canary: never\r\nCookie: canary=always\r\n", shop, "/new"),
            (host, "GET /something/", "Cookie: canary=always\r\n", canary, "/"),
            (host, "GET /something/", "Cookie: canary=never\r\n", shop, "/"),
            ("a.tenant.example.com", "GET /a//b?c", "", "tenants:80", "/a//b?c"),
        ],
    );
    carried.answers(
        "default",
        &[(host, "GET /somethings", "", 404, None), ("tenant.example.com", "GET /", "", 404, None)],
    );
    let before = carried.servers[canary].count();
    for _ in 0..300 {
        assert_eq!(carried.ask("default", "GET /something/", host, "").status, 200);
    }
    let share = carried.servers[canary].count() - before;
    assert!((8..=65).contains(&share), "{share} of 300 where 30 are expected");
}

/// What each of the well-known applications asks of a proxy reaches it with the configuration of the guide.
#[test]
fn applications_get_what_they_ask_for() {
    const GUIDE: &str = "applications.md";
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nOrigin: https://example.com\r\n";
    let blog = Carried::over(GUIDE, "WordPress");
    let host = "blog.example.com";
    blog.check(
        "https",
        &[(host, "POST /wp-login.php", "Content-Length: 0\r\n", "127.0.0.1:8080", "/wp-login.php")],
    );
    blog.check(
        "https",
        &[(host, "GET /wp-admin/", "X-Forwarded-Proto: http\r\n", "127.0.0.1:8080", "/wp-admin/")],
    );
    blog.answers("https", &[(host, "POST /xmlrpc.php", "Content-Length: 0\r\n", 403, None)]);
    blog.answers("http", &[(host, "GET /a?b", "", 301, Some("https://blog.example.com/a?b"))]);
    for _ in 1..5 {
        blog.sees("127.0.0.1:8080", "https", "POST /wp-login.php", host, "Content-Length: 0\r\n");
    }
    blog.answers("https", &[(host, "POST /wp-login.php", "Content-Length: 0\r\n", 429, None)]);

    let gitlab = Carried::over(GUIDE, "GitLab");
    let (host, project) = ("gitlab.example.com", "/api/v4/projects/group%2Fproject/issues");
    let line = format!("GET {project}");
    gitlab.check("default", &[(host, &line, "", "10.0.0.10:80", project)]);
    let seen = gitlab.sees("10.0.0.10:80", "default", "GET /-/cable", host, upgrade);
    let field = |name: &str| seen.fields.one(name);
    assert_eq!(
        [field("X-Forwarded-Ssl"), field("X-Real-IP"), field("Upgrade")],
        ["on", "127.0.0.1", "websocket"]
    );

    let keycloak = Carried::over(GUIDE, "Keycloak");
    let host = "id.example.com";
    for line in
        ["GET /", "GET /metrics", "GET /health/ready", "GET /admin/master/console/", "GET /realms;x/a"]
    {
        let status = if line.contains(';') { 400 } else { 404 };
        keycloak.answers("default", &[(host, line, "", status, None)]);
    }
    let login = "X-Reply: Set-Cookie: AUTH_SESSION_ID=one; Path=/\r\n";
    assert_eq!(
        keycloak.ask("default", "GET /realms/a/protocol/openid-connect/auth?x=y", host, login).status,
        200
    );
    let node = keycloak.servers.values().position(|server| server.count() == 1).unwrap();
    for _ in 0..6 {
        keycloak.ask("default", "GET /realms/a/login-actions", host, "Cookie: AUTH_SESSION_ID=one\r\n");
    }
    assert_eq!(keycloak.servers.values().nth(node).unwrap().count(), 7, "the login stays with its node");

    let cloud = Carried::over(GUIDE, "Nextcloud");
    let host = "cloud.example.com";
    for path in ["/.well-known/caldav", "/.well-known/carddav"] {
        let dav = Some("https://cloud.example.com/remote.php/dav/");
        cloud.answers("default", &[(host, &format!("PROPFIND {path}"), "", 301, dav)]);
    }
    cloud.check(
        "default",
        &[
            (host, "GET /push/ws", upgrade, "127.0.0.1:7867", "/ws"),
            (
                host,
                "PUT /remote.php/dav/files/a%20b",
                "Content-Length: 0\r\n",
                "127.0.0.1:8081",
                "/remote.php/dav/files/a%20b",
            ),
        ],
    );

    let grafana = Carried::over(GUIDE, "Grafana");
    grafana.check(
        "default",
        &[
            ("example.com", "GET /grafana/api/live/ws", upgrade, "127.0.0.1:3000", "/grafana/api/live/ws"),
            ("example.com", "GET /grafana", "", "127.0.0.1:3000", "/grafana"),
            ("example.com", "GET /grafanas", "", "127.0.0.1:8082", "/grafanas"),
        ],
    );

    let home = Carried::over(GUIDE, "Home Assistant");
    home.check(
        "default",
        &[("home.example.com", "GET /api/websocket", upgrade, "10.0.0.30:8123", "/api/websocket")],
    );
    let answer = home.ask("default", "GET /api/hassio_ingress/x/", "home.example.com", "");
    assert_eq!(answer.field("X-Frame-Options"), Some("SAMEORIGIN"));

    let minio = Carried::over(GUIDE, "MinIO");
    let signed = "Authorization: AWS4-HMAC-SHA256 x\r\nContent-Length: 0\r\n";
    let put = "PUT /bucket/a%20b?partNumber=1";
    let answer = minio.ask("default", put, "s3.example.com", signed);
    let s3 = minio.servers.iter().filter(|(name, _)| name.ends_with(":9000"));
    let seen: Vec<Seen> = s3.flat_map(|(_, server)| server.requests()).collect();
    assert_eq!((answer.status, seen[0].target()), (200, "/bucket/a%20b?partNumber=1"));
    assert_eq!(seen[0].fields.one("Host"), "s3.example.com");
    assert_eq!(seen[0].fields.one("Authorization"), "AWS4-HMAC-SHA256 x");
    minio.answers("default", &[("other.example.com", "GET /", "", 404, None)]);

    let chat = Carried::over(GUIDE, "Socket.IO, and a canary release");
    let host = "app.example.com";
    let first = chat.ask("default", "GET /socket.io/?transport=polling", host, "");
    let cookie = first.field("Set-Cookie").unwrap().split(';').next().unwrap().to_owned();
    for headers in [format!("Cookie: {cookie}\r\n"), format!("Cookie: {cookie}\r\n{upgrade}")] {
        assert_eq!(chat.ask("default", "GET /socket.io/?sid=1", host, &headers).status, 200);
    }
    let counts: Vec<usize> =
        ["10.0.0.61:3000", "10.0.0.62:3000"].iter().map(|name| chat.servers[*name].count()).collect();
    assert!(counts.contains(&3), "a session stays with its node: {counts:?}");
    chat.check(
        "default",
        &[
            (host, "GET /", "Cookie: canary=always\r\n", "10.0.0.72:8080", "/"),
            (host, "GET /", "X-Canary: always\r\n", "10.0.0.72:8080", "/"),
        ],
    );
}

#[test]
fn applications_at_home_get_what_they_ask_for() {
    const GUIDE: &str = "applications.md";
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    let home = Carried::over(GUIDE, "Several at home, each under its own name");
    let vault = "vault.example.com";
    home.check(
        "https",
        &[
            ("git.example.com", "GET /a/src/b%2Fc", "", "127.0.0.1:3000", "/a/src/b%2Fc"),
            ("films.example.com", "GET /socket?api_key=1", upgrade, "127.0.0.1:8096", "/socket?api_key=1"),
            (vault, "GET /notifications/hub", upgrade, "127.0.0.1:8222", "/notifications/hub"),
            (
                "photos.example.com",
                "POST /api/assets",
                "Content-Length: 0\r\n",
                "127.0.0.1:2283",
                "/api/assets",
            ),
            ("stats.example.com", "GET /live/websocket", upgrade, "127.0.0.1:8000", "/live/websocket"),
            ("paper.example.com", "GET /ws/status/", upgrade, "127.0.0.1:8010", "/ws/status/"),
        ],
    );
    let seen = home.sees("127.0.0.1:8222", "https", "GET /", vault, "X-Real-IP: 10.9.9.9\r\n");
    assert_eq!(seen.fields.all("X-Real-IP"), ["127.0.0.1"]);
    home.answers(
        "https",
        &[(vault, "GET /admin", "", 404, None), (vault, "GET /admin/users", "", 404, None)],
    );
    home.answers("http", &[(vault, "GET /a", "", 301, Some("https://vault.example.com/a"))]);
    for status in [200, 200, 200, 200, 200, 429] {
        let login = "POST /identity/connect/token";
        home.answers("https", &[(vault, login, "Content-Length: 0\r\n", status, None)]);
    }

    let social = Carried::over(GUIDE, "Mastodon");
    let host = "social.example.com";
    social.check(
        "default",
        &[
            (
                host,
                "GET /api/v1/streaming?stream=user",
                upgrade,
                "10.0.0.81:4000",
                "/api/v1/streaming?stream=user",
            ),
            (host, "GET /@ann", "", "10.0.0.81:3000", "/@ann"),
        ],
    );

    let matrix = Carried::over(GUIDE, "Matrix (Synapse)");
    let (host, alias) = ("matrix.example.com", "/_matrix/client/v3/directory/room/%23a%2Fb:example.com");
    for listener in ["https", "federation"] {
        matrix.check(listener, &[(host, &format!("GET {alias}"), "", "10.0.0.85:8008", alias)]);
    }
    matrix.answers(
        "https",
        &[(host, "GET /_synapse/admin/v1/users", "", 404, None), (host, "GET /", "", 404, None)],
    );
    let answer = matrix.ask("https", "GET /.well-known/matrix/client", "example.com", "");
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));

    let forum = Carried::over(GUIDE, "Discourse");
    let socket = "unix:/var/discourse/shared/standalone/nginx.http.sock";
    forum.check(
        "default",
        &[(
            "forum.example.com",
            "POST /message-bus/1/poll",
            "Content-Length: 0\r\n",
            socket,
            "/message-bus/1/poll",
        )],
    );

    let app = Carried::over(GUIDE, "authentik in front of an application");
    let host = "app.example.com";
    let allowed = "X-Reply: X-Authentik-Username: ann\r\nX-Authentik-Username: forged\r\n";
    let seen = app.sees("10.0.0.92:8080", "default", "GET /a?b", host, allowed);
    assert_eq!(seen.fields.all("X-Authentik-Username"), ["ann"]);
    let asked = app.servers["10.0.0.91:9000"].requests().pop().unwrap();
    assert_eq!(asked.target(), "/outpost.goauthentik.io/auth/caddy");
    assert_eq!(asked.fields.one("X-Forwarded-Uri"), "/a?b");
    let to_login = "X-Status: 302\r\nX-Reply: Location: https://sso.example.com/login\r\n";
    app.answers("default", &[(host, "GET /a", to_login, 302, Some("https://sso.example.com/login"))]);
    let start = "/outpost.goauthentik.io/start?rd=x";
    app.check("default", &[(host, &format!("GET {start}"), "", "10.0.0.91:9000", start)]);
}
