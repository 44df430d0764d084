//! Header lines that tell a client of the limits it has (`RateLimit` and `RateLimit-Policy`,
//! draft-ietf-httpapi-ratelimit-headers-10)
//! and of the credentials it needs (`WWW-Authenticate`, RFC 9110 section 11.6.1).

use super::write::{decimal, field};
use std::time::Duration;

/// The state of a rate limit after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota<'a> {
    /// The name of the policy: printable ASCII without quotes and backslashes.
    pub name: &'a str,
    /// Requests in each `per`.
    pub requests: u32,
    /// The time in which they may come.
    pub per: Duration,
    /// Requests that would pass now.
    pub remaining: u32,
    /// Until all of them would; after a rejection, until one would.
    pub reset: Duration,
}

/// Appends `RateLimit-Policy` and `RateLimit`. The window has whole seconds there: a shorter one, or a part, is told as
/// the next whole second with that many more requests.
pub fn rate_limit(quota: &Quota<'_>, out: &mut Vec<u8>) {
    let window = seconds(quota.per).max(1);
    let exact = u128::from(quota.requests) * u128::from(window) * 1_000_000_000 / quota.per.as_nanos().max(1);
    out.extend_from_slice(b"RateLimit-Policy: \"");
    out.extend_from_slice(quota.name.as_bytes());
    parameter(out, b"\";q=", u64::try_from(exact).unwrap_or(u64::MAX));
    parameter(out, b";w=", window);
    out.extend_from_slice(b"\r\nRateLimit: \"");
    out.extend_from_slice(quota.name.as_bytes());
    parameter(out, b"\";r=", u64::from(quota.remaining));
    parameter(out, b";t=", seconds(quota.reset));
    out.extend_from_slice(b"\r\n");
}

/// Appends `WWW-Authenticate` for Basic authentication (RFC 7617). The realm has neither quotes nor control characters.
pub fn basic(realm: &str, out: &mut Vec<u8>) {
    let value = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
    field(out, "WWW-Authenticate", value.as_bytes());
}

/// Whole seconds, rounded up: a client that comes back then is not early.
pub fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn parameter(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    decimal(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(requests: u32, per_ms: u64, remaining: u32, reset_ms: u64, expected: &str) {
        let (per, reset) = (Duration::from_millis(per_ms), Duration::from_millis(reset_ms));
        let mut out = Vec::new();
        rate_limit(&Quota { name: "client", requests, per, remaining, reset }, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected.replace('|', "\r\n"));
    }

    #[test]
    fn limits_are_reported() {
        check(
            100,
            60_000,
            42,
            30_001,
            "RateLimit-Policy: \"client\";q=100;w=60|RateLimit: \"client\";r=42;t=31|",
        );
        check(5, 500, 0, 100, "RateLimit-Policy: \"client\";q=10;w=1|RateLimit: \"client\";r=0;t=1|");
        check(3, 1_500, 2, 0, "RateLimit-Policy: \"client\";q=4;w=2|RateLimit: \"client\";r=2;t=0|");
    }

    #[test]
    fn credentials_are_asked_for() {
        let mut out = Vec::new();
        basic("The office", &mut out);
        assert_eq!(out, b"WWW-Authenticate: Basic realm=\"The office\", charset=\"UTF-8\"\r\n");
    }
}
