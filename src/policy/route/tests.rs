//! The router: the order of rules by tables, and any rules and requests against a matcher that tries them one by one.

use super::*;
use proptest::prelude::*;

/// A request as its parts.
#[derive(Clone, Debug, Default)]
struct Ask {
    host: String,
    path: String,
    query: String,
    method: String,
    headers: Vec<(String, String)>,
    client: Option<IpAddr>,
    listener: String,
}

impl Request for Ask {
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn query(&self) -> &[u8] {
        self.query.as_bytes()
    }
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }
    fn header(&self, name: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.headers.iter().any(|(known, value)| known.as_bytes() == name && each(value.as_bytes()))
    }
    fn client(&self) -> Option<IpAddr> {
        self.client
    }
    fn listener(&self) -> &str {
        &self.listener
    }
}

fn ask(method: &str, host: &str, path: &str) -> Ask {
    Ask { host: host.into(), path: path.into(), method: method.into(), ..Ask::default() }
}

#[test]
fn the_rules_of_a_listener_come_before_those_of_all() {
    let of = |text: &str, names: &[&str]| Rule {
        listeners: names.iter().map(|name| Box::from(*name)).collect(),
        ..rule(text)
    };
    let router = Router::new(vec![
        of("a.example /x", &[]),
        of("/*", &["http", "local"]),
        of("/x", &["http"]),
        of("/*", &[]),
    ]);
    for (listener, host, path, expected) in [
        ("http", "a.example", "/x", 2),
        ("http", "a.example", "/y", 1),
        ("local", "a.example", "/x", 1),
        ("https", "a.example", "/x", 0),
        ("https", "b.example", "/x", 3),
        ("", "a.example", "/x", 0),
    ] {
        let ask = Ask { listener: listener.into(), ..ask("GET", host, path) };
        assert_eq!(router.find(&ask), Some(expected), "{listener} {host} {path}");
    }
}

/// `a.example /x/*`, `*.example`, `/x`, `* ~^/x`; one or both parts.
fn rule(text: &str) -> Rule {
    let (host, path) = match text.split_once(' ') {
        Some((host, path)) => (host, path),
        None if text.starts_with(['/', '~']) => ("", text),
        None => (text, "/*"),
    };
    let host = match host.strip_prefix("*.") {
        _ if host.is_empty() => Host::Any,
        Some(under) => Host::Under(under.as_bytes().into()),
        None => Host::Exact(host.as_bytes().into()),
    };
    let path = match (path.strip_prefix('~'), path.strip_suffix("/*")) {
        (Some(pattern), _) => Path::Pattern(Pattern::new(pattern).unwrap()),
        (_, Some(prefix)) => Path::Prefix(prefix.as_bytes().into()),
        _ => Path::Exact(path.as_bytes().into()),
    };
    Rule { host, path, ..Rule::default() }
}

/// The rules, then requests as `host/path` with the text of the rule that they match.
fn check(rules: &[&str], requests: &[(&str, Option<&str>)]) {
    let router = Router::new(rules.iter().map(|text| rule(text)).collect());
    for (url, expected) in requests {
        let (host, _) = url.split_once('/').unwrap();
        let found = router.find(&ask("GET", host, &url[host.len()..])).map(|index| rules[index]);
        assert_eq!(found, *expected, "{url} among {rules:?}");
    }
}

#[test]
fn hosts_go_from_exact_to_any() {
    let rules = ["/*", "*.example.com", "*.b.example.com", "a.b.example.com", "example.com"];
    check(
        &rules,
        &[
            ("a.b.example.com/", Some("a.b.example.com")),
            ("A.B.EXAMPLE.com:8080/", Some("a.b.example.com")),
            ("a.b.example.com./", Some("a.b.example.com")),
            ("c.b.example.com/", Some("*.b.example.com")),
            ("d.c.b.example.com/", Some("*.b.example.com")),
            ("b.example.com/", Some("*.example.com")),
            ("example.com/", Some("example.com")),
            (".example.com/", Some("/*")),
            ("xexample.com/", Some("/*")),
            ("example.org/", Some("/*")),
            ("/", Some("/*")),
        ],
    );
    check(&["[::1]"], &[("[::1]/", Some("[::1]")), ("[::1]:80/", Some("[::1]")), ("[::2]/", None)]);
    let forms = ["[0:0:0:0:0:0:0:1]/", "[0000::0001]:80/", "[::0.0.0.1]/"];
    check(&["[::1]"], &forms.map(|form| (form, Some("[::1]"))));
    let long = format!("{}/", "a.".repeat(200) + "example.com");
    check(&["*.example.com"], &[(&long, None)]);
}

#[test]
fn paths_go_from_exact_over_long_to_short() {
    let rules = ["/*", "/v1/*", "/v1", "/v1/users/*", "/v1/users/me", "~^/v1/users/[0-9]+$", "/files/"];
    check(
        &rules,
        &[
            ("/", Some("/*")),
            ("/v1", Some("/v1")),
            ("/v1/", Some("/v1/*")),
            ("/v1/x", Some("/v1/*")),
            ("/v10", Some("/*")),
            ("/v1/users", Some("/v1/users/*")),
            ("/v1/users/me", Some("/v1/users/me")),
            ("/v1/users/me/x", Some("/v1/users/*")),
            ("/v1/users/7", Some("~^/v1/users/[0-9]+$")),
            ("/v1/users/7x", Some("/v1/users/*")),
            ("/V1", Some("/*")),
            ("/files", Some("/*")),
            ("/files/", Some("/files/")),
        ],
    );
    check(&["/a/*", "~^/a"], &[("/a/b", Some("~^/a")), ("/ab", Some("~^/a"))]);
    check(&["/abc/*", "~^/a"], &[("/abc/b", Some("/abc/*")), ("/abd", Some("~^/a"))]);
    check(&["~c$", "~^/a/b"], &[("/a/b/c", Some("~^/a/b")), ("/x/c", Some("~c$"))]);
    check(&["/v1/*"], &[("/", None), ("/v2", None)]);
    check(&["/*", "/a"], &[("/a", Some("/a"))]);
}

#[test]
fn the_order_of_the_file_is_last() {
    check(&["/a", "/a"], &[("/a", Some("/a"))]);
    let router = Router::new(vec![rule("/a/*"), rule("/a/*"), rule("/a")]);
    assert_eq!(router.find(&ask("GET", "", "/a/b")), Some(0));
    assert_eq!(router.find(&ask("GET", "", "/a")), Some(2));
}

#[test]
fn the_asterisk_of_options_is_any_path() {
    let router = Router::new(vec![rule("/a/*"), rule("/*")]);
    assert_eq!(router.find(&ask("OPTIONS", "a", "*")), Some(1));
}

#[test]
fn a_condition_that_does_not_hold_leads_to_the_next_rule() {
    let exact = |text: &str| Test::Exact(text.as_bytes().into());
    let field = |name: &str, test| vec![Field { name: name.as_bytes().into(), test }];
    let rules = vec![
        Rule { methods: vec![b"POST".as_slice().into()], ..rule("a.example /x") },
        Rule { headers: field("x-env", exact("staging")), ..rule("a.example /x/*") },
        Rule { cookies: field("beta", Test::Present), ..rule("a.example /x/*") },
        Rule { query: field("v", Test::Prefix(b"2".as_slice().into())), ..rule("a.example") },
        Rule { clients: vec!["10.0.0.0/8".parse().unwrap()], ..rule("*.example /x") },
        Rule { headers: field("accept", Test::Absent), ..rule("/x") },
    ];
    let router = Router::new(rules);
    let base = Ask { headers: vec![("accept".into(), "*/*".into())], ..ask("GET", "a.example", "/x") };
    let with = |name: &str, value: &str| Ask {
        headers: [&base.headers[..], &[(name.to_owned(), value.to_owned())]].concat(),
        ..base.clone()
    };
    for (request, expected) in [
        (base.clone(), None),
        (Ask { method: "POST".into(), ..base.clone() }, Some(0)),
        (Ask { method: "post".into(), ..base.clone() }, None),
        (with("x-env", "staging"), Some(1)),
        (with("x-env", "Staging"), None),
        (with("cookie", "a=b; beta=1"), Some(2)),
        (Ask { query: "w=1&v=2.1".into(), ..base.clone() }, Some(3)),
        (Ask { client: Some("10.1.1.1".parse().unwrap()), ..base.clone() }, Some(4)),
        (Ask { client: Some("::ffff:10.1.1.1".parse().unwrap()), ..base.clone() }, Some(4)),
        (Ask { client: Some("11.1.1.1".parse().unwrap()), ..base.clone() }, None),
        (Ask { headers: Vec::new(), ..base.clone() }, Some(5)),
    ] {
        assert_eq!(router.find(&request), expected, "{request:?}");
    }
}

/// The rule that a matcher finds that knows no tables: each rule is tried, the best by the written order wins.
fn naive(rules: &[Rule], request: &Ask) -> Option<usize> {
    let host = request.host.to_ascii_lowercase();
    let host_class = |rule: &Rule| match &rule.host {
        Host::Exact(exact) if **exact == *host.as_bytes() => Some((0, 0)),
        Host::Under(under) => {
            let label = host.as_bytes().strip_suffix(&**under)?.strip_suffix(b".")?;
            (!label.is_empty()).then_some((1, -(under.len() as i64)))
        }
        Host::Any => Some((2, 0)),
        Host::Exact(_) => None,
    };
    let path = request.path.as_bytes();
    let path_class = |rule: &Rule| match &rule.path {
        Path::Exact(exact) if **exact == *path => Some((0, 0, 0)),
        Path::Pattern(pattern) if pattern.is_match(path) => Some((1, -(pattern.text().len() as i64), 0)),
        Path::Prefix(prefix) => {
            let rest = path.strip_prefix(&**prefix)?;
            (prefix.is_empty() || rest.is_empty() || rest[0] == b'/').then_some((
                1,
                -(prefix.len() as i64),
                1,
            ))
        }
        _ => None,
    };
    let rank = |(index, rule): (usize, &Rule)| {
        let methods =
            rule.methods.is_empty() || rule.methods.iter().any(|m| **m == *request.method.as_bytes());
        methods.then_some(())?;
        Some((host_class(rule)?, path_class(rule)?, index))
    };
    rules.iter().enumerate().filter_map(rank).min().map(|(_, _, index)| index)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let host = prop_oneof![Just(""), Just("a.b"), Just("*.b"), Just("*.a.b"), Just("b"), Just("c.a.b")];
    let path = prop_oneof![
        "(/[ab]{1,2}){0,3}/?".prop_map(|path| if path.is_empty() { "/".to_owned() } else { path }),
        "(/[ab]{1,2}){0,3}".prop_map(|path| format!("{path}/*")),
        "(/[ab]{1,2}){0,3}".prop_map(|path| format!("~^{path}")),
        "(/[ab]{1,2}){0,2}".prop_map(|path| format!("~^{path}/[ab]+$")),
        "[ab/]{1,3}".prop_map(|path| format!("~{path}")),
        "(/[ab]){1,2}\\|/[ab]".prop_map(|path| format!("~^{path}")),
    ];
    let methods = prop_oneof![2 => Just(vec![]), 1 => Just(vec![b"GET".as_slice().into()])];
    (host, path, methods)
        .prop_map(|(host, path, methods)| Rule { methods, ..rule(&format!("{host} {path}")) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_request_matches_the_rule_that_a_naive_matcher_finds(
        rules in prop::collection::vec(any_rule(), 0..12),
        hosts in prop::collection::vec("(c\\.|A\\.|a\\.|\\.)?(a\\.b|b|\\.b|x)|", 1..4),
        paths in prop::collection::vec("(/[ab]{0,2}){1,4}|\\*", 1..6),
        post in any::<bool>(),
    ) {
        let router = Router::new(rules.clone());
        for host in &hosts {
            for path in &paths {
                let request = ask(if post { "POST" } else { "GET" }, host, path);
                prop_assert_eq!(router.find(&request), naive(&rules, &request), "{:?}", request);
            }
        }
    }
}
