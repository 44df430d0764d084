//! What a guard lets pass and what it rejects, under a clock of its own.

use super::super::config;
use super::*;
use crate::http1::head::{Limits, Parsed, Slots, request};
use std::path::Path;

fn guard(text: &str, folder: &Path) -> Guard {
    Guard::new(&config::parse(text, folder).unwrap().guards, &Guard::default(), &Guard::default())
}

/// Judges a request of this client with these headers.
fn judge(guard: &Guard, client: &str, headers: &str, ms: u64) -> Result<Passed, Rejected> {
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let mut slots = Slots::new();
    let Ok(Parsed::Complete(head)) = request(text.as_bytes(), &Limits::default(), &mut slots) else {
        panic!("{text}")
    };
    let now = Moment::from_millis(1_000_000 + ms);
    guard.judge(&Visit {
        client: client.parse().ok(),
        fields: head.fields,
        certificate: None,
        peer_trusted: false,
        route: "r",
        now,
    })
}

#[track_caller]
fn check(guard: &Guard, client: &str, headers: &str, expected: Option<Reason>) {
    let reason = judge(guard, client, headers, 0).err().map(|rejected| rejected.reason);
    assert_eq!(reason, expected, "{client} {headers}");
}

#[test]
fn deny_comes_before_allow_and_without_an_address_only_all_may_come() {
    let both = guard(r#"{"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}"#, Path::new(""));
    check(&both, "10.2.0.1", "", None);
    check(&both, "10.1.0.1", "", Some(Reason::AccessDenied));
    check(&both, "192.0.2.1", "", Some(Reason::AccessDenied));
    check(&both, "no address", "", Some(Reason::AccessDenied));
    let deny = guard(r#"{"deny": ["10.1.0.0/16"]}"#, Path::new(""));
    check(&deny, "no address", "", None);
    check(&deny, "::ffff:10.1.2.3", "", Some(Reason::AccessDenied));
}

#[test]
fn a_rate_is_reported_and_what_is_over_it_is_rejected() {
    let guard = guard(r#"{"rate_limit": {"requests": 2, "per": "1m"}}"#, Path::new(""));
    let lines = |result: Result<Passed, Rejected>| match result {
        Ok(passed) => (None, String::from_utf8(passed.lines).unwrap()),
        Err(rejected) => (Some(rejected.retry_after), String::from_utf8(rejected.lines).unwrap()),
    };
    let told = |r: u32, t: u32| {
        format!("RateLimit-Policy: \"client\";q=2;w=60\r\nRateLimit: \"client\";r={r};t={t}\r\n")
    };
    assert_eq!(lines(judge(&guard, "10.0.0.1", "", 0)), (None, told(1, 30)));
    assert_eq!(lines(judge(&guard, "10.0.0.1", "", 0)), (None, told(0, 60)));
    let retry_after = Some(Duration::from_secs(20));
    assert_eq!(lines(judge(&guard, "10.0.0.1", "", 10_000)), (retry_after, told(0, 20)));
    assert_eq!(lines(judge(&guard, "10.0.0.2", "", 10_000)), (None, told(1, 30)));
}

#[test]
fn limits_count_by_header_cookie_or_route() {
    let by =
        |by: &str| guard(&format!(r#"{{"rate_limit": {{"requests": 1, "by": {by:?}}}}}"#), Path::new(""));
    let over = Some(Reason::RateLimited);
    let key = by("header:X-Api-Key");
    check(&key, "10.0.0.1", "X-Api-Key: a\r\n", None);
    check(&key, "10.0.0.2", "x-api-KEY: a\r\n", over);
    check(&key, "10.0.0.2", "X-Api-Key: b\r\n", None);
    check(&key, "10.0.0.1", "", None);
    check(&key, "10.0.0.1", "", over);
    check(&key, "10.0.0.3", "X_Api_Key: a\r\n", over);
    check(&key, "10.0.0.3", "X-Api-Key: a\r\nX-Api-Key: a\r\n", over);
    for n in 0..3 {
        let several = format!("X-Api-Key: {n}\r\nX-Api-Key: a\r\n");
        check(&key, "10.0.0.4", &several, if n == 0 { None } else { over });
        let several = format!("X-Api-Key: {n}\r\nX_Api-Key: a\r\n");
        check(&key, "10.0.0.4", &several, over);
    }
    let forged = by("header:X-Real-IP");
    check(&forged, "10.0.0.1", "X-Real-IP: 1.1.1.1\r\n", None);
    check(&forged, "10.0.0.1", "X_Real_IP: 1.1.1.2\r\n", over);
    let session = by("cookie:s");
    check(&session, "10.0.0.1", "Cookie: ss=1; s=a\r\n", None);
    check(&session, "10.0.0.2", "Cookie: t=1\r\nCookie: s=a;x=y\r\n", over);
    check(&session, "10.0.0.3", "Cookie: s=b; s=a\r\n", None);
    check(&session, "10.0.0.3", "Cookie: s=c\r\nCookie: s=a\r\n", over);
    let route = by("route");
    check(&route, "10.0.0.1", "", None);
    check(&route, "10.0.0.2", "", over);
}

#[test]
fn a_dry_run_counts_and_rejects_nothing() {
    let guard = guard(r#"{"rate_limit": {"requests": 1, "dry_run": true}}"#, Path::new(""));
    let is_over =
        || judge(&guard, "10.0.0.1", "", 0).map(|passed| (passed.is_over_rate, passed.lines.len())).unwrap();
    assert_eq!([is_over(), is_over()], [(false, 0), (true, 0)]);
}

#[test]
fn requests_at_once_are_counted_until_they_end() {
    let guard = guard(r#"{"concurrency_limit": {"requests": 1}}"#, Path::new(""));
    let first = judge(&guard, "10.0.0.1", "", 0).unwrap();
    check(&guard, "10.0.0.1", "", Some(Reason::ConcurrencyLimited));
    check(&guard, "10.0.0.2", "", None);
    drop(first);
    check(&guard, "10.0.0.1", "", None);
}

#[test]
fn credentials_are_verified_once_and_attempts_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("ann:{}", bcrypt::hash("open", 4).unwrap());
    std::fs::write(folder.path().join("users"), line).unwrap();
    let guard = guard(r#"{"basic_auth": {"file": "users", "realm": "R"}}"#, folder.path());
    let rejected = judge(&guard, "10.0.0.1", "", 0).unwrap_err();
    assert_eq!(rejected.reason, Reason::Unauthorized);
    assert_eq!(rejected.lines, b"WWW-Authenticate: Basic realm=\"R\", charset=\"UTF-8\"\r\n");
    let right = "Authorization: Basic YW5uOm9wZW4=\r\n";
    let unverified = judge(&guard, "10.0.0.1", right, 0).unwrap().unverified.unwrap();
    assert!(unverified.verify());
    assert!(judge(&guard, "10.0.0.1", right, 0).unwrap().unverified.is_none());
    let wrong = "Authorization: Basic YW5uOnNodXQ=\r\n";
    for other in [wrong, right, "authorization: Bearer x\r\n"] {
        check(&guard, "10.0.0.1", &format!("{right}{other}"), Some(Reason::Unauthorized));
        check(&guard, "10.0.0.1", &format!("{other}{right}"), Some(Reason::Unauthorized));
    }
    assert!(!judge(&guard, "10.0.0.2", wrong, 0).unwrap().unverified.unwrap().verify());
    check(&guard, "10.0.0.2", wrong, Some(Reason::Unauthorized));
    // 20 guesses of one client, the one above among them, and one more each second.
    let guess =
        |n: u32| format!("Authorization: Basic {}\r\n", ["YTox", "YToy", "YToz", "YTo0"][n as usize % 4]);
    let verdicts: Vec<_> =
        (0..20).map(|n| judge(&guard, "10.0.0.2", &guess(n), 0).map_err(|r| r.reason)).collect();
    assert!(verdicts[..19].iter().all(Result::is_ok));
    assert_eq!(verdicts[19].as_ref().unwrap_err(), &Reason::AuthAttempts);
    assert!(judge(&guard, "10.0.0.3", &guess(0), 0).is_ok(), "another client may try");
    assert!(judge(&guard, "10.0.0.1", right, 0).is_ok(), "what is known costs no attempt");
}

#[test]
fn with_any_an_address_or_a_password_does() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("ann:{}", bcrypt::hash("open", 4).unwrap());
    std::fs::write(folder.path().join("users"), line).unwrap();
    let text = r#"{"satisfy": "any", "allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"], "basic_auth": {"file": "users"}}"#;
    let either = guard(text, folder.path());
    let right = "Authorization: Basic YW5uOm9wZW4=\r\n";
    check(&either, "10.2.0.1", "", None);
    for (client, headers, expected) in [
        ("10.1.0.1", "", Some(Reason::Unauthorized)),
        ("192.0.2.1", "", Some(Reason::Unauthorized)),
        ("no address", "", Some(Reason::Unauthorized)),
        ("192.0.2.1", right, None),
    ] {
        check(&either, client, headers, expected);
    }
    assert!(judge(&either, "10.2.0.1", "", 0).unwrap().unverified.is_none());
    assert!(judge(&either, "192.0.2.1", right, 0).unwrap().unverified.is_some());
    let both = guard(&text.replace("any", "all"), folder.path());
    check(&both, "10.2.0.1", "", Some(Reason::Unauthorized));
    check(&both, "192.0.2.1", right, Some(Reason::AccessDenied));
}

#[test]
fn a_route_counts_together_with_the_top_only_where_it_has_its_guard_from_there() {
    let top = config::parse(r#"{"rate_limit": {"requests": 1}}"#, Path::new("")).unwrap().guards;
    let own = config::parse(r#"{"rate_limit": {"requests": 1}}"#, Path::new("")).unwrap().guards;
    let none = Guard::default();
    let above = Guard::new(&top, &none, &none);
    let (inherits, has_own) = (Guard::new(&top.clone(), &above, &none), Guard::new(&own, &above, &none));
    check(&above, "10.0.0.1", "", None);
    check(&inherits, "10.0.0.1", "", Some(Reason::RateLimited));
    check(&has_own, "10.0.0.1", "", None);
}
#[test]
fn what_a_reload_leaves_as_it_is_counts_on() {
    let guards = |text: &str| config::parse(text, Path::new("")).unwrap().guards;
    let one = r#"{"rate_limit": {"requests": 1}, "concurrency_limit": {"requests": 1}}"#;
    let none = Guard::default();
    let before = Guard::new(&guards(one), &none, &none);
    let _held = judge(&before, "10.0.0.1", "", 0).unwrap();
    let over = Some(Reason::RateLimited);
    check(&Guard::new(&guards(one), &Guard::like(&before), &before), "10.0.0.1", "", over);
    let told = r#"{"rate_limit": {"requests": 1, "headers": false}}"#;
    check(&Guard::new(&guards(told), &Guard::like(&before), &before), "10.0.0.1", "", over);
    let two = r#"{"rate_limit": {"requests": 2}, "concurrency_limit": {"requests": 1}}"#;
    let changed = Guard::new(&guards(two), &Guard::like(&before), &before);
    check(&changed, "10.0.0.1", "", Some(Reason::ConcurrencyLimited));
    // A route that had its limit from the top and has one of its own now does not count for the top.
    let top = guards(r#"{"rate_limit": {"requests": 1}}"#);
    let above = Guard::new(&top, &none, &none);
    let inherits = Guard::new(&top.clone(), &above, &none);
    let own = Guard::new(&guards(r#"{"rate_limit": {"requests": 1}}"#), &above, &inherits);
    check(&own, "10.0.0.1", "", None);
    check(&above, "10.0.0.1", "", None);
}
