//! Evaluates a probe: passed or not, and the texts for the status and the log.

use super::probe::http::Response;
use super::probe::{Passed, Reply, Silence, shortened};
use crate::state::address::Address;
use crate::state::config::{HealthCheck, HttpProbe, Probe};
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

/// What was probed.
#[derive(Clone, Copy, Debug)]
pub struct Probed<'a> {
    /// The key of the server's pool in the configuration.
    pub pool: &'a str,
    /// How it is probed.
    pub check: &'a HealthCheck,
    /// With TLS.
    pub is_secure: bool,
    /// The address that was probed, as it is configured.
    pub address: &'a Address,
    /// What was connected to.
    pub at: Option<SocketAddr>,
    /// The server had the page of the default path before.
    pub has_page: bool,
}

/// Evaluates a probe.
pub fn judge(probed: &Probed<'_>, reply: &Result<Reply, Silence>) -> Judged {
    match (reply, &probed.check.probe) {
        (Err(silence), _) => probed.judged(false, silence.words.clone(), ""),
        (Ok(Reply::Http(response)), Probe::Http(http)) => of_response(probed, http, response),
        (Ok(Reply::Other(Passed { is_good, words })), _) => probed.judged(*is_good, words.clone(), ""),
        // The kind was changed by a reload while the probe was on its way.
        (Ok(Reply::Http(response)), _) => probed.judged(true, response.status.to_string(), ""),
    }
}

fn of_response(probed: &Probed<'_>, http: &HttpProbe, response: &Response) -> Judged {
    let (status, pool) = (response.status, probed.pool);
    if !is_expected(http, status) {
        let has_no_page = !http.is_strict && is_alive(status, probed.has_page);
        let advice = format!("; set {pool}.health_check.path or {pool}.health_check.expect_status");
        let judged = probed.judged(has_no_page, status.to_string(), if has_no_page { "" } else { &advice });
        return Judged { has_no_page, ..judged };
    }
    let is_wanted = http.expect_body.as_ref().is_none_or(|expected| expected.is_in(&response.body));
    match is_wanted {
        true => probed.judged(true, status.to_string(), ""),
        false => {
            let outcome =
                format!("{status}, and its body is not what expect_body says: {}", shortened(&response.body));
            probed.judged(false, outcome, "")
        }
    }
}

impl Probed<'_> {
    fn judged(&self, passed: bool, outcome: String, advice: &str) -> Judged {
        let detail = format!("({outcome}) at {}{advice}", self.place());
        Judged { passed, has_no_page: false, outcome, detail }
    }

    /// What was probed, for the log: with the address if a name has several.
    fn place(&self) -> String {
        let (clear, secure, path) = match &self.check.probe {
            Probe::Http(http) => ("http", "https", http.path.clone()),
            Probe::Tcp(_) => ("tcp", "tls", String::new()),
            Probe::Grpc(grpc) => ("grpc", "grpcs", format!("/{}", grpc.service)),
            Probe::Exec(exec) => return exec.command.display().to_string(),
        };
        let scheme = if self.is_secure { secure } else { clear };
        let address = self.address;
        match address {
            Address::Unix(_) => format!("{scheme}://localhost{path} on {address}"),
            Address::Tcp { .. } => match self.at.filter(|at| at.to_string() != address.to_string()) {
                Some(at) => format!("{scheme}://{address}{path} ({at})"),
                None => format!("{scheme}://{address}{path}"),
            },
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

fn is_expected(check: &HttpProbe, status: u16) -> bool {
    check.expect_status.iter().any(|(from, to)| (*from..=*to).contains(&status))
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
        check.http_mut().is_strict = given;
        let reply = response
            .map(|status| Reply::Http(Response { status, body: Vec::new(), has_reports: false }))
            .map_err(|words| Silence::from(words.to_owned()));
        let (address, at) = (&address.parse().unwrap(), at.map(|at| at.parse().unwrap()));
        let probed = Probed { pool: "servers", check: &check, is_secure: false, address, at, has_page };
        judge(&probed, &reply)
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
