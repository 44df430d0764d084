//! Configurations of other programs, carried over by hand: the original, ours, and requests with the route that the
//! original would choose.

use super::{compiled, found};

/// Requests as `METHOD host/path`, with headers and the client's address where they matter.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str, &'static str);

const fn plain(request: &'static str, expected: &'static str) -> Case {
    (request, &[], "192.0.2.1", expected)
}

fn check(routes: &str, pools: &[&str], cases: &[Case]) {
    let routes = compiled(routes, pools);
    for (request, headers, client, expected) in cases {
        assert_eq!(found(&routes, request, headers, client), *expected, "{request} {headers:?} {client}");
    }
}

/// ```nginx
/// server {
///     server_name example.com www.example.com;
///     location = / { proxy_pass http://home; }
///     location / { proxy_pass http://site; }
///     location /api/ { proxy_pass http://api/; }            # strips /api
///     location ^~ /static/ { proxy_pass http://cdn; }
///     location ~* \.(gif|jpe?g|png)$ { proxy_pass http://images; }
///     location ~ ^/users/([0-9]+)/orders/([0-9]+)$ { rewrite ^ /orders/$2?user=$1 break; proxy_pass http://orders; }
///     location /internal/ { allow 10.0.0.0/8; deny all; proxy_pass http://internal; }
///     location = /old { return 301 https://$host/new; }
/// }
/// server { server_name .example.org; location / { proxy_pass http://org; } }
/// server { listen 80 default_server; return 404; }
/// ```
#[test]
fn routes_of_an_nginx_configuration() {
    let routes = r#"[
      { "name": "home", "host": ["example.com", "www.example.com"], "path": "/", "pool": "home" },
      { "name": "site", "host": ["example.com", "www.example.com"], "pool": "site" },
      { "name": "api", "host": ["example.com", "www.example.com"], "path": "/api/*", "pool": "api",
        "rewrite": { "strip_prefix": "/api" } },
      { "name": "static", "host": ["example.com", "www.example.com"], "path": "/static/*", "pool": "cdn" },
      { "name": "images", "host": ["example.com", "www.example.com"], "path": "~(?i)\\.(gif|jpe?g|png)$", "pool": "images" },
      { "name": "orders", "host": ["example.com", "www.example.com"], "path": "~^/users/([0-9]+)/orders/([0-9]+)$",
        "pool": "orders", "rewrite": { "path": "/orders/{2}?user={1}" } },
      { "name": "internal", "host": ["example.com", "www.example.com"], "path": "/internal/*", "client": ["10.0.0.0/8"],
        "pool": "internal" },
      { "name": "forbidden", "host": ["example.com", "www.example.com"], "path": "/internal/*", "respond": { "status": 403 } },
      { "name": "old", "host": ["example.com", "www.example.com"], "path": "/old",
        "redirect": { "status": 301, "target": "https://{host}/new" } },
      { "name": "org", "host": ["example.org", "*.example.org"], "pool": "org" },
      { "name": "nothing", "respond": { "status": 404 } }
    ]"#;
    check(
        routes,
        &["home", "site", "api", "cdn", "images", "orders", "internal", "org"],
        &[
            plain("example.com/", "home"),
            plain("www.example.com/", "home"),
            plain("example.com/about", "site"),
            plain("example.com/api/users", "api"),
            plain("example.com/apis", "site"),
            plain("example.com/a/b/photo.JPG", "images"),
            plain("example.com/photo.jpg.txt", "site"),
            plain("example.com/users/7/orders/12", "orders"),
            plain("example.com/users/7/orders/x", "site"),
            plain("example.com/internal/x", "forbidden"),
            ("example.com/internal/x", &[], "10.1.2.3", "internal"),
            plain("example.com/public/../internal/x", "400"),
            plain("example.com//internal/x", "forbidden"),
            plain("example.com/%69nternal/x", "forbidden"),
            plain("example.com/old", "old"),
            plain("example.com/old/x", "site"),
            plain("example.org/x", "org"),
            plain("a.b.example.org/x", "org"),
            plain("other.example/x", "nothing"),
            plain("/x", "nothing"),
        ],
    );
}

/// ```yaml
/// http:
///   routers:
///     api:       { rule: "Host(`api.example.com`) && PathPrefix(`/v1`)", service: api }
///     api-beta:  { rule: "Host(`api.example.com`) && PathPrefix(`/v1`) && Header(`X-Beta`, `1`)", service: beta }
///     writes:    { rule: "Host(`api.example.com`) && PathPrefix(`/v1`) && (Method(`POST`) || Method(`PUT`))", service: writes }
///     search:    { rule: "Host(`api.example.com`) && Path(`/v1/search`) && Query(`engine`, `new`)", service: search }
///     tenants:   { rule: "HostRegexp(`^.+\\.tenants\\.example\\.com$`)", service: tenants }
///     office:    { rule: "Host(`wiki.example.com`) && ClientIP(`10.0.0.0/8`, `fd00::/8`)", service: wiki }
///     files:     { rule: "Host(`api.example.com`) && PathRegexp(`^/v1/files/[a-z]+/[0-9]+$`)", service: files }
/// ```
#[test]
fn routes_of_a_traefik_configuration() {
    let routes = r#"[
      { "name": "api-beta", "host": "api.example.com", "path": "/v1/*", "headers": { "X-Beta": "1" }, "pool": "beta" },
      { "name": "writes", "host": "api.example.com", "path": "/v1/*", "methods": ["POST", "PUT"], "pool": "writes" },
      { "name": "api", "host": "api.example.com", "path": "/v1/*", "pool": "api" },
      { "name": "search", "host": "api.example.com", "path": "/v1/search", "query": { "engine": "new" }, "pool": "search" },
      { "name": "tenants", "host": "*.tenants.example.com", "pool": "tenants" },
      { "name": "office", "host": "wiki.example.com", "client": ["10.0.0.0/8", "fd00::/8"], "pool": "wiki" },
      { "name": "files", "host": "api.example.com", "path": "~^/v1/files/[a-z]+/[0-9]+$", "pool": "files" }
    ]"#;
    check(
        routes,
        &["api", "beta", "writes", "search", "tenants", "wiki", "files"],
        &[
            plain("api.example.com/v1", "api"),
            plain("API.example.com:443/v1/users", "api"),
            ("api.example.com/v1/users", &[("x-beta", "1")], "192.0.2.1", "api-beta"),
            ("POST api.example.com/v1/users", &[("x-beta", "1")], "192.0.2.1", "api-beta"),
            plain("POST api.example.com/v1/users", "writes"),
            plain("PUT api.example.com/v1/users", "writes"),
            plain("api.example.com/v1/search?q=a&engine=new", "search"),
            plain("api.example.com/v1/search?q=a", "api"),
            plain("api.example.com/v1/files/abc/12", "files"),
            plain("api.example.com/v1/files/abc/x", "api"),
            plain("api.example.com/v2", "-"),
            plain("a.tenants.example.com/x", "tenants"),
            plain("tenants.example.com/x", "-"),
            plain("wiki.example.com/", "-"),
            ("wiki.example.com/", &[], "10.1.2.3", "office"),
            ("wiki.example.com/", &[], "fd00::1", "office"),
        ],
    );
}

/// ```caddy
/// example.com, www.example.com {
///     redir /docs /docs/ permanent
///     handle_path /docs/* { reverse_proxy docs:8080 }
///     @beta { header Cookie *beta=1* ; path /app/* }
///     handle @beta { reverse_proxy beta:8080 }
///     handle /app/* { reverse_proxy app:8080 }
///     @ws { header Connection *Upgrade* ; header Upgrade websocket }
///     handle @ws { reverse_proxy ws:8080 }
///     @static path *.css *.js
///     handle @static { reverse_proxy assets:8080 }
///     respond /healthz "ok" 200
///     handle { reverse_proxy site:8080 }
/// }
/// *.preview.example.com { reverse_proxy preview:8080 }
/// ```
#[test]
fn routes_of_a_caddyfile() {
    let routes = r#"[
      { "name": "docs-slash", "host": ["example.com", "www.example.com"], "path": "/docs",
        "redirect": { "status": 301, "target": "/docs/" } },
      { "name": "docs", "host": ["example.com", "www.example.com"], "path": "/docs/*", "pool": "docs",
        "rewrite": { "strip_prefix": "/docs" } },
      { "name": "beta", "host": ["example.com", "www.example.com"], "path": "/app/*", "cookies": { "beta": "1" },
        "pool": "beta" },
      { "name": "app", "host": ["example.com", "www.example.com"], "path": "/app/*", "pool": "app" },
      { "name": "ws", "host": ["example.com", "www.example.com"], "headers": { "Upgrade": "~(?i)^websocket$" }, "pool": "ws" },
      { "name": "static", "host": ["example.com", "www.example.com"], "path": "~\\.(css|js)$", "pool": "assets" },
      { "name": "health", "host": ["example.com", "www.example.com"], "path": "/healthz", "respond": { "body": "ok" } },
      { "name": "site", "host": ["example.com", "www.example.com"], "pool": "site" },
      { "name": "preview", "host": "*.preview.example.com", "pool": "preview" }
    ]"#;
    check(
        routes,
        &["docs", "beta", "app", "ws", "assets", "site", "preview"],
        &[
            plain("example.com/docs", "docs-slash"),
            plain("example.com/docs/", "docs"),
            plain("example.com/docs/a", "docs"),
            ("example.com/app/x", &[("cookie", "a=b; beta=1")], "192.0.2.1", "beta"),
            ("example.com/app/x", &[("cookie", "beta=0")], "192.0.2.1", "app"),
            plain("example.com/app", "app"),
            ("example.com/chat", &[("upgrade", "WebSocket")], "192.0.2.1", "ws"),
            plain("example.com/chat", "site"),
            plain("www.example.com/a/site.css", "static"),
            plain("example.com/site.css/x", "site"),
            plain("example.com/healthz", "health"),
            plain("example.com/", "site"),
            plain("pr-7.preview.example.com/", "preview"),
            plain("preview.example.com/", "-"),
        ],
    );
}
