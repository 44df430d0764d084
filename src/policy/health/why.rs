//! Why a server's health changed, as enum and as words for the log.

use super::super::outlier::Outlier;
use super::super::slow::Slow;
use std::fmt;

/// Why a server's health changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// This many probes in a row.
    ProbesPassed(u32),
    /// This many probes in a row.
    ProbesFailed(u32),
    /// This many probes in a row, and before them this many live requests.
    ProbesAndRequestsFailed(u32, u32),
    /// This many live requests in a row.
    RequestsFailed(u32),
    /// Its share of errors is far above that of the others.
    FailsMore(Outlier),
    /// Its response times are far above those of the others.
    IsSlow(Slow),
    /// The ejection has expired.
    TimeServed,
    /// Probes were disabled.
    ProbesOff,
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::ProbesPassed(1) => write!(out, "a probe passed"),
            Why::ProbesPassed(count) => write!(out, "{count} probes passed in a row"),
            Why::ProbesFailed(1) => write!(out, "a probe failed"),
            Why::ProbesFailed(count) => write!(out, "{count} probes failed in a row"),
            Why::ProbesAndRequestsFailed(probes, live) => {
                write!(out, "failed in a row: {live} of its requests, {probes} of its probes")
            }
            Why::RequestsFailed(1) => write!(out, "a request failed again"),
            Why::RequestsFailed(count) => write!(out, "{count} requests failed in a row"),
            Why::FailsMore(outlier) => outlier.fmt(out),
            Why::IsSlow(slow) => slow.fmt(out),
            Why::TimeServed => write!(out, "the time of ejection is over"),
            Why::ProbesOff => write!(out, "health checks are switched off"),
        }
    }
}
