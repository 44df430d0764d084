//! Keys that other programs have in objects of this file, and what to write instead. Those of larger parts are in
//! `elsewhere.rs`.

/// What to write for a key of another program in an object, such as `routes[].request_headers`.
pub(super) fn hint(object: &str, key: &str) -> Option<&'static str> {
    let known = HINTS.iter().find(|(place, keys, _)| is_in(object, place) && keys.contains(&key));
    known.map(|(_, _, advice)| *advice)
}

/// What to write in an object that holds no names of the operator's choice, where others do.
pub(super) fn no_names(object: &str) -> Option<&'static str> {
    NAMED.iter().find(|(place, _)| is_in(object, place)).map(|(_, advice)| *advice)
}

fn is_in(object: &str, place: &str) -> bool {
    object == place || object.strip_suffix(place).is_some_and(|head| head.ends_with('.'))
}

const HTTP_1: &str =
    "leave it out: HTTP/1.1 is spoken, which browsers and other clients of HTTP/2 fall back to";
/// Objects, keys that other programs have in them, and what to write.
const HINTS: &[(&str, &[&str], &str)] = &[
    (
        "health_check",
        &["uri", "url", "endpoint", "http_path", "health_uri", "target"],
        "write \"path\": \"/health\"",
    ),
    ("health_check", &["every", "inter", "period", "frequency"], "write \"interval\": \"2s\""),
    (
        "health_check",
        &["fails", "max_fails", "unhealthy_threshold", "unhealthyThreshold", "failures"],
        "write \"fall\": 3, the failed probes in a row that take a server out",
    ),
    (
        "health_check",
        &["passes", "healthy_threshold", "healthyThreshold", "successes"],
        "write \"rise\": 2, the passed probes in a row that bring a server back",
    ),
    (
        "health_check",
        &["status", "expected_status", "expect", "match", "codes", "expected_codes", "http_status"],
        "write \"expect_status\": \"200-399\"",
    ),
    (
        "health_check",
        &["scheme", "https", "ssl", "protocol"],
        "write \"tls\": false where probes are in clear text; else they use TLS if requests do (\"tls\" of the pool)",
    ),
    (
        "health_check",
        &["followRedirects", "follow_redirects"],
        "leave it out: redirects are not followed; write \"expect_status\": \"200-399\" to accept them",
    ),
    ("health_check", &["hostname", "host_header"], "write \"host\": \"app.internal\""),
    (
        "threadpool",
        &["workers", "threads", "size", "count", "max_threads", "worker_processes"],
        "write \"min_workers\": 1, \"max_workers\": 50; a worker serves many connections",
    ),
    ("", &["http2", "h2", "http3", "quic", "protocols"], HTTP_1),
    ("load_balancer", &["http2", "h2", "http3", "quic", "protocols"], HTTP_1),
    ("", &["cache", "proxy_cache", "proxy_cache_path"], "leave it out: responses are not cached"),
    (
        "",
        &["root", "index", "try_files", "static", "file_server"],
        "files are not served; write \"routes\": [ { \"path\": \"/*\", \"respond\": { \"file\": \"index.html\" } } ] for a single one",
    ),
    (
        "",
        &["acme", "auto_https", "letsencrypt", "certificatesResolvers", "email"],
        "certificates are not fetched; name the files of an ACME client in the \"tls\" of a listener",
    ),
    (
        "",
        &["cors", "headers", "add_header", "proxy_set_header", "response_headers", "request_headers"],
        "routes change headers; write \"routes\": [ { \"response_headers\": { \"set\": { \"X-Frame-Options\": \"DENY\" } } } ]",
    ),
    ("admin", &["port", "listen", "address", "host"], "write \"bind\": \"127.0.0.1:9301\""),
    (
        "admin",
        &["password", "secret", "api_key", "auth", "user", "username"],
        "write \"token\": \"${file:admin.token}\", which is sent as `Authorization: Bearer`",
    ),
    (
        "log",
        &["file", "path", "output", "access_log", "access_file"],
        "the log goes to the error output, and the lines of requests to \"access\": \"access.log\"",
    ),
    (
        "limits",
        &["client_max_body_size", "max_body_size", "request_body", "maxRequestBodyBytes"],
        "write \"body\": \"10MiB\"",
    ),
    ("listeners[].tls", &["cert", "crt", "certificate", "key", "cert_file", "certFile", "pem"], TLS_LIST),
    (
        "listeners[].tls",
        &["protocols", "ssl_protocols", "minVersion", "version", "versions"],
        "write \"min_version\": \"1.2\" or \"1.3\"",
    ),
    (
        "listeners[].tls",
        &[
            "ca",
            "client_ca",
            "verify",
            "client_certificate",
            "mtls",
            "cacert",
            "ca_file",
            "rootCAs",
            "trusted_ca",
            "root_ca",
        ],
        "write \"client_auth\": { \"ca\": \"clients.pem\", \"mode\": \"require\" }",
    ),
    (
        "client_auth",
        &["crl_file", "crlFile", "crl-file", "ssl_crl", "crls", "revocation_list"],
        "write \"crl\": \"clients.crl\"",
    ),
    (
        "client_auth",
        &["ca_file", "caFile", "caFiles", "ca-file", "trust_pool", "trusted_ca_certs_file", "certificate"],
        "write \"ca\": \"clients.pem\"",
    ),
    (
        "client_auth",
        &["clientAuthType", "client_auth_type", "verify", "required", "require", "optional"],
        "write \"mode\": \"require\", or \"request\" where a certificate is optional",
    ),
    (
        "client_auth",
        &["depth", "verify_depth", "ssl_verify_depth"],
        "leave it out: chains of up to six intermediate authorities are accepted",
    ),
    (
        "listeners[].tls",
        &[
            "ciphers",
            "ssl_ciphers",
            "cipher_suites",
            "cipherSuites",
            "ciphersuites",
            "curves",
            "curvePreferences",
            "groups",
            "ssl_ecdh_curve",
            "dhparam",
            "ssl_dhparam",
        ],
        "leave it out: only suites with forward secrecy and authenticated encryption are offered",
    ),
    (
        "listeners[].tls",
        &["max_version", "maxVersion", "prefer_server_ciphers", "ssl_prefer_server_ciphers"],
        "leave it out: TLS 1.3 is the newest version, and each client gets the best that it has",
    ),
    (
        "listeners[].tls",
        &["sni_strict", "sniStrict", "strict_sni", "strict-sni", "ssl_reject_handshake", "reject_handshake"],
        "write \"unknown_name\": \"refuse\"",
    ),
    (
        "listeners[].tls",
        &["sni", "server_name", "serverName", "server_names", "host", "hosts", "domains", "name"],
        "leave it out: clients get the certificate that is for the name that they ask for, and others are rejected with \
         \"unknown_name\": \"refuse\"",
    ),
    (
        "listeners[].tls",
        &["insecure", "skip_verify", "insecure_skip_verify", "insecureSkipVerify"],
        "leave it out: clients need no certificate without \"client_auth\"; what verifies servers is \"tls\" of their pool",
    ),
    (
        "listeners[].tls",
        &["strict_sni_host", "strictSniHost"],
        "leave it out: with \"client_auth\" the host has to be that of the handshake",
    ),
    (
        "listeners[].tls",
        &["acme", "auto", "letsencrypt", "certResolver", "cert_resolver", "issuer", "email"],
        "certificates come from files, which a client such as certbot renews: write \"certificates\", and \
         \"redirect_except\": [ \"/.well-known/acme-challenge/*\" ] for the listener on port 80",
    ),
    (
        "listeners[].tls",
        &[
            "session_tickets",
            "ssl_session_tickets",
            "ssl_session_cache",
            "sessionTicketsDisabled",
            "session_timeout",
        ],
        "leave it out: sessions are resumed by tickets",
    ),
    (
        "listeners[].tls",
        &["ocsp", "ocsp_stapling", "ssl_stapling", "stapling"],
        "leave it out: OCSP responses are not stapled",
    ),
    ("listeners[].tls", &["hsts", "sts"], "write \"security_headers\": true into the routes"),
    (
        "listeners[].tls",
        &["early_data", "ssl_early_data", "0rtt", "allow-0rtt"],
        "leave it out: early data (0-RTT) is not accepted, because it can be replayed",
    ),
    (
        "certificates[]",
        &["default", "default_server"],
        "leave it out: the first certificate of the list is the default one",
    ),
    (
        "certificates[]",
        &["name", "id", "stores"],
        "leave it out: clients get the certificate that is for the name that they ask for",
    ),
    (
        "listeners[]",
        &["default_server", "default", "strict-sni"],
        "leave it out: routes without a host serve all others; \"unknown_name\": \"refuse\" in \"tls\" ends handshakes for other names",
    ),
    (
        "listeners[]",
        &[
            "reuseport",
            "backlog",
            "fastopen",
            "rcvbuf",
            "sndbuf",
            "so_keepalive",
            "deferred",
            "tfo",
            "interface",
        ],
        "leave it out: options of sockets are not set here; the length of the backlog is that of the kernel (net.core.somaxconn)",
    ),
    ("listeners[]", &["http2", "h2", "http3", "quic", "protocol", "protocols", "mode"], HTTP_1),
    (
        "routes[]",
        &[
            "client_auth",
            "client_certificate",
            "client_cert",
            "mtls",
            "ssl_verify_client",
            "require_client_certificate",
        ],
        "write \"headers\": { \"X-Client-Cert-Subject\": true }, and \"client_auth\" into the \"tls\" of the listener",
    ),
    (
        "routes[]",
        &["websocket", "websockets", "upgrade", "http_version", "proxy_http_version"],
        "leave it out: WebSockets and other upgrades are forwarded",
    ),
    ("redirect", &["code", "statusCode", "permanent"], "write \"status\": 301"),
    (
        "redirect",
        &["to", "url", "location", "uri", "replacement"],
        "write \"target\": \"https://{host}{uri}\"",
    ),
    ("respond", &["content", "text", "message", "string"], "write \"body\": \"...\""),
    ("respond", &["code", "status_code"], "write \"status\": 404"),
    (
        "respond",
        &["content_type", "contentType", "content-type", "mime", "type"],
        "write \"headers\": { \"Content-Type\": \"application/json\" }",
    ),
    (
        "redirect",
        &["regex", "match", "from"],
        "write \"path\": \"~^/old/(.*)$\" in the route, and \"target\": \"/new/{1}\" here",
    ),
    (
        "rewrite",
        &["regex", "replacement", "replace", "uri", "target", "to", "prefix"],
        "write \"path\": \"~^/old/(.*)$\" in the route, and \"rewrite\": { \"path\": \"/new/{1}\" }",
    ),
    (
        "concurrency_limit",
        &["max", "amount", "limit", "connections", "max_in_flight", "max_connections"],
        "write \"requests\": 10",
    ),
    ("concurrency_limit", &["key", "zone", "source"], "write \"by\": \"client\""),
    (
        "compression",
        &["level", "quality", "gzip_comp_level", "compression_level"],
        "leave it out: the levels are fixed",
    ),
    (
        "timeouts",
        &["read", "server", "proxy_read_timeout", "upstream", "backend"],
        "write \"response\": \"30s\"",
    ),
    ("timeouts", &["websocket", "idle_tunnel", "ws"], "write \"tunnel\": \"1h\""),
    (
        "listeners[].tls",
        &["crl", "crl_file", "crl-file", "crlFile", "ssl_crl", "revocation_list"],
        "it belongs into \"client_auth\": { \"ca\": \"clients.pem\", \"crl\": \"clients.crl\" }",
    ),
    (
        "certificates[]",
        &["ca", "client_ca", "verify", "client_certificate", "mtls", "ssl_verify_client", "crl"],
        "write \"client_auth\": { \"ca\": \"clients.pem\", \"mode\": \"require\" }",
    ),
    ("ejection", &["enabled", "disabled", "off"], "write \"max_percent\": 0, which switches ejection off"),
    (
        "forward_auth",
        &[
            "authResponseHeaders",
            "auth_response_headers",
            "auth_request_set",
            "headers",
            "allowed_upstream_headers",
        ],
        "write \"copy_headers\": [ \"X-Auth-User\" ]",
    ),
    (
        "forward_auth",
        &["addAuthCookiesToResponse", "response_headers", "allowed_client_headers"],
        "write \"copy_to_response\": [ \"Set-Cookie\" ]",
    ),
    (
        "forward_auth",
        &["trustForwardHeader", "trust_forward_header"],
        "leave it out: X-Forwarded-* of load_balancer.trusted_proxies go on to the authentication server, too",
    ),
    ("pages[]", &["code", "codes", "statuses", "error_page"], "write \"status\": \"500-599\""),
    ("pages[]", &["path", "page", "html", "body", "query"], "write \"file\": \"sorry.html\""),
    (
        "compression",
        &[
            "min_length",
            "minimum_length",
            "gzip_min_length",
            "minResponseBodyBytes",
            "min_content_length",
            "minsize",
        ],
        "write \"min_size\": \"1KiB\"",
    ),
    (
        "compression",
        &["algo", "algorithm", "algorithms", "encodings", "encoders", "gzip", "zstd", "br", "brotli"],
        "write \"codings\": [ \"zstd\", \"gzip\" ]",
    ),
    (
        "compression",
        &["type", "gzip_types", "mime_types", "content_type", "includedContentTypes"],
        "write \"types\": [ \"text/*\", \"application/json\" ]",
    ),
    ("sticky", &["expires", "ttl", "maxAge", "maxlife", "timeout"], "write \"max_age\": \"12h\""),
    ("sticky", &["maxidle", "expire", "idle"], "write \"idle_time\": \"30m\""),
    ("sticky", &["name", "cookie_name", "cookieName", "insert"], "write \"cookie\": \"session\""),
    ("sticky", &["httpOnly", "httponly"], "write \"http_only\": true"),
    ("sticky", &["sameSite", "samesite"], "write \"same_site\": \"lax\""),
    ("rewrite", &["add_prefix", "addPrefix", "prefix_add", "append"], "write \"path\": \"/prefix{path}\""),
    (
        "rate_limit",
        &["status", "status_code", "limit_req_status", "rejected_code", "code"],
        "leave it out: the status is 429, whose page \"error_pages\" can change",
    ),
    (
        "concurrency_limit",
        &["queue", "wait", "timeout", "burst"],
        "leave it out: further requests get 429; those that may wait for a server are limited by \"max_in_flight\" of its pool",
    ),
    (
        "",
        &["blocklist", "blacklist", "denylist", "block", "banned", "deny_list"],
        "write \"deny\": [ \"192.0.2.0/24\", \"file:blocked.txt\" ]",
    ),
    (
        "",
        &["allowlist", "whitelist", "ipWhiteList", "ipAllowList", "allow_list", "whitelist_source_range"],
        "write \"allow\": [ \"10.0.0.0/8\", \"file:office.txt\" ]",
    ),
    (
        "routes[]",
        &["blocklist", "blacklist", "denylist", "block", "banned", "deny_list"],
        "write \"deny\": [ \"192.0.2.0/24\", \"file:blocked.txt\" ]",
    ),
    (
        "routes[]",
        &["allowlist", "whitelist", "ipWhiteList", "ipAllowList", "allow_list", "whitelist_source_range"],
        "write \"allow\": [ \"10.0.0.0/8\", \"file:office.txt\" ]",
    ),
    (
        "routes[]",
        &["cors", "enable_cors", "enable-cors", "cors_allow_origin", "access_control"],
        "write \"response_headers\": { \"set\": { \"Access-Control-Allow-Origin\": \"https://app.example.com\" } }",
    ),
    (
        "tls",
        &["crl_file", "crl-file", "crlFile", "proxy_ssl_crl", "revocation_list"],
        "write \"crl\": \"servers.crl\" beside \"ca\"",
    ),
    (
        "tls",
        &["depth", "verify_depth", "proxy_ssl_verify_depth"],
        "leave it out: chains of up to six intermediate authorities are accepted",
    ),
    (
        "tls",
        &["min_version", "max_version", "protocols", "ciphers", "ssl_protocols", "minVersion", "versions"],
        "leave it out: TLS 1.3 is spoken, or 1.2 with servers that have no 1.3",
    ),
    (
        "listeners[]",
        &["client_auth", "mtls", "ssl_verify_client", "verify"],
        "it belongs into \"tls\": write \"client_auth\": { \"ca\": \"clients.pem\" } beside \"certificates\"",
    ),
    (
        "load_balancer",
        &["client_auth", "mtls", "ssl_verify_client"],
        "it belongs into the \"tls\" of a listener: write \"client_auth\": { \"ca\": \"clients.pem\" } beside \"certificates\"",
    ),
    (
        "certificates[]",
        &["names", "host", "hosts", "domain", "domains", "server_name", "sni"],
        "leave it out: clients get the certificate that is for the name that they ask for, and routes have \"host\"",
    ),
    (
        "certificates[]",
        &["cert", "crt", "cert_file", "certFile", "pem", "file", "chain", "fullchain"],
        "write \"certificate\": \"site.pem\"",
    ),
    ("certificates[]", &["keyFile", "key_file", "private_key"], "write \"key\": \"site.key\""),
    (
        "certificates[]",
        &["password", "passphrase", "key_password", "keyPassword", "password_file", "ssl_password_file"],
        "leave it out: keys are not encrypted here; decrypt it with `openssl pkey -in site.key -out plain.key`",
    ),
    (
        "tls",
        &["insecure", "skip_verify", "insecure_skip_verify", "insecureSkipVerify"],
        "write \"verify\": false",
    ),
    ("tls", &["sni", "serverName", "host", "name"], "write \"server_name\": \"app.internal\""),
    ("tls", &["cacert", "ca_file", "rootCAs", "trusted_ca", "root_ca"], "write \"ca\": \"ca.pem\""),
    (
        "tls",
        &["cert", "crt", "client_certificate"],
        "write \"certificate\": \"client.pem\", what is shown to servers",
    ),
    (
        "routes[]",
        &["cache", "proxy_cache", "expires", "cache_control"],
        "responses are not cached; write \"response_headers\": { \"set\": { \"Cache-Control\": \"max-age=3600\" } } for the caches of clients",
    ),
    (
        "routes[]",
        &["limit_rate", "limit_rate_after", "bandwidth", "bwlim"],
        "leave it out: bytes per second are not limited; \"rate_limit\" and \"concurrency_limit\" limit requests",
    ),
    (
        "routes[]",
        &["sub_filter", "rewrite_body", "replace_body", "body_filter", "lua", "script"],
        "leave it out: bodies are forwarded as they are; \"response_headers\" and \"rewrite\" change the rest",
    ),
    (
        "routes[]",
        &[
            "buffering",
            "proxy_buffering",
            "proxy_request_buffering",
            "flush_interval",
            "buffer",
            "responseForwarding",
        ],
        "leave it out: what comes goes on at once, in both directions",
    ),
    (
        "routes[]",
        &["enabled", "disabled", "off", "active"],
        "leave it out, or put the route between /* and */ for a while",
    ),
    ("routes[]", &["path_regex", "pathRegex", "path_regexp"], "write \"path\": \"~^/expression$\""),
    (
        "basic_auth",
        &["users", "user", "username", "password", "htpasswd", "users_file", "usersFile"],
        "write \"file\": \"users.htpasswd\", a file that `htpasswd -B` makes",
    ),
    (
        "rate_limit",
        &["rate", "limit", "average", "max", "requests_per_second", "rps"],
        "write \"requests\": 100, \"per\": \"1s\"",
    ),
    ("rate_limit", &["period", "window", "interval", "unit"], "write \"per\": \"1s\""),
    (
        "rate_limit",
        &["delay", "no_delay"],
        "write \"nodelay\": 8, the requests of a burst that pass at once, or true for all of them",
    ),
    (
        "retries",
        &["wait", "try_duration", "lb_try_duration", "duration", "delay", "initialInterval", "interval"],
        "write \"wait_for_server\": \"5s\", how long a request waits while no server can be connected to",
    ),
    (
        "rate_limit",
        &["whitelist", "allowlist", "exempt", "except", "exclude", "exclude_ips", "sourceCriterion"],
        "clients without a limit have a route of their own: write \"client\": [ \"10.0.0.0/8\" ] and \"rate_limit\": null there",
    ),
    ("rate_limit", &["key", "zone", "source"], "write \"by\": \"client\""),
    (
        "forward_auth",
        &["address", "url", "uri", "service", "server"],
        "write \"pool\": the name of one in \"pools\", and \"path\": \"/check\"",
    ),
    (
        "retries",
        &[
            "on",
            "retry_on",
            "retry-on",
            "status",
            "statuses",
            "codes",
            "retriable_status_codes",
            "conditions",
        ],
        "write \"on_status\": \"502-504\"",
    ),
    ("retries", &["count", "tries", "max", "num_retries"], "write \"attempts\": 1"),
];

const TLS_LIST: &str = "write \"certificates\": [ { \"certificate\": \"site.pem\", \"key\": \"site.key\" } ]";

/// Objects whose keys are fixed, where others have names of their own choice.
const NAMED: &[(&str, &str)] = &[
    ("request_headers", "write \"set\": { \"X-Env\": \"staging\" }; \"add\" and \"remove\" are the others"),
    ("response_headers", "write \"set\": { \"X-Env\": \"staging\" }; \"add\" and \"remove\" are the others"),
    ("error_pages", "write \"pages\": [ { \"status\": \"500-599\", \"file\": \"sorry.html\" } ]"),
    ("split", "write \"pools\": { \"stable\": 95, \"canary\": 5 }"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_looked_up_by_the_object_that_it_stands_in() {
        assert_eq!(hint("servers.health_check", "uri"), Some("write \"path\": \"/health\""));
        assert_eq!(hint("servers", "uri"), None);
        assert!(
            hint("load_balancer.listeners[].tls", "cert").is_some_and(|hint| hint.contains("certificates"))
        );
        assert!(hint("servers.tls", "cert").is_some_and(|hint| hint.contains("client.pem")));
        assert!(no_names("routes[].request_headers").is_some() && no_names("routes[]").is_none());
    }
}
