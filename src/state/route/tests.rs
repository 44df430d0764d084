//! Routes as a whole: which route a request finds, with routes carried over from other programs in `carried`.

use super::*;
use crate::http1::path::{self, EncodedSlash};
use crate::state::config;

mod carried;

/// A GET, or what its fields say.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    pub(super) path: Vec<u8>,
    pub(super) query: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) client: &'a str,
}

impl Request for Ask<'_> {
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }
    fn path(&self) -> &[u8] {
        &self.path
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
        self.client.parse().ok()
    }
}

/// The name of the route for `METHOD host/path?query`, `-` for none and `400` for a path that is rejected.
pub(super) fn found(routes: &Routes, request: &str, headers: &[(&str, &str)], client: &str) -> String {
    let (method, url) = request.split_once(' ').unwrap_or(("GET", request));
    let (host, _) = url.split_once('/').unwrap();
    let (path, query) = path::split(&url.as_bytes()[host.len()..]);
    let Ok(normalised) = path::normalise(path, EncodedSlash::Keep) else { return "400".to_owned() };
    let query = std::str::from_utf8(query.unwrap_or_default()).unwrap();
    let ask = Ask { method, host, path: normalised.path.to_vec(), query, headers, client };
    match routes.find(&ask, &normalised.others) {
        Ok(found) => found.map_or("-".to_owned(), |found| found.route.name.clone()),
        Err(Escapes) => "400".to_owned(),
    }
}

/// The routes of the text of `routes`, with these pools beside the default one.
pub(super) fn compiled(routes: &str, pools: &[&str]) -> Routes {
    let specs = config::parse_routes(routes, pools).unwrap_or_else(|faults| panic!("{}", faults[0]));
    Routes::new(&specs.0).unwrap()
}

/// Java servers leave parameters out, and some servers decode a slash: neither gets past a route that guards a path.
#[test]
fn what_another_server_may_read_does_not_get_past_a_route() {
    let routes = compiled(
        r#"[ { "name": "admin", "path": "/admin/*" }, { "name": "api", "path": "/api/*" }, { "name": "login", "path": "/login" } ]"#,
        &[],
    );
    for (request, expected) in [
        ("a/admin;x/y", "400"),
        ("a/admin;x", "400"),
        ("a/;x/admin/y", "400"),
        ("a/x;/../admin/y", "400"),
        ("a/admin/y;jsessionid=1", "admin"),
        ("a/admin/y;a=b/z;c", "admin"),
        ("a/other;x/y", "-"),
        ("a/login;jsessionid=1", "400"),
        ("a/api/a%2Fb", "api"),
        ("a/api/group%2fproject/issues", "api"),
        ("a/api/..%2Fadmin", "400"),
        ("a/api%2Fb", "400"),
        ("a/%2Fadmin/y", "400"),
        ("a/x%2F..%2Fadmin%2Fy", "400"),
        ("a/x%2Fadmin", "-"),
        ("a/admin%3Bx/y", "-"),
    ] {
        assert_eq!(found(&routes, request, &[], ""), expected, "{request}");
    }
}

#[test]
fn dots_that_lead_out_of_a_prefix_are_rejected() {
    let routes = compiled(
        r#"[ { "name": "public", "path": "/public/*" }, { "name": "admin", "path": "/admin/*" }, { "name": "rest", "path": "/*" } ]"#,
        &[],
    );
    for (request, expected) in [
        ("a/public/../admin", "400"),
        ("a/public/%2e%2e/admin/x", "400"),
        ("a/public/../other", "400"),
        ("a/x/../admin", "400"),
        ("a/public/a/../b", "public"),
        ("a/public/a/../../public/b", "public"),
        ("a/x/../y", "rest"),
        ("a/public/./x", "public"),
        ("a//admin", "admin"),
        ("a/%61dmin", "admin"),
        ("a/..", "400"),
        ("a/public%2f..%2fadmin", "400"),
        ("a/public/..;/admin", "400"),
    ] {
        assert_eq!(found(&routes, request, &[], ""), expected, "{request}");
    }
}

#[test]
fn hosts_and_paths_of_a_list_are_all_matched() {
    let text = r#"[ { "name": "both", "host": ["a.example", "b.example"], "path": ["/x", "/y/*"], "methods": ["GET"] } ]"#;
    let routes = compiled(text, &[]);
    for (request, expected) in [
        ("a.example/x", "both"),
        ("b.example/y/z", "both"),
        ("B.example:80/x", "both"),
        ("c.example/x", "-"),
        ("POST a.example/x", "-"),
        ("a.example/x/z", "-"),
    ] {
        assert_eq!(found(&routes, request, &[], ""), expected, "{request}");
    }
    assert_eq!(routes.list().len(), 1);
}

#[test]
fn files_of_responses_are_read_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page.html"), "<p>").unwrap();
    std::fs::write(folder.path().join("large.html"), vec![b'x'; BODY_MAX as usize + 1]).unwrap();
    let specs = |file: &str| {
        let file = folder.path().join(file).display().to_string();
        let text = format!(r#"[ {{ "respond": {{ "status": 503, "file": {file:?} }} }} ]"#);
        config::parse_routes(&text, &[]).unwrap().0
    };
    let routes = Routes::new(&specs("page.html")).unwrap();
    let Action::Respond(respond) = &routes.list()[0].action else { panic!("{routes:?}") };
    assert_eq!((respond.status, &*respond.body), (503, &b"<p>"[..]));
    assert!(respond.headers[0].0.matches(b"content-type"));
    for (file, says) in [
        ("absent.html", "there is no file"),
        ("large.html", "larger than 1MiB"),
        ("", "is a folder; name a file in it"),
    ] {
        let faults = Routes::new(&specs(file)).unwrap_err();
        assert!(faults[0].advice.contains(says), "{faults:?}");
    }
}

#[test]
fn a_route_knows_its_pools_and_captures() {
    let text = r#"[ { "path": "~^/old/(.*)/(.*)$", "split": { "pools": { "a": 9, "b": 1 }, "key": "client" },
        "rewrite": { "path": "/new/{1}" }, "response_headers": { "add": { "X-Part": "{2}" } },
        "mirror": { "pool": "c", "percent": 30 } } ]"#;
    let routes = compiled(text, &["a", "b", "c"]);
    let route = &routes.list()[0];
    assert_eq!(route.pools(), [PoolId(1), PoolId(2), PoolId(3)]);
    assert_eq!(route.captures(), 2);
    let mirror = route.mirror.unwrap();
    assert_eq!((0..100).filter(|random| mirror.takes(*random)).count(), 30);
}
