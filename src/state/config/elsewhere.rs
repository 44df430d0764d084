//! Keys that users of nginx, HAProxy, Caddy, Traefik and Envoy write by habit: each is told what to write here, with an
//! example of two lines. Those of routes are in `routes/elsewhere.rs`.

use super::reader::Section;

/// Keys, and what to write instead.
type Table = &'static [(&'static [&'static str], &'static str)];

const SERVERS: &str = "servers stand in \"servers\", or in a pool that routes name; write\n\
    \x20 \"servers\": { \"list\": [ { \"address\": \"10.0.0.1:8080\" },\n\
    \x20                         { \"address\": \"10.0.0.2:8080\" } ] }";
const POOLS: &str = "groups of servers are pools; write\n\
    \x20 \"pools\": { \"api\": { \"list\": [ { \"address\": \"10.0.0.1:8080\" } ] } },\n\
    \x20 \"routes\": [ { \"path\": \"/api/*\", \"pool\": \"api\" } ]";
const ROUTES: &str = "what goes where stands in \"routes\"; write\n\
    \x20 \"routes\": [ { \"host\": \"api.example.com\", \"path\": \"/v1/*\", \"pool\": \"api\" },\n\
    \x20             { \"path\": \"/old/*\", \"redirect\": { \"target\": \"/new\" } } ]";
const PORT: &str = "where clients connect stands in \"load_balancer\"; write\n\
    \x20 \"load_balancer\": { \"load_balancer_port\": 8080,\n\
    \x20                    \"bind\": \"0.0.0.0\" }";
const LISTENERS: &str = "places to connect to are listeners; write\n\
    \x20 \"load_balancer\": { \"listeners\": [ { \"name\": \"http\", \"port\": 80 },\n\
    \x20                                  { \"name\": \"local\", \"port\": \"unix:/run/web.sock\" } ] }";
const TLS: &str = "TLS belongs to a listener; write\n\
    \x20 \"load_balancer\": { \"listeners\": [ { \"port\": 443,\n\
    \x20   \"tls\": { \"certificates\": [ { \"certificate\": \"site.pem\", \"key\": \"site.key\" } ] } } ] }";
const TLS_HERE: &str = "write\n\
    \x20 \"tls\": { \"certificates\": [ { \"certificate\": \"site.pem\",\n\
    \x20                             \"key\": \"site.key\" } ] }";
const ALGORITHM: &str = "how a server is chosen is the \"algorithm\" of \"servers\" or of a pool; write\n\
    \x20 \"servers\": { \"algorithm\": \"least_connections\",\n\
    \x20              \"list\": [ { \"address\": \"10.0.0.1:8080\" } ] }";
const ALGORITHM_HERE: &str = "write\n\
    \x20 \"algorithm\": \"least_connections\",\n\
    \x20 \"list\": [ { \"address\": \"10.0.0.1:8080\" } ]";
const HEALTH: &str = "probes belong to \"servers\" or to a pool; write\n\
    \x20 \"servers\": { \"health_check\": { \"path\": \"/health\", \"interval\": \"5s\",\n\
    \x20                                \"rise\": 2, \"fall\": 3 } }";
const HEALTH_HERE: &str = "write\n\
    \x20 \"health_check\": { \"path\": \"/health\", \"interval\": \"5s\",\n\
    \x20                   \"rise\": 2, \"fall\": 3 }";
const TIMEOUTS: &str = "times stand in \"timeouts\"; write\n\
    \x20 \"timeouts\": { \"connect\": \"2s\", \"response\": \"30s\",\n\
    \x20               \"client_head\": \"10s\", \"keep_alive\": \"60s\" }";
const TIMEOUTS_HERE: &str = "write\n\
    \x20 \"connect\": \"2s\", \"response\": \"30s\", \"request\": \"60s\",\n\
    \x20 \"client_head\": \"10s\", \"client_body\": \"30s\", \"keep_alive\": \"60s\"";
const WORKERS: &str = "workers stand in \"threadpool\", and connections in \"limits\"; write\n\
    \x20 \"threadpool\": { \"min_workers\": 1, \"max_workers\": 50 },\n\
    \x20 \"limits\": { \"connections\": 20000 }";
const BODY: &str = "the longest body of a request stands in \"limits\"; write\n\
    \x20 \"limits\": { \"body\": \"10MiB\",\n\
    \x20             \"head\": \"16KiB\" }";
const LOG: &str = "logs stand in \"log\"; write\n\
    \x20 \"log\": { \"level\": \"info\",\n\
    \x20          \"access\": \"/var/log/evenkeel/access.log\" }";
const ADMIN: &str = "the status, metrics and the dashboard belong to \"admin\"; write\n\
    \x20 \"admin\": { \"bind\": \"127.0.0.1:9301\",\n\
    \x20            \"socket\": \"/run/evenkeel/admin.sock\" }";
const COMPRESSION: &str = "write\n\
    \x20 \"compression\": { \"codings\": [ \"zstd\", \"gzip\" ],\n\
    \x20                  \"min_size\": \"1KiB\" }";
const RATE: &str = "write\n\
    \x20 \"rate_limit\": { \"requests\": 100, \"per\": \"1s\",\n\
    \x20                 \"burst\": 200, \"by\": \"client\" }";
const IDLE: &str = "connections that are kept to servers stand in \"pool\"; write\n\
    \x20 \"pool\": { \"idle\": 100,\n\
    \x20           \"idle_time\": \"30s\" }";
const SLOTS: &str = "write\n\
    \x20 \"max_in_flight\": 100,\n\
    \x20 \"queue_capacity\": 1000";
const TRUSTED: &str = "peers whose X-Forwarded-For is believed stand in \"load_balancer\"; write\n\
    \x20 \"load_balancer\": { \"trusted_proxies\": [ \"10.0.0.0/8\" ],\n\
    \x20                    \"load_balancer_port\": 80 }";

/// Keys for places to listen at, wherever they are written.
const PORTS: &[&str] = &["listen", "port", "bind", "address", "http_port", "listen_port"];
const MANY_PORTS: &[&str] =
    &["listeners", "frontend", "frontends", "entryPoints", "entrypoints", "static_resources"];
const CERTIFICATES: &[&str] =
    &["tls", "ssl", "ssl_certificate", "ssl_certificate_key", "certificates", "cert", "crt", "https"];
const BALANCE: &[&str] =
    &["balance", "lb_policy", "load_balancing", "strategy", "method", "policy", "lb", "least_conn"];
const CHECKS: &[&str] = &[
    "healthCheck",
    "health_checks",
    "healthcheck",
    "health",
    "health_uri",
    "option",
    "httpchk",
    "checks",
    "active_health_check",
];
const TIMES: &[&str] = &[
    "timeout",
    "proxy_read_timeout",
    "proxy_connect_timeout",
    "proxy_send_timeout",
    "read_timeout",
    "write_timeout",
    "connect_timeout",
    "idle_timeout",
    "keepalive_timeout",
    "client_header_timeout",
    "client_body_timeout",
    "respondingTimeouts",
    "grace_period",
];
const IDLES: &[&str] =
    &["keepalive", "keepalive_conns", "maxIdleConnsPerHost", "max_idle_conns_per_host", "connection_pool"];

const TOP: Table = &[
    (
        &[
            "upstream",
            "upstreams",
            "backend",
            "backends",
            "services",
            "service",
            "clusters",
            "cluster",
            "targets",
            "target_groups",
            "origins",
        ],
        POOLS,
    ),
    (&["server", "nodes", "hosts", "endpoints", "to", "list"], SERVERS),
    (
        &[
            "location",
            "locations",
            "reverse_proxy",
            "proxy_pass",
            "proxy",
            "route",
            "rules",
            "routers",
            "paths",
            "handle",
            "use_backend",
            "default_backend",
            "redirects",
            "map",
            "apps",
            "virtual_hosts",
            "middlewares",
        ],
        ROUTES,
    ),
    (
        &["providers", "provider"],
        "this file has the routes and pools, and may include others, which are read again when they change; write\n\
         \x20 \"include\": \"conf.d\",\n\
         \x20 \"watch\": true",
    ),
    (PORTS, PORT),
    (MANY_PORTS, LISTENERS),
    (CERTIFICATES, TLS),
    (&["algorithm"], ALGORITHM),
    (BALANCE, ALGORITHM),
    (&["health_check"], HEALTH),
    (CHECKS, HEALTH),
    (TIMES, TIMEOUTS),
    (
        &[
            "worker_processes",
            "worker_connections",
            "workers",
            "threads",
            "nbthread",
            "nbproc",
            "maxconn",
            "max_connections",
            "events",
        ],
        WORKERS,
    ),
    (&["client_max_body_size", "max_body_size", "request_body", "large_client_header_buffers"], BODY),
    (&["access_log", "error_log", "logs", "logging", "accessLog", "access_logs", "log_format"], LOG),
    (&["stats", "api", "dashboard", "metrics", "ping", "status", "monitor-uri", "prometheus"], ADMIN),
    (&["gzip", "gzip_types", "compress", "encode", "brotli"], COMPRESSION),
    (&["limit_req", "limit_req_zone", "rateLimit", "ratelimit", "limit_conn"], RATE),
    (&["trusted_proxies", "set_real_ip_from", "real_ip_header", "forwardedHeaders", "trustedIPs"], TRUSTED),
    (
        &["http", "stream", "global", "defaults"],
        "there is no such section; its settings have places of their own; write\n\
         \x20 \"load_balancer\": { \"load_balancer_port\": 80 },\n\
         \x20 \"servers\": { \"list\": [ { \"address\": \"10.0.0.1:8080\" } ] }",
    ),
];

const LOAD_BALANCER: Table = &[
    (&["listen", "http_port", "listen_port", "address"], PORT),
    (&["frontend", "frontends", "entryPoints", "entrypoints"], LISTENERS),
    (CERTIFICATES, TLS),
    (
        &[
            "servers",
            "server",
            "upstream",
            "upstreams",
            "backend",
            "backends",
            "targets",
            "hosts",
            "list",
            "proxy_pass",
            "reverse_proxy",
        ],
        SERVERS,
    ),
    (&["routes", "route", "location", "locations", "rules", "server_name"], ROUTES),
    (&["algorithm"], ALGORITHM),
    (BALANCE, ALGORITHM),
    (&["health_check"], HEALTH),
    (CHECKS, HEALTH),
    (TIMES, TIMEOUTS),
];

const LISTENER: Table = &[
    (
        &["listen", "address"],
        "the address and the port are two keys; write\n\
         \x20 \"port\": 8443,\n\
         \x20 \"bind\": \"127.0.0.1\"",
    ),
    (
        &[
            "ssl",
            "ssl_certificate",
            "ssl_certificate_key",
            "certificates",
            "certificate",
            "cert",
            "crt",
            "https",
        ],
        TLS_HERE,
    ),
    (
        &["accept_proxy", "accept-proxy", "proxyProtocol", "send-proxy"],
        "write\n\x20 \"proxy_protocol\": [ \"10.0.0.0/8\" ],\n\x20 \"port\": 8080",
    ),
    (
        &["redirect", "redirections", "https_redirect", "return"],
        "write\n\x20 \"port\": 80,\n\x20 \"redirect_to_https\": true",
    ),
    (
        &[
            "routes",
            "route",
            "location",
            "locations",
            "server_name",
            "rules",
            "host",
            "hosts",
            "pool",
            "backend",
            "default_backend",
            "use_backend",
            "proxy_pass",
            "reverse_proxy",
            "upstream",
            "service",
        ],
        ROUTES,
    ),
];

const POOL: Table = &[
    (
        &[
            "servers",
            "server",
            "backends",
            "upstreams",
            "targets",
            "nodes",
            "hosts",
            "endpoints",
            "addresses",
            "loadBalancer",
            "to",
            "url",
            "address",
            "host",
            "proxy_pass",
            "reverse_proxy",
            "location",
            "locations",
        ],
        "the servers of a pool stand in its \"list\"; write\n\
         \x20 \"list\": [ { \"address\": \"10.0.0.1:8080\" },\n\
         \x20           { \"address\": \"10.0.0.2:8080\", \"weight\": 2 } ]",
    ),
    (BALANCE, ALGORITHM_HERE),
    (CHECKS, HEALTH_HERE),
    (TIMES, TIMEOUTS),
    (IDLES, IDLE),
    (
        &[
            "maxconn",
            "max_conns",
            "max_connections",
            "max_requests",
            "limit",
            "circuitBreaker",
            "circuit_breakers",
        ],
        SLOTS,
    ),
    (&["listen", "port", "frontend"], PORT),
    (
        &["send-proxy", "send-proxy-v2", "proxy_protocol", "proxyProtocol"],
        "servers get the client's address in X-Forwarded-For; for a PROXY header, too, write\n\
         \x20 \"send_proxy\": \"v2\",\n\
         \x20 \"list\": [ { \"address\": \"10.0.0.1:8080\" } ]",
    ),
    (
        &[
            "bind",
            "proxy_bind",
            "local_address",
            "source_address",
            "bindAddress",
            "usesrc",
            "upstream_bind_config",
        ],
        "where connections to servers come from is the \"source\"; write\n\
         \x20 \"source\": \"10.0.0.5\",\n\
         \x20 \"list\": [ { \"address\": \"10.0.0.1:8080\" } ]",
    ),
    (
        &["http2", "h2", "h2c", "protocol", "proto", "http_version", "versions"],
        "servers are asked by HTTP/1.1; leave it out, and for TLS write\n\
         \x20 \"tls\": true,\n\
         \x20 \"list\": [ { \"address\": \"10.0.0.1:8443\" } ]",
    ),
    (
        &["passHostHeader", "pass_host_header", "host_header", "host_rewrite", "preserve_host"],
        "the host goes on as it came; to replace it, write\n\
         \x20 \"routes\": [ { \"path\": \"/*\",\n\
         \x20             \"rewrite\": { \"host\": \"internal.example\" } } ]",
    ),
    (
        &["resolver", "resolvers", "dns", "nameserver", "valid"],
        "names are looked up by the system's resolver, again and again; for all addresses of a name, write\n\
         \x20 \"resolve\": \"all\",\n\
         \x20 \"list\": [ { \"address\": \"web.internal:8080\" } ]",
    ),
];

const SERVER: Table = &[
    (&["check", "inter", "rise", "fall", "health_check", "healthCheck"], HEALTH),
    (
        &["maxconn", "max_conns", "max_connections", "limit"],
        "write\n\x20 \"address\": \"10.0.0.1:8080\",\n\x20 \"max_in_flight\": 100",
    ),
    (
        &["max_fails", "fail_timeout"],
        "servers that fail are ejected; write\n\x20 \"servers\": { \"ejection\": { \"consecutive_failures\": 3,\n\x20                           \"base_time\": \"10s\" } }",
    ),
    (
        &["ssl", "tls", "scheme"],
        "TLS to servers belongs to their pool; write\n\x20 \"servers\": { \"tls\": true,\n\x20              \"list\": [ { \"address\": \"10.0.0.1:8443\" } ] }",
    ),
    (
        &["send_proxy", "send-proxy", "send-proxy-v2", "proxy_protocol"],
        "it belongs to the pool; write\n\
         \x20 \"servers\": { \"send_proxy\": \"v2\",\n\
         \x20              \"list\": [ { \"address\": \"10.0.0.1:8080\" } ] }",
    ),
    (
        &["down", "disabled", "enabled"],
        "a server without new requests has the weight 0; write\n\x20 \"address\": \"10.0.0.1:8080\",\n\x20 \"weight\": 0",
    ),
];

const TIMEOUT: Table = &[(
    &[
        "client",
        "server",
        "queue",
        "http-request",
        "http-keep-alive",
        "read",
        "write",
        "send",
        "idle",
        "proxy_read_timeout",
        "proxy_connect_timeout",
        "read_timeout",
        "write_timeout",
        "dial_timeout",
        "backend",
        "tunnel_idle",
        "total",
    ],
    TIMEOUTS_HERE,
)];

/// The keys of the top level.
pub(super) fn top(s: &mut Section<'_, '_>) {
    report(s, TOP);
}

/// The keys of `load_balancer`.
pub(super) fn load_balancer(s: &mut Section<'_, '_>) {
    report(s, LOAD_BALANCER);
}

/// The keys of a listener.
pub(super) fn listener(s: &mut Section<'_, '_>) {
    report(s, LISTENER);
}

/// The keys of `servers`, and of a pool.
pub(super) fn pool(s: &mut Section<'_, '_>) {
    report(s, POOL);
}

/// The keys of a server.
pub(super) fn server(s: &mut Section<'_, '_>) {
    report(s, SERVER);
}

/// The keys of `timeouts`.
pub(super) fn timeouts(s: &mut Section<'_, '_>) {
    report(s, TIMEOUT);
}

fn report(s: &mut Section<'_, '_>, table: Table) {
    for (keys, advice) in table {
        s.foreign(keys, |_| (*advice).to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use std::path::Path;

    /// Each example of a table, put where it says, is valid.
    fn check_examples(table: Table, around: impl Fn(&str) -> String) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        for (keys, advice) in table {
            let example = advice.split_once("write\n").unwrap_or_else(|| panic!("{keys:?} has no example")).1;
            assert!((2..=3).contains(&example.lines().count()), "{example}");
            let is_of_top = [
                "load_balancer",
                "servers",
                "pools",
                "timeouts",
                "routes",
                "threadpool",
                "limits",
                "log",
                "admin",
            ]
            .iter()
            .any(|key| {
                example.trim_start().starts_with(&format!("\"{key}\": {{"))
                    || example.trim_start().starts_with(&format!("\"{key}\": ["))
            });
            let mut text = if is_of_top { format!("{{ {example} }}") } else { around(example) };
            if example.contains("\"pool\": \"api\"") && !example.contains("\"pools\"") {
                text = text.replacen('{', "{ \"pools\": { \"api\": {} },", 1);
            }
            if let Err(faults) = parse(&text, folder.path()) {
                panic!("{keys:?}: {}\n{text}", faults[0]);
            }
        }
    }

    #[test]
    fn what_is_advised_is_valid() {
        check_examples(TOP, |example| format!("{{ {example} }}"));
        check_examples(LOAD_BALANCER, |example| format!("{{ \"load_balancer\": {{ {example} }} }}"));
        let listener = |example: &str| match example.contains("\"port\"") {
            true => format!("{{ \"load_balancer\": {{ \"listeners\": [ {{ {example} }} ] }} }}"),
            false => {
                format!("{{ \"load_balancer\": {{ \"listeners\": [ {{ \"port\": 1, {example} }} ] }} }}")
            }
        };
        check_examples(LISTENER, listener);
        check_examples(POOL, |example| format!("{{ \"servers\": {{ {example} }} }}"));
        check_examples(SERVER, |example| format!("{{ \"servers\": {{ \"list\": [ {{ {example} }} ] }} }}"));
        check_examples(TIMEOUT, |example| format!("{{ \"timeouts\": {{ {example} }} }}"));
    }

    #[test]
    fn keys_of_other_programs_are_no_keys_here() {
        for (table, text) in [
            (TOP, "{KEY}"),
            (LOAD_BALANCER, "{\"load_balancer\": {KEY}}"),
            (LISTENER, "{\"load_balancer\": {\"listeners\": [{KEY}]}}"),
            (POOL, "{\"pools\": {\"p\": {KEY}}}"),
            (SERVER, "{\"servers\": {\"list\": [{KEY}]}}"),
            (TIMEOUT, "{\"timeouts\": {KEY}}"),
        ] {
            for (key, advice) in
                table.iter().flat_map(|(keys, advice)| keys.iter().map(move |key| (key, advice)))
            {
                let text = text.replace("{KEY}", &format!("{{\"{key}\": 1}}"));
                let faults = parse(&text, Path::new("")).err().unwrap_or_else(|| panic!("{text} is valid"));
                let first = advice.lines().next().unwrap_or_default();
                assert!(faults.iter().any(|fault| fault.advice.contains(first)), "{text}: {faults:?}");
            }
        }
    }
}
