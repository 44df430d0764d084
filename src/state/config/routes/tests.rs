//! The section `routes`: realistic mistakes with what is told for them, warnings, and every key with its example.

use super::super::parse_routes;
use super::*;
use crate::state::config::tests::entries;
use crate::state::route::{Action, Key};
use serde_json::{Value, json};

const POOLS: [&str; 2] = ["api", "canary"];

fn told(text: &str) -> Vec<String> {
    let faults = parse_routes(text, &POOLS).expect_err(text);
    faults.iter().map(|fault| format!("{}: {}", fault.path, fault.advice)).collect()
}

/// The keys of one route that has one fault: where it is, below `routes[0]`, and a part of the advice.
#[track_caller]
fn check(keys: &str, at: &str, advice: &str) {
    let said = told(&format!("[ {{ {keys} }} ]"));
    let place = format!("routes[0]{at}: ");
    assert_eq!(said.len(), 1, "{keys}: {said:#?}");
    assert!(said[0].starts_with(&place), "{keys}: {} is not at {place}", said[0]);
    assert!(said[0].contains(advice), "{keys}: {} does not say {advice}", said[0]);
}

#[test]
fn keys_of_other_programs_are_reported_how_to_write_them_here() {
    for (keys, at, advice) in [
        (r#""location": "/api/""#, ".location", r#"write "path""#),
        (r#""path_prefix": "/api""#, ".path_prefix", r#""/prefix/*""#),
        (r#""proxy_pass": "http://api""#, ".proxy_pass", r#"write "pool""#),
        (r#""backend": "api""#, ".backend", r#"write "pool""#),
        (r#""service": "api""#, ".service", r#"write "pool""#),
        (r#""upstream": "api""#, ".upstream", r#"write "pool""#),
        (r#""reverse_proxy": "api:80""#, ".reverse_proxy", r#"write "pool""#),
        (r#""hosts": ["a.example"]"#, ".hosts", r#"write "host""#),
        (r#""server_name": "a.example""#, ".server_name", r#"write "host""#),
        (r#""rule": "Host(`a.example`)""#, ".rule", "conditions as keys"),
        (r#""match": { "prefix": "/" }"#, ".match", "conditions as keys"),
        (r#""method": "GET""#, ".method", r#"write "methods": [ "GET" ]"#),
        (r#""return": 301"#, ".return", r#"write "redirect""#),
        (r#""status": 404"#, ".status", r#"write "respond""#),
        (r#""strip_prefix": "/v1""#, ".strip_prefix", r#"write "rewrite""#),
        (r#""passHostHeader": false"#, ".passHostHeader", r#""rewrite": { "host""#),
        (r#""proxy_set_header": {}"#, ".proxy_set_header", r#"write "request_headers""#),
        (r#""add_header": {}"#, ".add_header", r#"write "response_headers""#),
        (r#""middlewares": ["strip"]"#, ".middlewares", "as keys of the route"),
        (r#""order": 10"#, ".order", "the order is fixed"),
        (r#""priority": 10"#, ".priority", "the order of routes is fixed"),
        (r#""root": "/var/www""#, ".root", "not served from a folder"),
        (r#""timeout": "5s""#, ".timeout", r#"write "timeouts""#),
        (r#""client_max_body_size": "10m""#, ".client_max_body_size", r#""limits": { "body""#),
        (r#""tls": true"#, ".tls", "belongs to a listener"),
        (r#""entryPoints": ["web"]"#, ".entryPoints", r#"write "listener""#),
        (r#""proxy_redirect": "off""#, ".proxy_redirect", r#""replace""#),
        (r#""weighted_clusters": {}"#, ".weighted_clusters", r#"write "split""#),
        (r#""hsts": true"#, ".hsts", r#""security_headers""#),
        (r#""pol": "api""#, ".pol", r#"did you mean "pool"?"#),
    ] {
        check(keys, at, advice);
    }
}

#[test]
fn faults_of_replacements_and_listeners_say_what_to_write() {
    let replace = r#""response_headers": { "replace": "#;
    for (keys, at, advice) in [
        (r#""listener": "defualt""#.to_owned(), ".listener", r#"did you mean "default"?"#),
        (r#""listener": []"#.to_owned(), ".listener", "leave the key out"),
        (r#""listener": 80"#.to_owned(), ".listener", "name of a listener"),
        (
            format!(r#"{replace}{{ "Location": "/" }} }}"#),
            ".response_headers.replace",
            r#""header": "Location""#,
        ),
        (
            format!(r#"{replace}[ {{ "header": "Location", "match": "(" , "with": "" }} ] }}"#),
            ".response_headers.replace[0].match",
            "unclosed",
        ),
        (
            format!(r#"{replace}[ {{ "header": "Location", "match": "^a", "with": "{{1}}" }} ] }}"#),
            ".response_headers.replace[0].with",
            "has 0",
        ),
        (
            format!(r#"{replace}[ {{ "header": "Location", "match": "^(a)", "with": "$1" }} ] }}"#),
            ".response_headers.replace[0].with",
            "write {1}",
        ),
        (
            format!(r#"{replace}[ {{ "header": "Location", "with": "a" }} ] }}"#),
            ".response_headers.replace[0].match",
            "is missing",
        ),
        (
            format!(r#"{replace}[ {{ "header": "Content-Length", "match": "a", "with": "" }} ] }}"#),
            ".response_headers.replace[0].header",
            "leave it out",
        ),
        (
            format!(r#"{replace}[ {{ "header": "Date", "match": "a", "with": "" }} ] }}"#),
            ".response_headers.replace[0].header",
            "read by the balancer",
        ),
        (
            r#""request_headers": { "set": { "X-A": "$http_x_b" } }"#.to_owned(),
            ".request_headers.set.X-A",
            "write {header:x-b}",
        ),
        (
            r#""request_headers": { "set": { "X-A": "{http.request.header.X-B}" } }"#.to_owned(),
            ".request_headers.set.X-A",
            "{header:X-B}",
        ),
        (
            r#""request_headers": { "set": { "X-A": "$server_port" } }"#.to_owned(),
            ".request_headers.set.X-A",
            "write {port}",
        ),
    ] {
        check(&keys, at, advice);
    }
}

#[test]
fn hosts_and_paths_of_other_programs_are_reported_how_to_write_them_here() {
    for (keys, at, advice) in [
        (r#""host": "Host(`a.example`)""#, ".host", r#"as in "a.example""#),
        (r#""host": "https://a.example/x""#, ".host", r#"as in "a.example""#),
        (r#""host": "a.example:8080""#, ".host", r#"write "a.example""#),
        (r#""host": "a.example/x""#, ".host", r#"write it as "path""#),
        (r#""host": ".example.com""#, ".host", r#"[ "example.com", "*.example.com" ]"#),
        (r#""host": "www.*""#, ".host", "*.example.com"),
        (r#""host": "*example.com""#, ".host", "*.example.com"),
        (r#""host": "a.*.example.com""#, ".host", "*.example.com"),
        (r#""host": "_""#, ".host", r#"leave "host" out"#),
        (r#""host": "*""#, ".host", r#"leave "host" out"#),
        (r#""host": "~^www\\.""#, ".host", "hosts are exact"),
        (r#""host": "a.example, b.example""#, ".host", r#"[ "a.example", "b.example" ]"#),
        (r#""host": []"#, ".host", "leave the key out"),
        (r#""host": "bücher.example""#, ".host", "xn--bcher-kva.example"),
        (r#""path": "PathPrefix(`/api`)""#, ".path", r#"write "/api/*""#),
        (r#""path": "Path(`/api`)""#, ".path", r#"write "/api""#),
        (r#""path": "PathRegexp(`^/a`)""#, ".path", r#"write "~^/a""#),
        (r#""path": "api/*""#, ".path", r#"write "/api/*""#),
        (r#""path": "= /api""#, ".path", r#"write "/api""#),
        (r#""path": "^~ /static/""#, ".path", r#"write "/static/*""#),
        (r#""path": "~ ^/a""#, ".path", r#"write "~^/a""#),
        (r#""path": "~* \\.png$""#, ".path", r#"write "~(?i)"#),
        (r#""path": "^/users/[0-9]+$""#, ".path", r#"write ~ before it"#),
        (r#""path": "/api*""#, ".path", r#"write "/api/*" for /api"#),
        (r#""path": "/files/**""#, ".path", r#"write "/files/*""#),
        (r#""path": "*.php""#, ".path", r"~\\.php$"),
        (r#""path": "/a/*/b""#, ".path", "in its middle"),
        (r#""path": "/users/:id""#, ".path", "regular expression"),
        (r#""path": "/users/{id}""#, ".path", "regular expression"),
        (r#""path": "/a?b=c""#, ".path", r#"as "query""#),
        (r#""path": "/a#b""#, ".path", "fragment"),
        (r#""path": "/a//b""#, ".path", r#"write "/a/b""#),
        (r#""path": "/a/../b""#, ".path", r#"write "/b""#),
        (r#""path": "/%61/*""#, ".path", r#"write "/a""#),
        (r#""path": "/a%2Fb""#, ".path", "can never match"),
        (r#""path": "/a b""#, ".path", "percent-encoded"),
        (r#""path": "*""#, ".path", r#"leave "path" out"#),
        (r#""path": "~^/(a""#, ".path", "unclosed group"),
        (r#""path": "~(?=a)""#, ".path", "look-around"),
        (r#""path": 5"#, ".path", "expected a string"),
    ] {
        check(keys, at, advice);
    }
}

#[test]
fn other_conditions_are_checked() {
    for (keys, at, advice) in [
        (r#""methods": ["get"]"#, ".methods[0]", r#"write "GET""#),
        (r#""methods": "GET""#, ".methods", "expected a list"),
        (r#""methods": []"#, ".methods", "leave the key out"),
        (r#""client": []"#, ".client", "leave the key out"),
        (r#""methods": ["*"]"#, ".methods[0]", r#"leave "methods" out"#),
        (r#""methods": ["CONNECT"]"#, ".methods[0]", "always rejected"),
        (r#""headers": ["X-Env"]"#, ".headers", r#"write { "X-Env": "staging" }"#),
        (r#""headers": { "X-Env": 1 }"#, ".headers.X-Env", r#"in quotes: "1""#),
        (r#""headers": { "X-Env": ["a","b"] }"#, ".headers.X-Env", "~^(a|b)$"),
        (r#""headers": { "X-Env": "*" }"#, ".headers.X-Env", r#"write "X-Env": true"#),
        (r#""headers": { "X Env": "a" }"#, ".headers.X Env", "not the name of a header"),
        (r#""headers": { "Host": "a" }"#, ".headers.Host", r#"write "host" in the route"#),
        (r#""headers": { "X-Env": "~(" }"#, ".headers.X-Env", "unclosed group"),
        (r#""headers": { "X-Env": true, "X-Env": false }"#, ".headers.X-Env", "written twice"),
        (r#""query": { "a": null }"#, ".query.a", "expected a condition"),
        (r#""cookies": { "a=b": true }"#, ".cookies.a=b", "not the name of a cookie"),
        (r#""client": "10.0.0.0/8""#, ".client", "expected a list"),
        (r#""client": ["10.0.0.0"], "name": "a/b""#, ".name", "not allowed in a name"),
        (r#""client": ["10.0.0.5/8"]"#, ".client[0]", "10.0.0.0/8"),
    ] {
        check(keys, at, advice);
    }
}

#[test]
fn actions_are_checked() {
    for (keys, at, advice) in [
        (r#""pool": "apo""#, ".pool", r#"did you mean "api"?"#),
        (r#""pool": "elsewhere""#, ".pool", "default, api, canary"),
        (r#""pool": "http://127.0.0.1:9001""#, ".pool", r#""list" of a pool"#),
        (r#""pool": "127.0.0.1:9001""#, ".pool", r#""list" of a pool"#),
        (r#""pool": ["api"]"#, ".pool", "expected a string"),
        (r#""pool": "api", "redirect": { "target": "/" }"#, ".redirect", r#"excludes "pool""#),
        (r#""split": {}"#, ".split.pools", "is missing"),
        (r#""split": { "pools": {} }"#, ".split.pools", "no weight above 0"),
        (r#""split": { "pools": { "apo": 95 } }"#, ".split.pools.apo", r#"did you mean "api"?"#),
        (r#""split": { "pools": { "api": "95" } }"#, ".split.pools.api", "without quotes"),
        (r#""split": { "pools": { "api": 0 } }"#, ".split.pools", "no weight above 0"),
        (r#""split": { "pools": { "api": 1 }, "key": "ip" }"#, ".split.key", r#"write "client""#),
        (r#""redirect": "https://a.example""#, ".redirect", r#"write { "target": "https://a.example" }"#),
        (r#""redirect": {}"#, ".redirect.target", "is missing"),
        (
            r#""redirect": { "target": "https://$host$request_uri" }"#,
            ".redirect.target",
            "has $host; write {host}",
        ),
        (r#""redirect": { "target": "https://a.example$request_uri" }"#, ".redirect.target", "write {uri}"),
        (r#""redirect": { "target": "https://{hots}{uri}" }"#, ".redirect.target", "did you mean {host}?"),
        (
            r#""redirect": { "target": "https://{http.request.host}" }"#,
            ".redirect.target",
            "did you mean {host}?",
        ),
        (r#""redirect": { "target": "https://{request_uri}" }"#, ".redirect.target", "did you mean {uri}?"),
        (r#""redirect": { "target": "https://{host" }"#, ".redirect.target", "single {"),
        (r#""redirect": { "target": "{query}" }"#, ".redirect.target", "not a target"),
        (r#""redirect": { "target": "www.example.com" }"#, ".redirect.target", "not a target"),
        (r#""redirect": { "target": "/a\r\nX: 1" }"#, ".redirect.target", "control character"),
        (r#""redirect": { "target": "/a", "status": 300 }"#, ".redirect.status", "301 or 308"),
        (r#""redirect": { "target": "/a", "status": 200 }"#, ".redirect.status", "write 300 to 399"),
        (r#""redirect": { "target": "/a", "status": "301" }"#, ".redirect.status", "without quotes"),
        (r#""path": "/a/*", "redirect": { "target": "/b/{1}" }"#, "", "has {1}, and the path has 0 groups"),
        (
            r#""path": "~^/(a)$", "redirect": { "target": "/b/{2}" }"#,
            "",
            "has {2}, and the path has 1 groups",
        ),
        (r#""respond": 404"#, ".respond", r#"write { "status": 404 }"#),
        (r#""respond": { "status": 99 }"#, ".respond.status", "write 200 to 599"),
        (r#""respond": { "body": { "a": 1 } }"#, ".respond.body", "write JSON as a string"),
        (r#""respond": { "body": "a", "file": "b" }"#, ".respond.file", r#"excludes "body""#),
        (r#""respond": { "status": 204, "body": "a" }"#, ".respond.status", "has no body"),
        (r#""respond": { "headers": { "Content-Length": "1" } }"#, ".respond.headers.Content-Length", "ends"),
        (r#""mirror": {}"#, ".mirror.pool", "is missing"),
        (r#""mirror": { "pool": "api", "percent": 0 }"#, ".mirror.percent", "write 1 to 100"),
    ] {
        check(keys, at, advice);
    }
}

#[test]
fn changes_of_requests_and_responses_are_checked() {
    for (keys, at, advice) in [
        (r#""rewrite": {}"#, ".rewrite", "nothing to do"),
        (r#""rewrite": "/new""#, ".rewrite", r#"write { "strip_prefix": "/v1" }"#),
        (r#""rewrite": { "strip_prefix": "/v1/" }"#, ".rewrite.strip_prefix", r#"write "/v1""#),
        (r#""rewrite": { "strip_prefix": "/v1/*" }"#, ".rewrite.strip_prefix", r#"write "/v1""#),
        (r#""rewrite": { "strip_prefix": "v1" }"#, ".rewrite.strip_prefix", "begins with /"),
        (r#""rewrite": { "path": "/new{uri}" }"#, ".rewrite.path", "write {path}"),
        (r#""rewrite": { "path": "/new/$1" }"#, ".rewrite.path", "has $1; write {1}"),
        (r#""rewrite": { "path": "http://a.example/new" }"#, ".rewrite.path", "not a path"),
        (r#""rewrite": { "path": "/a/../b" }"#, ".rewrite.path", "dot segments"),
        (r#""rewrite": { "path": "/a#b" }"#, ".rewrite.path", "without #"),
        (r#""rewrite": { "host": "https://a.example" }"#, ".rewrite.host", "not a valid host"),
        (r#""rewrite": { "too": "/a" }"#, ".rewrite.too", "known here: strip_prefix, path, host"),
        (r#""rewrite": { "to": "/a" }"#, ".rewrite.to", r#""rewrite": { "path": "/new/{1}" }"#),
        (r#""request_headers": { "X-Env": "a" }"#, ".request_headers.X-Env", "write \"set\": {"),
        (r#""request_headers": { "set": { "Host": "a" } }"#, ".request_headers.set.Host", r#""rewrite""#),
        (
            r#""request_headers": { "add": { "X-Forwarded-For": "a" } }"#,
            ".request_headers.add.X-Forwarded-For",
            r#"write it in "set""#,
        ),
        (
            r#""request_headers": { "set": { "X-Real-IP": "$remote_addr" } }"#,
            ".request_headers.set.X-Real-IP",
            "has $remote_addr; write {client_ip}",
        ),
        (
            r#""request_headers": { "set": { "Connection": "Upgrade" } }"#,
            ".request_headers.set.Connection",
            "single connection",
        ),
        (
            r#""request_headers": { "remove": ["Transfer_Encoding"] }"#,
            ".request_headers.remove[0]",
            "where the message ends",
        ),
        (r#""request_headers": { "remove": ["*"] }"#, ".request_headers.remove[0]", "too much"),
        (r#""request_headers": { "remove": "Server" }"#, ".request_headers.remove", "expected a list"),
        (r#""request_headers": { "set": { "X:Y": "a" } }"#, ".request_headers.set.X:Y", "name of a header"),
        (r#""request_headers": { "set": { "X-A": null } }"#, ".request_headers.set.X-A", r#"in "remove""#),
        (r#""response_headers": { "add": { "X-A": 1 } }"#, ".response_headers.add.X-A", "in quotes"),
        (
            r#""response_headers": { "add": { "X-A": "{env.A}" } }"#,
            ".response_headers.add.X-A",
            "not a placeholder",
        ),
        (
            r#""response_headers": { "set": { "Via": "a" } }"#,
            ".response_headers.set.Via",
            "load_balancer.via",
        ),
        (r#""security_headers": "on""#, ".security_headers", r#"true, false or "strict""#),
        (r#""access_log": "off""#, ".access_log", "write true or false"),
        (r#""timeouts": { "reads": "1s" }"#, ".timeouts.reads", "known here: connect, response, client_body"),
        (r#""timeouts": { "read": "1s" }"#, ".timeouts.read", r#"write "response": "30s""#),
        (r#""timeouts": { "connect": 5 }"#, ".timeouts.connect", "has no unit"),
        (r#""limits": { "body": "10m" }"#, ".limits.body", "write \"10MiB\""),
        (r#""retries": 3"#, ".retries", r#"write { "attempts": 1 }"#),
    ] {
        check(keys, at, advice);
    }
}

#[test]
fn every_fault_of_a_list_is_reported_with_its_place() {
    let text = "[\n { \"path\": \"/a*\", \"pool\": \"apo\" },\n \"/b\",\n { \"name\": \"x\" }, { \"name\": \"x\", \"path\": \"/c\" }\n]";
    let faults = parse_routes(text, &POOLS).unwrap_err();
    let places: Vec<_> = faults.iter().map(|fault| (fault.path.as_str(), fault.line)).collect();
    assert_eq!(
        places,
        [
            ("routes[0].path", Some(2)),
            ("routes[0].pool", Some(2)),
            ("routes[1]", Some(3)),
            ("routes[3].name", Some(4)),
        ]
    );
    assert!(told(r#"{ "path": "/a" }"#)[0].contains("expected a list, found an object; write [ { \"path\""));
}

#[test]
fn what_only_looks_wrong_is_a_warning() {
    let check = |text: &str, expected: &[(&str, &str)]| {
        let (_, warnings) = parse_routes(text, &POOLS).unwrap();
        assert_eq!(warnings.len(), expected.len(), "{text}: {warnings:#?}");
        for (path, says) in expected {
            let found = warnings.iter().any(|one| one.path == *path && one.advice.contains(says));
            assert!(found, "{text}: {path}: {says}: {warnings:#?}");
        }
    };
    let both = r#"{ "path": "/x", "split": { "pools": { "api": 1, "canary": 1 } } }"#;
    check(&format!("[ {both} ]"), &[]);
    check("[]", &[("pools.api", "no route leads here"), ("pools.canary", "no route leads here")]);
    check(r#"[ { "pool": "api", "mirror": { "pool": "canary" } } ]"#, &[]);
    check(r#"[ { "pool": "api", "forward_auth": { "pool": "canary" } } ]"#, &[]);
    check(&format!("[ {both}, {both} ]"), &[("routes[1]", "can never match: routes[0]")]);
    check(&format!(r#"[ {both}, {{ "path": ["/y", "/x"] }} ]"#), &[]);
    check(&format!(r#"[ {both}, {{ "path": "/x", "methods": ["GET"] }} ]"#), &[]);
    check(&format!(r#"[ {both}, {{ "path": "/api/" }} ]"#), &[("routes[1].path", r#"write "/api/*""#)]);
    for (keys, at, says) in [
        (r#""respond": { "status": 301 }"#, "respond.status", "leads nowhere"),
        (r#""respond": { "status": 444 }"#, "respond.status", "like any other status"),
        (r#""path": "/a", "redirect": { "target": "/a?x" }"#, "redirect.target", "without an end"),
        (
            r#""redirect": { "target": "https://{host}{uri}" }"#,
            "redirect.target",
            "\"redirect_to_https\": true",
        ),
        (
            r#""host": "a.example", "path": "/b/*", "redirect": { "target": "https://a.example{path}" }"#,
            "redirect.target",
            "leads back here",
        ),
    ] {
        check(&format!("[ {both}, {{ {keys} }} ]"), &[(&format!("routes[1].{at}"), says)]);
    }
    for keys in [
        r#""respond": { "status": 301, "headers": { "location": "/b" } }"#,
        r#""path": "/a", "cookies": { "l": false }, "redirect": { "target": "/a" }"#,
        r#""path": "/a", "redirect": { "target": "{path}x" }"#,
        r#""host": "a.example", "redirect": { "target": "https://www.a.example{uri}" }"#,
        r#""headers": { "X-Forwarded-Proto": "http" }, "redirect": { "target": "https://{host}{uri}" }"#,
    ] {
        check(&format!("[ {both}, {{ {keys} }} ]"), &[]);
    }
}

#[test]
fn routes_without_a_name_are_named_after_host_and_path() {
    let text = r#"[ { "host": "a.example", "path": "/v1/*" }, { "path": "/v1/*" }, { "path": "/v1/*", "methods": ["GET"] }, {},
        { "name": "-x-*" }, { "path": "/x/*" }, { "path": "~^/a?\\s\"" }, { "host": "*.b.example" } ]"#;
    let (routes, _) = parse_routes(text, &["api", "canary"]).unwrap();
    let names: Vec<_> = routes.iter().map(|spec| spec.route.name.as_str()).collect();
    assert_eq!(
        names,
        ["a.example-v1-*", "-v1-*", "-v1-*-2", "route-3", "-x-*", "-x-*-2", "~^-a--s-", "*.b.example-*"]
    );
    for name in names {
        assert!(rules::check_name(name).is_ok(), "{name}");
    }
    let long = format!(r#"[ {{ "path": "/{}" }} ]"#, "a".repeat(300));
    assert_eq!(parse_routes(&long, &[]).unwrap().0[0].route.name.len(), NAME_MAX);
}

#[test]
fn values_are_read_as_the_document_says() {
    let text = r#"[ { "split": { "pools": { "api": 9, "default": 1 }, "key": "header:X-User" }, "retries": { "attempts": 3 },
        "limits": { "body": null }, "timeouts": { "response": "5s" }, "mirror": { "pool": "canary" } } ]"#;
    let (routes, _) = parse_routes(text, &POOLS).unwrap();
    let route = &routes[0].route;
    let Action::Split(split) = &route.action else { panic!("{route:?}") };
    assert_eq!(split.key, Key::Header("x-user".into()));
    assert_eq!(split.pools().collect::<Vec<_>>(), [(PoolId(1), 9), (PoolId(0), 1)]);
    assert_eq!(route.retries, Some(retry::Rules { attempts: 3, ..retry::Rules::default() }));
    assert_eq!(route.body_limit, Some(None));
    assert_eq!(route.timeouts.response, Some(Duration::from_secs(5)));
    assert_eq!((route.timeouts.connect, route.access_log), (None, true));
    assert_eq!(route.mirror, Some(Mirror { pool: PoolId(2), percent: 100, body_max: 65536 }));
    let plain = &parse_routes("[ {} ]", &POOLS).unwrap().0[0].route;
    assert_eq!(plain.action, Action::Pool(PoolId(0)));
    assert_eq!((plain.body_limit, plain.retries, plain.security_headers), (None, None, None));
}

/// The last code in an entry of the document is an example of its key.
#[test]
fn every_key_of_the_document_has_a_valid_example() {
    let mut count = 0;
    for entry in entries() {
        let Some(key) = entry.key.strip_prefix("routes[].") else { continue };
        let line = &entry.text;
        let example = line.rsplit('`').nth(1).unwrap();
        let (parents, leaf) = key.rsplit_once('.').unwrap_or(("", key));
        let mut tree: Value = serde_json::from_str(&format!("{{ {example} }}")).expect(line);
        assert!(tree.get(leaf).is_some(), "{line}");
        if parents.ends_with("replace[]") {
            let whole = json!({ "header": "Location", "match": "^/", "with": "/" });
            whole.as_object().unwrap().iter().for_each(|(key, value)| {
                tree.as_object_mut().unwrap().entry(key).or_insert(value.clone());
            });
        }
        let beside = match parents {
            "redirect" => Some(("target", json!("/"))),
            "mirror" => Some(("pool", json!("default"))),
            "split" => Some(("pools", json!({ "default": 1 }))),
            _ => None,
        };
        if let Some((key, value)) = beside {
            tree.as_object_mut().unwrap().entry(key).or_insert(value);
        }
        let tree = parents.rsplit('.').filter(|part| !part.is_empty()).fold(tree, |tree, part| {
            match part.strip_suffix("[]") {
                Some(list) => json!({ list: [tree] }),
                None => json!({ part: tree }),
            }
        });
        let text = json!([tree]).to_string();
        let faults = parse_routes(&text, &POOLS).err().unwrap_or_default();
        assert!(faults.is_empty(), "{line}\n{}", faults[0]);
        count += 1;
    }
    assert!(count > 35, "only {count} examples were found");
}

#[test]
fn a_prefix_that_no_path_begins_with_is_warned_of() {
    for (path, prefix, is_warned) in [
        (r#""/v1/*""#, "/v1", false),
        (r#""/v1/*""#, "/v1/users", false),
        (r#""/v1/users""#, "/v1", false),
        (r#""/v10/*""#, "/v1", true),
        (r#""/v1""#, "/v1/users", true),
        (r#"["/v10", "/v1/*"]"#, "/v1", false),
        (r#""~^/v2""#, "/v1", false),
        (r#""/*""#, "/v1", false),
    ] {
        let text = format!(r#"[ {{ "path": {path}, "rewrite": {{ "strip_prefix": "{prefix}" }} }} ]"#);
        let (_, warnings) = parse_routes(&text, &POOLS).unwrap();
        let found = warnings.iter().any(|warning| warning.path == "routes[0].rewrite.strip_prefix");
        assert_eq!(found, is_warned, "{text}: {warnings:?}");
    }
}

#[test]
fn a_host_that_is_an_ipv6_address_has_one_form() {
    let (routes, _) = parse_routes(r#"[ { "host": "[0:0::1]" } ]"#, &POOLS).unwrap();
    assert_eq!(routes[0].rules[0].host, Host::Exact(Box::from(*b"[::1]")));
}
