//! Evaluates a probe: passed or not, and the texts for the status and the log.

use super::probe::{Response, Silence};
use crate::state::address::Address;
use crate::state::config::HealthCheck;
use std::net::SocketAddr;

/// An evaluated probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// It counts as a pass.
    pub passed: bool,
    /// It passed although its status is not an expected one, because the configuration sets no path.
    pub has_no_page: bool,
    /// `200`, `connection refused`, `no response in 1s` …
    pub outcome: String,
    /// For the log: the outcome in parentheses, the URL, and for an unexpected status the keys that configure it.
    pub detail: String,
}

/// Evaluates a probe of the server with this address, which was connected to at `at`. `pool` is the key of its pool in
/// the configuration, `scheme` that of its URLs. `has_page` says that the server had the page of the default path before.
pub fn judge(
    pool: &str,
    scheme: &str,
    check: &HealthCheck,
    has_page: bool,
    response: &Result<Response, Silence>,
    address: &Address,
    at: Option<SocketAddr>,
) -> Judged {
    let url = url(scheme, address, &check.path, at);
    match response {
        Err(silence) => {
            let outcome = silence.words.clone();
            Judged { passed: false, has_no_page: false, detail: format!("({outcome}) at {url}"), outcome }
        }
        Ok(Response { status, .. }) => {
            let expected = is_expected(check, *status);
            let has_no_page = !expected && !check.path_given && is_alive(*status, has_page);
            let passed = expected || has_no_page;
            let outcome = status.to_string();
            let detail = match passed {
                true => format!("({outcome}) at {url}"),
                false => format!(
                    "({outcome}) at {url}; set {pool}.health_check.path or {pool}.health_check.expect_status"
                ),
            };
            Judged { passed, has_no_page, outcome, detail }
        }
    }
}

impl Judged {
    /// There was no address to probe, for this reason.
    pub fn unresolved(words: &str) -> Self {
        let outcome = format!("its name does not resolve: {words}");
        Judged { passed: false, has_no_page: false, detail: format!("({outcome})"), outcome }
    }
}

/// Whether a server that responds with this status to a path that it may not have is alive: a server that responds is.
/// One that has shown to have the page means it when it says 5xx there.
fn is_alive(status: u16, has_page: bool) -> bool {
    !has_page || matches!(status, 100..=499 | 501)
}

fn is_expected(check: &HealthCheck, status: u16) -> bool {
    check.expect_status.iter().any(|(from, to)| (*from..=*to).contains(&status))
}

/// The URL for the log: with the address if a name has several.
fn url(scheme: &str, address: &Address, path: &str, at: Option<SocketAddr>) -> String {
    match address {
        Address::Unix(_) => format!("{scheme}://localhost{path} on {address}"),
        Address::Tcp { .. } => match at.filter(|at| at.to_string() != address.to_string()) {
            Some(at) => format!("{scheme}://{address}{path} ({at})"),
            None => format!("{scheme}://{address}{path}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::config::Config;

    fn judged(given: bool, response: Result<u16, &str>, address: &str, at: Option<&str>) -> Judged {
        judged_after(false, given, response, address, at)
    }

    fn judged_after(
        has_page: bool,
        given: bool,
        response: Result<u16, &str>,
        address: &str,
        at: Option<&str>,
    ) -> Judged {
        let mut check = Config::default().servers.health_check;
        check.path_given = given;
        let response = response
            .map(|status| Response { status, body: String::new(), has_reports: false })
            .map_err(|words| Silence::from(words.to_owned()));
        judge(
            "servers",
            "http",
            &check,
            has_page,
            &response,
            &address.parse().unwrap(),
            at.map(|at| at.parse().unwrap()),
        )
    }

    fn check(given: bool, response: Result<u16, &str>, passes: bool) {
        let judged = judged(given, response, "10.0.0.1:80", None);
        assert_eq!(judged.passed, passes, "{response:?} with the path given: {given}");
    }

    #[test]
    fn a_page_that_is_rejected_is_a_sign_of_life_unless_the_file_names_it() {
        for status in [200, 204, 302, 399] {
            check(false, Ok(status), true);
            check(true, Ok(status), true);
        }
        for status in [400, 401, 403, 404, 405, 426, 429, 501] {
            check(false, Ok(status), true);
            check(true, Ok(status), false);
        }
        for status in [500, 502, 503, 504] {
            check(false, Ok(status), true);
            check(true, Ok(status), false);
            assert!(
                !judged_after(true, false, Ok(status), "10.0.0.1:80", None).passed,
                "it had the page before"
            );
        }
        assert!(judged_after(true, false, Ok(404), "10.0.0.1:80", None).passed);
        check(false, Err("connection refused"), false);
    }

    #[test]
    fn the_log_names_what_was_asked_and_what_to_set() {
        let detail = |response, address, at| judged(true, response, address, at).detail;
        assert_eq!(
            detail(Ok(401), "10.0.0.1:8080", Some("10.0.0.1:8080")),
            "(401) at http://10.0.0.1:8080/health; set servers.health_check.path or servers.health_check.expect_status"
        );
        assert_eq!(
            detail(Ok(200), "app.test:80", Some("10.0.0.7:80")),
            "(200) at http://app.test:80/health (10.0.0.7:80)"
        );
        assert_eq!(
            detail(Err("no response in 1s"), "unix:/run/a.sock", None),
            "(no response in 1s) at http://localhost/health on unix:/run/a.sock"
        );
    }
}
