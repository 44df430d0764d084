//! The rows of routing: a request is matched among a number of routes, by its host and by its path.

use evenkeel::policy::route::{Host, Path, Request, Router, Rule};
use std::hint::black_box;
use std::net::IpAddr;

/// A request with nothing but a host and a path.
struct Get<'r> {
    host: &'r [u8],
    path: &'r [u8],
}

impl Request for Get<'_> {
    fn host(&self) -> &[u8] {
        self.host
    }
    fn path(&self) -> &[u8] {
        self.path
    }
    fn query(&self) -> &[u8] {
        b""
    }
    fn method(&self) -> &[u8] {
        b"GET"
    }
    fn header(&self, _: &[u8], _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }
    fn client(&self) -> Option<IpAddr> {
        None
    }
}

/// Matches a request for one of the routes in turn; every second route is found by its host, the others by their path.
pub fn find(routes: usize, times: u64) {
    let router = Router::new((0..routes).map(rule).collect());
    let requests: Vec<(Vec<u8>, Vec<u8>)> = (0..routes).map(request).collect();
    for turn in 0..times as usize {
        let index = turn % routes;
        let (host, path) = &requests[index];
        let found = router.find(black_box(&Get { host, path }));
        assert_eq!(found, Some(index));
    }
}

/// Names have the same length whatever the number of routes.
fn rule(number: usize) -> Rule {
    if number % 2 == 0 {
        let host = format!("host-{number:05}.example.com").into_bytes().into();
        return Rule {
            host: Host::Exact(host),
            path: Path::Prefix(b"/v1".as_slice().into()),
            ..Rule::default()
        };
    }
    let path = format!("/service-{number:05}/api").into_bytes().into();
    Rule { host: Host::Any, path: Path::Prefix(path), ..Rule::default() }
}

fn request(number: usize) -> (Vec<u8>, Vec<u8>) {
    if number % 2 == 0 {
        return (format!("host-{number:05}.example.com:8000").into_bytes(), b"/v1/users/12/orders".to_vec());
    }
    (b"www.example.com:8000".to_vec(), format!("/service-{number:05}/api/users/12").into_bytes())
}
