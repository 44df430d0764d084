//! Keys that other programs have in the place of a route's: each is told what to write here.

use super::super::reader::Section;
use crate::base::template::Placeholder;

/// Keys, and what to write instead.
const KEYS: &[(&[&str], &str)] = &[
    (
        &[
            "location",
            "paths",
            "prefix",
            "path_prefix",
            "pathPrefix",
            "uri",
            "url",
            "regex",
            "path_regexp",
            "handle_path",
        ],
        "write \"path\": \"/exact\", \"/prefix/*\" or \"~^/expression$\"",
    ),
    (
        &["hosts", "server_name", "hostname", "hostnames", "domain", "domains", "authority", "sni"],
        "write \"host\": \"api.example.com\", or a list of hosts",
    ),
    (
        &["rule", "match", "matches", "matcher", "matchers", "when", "acl", "if"],
        "write the conditions as keys of the route: \"host\", \"path\", \"methods\", \"headers\", \"query\", \"cookies\", \"client\"",
    ),
    (
        &[
            "proxy_pass",
            "upstream",
            "upstreams",
            "backend",
            "backends",
            "service",
            "services",
            "cluster",
            "reverse_proxy",
            "use_backend",
            "default_backend",
            "backendRefs",
            "to",
            "servers",
            "target_group",
            "forward",
            "proxy",
        ],
        "write \"pool\": the name of one in \"pools\", or leave it out for \"servers\"",
    ),
    (
        &["handle", "handlers", "actions", "action"],
        "write what is done as a key of the route, \"pool\", \"redirect\" or \"respond\", beside \"path\"",
    ),
    (
        &["weighted_clusters", "weighted", "split_clients", "canary", "weights", "traffic_split"],
        "write \"split\": { \"pools\": { \"stable\": 95, \"canary\": 5 } }",
    ),
    (&["method", "verbs", "limit_except"], "write \"methods\": [ \"GET\" ]"),
    (&["header", "header_regexp"], "write \"headers\": { \"X-Env\": \"staging\" }"),
    (
        &["query_params", "query_parameters", "queryParams", "args", "params"],
        "write \"query\": { \"version\": \"2\" }",
    ),
    (&["cookie"], "write \"cookies\": { \"beta\": true }"),
    (
        &["remote_ip", "client_ip", "source_ip", "ip", "clients", "source_range", "sourceRange", "src"],
        "write \"client\": [ \"10.0.0.0/8\" ]",
    ),
    (
        &["return", "redir", "redirect_to", "redirectRegex", "redirectScheme", "location_redirect"],
        "write \"redirect\": { \"status\": 301, \"target\": \"https://{host}{uri}\" }, or \"respond\": { \"status\": 404 }",
    ),
    (
        &["status", "body", "direct_response", "static_response"],
        "write \"respond\": { \"status\": 200, \"body\": \"...\" }",
    ),
    (
        &[
            "strip_prefix",
            "stripPrefix",
            "prefix_rewrite",
            "regex_rewrite",
            "replacePath",
            "uri_strip_prefix",
            "rewrite_path",
        ],
        "write \"rewrite\": { \"strip_prefix\": \"/v1\" } or \"rewrite\": { \"path\": \"/new{path}\" }",
    ),
    (
        &["host_rewrite", "host_rewrite_literal", "passHostHeader", "pass_host_header", "preserve_host"],
        "the host goes on as it came; write \"rewrite\": { \"host\": \"internal.example\" } to replace it",
    ),
    (
        &[
            "proxy_set_header",
            "header_up",
            "headers_up",
            "customRequestHeaders",
            "request_headers_to_add",
            "set_header",
            "request_header",
        ],
        "write \"request_headers\": { \"set\": { \"X-Real-IP\": \"{client_ip}\" } }",
    ),
    (
        &[
            "add_header",
            "header_down",
            "headers_down",
            "customResponseHeaders",
            "response_headers_to_add",
            "response_header",
            "more_set_headers",
        ],
        "write \"response_headers\": { \"add\": { \"X-Env\": \"staging\" } }",
    ),
    (
        &["proxy_hide_header", "request_headers_to_remove", "response_headers_to_remove", "remove_headers"],
        "write \"response_headers\": { \"remove\": [ \"Server\" ] }, or the same in \"request_headers\"",
    ),
    (
        &["hsts", "stsSeconds", "secure_headers", "security"],
        "write \"security_headers\": true, or \"strict\"",
    ),
    (
        &[
            "timeout",
            "proxy_read_timeout",
            "proxy_connect_timeout",
            "proxy_send_timeout",
            "read_timeout",
            "connect_timeout",
            "response_timeout",
        ],
        "write \"timeouts\": { \"connect\": \"2s\", \"response\": \"30s\", \"request\": \"60s\" }",
    ),
    (
        &["retry", "retry_policy", "num_retries", "proxy_next_upstream", "attempts"],
        "write \"retries\": { \"attempts\": 1 }",
    ),
    (
        &["client_max_body_size", "max_body_size", "request_body", "body_limit", "maxRequestBodyBytes"],
        "write \"limits\": { \"body\": \"10MiB\" }",
    ),
    (&["log", "accesslog", "access_logs", "accessLog"], "write \"access_log\": true or false"),
    (
        &["request_mirror_policies", "mirroring", "shadow", "mirrors"],
        "write \"mirror\": { \"pool\": \"shadow\", \"percent\": 10 }",
    ),
    (
        &["middlewares", "filters", "plugins"],
        "write what they do as keys of the route: \"rewrite\", \"redirect\", \"request_headers\", \"response_headers\"",
    ),
    (
        &["order"],
        "the order is fixed: exact hosts and paths first, then the longest path, then the order of the file; leave it out",
    ),
    (
        &["root", "alias", "try_files", "index", "file_server", "static"],
        "files are not served from a folder; write \"pool\" and let a server do it, or \"respond\": { \"file\": \"page.html\" } for a single one",
    ),
    (
        &["entryPoints", "entrypoints", "entry_points", "listeners", "listen", "frontend", "bind"],
        "write \"listener\": the name of one in \"load_balancer\": { \"listeners\": ... }, or leave it out for all of them",
    ),
    (&["tls", "ssl"], "TLS belongs to a listener; write it in \"load_balancer\": { \"listeners\": ... }"),
    (
        &["proxy_redirect", "proxy_cookie_path", "proxy_cookie_domain", "replace_header", "replace-header"],
        "write \"response_headers\": { \"replace\": [ { \"header\": \"Location\", \"match\": \"^http://app:8080/\", \"with\": \"/\" } ] }",
    ),
];

/// Records each key of the route that another program has.
pub(super) fn report(s: &mut Section<'_, '_>) {
    for (keys, advice) in KEYS {
        s.foreign(keys, |_| (*advice).to_owned());
    }
}

/// The header that a variable of nginx, Caddy or HAProxy stands for.
pub(super) fn header(name: &str) -> Option<String> {
    let dashed = |name: &str| name.replace('_', "-");
    let caddy = ["http.request.header.", "header."].iter().find_map(|start| name.strip_prefix(start));
    let nginx = || name.strip_prefix("http_").filter(|rest| *rest != "host").map(dashed);
    caddy.map(str::to_owned).or_else(nginx).filter(|header| super::is_token(header))
}

/// The name here of a variable of nginx, HAProxy, Caddy, Traefik or Envoy, without its signs.
pub(super) fn variable(name: &str) -> Option<&'static str> {
    let plain = name.trim_start_matches("http.request.").to_ascii_lowercase();
    Some(match plain.as_str() {
        "remote_addr"
        | "remote_host"
        | "remote_ip"
        | "remote.host"
        | "src"
        | "ip"
        | "client"
        | "clientip"
        | "client.ip"
        | "downstream_remote_address_without_port" => "client_ip",
        "http_host" | "hostport" | "server_name" | "hostname" | "authority" | "req.host" | "hdr(host)" => {
            "host"
        }
        "request_uri" | "url" | "target" | "orig_uri" | "req.uri" => "uri",
        "uri.path" | "document_uri" | "req.path" | "path_info" => "path",
        "args" | "query_string" | "uri.query" | "querystring" | "is_args" => "query",
        "request_method" | "req.method" => "method",
        "server_port" | "dst_port" | "local_port" => "port",
        "proto" | "protocol" | "x_forwarded_proto" => "scheme",
        "id" | "requestid" | "uuid" | "trace_id" | "http.request.uuid" | "req_id" => "request_id",
        "ssl_protocol" | "tls.version" | "ssl_fc_protocol" | "tls" => "tls_version",
        "upstream_addr" | "upstream" | "backend_server" | "srv_name" | "upstream_hostport" => "server",
        "backend" | "backend_name" | "proxy_host" | "service" => "pool",
        own => return Placeholder::names().find(|name| *name == own),
    })
}
