//! Access control: the bearer token, and the signs of a cross-site request or DNS rebinding in a browser.

use super::View;
use super::api::UPGRADE;
use super::intake::Call;
use crate::front::Response;
use crate::state::config;
use crate::state::upgrade::Upgrade;
use std::net::IpAddr;
use tiny_http::Method;

/// Headers that decide access: with duplicates, different readers could see different values.
const ONCE: [&str; 4] = ["Content-Type", "Authorization", "Origin", "Sec-Fetch-Site"];

/// Checks a request before its path is looked at.
pub(super) fn enter(view: &View, call: &Call) -> Result<(), Response> {
    let live = view.live();
    let rules = &live.config.admin;
    if let Some(name) = ONCE.iter().find(|name| call.values(name).count() > 1) {
        return Err(call.reject(400, format!("{name} is there twice. Send it once.")));
    }
    match (&rules.token, call.path.as_str()) {
        // Supervisors and monitoring have no token, and get only liveness and readiness here.
        (_, "/live" | "/ready") => Ok(()),
        // A client with the token was not misled by DNS rebinding.
        (Some(token), _) => bearer(call, token),
        (None, "/metrics") => Ok(()),
        (None, _) => known_host(call),
    }
}

/// Checks a request that changes something.
pub(super) fn change(view: &View, call: &Call) -> Result<(), Response> {
    if !changes(&call.method) {
        return Ok(());
    }
    let kind = call.field("Content-Type").unwrap_or_default();
    // No HTML form can send this type, and no script without a preflight request. The same is true of DELETE, so DELETE
    // needs no type unless it has a body.
    let needs_type = call.has_body || call.method != Method::Delete;
    if needs_type
        && !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    {
        return Err(call.reject(415, "A change needs the header Content-Type: application/json."));
    }
    same_origin(call)?;
    if is_open(&view.live().config.admin) && call.published {
        let sentence = "The admin API is bound to an address that others reach, and has no token: changes are taken \
                        from the Unix socket only. Set admin.token.";
        return Err(call.reject(403, sentence));
    }
    // The new process has its copy already.
    if matches!(view.upgrading.state(), Upgrade::Running | Upgrade::Done { .. }) && call.path != UPGRADE {
        let sentence = "An upgrade is going on, and the change could be lost. Try again when it is over, which takes 30 s at \
                        most; evenkeel upgrade and the log say how it ended.";
        return Err(call.reject(503, sentence).with("Retry-After", "1"));
    }
    Ok(())
}

/// Whether a method changes something, if it is allowed at all.
fn changes(method: &Method) -> bool {
    matches!(method, Method::Post | Method::Put | Method::Patch | Method::Delete)
}

/// The TCP side is reachable from other hosts without a token. The configuration rejects this; so does the guard.
fn is_open(rules: &config::Admin) -> bool {
    rules.token.is_none() && rules.bind.is_some_and(|bind| !bind.ip().to_canonical().is_loopback())
}

fn bearer(call: &Call, token: &str) -> Result<(), Response> {
    let given = call.field("Authorization").and_then(|value| value.split_once(' '));
    let given =
        given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    match given {
        Some(given) if same(given.as_bytes(), token.as_bytes()) => Ok(()),
        Some(_) => Err(call.reject(401, "The token is not the admin.token of this balancer.")),
        None => Err(call.reject(401, "Send the admin.token: Authorization: Bearer TOKEN")),
    }
    .map_err(|response| response.with("WWW-Authenticate", "Bearer realm=\"evenkeel\""))
}

/// Compares in a time that reveals only the length of what was given.
fn same(given: &[u8], token: &[u8]) -> bool {
    let known = token.iter().cycle();
    let differing = given.iter().zip(known).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    differing == 0 && given.len() == token.len()
}

/// A web page whose name was made to point here (DNS rebinding) sends that name as the Host.
fn known_host(call: &Call) -> Result<(), Response> {
    match call.field("Host") {
        Some(host) if is_local(host) => Ok(()),
        _ => Err(call.reject(
            403,
            "The Host is neither an IP address nor localhost. Use one of these, or set admin.token.",
        )),
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn same_origin(call: &Call) -> Result<(), Response> {
    let foreign = || call.reject(403, "Changes are not taken from other web sites.");
    if let Some(site) = call.field("Sec-Fetch-Site") {
        // `none`: typed by the user, not requested by a page.
        if site != "same-origin" && site != "none" {
            return Err(foreign());
        }
    }
    let Some(origin) = call.field("Origin") else { return Ok(()) };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let host = call.field("Host").unwrap_or_default();
    if authority.is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    Err(foreign())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_no_page_can_fake_are_local() {
        for host in
            ["127.0.0.1:9301", "127.0.0.1", "localhost", "LOCALHOST:9301", "[::1]:9301", "10.0.0.7:80"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in
            ["", "evil.example", "127.0.0.1.evil.example:9301", "localhost.evil.example", "[evil]:1", "::1"]
        {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn only_the_same_token_is_the_same() {
        assert!(same(b"secret", b"secret"));
        for given in ["", "s", "secre", "secret ", "secretsecret", "Secret", "secrex"] {
            assert!(!same(given.as_bytes(), b"secret"), "{given}");
        }
    }

    #[test]
    fn an_origin_is_the_host_or_foreign() {
        let check = |fields: &[(&str, &str)], passes: bool| {
            let fields = [&[("Host", "127.0.0.1:9301")], fields].concat();
            assert_eq!(same_origin(&Call::of(Method::Post, "/", &fields)).is_ok(), passes, "{fields:?}");
        };
        check(&[], true);
        check(&[("Origin", "http://127.0.0.1:9301")], true);
        check(&[("Origin", "http://127.0.0.1:9301"), ("Sec-Fetch-Site", "same-origin")], true);
        check(&[("Sec-Fetch-Site", "none")], true);
        check(&[("Origin", "http://127.0.0.1:3000")], false);
        check(&[("Origin", "null")], false);
        check(&[("Origin", "file://127.0.0.1:9301")], false);
        check(&[("Sec-Fetch-Site", "cross-site")], false);
        check(&[("Sec-Fetch-Site", "same-site")], false);
        check(&[("Origin", "http://127.0.0.1:9301"), ("Sec-Fetch-Site", "cross-site")], false);
    }
}
